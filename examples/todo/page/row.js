// One to-do: shows a row, and turns what the user does into writes.
import { USERS } from '../../users.js'

const HIGHLIGHT_MS = 1800
const MOVE_MS = 220
const NAMES = new Map(Object.values(USERS).map(({ id, name }) => [id, name]))

export class Row {
  constructor(value, pane) {
    this.pane = pane
    this.element = document.querySelector('#todo').content.firstElementChild.cloneNode(true)
    this.element.dataset.id = value.id
    const find = (selector) => this.element.querySelector(selector)
    this.done = find('.done')
    this.title = find('.title')
    this.owner = find('.owner')
    this.share = find('.share')
    this.delete = find('.delete')
    this.#listen()
    this.show(value)
  }

  /** Shows `value`; with an `event`, also points at what changed. */
  show(value, event) {
    const same = this.value && JSON.stringify(this.value) === JSON.stringify(value)
    const editing = document.activeElement === this.title && this.title.value !== this.value?.title
    this.value = value
    const mine = value.owner === this.pane.user.id
    Object.assign(this.element.dataset, { owner: value.owner, title: value.title, done: value.done, shared: value.shared })
    this.done.checked = value.done
    this.done.setAttribute('aria-label', `Done: ${value.title}`)
    if (!editing) this.title.value = value.title
    this.title.setAttribute('aria-label', `Title of to-do ${value.id}`)
    this.owner.textContent = mine ? '' : `shared by ${NAMES.get(value.owner) ?? 'someone else'}`
    this.share.textContent = value.shared ? 'Shared' : 'Private'
    this.share.setAttribute('aria-pressed', value.shared)
    this.share.setAttribute('aria-label', `Shared: ${value.title}`)
    this.share.hidden = !mine
    this.delete.hidden = !mine
    this.delete.setAttribute('aria-label', `Delete: ${value.title}`)
    if (event && !same) this.#highlight(event)
  }

  appear(event) {
    this.#highlight(event)
    if (!still()) this.element.animate([{ opacity: 0, transform: 'translateY(-6px)' }, {}], { duration: MOVE_MS, easing: 'ease-out' })
  }

  vanish() {
    const { element } = this
    element.dataset.leaving = 'true'
    element.inert = true
    if (still()) return element.remove()
    const { height } = element.getBoundingClientRect()
    element.style.overflow = 'hidden'
    element
      .animate(
        [
          { height: `${height}px`, opacity: 1, backgroundColor: 'var(--removed)' },
          { height: `${height}px`, opacity: 1, backgroundColor: 'var(--removed)', offset: 0.5 },
          { height: 0, minHeight: 0, paddingBlock: 0, opacity: 0, backgroundColor: 'var(--removed)' },
        ],
        { duration: 3 * MOVE_MS, easing: 'ease-in' },
      )
      .finished.finally(() => element.remove())
  }

  #highlight(event) {
    this.element.dataset.lastEvent = event
    const colour = event === 'INSERT' ? 'var(--inserted)' : 'var(--updated)'
    this.element.animate([{ backgroundColor: colour }, { backgroundColor: colour, offset: 0.4 }, {}], HIGHLIGHT_MS)
  }

  #listen() {
    this.done.addEventListener('change', () => this.#write({ done: this.done.checked }))
    this.share.addEventListener('click', () => this.#write({ shared: !this.value.shared }))
    this.delete.addEventListener('click', () => this.pane.attempt((api) => api.remove(this.value.id)))
    this.title.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') this.title.value = this.value.title
      if (event.key === 'Enter' || event.key === 'Escape') {
        event.preventDefault()
        this.title.blur()
      }
    })
    this.title.addEventListener('blur', () => {
      const title = this.title.value.replace(/\s+/g, ' ').trim()
      if (title === '' || title === this.value.title) this.title.value = this.value.title
      else this.#write({ title })
    })
  }

  async #write(values) {
    const written = await this.pane.attempt((api) => api.change(this.value.id, values))
    if (!written) this.show(this.value)
  }
}

const still = () => matchMedia('(prefers-reduced-motion: reduce)').matches
