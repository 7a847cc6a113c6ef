// The notification centre: mentions and direct messages, on a channel that only the database writes to.
import { find, h, icon } from './dom.js'

const TOAST_MS = 6000

export class Bell {
  #notes = new Map()

  /** `open(key)` opens a conversation, `changed()` hears when something was notified or read. */
  constructor({ api, connection, people, received, open, changed }) {
    Object.assign(this, { api, people, open, changed })
    const topic = `user:${connection.user.id}`
    connection.keep(topic, { private: true }, {
      listen: (channel) =>
        channel.on('broadcast', { event: '*' }, ({ event, payload }) => {
          received('broadcast', topic, `${event} ${payload.kind}`)
          this.#notes.set(payload.id, payload)
          this.#show()
          if (event === 'new') this.#arrived(payload)
        }),
      joined: () => this.#load().catch(console.warn),
    })
    const button = find('#bell')
    button.append(icon('bell'), h('span', { class: 'unread', id: 'unread', hidden: true }))
    button.addEventListener('click', () => this.toggle())
    find('#read-all').addEventListener('click', () => this.read({}))
    document.addEventListener('click', (event) => {
      if (!event.target.closest('.bell')) this.toggle(false)
    })
  }

  toggle(shown = find('#notifications').hidden) {
    find('#notifications').hidden = !shown
    find('#bell').setAttribute('aria-expanded', shown)
  }

  /** How many about the conversation `key` have not been read. */
  unread = (key) => this.#unread().filter((note) => keyOf(note) === key).length

  /** Marks as read: all, or those of a room or of a sender. What comes of it comes back by the channel. */
  read(which) {
    const meant = (note) => {
      if (which.room) return note.room === which.room
      return !which.sender || (note.kind === 'direct' && note.sender === which.sender)
    }
    if (this.#unread().some(meant)) this.api.read(which).catch(console.warn)
  }

  async #load() {
    const rows = await this.api.notifications()
    for (const row of rows) this.#notes.set(row.id, row)
    this.#show()
  }

  #unread = () => [...this.#notes.values()].filter(({ read }) => !read)

  #arrived(note) {
    // Seen where it belongs, it needs no telling.
    if (find('#thread').dataset.talk === keyOf(note) && document.visibilityState === 'visible') {
      return this.read(note.room ? { room: note.room } : { sender: note.sender })
    }
    const toast = h('button', { type: 'button', class: 'toast', onclick: () => this.#go(note, toast) }, ...this.#line(note))
    find('#toasts').append(toast)
    setTimeout(() => toast.remove(), TOAST_MS)
  }

  #go(note, toast) {
    toast?.remove()
    this.toggle(false)
    this.open(keyOf(note))
  }

  #line(note) {
    const name = this.people.get(note.sender)?.name ?? 'Somebody'
    return [h('b', {}, name), note.kind === 'mention' ? ' mentioned you: ' : ' wrote to you: ', note.excerpt]
  }

  #show() {
    const notes = [...this.#notes.values()].sort((a, b) => b.id - a.id)
    const line = (note) =>
      h(
        'li',
        { 'data-notification': note.id, 'data-kind': note.kind, 'data-read': note.read },
        h('button', { type: 'button', onclick: () => this.#go(note) }, ...this.#line(note)),
      )
    find('#notes').replaceChildren(...notes.map(line))
    const unread = this.#unread().length
    find('#unread').textContent = unread
    find('#unread').hidden = unread === 0
    find('#bell').setAttribute('aria-label', unread === 0 ? 'Notifications' : `Notifications, ${unread} unread`)
    this.changed()
  }
}

const keyOf = (note) => (note.kind === 'mention' ? `room:${note.room}` : `dm:${note.sender}`)
