// The middle of the page: what was written, who is typing, and where to write.
import { avatar, find, h } from './dom.js'

const SAME_BREATH_MS = 5 * 60 * 1000
const NEAR_BOTTOM_PX = 120

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' })
const calendar = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' })

export class Thread {
  #key = null
  #rows = new Map()
  #list = null

  /** `people` by id; `me` is the one who looks. */
  constructor(people, me) {
    this.people = people
    this.me = me
    this.mentions = new RegExp(`(@(?:${[...people.values()].map(({ name }) => name).join('|')})\\b)`, 'gi')
    const text = find('#text')
    text.addEventListener('input', () => this.talk?.typed(text.value))
    text.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault()
        find('#write').requestSubmit()
      }
    })
    find('#write').addEventListener('submit', (event) => {
      event.preventDefault()
      this.#send(text)
    })
  }

  /** Empties the page for the conversation `key`; what comes late for another one is not shown. */
  open(key, title, subtitle) {
    this.#key = key
    this.#rows.clear()
    this.#list = h('ol', { class: 'messages', 'aria-label': 'Messages' })
    // A new one each time: who watched the pointer over the old one hears no more of it.
    this.pointed = h('div', { class: 'pointed' }, h('div', { class: 'scroll', tabindex: '0', role: 'log' }, this.#list))
    this.layer = h('div', { class: 'cursors', 'aria-hidden': 'true' })
    this.pointed.append(this.layer)
    find('#area').replaceChildren(this.pointed)
    Object.assign(find('#thread').dataset, { talk: key, line: 'joining', loaded: '' })
    find('#title').textContent = title
    find('#subtitle').textContent = subtitle
    find('#text').placeholder = `Write to ${title}`
    find('#text').value = ''
    this.typing([])
    this.problem('')
  }

  /** Whether typing and cursors get through. */
  line(key, joined) {
    if (key === this.#key) find('#thread').dataset.line = joined ? 'joined' : 'lost'
  }

  area = () => this.pointed

  /** What was written so far, oldest first. Some of it may be shown already. */
  rows(key, list) {
    if (key !== this.#key) return
    for (const row of list) this.#put(row)
    find('#thread').dataset.loaded = 'true'
    this.#toBottom()
  }

  /** One more. */
  row(key, row) {
    if (key !== this.#key) return
    const scroll = this.#list.parentElement
    const reading = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight > NEAR_BOTTOM_PX
    this.#put(row)
    if (!reading || row.sender === this.me.id) this.#toBottom()
  }

  typing(people) {
    const names = people.filter((id) => id !== this.me.id).map((id) => this.people.get(id)?.name).filter(Boolean)
    find('#typing').dataset.people = names.join(' ')
    find('#typing').textContent = names.length === 0 ? '' : `${names.join(' and ')} ${names.length === 1 ? 'is' : 'are'} typing…`
  }

  problem(text) {
    find('#problem').textContent = text
    find('#problem').hidden = text === ''
  }

  /** The row itself comes back from the database, so only a refusal needs showing. */
  async #send(text) {
    const body = text.value.trim()
    const { talk } = this
    if (body === '' || !talk) return
    text.value = ''
    talk.typed('')
    try {
      await talk.send(body)
      this.problem('')
    } catch (error) {
      if (this.talk !== talk) return
      this.problem(error.message)
      if (text.value === '') text.value = body
    }
  }

  #put(row) {
    if (this.#rows.has(row.id)) return
    const sender = this.people.get(row.sender) ?? { name: 'Somebody', hue: 0 }
    const sent = new Date(row.sent_at)
    const element = h(
      'li',
      { class: 'message', 'data-message': row.id, 'data-sender': row.sender, 'data-mine': row.sender === this.me.id },
      avatar(sender),
      h('p', { class: 'by' }, h('b', {}, sender.name), h('time', { datetime: row.sent_at }, clock.format(sent))),
      h('p', { class: 'body' }, ...this.#words(row.body)),
    )
    // Rows arrive in the order of their commits, which need not be that of their numbers.
    const next = [...this.#list.children].findLast((other) => Number(other.dataset.message) < row.id)
    this.#rows.set(row.id, { element, sent, sender: row.sender })
    if (next) next.after(element)
    else this.#list.prepend(element)
    this.#join(element)
    if (element.nextElementSibling) this.#join(element.nextElementSibling)
  }

  /** Says when a day begins, and leaves out the name where it would only repeat. */
  #join(element) {
    const [own, before] = [element, element.previousElementSibling].map((each) => this.#rows.get(Number(each?.dataset.message)))
    const sameDay = before && before.sent.toDateString() === own.sent.toDateString()
    element.dataset.follows = Boolean(sameDay && before.sender === own.sender && own.sent - before.sent < SAME_BREATH_MS)
    if (sameDay) delete element.dataset.day
    else element.dataset.day = calendar.format(own.sent)
  }

  #words(body) {
    return body.split(this.mentions).map((part, index) => {
      if (index % 2 === 0) return part
      return h('mark', { 'data-me': part.slice(1).toLowerCase() === this.me.name.toLowerCase() }, part)
    })
  }

  #toBottom() {
    const scroll = this.#list.parentElement
    scroll.scrollTop = scroll.scrollHeight
  }
}
