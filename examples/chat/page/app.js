// Ties the parts together: one connection, the feed of rows, the lobby, the bell, and the conversation that is open.
import { watchActivity } from './activity.js'
import { Api } from './api.js'
import { Bell } from './bell.js'
import { Connection, persist } from './connection.js'
import { avatar, find, h, icon } from './dom.js'
import { Lobby } from './lobby.js'
import { received } from './log.js'
import { byId } from './people.js'
import { showMembers, showPeople, showRooms, step } from './sidebar.js'
import { DirectTalk, RoomTalk } from './talks.js'
import { Thread } from './thread.js'

const STATES = { connecting: 'Connecting', live: 'Live', reconnecting: 'Reconnecting' }
const RETRY_MS = 2000

export class App {
  #rooms = new Map()
  #unread = new Map()
  #members = []
  #talk = null
  #wanted = null

  static async start(name) {
    const api = new Api()
    const trouble = (reason) => state('reconnecting', reason)
    const connection = await persist(() => Connection.open(api, name), trouble)
    const { people } = await persist(api.home, trouble)
    return new App(api, connection, byId(people))
  }

  constructor(api, connection, people) {
    Object.assign(this, { api, connection, people, received })
    this.me = people.get(connection.user.id)
    this.thread = new Thread(people, this.me)
    this.lobby = new Lobby(connection, received, () => this.#show())
    this.bell = new Bell({ ...this, open: (key) => this.open(key), changed: () => this.#show() })
    watchActivity((status) => {
      this.lobby.set(status)
      if (status === 'online' && this.#talk) this.bell.read(this.#talk.about)
    })
    find('#self').append(avatar(this.me, 'offline'), h('b', {}, this.me.name))
    this.#controls()
    this.#follow()
  }

  /** Opens `room:<id>` or `dm:<person>`, joining the room first where that is still to do. */
  async open(key) {
    const [kind, id] = key.split(':')
    const room = kind === 'room' && this.#rooms.get(Number(id))
    const person = kind === 'dm' && this.people.get(id)
    if (!room && !person) return
    this.#wanted = key
    if (room && !room.member) {
      // The membership comes back through the feed, too; there is no need to wait for it.
      await this.api.join(room.id)
      room.member = true
      if (this.#wanted !== key) return
    }
    this.#talk?.close()
    this.#unread.delete(key)
    history.replaceState(null, '', `#${key}`)
    find('#app').dataset.view = 'talk'
    if (room) {
      const who = room.private ? 'Private: for those who were brought along' : 'Public: whoever wants may join'
      this.thread.open(key, room.name, who)
      this.#talk = new RoomTalk(room, this)
      this.who()
    } else {
      this.thread.open(key, person.name, 'Between the two of you')
      this.#talk = new DirectTalk(person, this)
      this.#members = [this.me, person]
    }
    this.thread.talk = this.#talk
    this.bell.read(this.#talk.about)
    this.#show()
  }

  /** Rows of all rooms that this person is in, and of their own memberships: row-level security picks them. */
  #follow() {
    let lost = true
    const rows = (table, event, heard) => [
      'postgres_changes',
      { event, schema: 'chat', table },
      (change) => {
        received('rows', table, `${change.eventType} ${table}`)
        heard(change)
      },
    ]
    this.connection.keep('feed', {}, {
      listen: (channel) =>
        channel
          .on(...rows('messages', 'INSERT', (change) => this.#message(change.new)))
          .on(...rows('members', '*', () => this.#load()))
          .on(...rows('rooms', '*', () => this.#load()))
          // "Subscribed to PostgreSQL": from here on no row is missed, so this is the moment to read them.
          .on('system', {}, ({ extension, status, message }) => {
            if (status === 'error') state('reconnecting', message)
            else if (extension === 'postgres_changes') {
              this.#load(lost)
              lost = false
            }
          }),
      lost: (reason) => {
        lost = true
        state('reconnecting', reason)
      },
    })
  }

  /** Reads the rooms, and with `again` also what was missed of the open one. */
  async #load(again = false) {
    try {
      const { rooms } = await this.api.home()
      this.#rooms = new Map(rooms.map((room) => [room.id, room]))
      if (this.#talk && again) await this.#talk.load()
      const open = this.#talk?.room
      // Somebody left in another tab, or the room is gone.
      if (open && !this.#rooms.get(open.id)?.member) this.#shut()
      else if (open) this.who()
      if (!this.#talk) this.#first()
      state('live')
      this.#show()
    } catch (error) {
      state('reconnecting', error.message)
      setTimeout(() => this.#load(again), RETRY_MS)
    }
  }

  /** The conversation that the address names, or the first room. */
  #first() {
    const named = decodeURIComponent(location.hash.slice(1))
    const known = named.startsWith('dm:') ? this.people.has(named.slice(3)) : this.#rooms.get(Number(named.slice(5)))?.member
    const room = [...this.#rooms.values()].find(({ member }) => member)
    if (known) this.open(named)
    else if (room) this.open(`room:${room.id}`)
  }

  #message(row) {
    const key = `room:${row.room}`
    if (this.#talk?.key === key) {
      this.#talk.row(row)
      // Somebody new may have joined just to say this.
      if (!this.#members.some(({ id }) => id === row.sender)) this.who()
    } else {
      this.#unread.set(key, (this.#unread.get(key) ?? 0) + 1)
      this.#show()
    }
  }

  /** Reads who is in the room that is open. */
  who = async () => {
    const room = this.#talk?.room
    if (!room) return
    const ids = await this.api.members(room.id)
    if (this.#talk?.room !== room) return
    this.#members = ids.map((id) => this.people.get(id)).filter(Boolean)
    this.#show()
  }

  #shut() {
    this.#talk.close()
    this.#talk = this.thread.talk = null
    history.replaceState(null, '', location.pathname + location.search)
  }

  #show() {
    const current = this.#talk?.key
    const unread = (key) => Math.max(this.#unread.get(key) ?? 0, this.bell?.unread(key) ?? 0)
    const open = (key) => this.open(key).catch((error) => this.thread.problem(error.message))
    const { statusOf } = this.lobby ?? { statusOf: () => 'offline' }
    find('#self .avatar').dataset.status = statusOf(this.me.id)
    const others = [...this.people.values()].filter(({ id }) => id !== this.me.id)
    showRooms([...this.#rooms.values()], { current, unread, open })
    showPeople(others, { current, unread, open, statusOf })
    showMembers(this.#members, statusOf)
    const room = this.#talk?.room
    find('#leave').hidden = find('#invite').hidden = !room
    const missing = room ? others.filter((person) => !this.#members.includes(person)) : []
    if (missing.length === 0) find('#invite').hidden = true
    const choice = find('#invite').elements.person
    const chosen = choice.value
    choice.replaceChildren(...missing.map(({ id, name }) => h('option', { value: id, selected: id === chosen }, name)))
  }

  #controls() {
    const attempt = (work) => work().catch((error) => this.thread.problem(error.message))
    const form = (selector, work) =>
      find(selector).addEventListener('submit', (event) => {
        event.preventDefault()
        attempt(() => work(event.target))
      })
    form('#found', async (target) => {
      const { name, private: hidden } = target.elements
      const { id } = await this.api.found(name.value.trim(), hidden.checked)
      target.reset()
      await this.#load()
      await this.open(`room:${id}`)
    })
    form('#invite', async (target) => {
      await this.api.join(this.#talk.room.id, target.elements.person.value)
      await this.who()
    })
    find('#leave').addEventListener('click', () => attempt(() => this.api.leave(this.#talk.room.id)))
    find('#back').append(icon('back'))
    find('#back').addEventListener('click', () => (find('#app').dataset.view = 'list'))
    addEventListener('keydown', (event) => {
      if (event.key === 'Escape') this.bell.toggle(false)
      const arrow = { ArrowUp: -1, ArrowDown: 1 }[event.key]
      if (event.altKey && arrow) {
        event.preventDefault()
        step(this.#talk?.key, arrow, (key) => attempt(() => this.open(key)))
      }
      if (event.key === '/' && !event.target.closest('input, textarea, select')) {
        event.preventDefault()
        find('#text').focus()
      }
    })
  }
}

function state(name, reason = '') {
  find('#app').dataset.state = name
  find('#state').title = reason
  if (find('#state').textContent !== STATES[name]) find('#state').textContent = STATES[name]
}
