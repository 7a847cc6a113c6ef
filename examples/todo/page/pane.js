// What one user sees: their rows, the state of their connection, and the changes that reached them.
import { Row } from './row.js'

const LOG_LINES = 30
const STATE_LABELS = { connecting: 'Connecting', live: 'Live', reconnecting: 'Reconnecting' }

export class Pane {
  #rows = new Map()

  constructor(key, user, api) {
    this.user = user
    this.api = api
    this.element = document.querySelector('#pane').content.firstElementChild.cloneNode(true)
    const find = (selector) => this.element.querySelector(selector)
    this.find = find
    this.element.dataset.user = key
    this.element.setAttribute('aria-label', `${user.name}’s to-dos`)
    find('h2').textContent = user.name
    find('.avatar').textContent = user.name[0]
    find('.new-title').setAttribute('aria-label', `New to-do for ${user.name}`)
    find('.log').setAttribute('aria-label', `Changes ${user.name} received`)
    find('.add').addEventListener('submit', (event) => {
      event.preventDefault()
      this.#add(event.target)
    })
    this.state('connecting')
  }

  state(state, reason = '') {
    this.element.dataset.state = state
    const label = this.find('.state')
    label.title = reason
    if (label.textContent !== STATE_LABELS[state]) label.textContent = STATE_LABELS[state]
  }

  rows(list) {
    const first = this.#rows.size === 0
    const seen = new Set(list.map(({ id }) => id))
    for (const id of this.#rows.keys()) if (!seen.has(id)) this.#drop(id)
    for (const row of list.toReversed()) this.#put(row, first ? null : this.#rows.has(row.id) ? 'UPDATE' : 'INSERT')
    this.#count()
  }

  change({ eventType, new: row, old, commit_timestamp }) {
    const gone = eventType === 'DELETE'
    const id = gone ? old.id : row.id
    const title = gone ? this.#rows.get(id)?.value.title : row.title
    if (gone) this.#drop(id)
    else this.#put(row, eventType)
    this.#count()
    this.#record(eventType, id, title, commit_timestamp)
  }

  /** Runs a write; the row itself comes back through the feed, so only a refusal needs showing. */
  async attempt(write) {
    const problem = this.find('.problem')
    try {
      await write(this.api)
      problem.hidden = true
      return true
    } catch (error) {
      problem.textContent = error.message
      problem.hidden = false
      return false
    }
  }

  async #add(form) {
    const { title, shared } = form.elements
    const text = title.value.trim()
    if (text === '') return title.focus()
    if (await this.attempt((api) => api.add(text, shared.checked))) {
      title.value = ''
      title.focus()
    }
  }

  #put(value, event) {
    const known = this.#rows.get(value.id)
    if (known) return known.show(value, event)
    const row = new Row(value, this)
    this.#rows.set(value.id, row)
    const list = this.find('.todos')
    // Newest on top.
    const next = [...list.children].find((element) => Number(element.dataset.id) < value.id)
    list.insertBefore(row.element, next ?? null)
    if (event) row.appear(event)
  }

  #drop(id) {
    this.#rows.get(id)?.vanish()
    this.#rows.delete(id)
  }

  #count() {
    const open = [...this.#rows.values()].filter(({ value }) => !value.done).length
    this.find('.count').textContent = this.#rows.size ? `${open} open of ${this.#rows.size}` : ''
    this.find('.empty').hidden = this.#rows.size > 0
  }

  #record(type, id, title, committed) {
    const line = document.createElement('li')
    line.dataset.event = type
    line.dataset.id = id
    const delay = Date.now() - Date.parse(committed)
    const parts = [
      ['event', type],
      ['what', `#${id} ${title ?? ''}`],
      // Both clocks are one clock when all of it runs on one machine; otherwise the number would mean little.
      ['delay', delay >= 0 && delay < 60_000 ? `${delay} ms` : ''],
    ]
    for (const [name, text] of parts) {
      const part = document.createElement('span')
      part.className = name
      part.textContent = text
      line.append(part, ' ')
    }
    const log = this.find('.log')
    log.prepend(line)
    while (log.children.length > LOG_LINES) log.lastElementChild.remove()
  }
}
