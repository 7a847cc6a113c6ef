// Where the others point, over what is written: broadcast as fractions of the area, twenty times a second at most.
import { h } from './dom.js'

const EVERY_MS = 50
const SHOWN_MS = 6000

export class Cursors {
  #marks = new Map()
  #next = null
  #waiting = false

  /** Watches `area`; `say(payload)` broadcasts where the pointer is, without `x` and `y` when it has left. */
  constructor(area, layer, people, say) {
    Object.assign(this, { area, layer, people, say })
    area.addEventListener('pointermove', (event) => {
      const { left, top, width, height } = area.getBoundingClientRect()
      this.#say({ x: (event.clientX - left) / width, y: (event.clientY - top) / height })
    })
    area.addEventListener('pointerleave', () => this.#say({}))
  }

  heard({ person, x, y }) {
    const known = this.people.get(person)
    const inside = (value) => typeof value === 'number' && value >= 0 && value <= 1
    clearTimeout(this.#marks.get(person)?.timer)
    if (!known || !inside(x) || !inside(y)) return this.#drop(person)
    let mark = this.#marks.get(person)
    if (!mark) {
      mark = { element: h('div', { class: 'cursor', 'data-cursor': person }, h('span', {}, known.name)) }
      mark.element.style.setProperty('--hue', known.hue)
      this.#marks.set(person, mark)
      this.layer.append(mark.element)
    }
    mark.element.style.left = `${x * 100}%`
    mark.element.style.top = `${y * 100}%`
    mark.timer = setTimeout(() => this.#drop(person), SHOWN_MS)
  }

  clear() {
    for (const person of [...this.#marks.keys()]) this.#drop(person)
  }

  #drop(person) {
    const mark = this.#marks.get(person)
    if (!mark) return
    clearTimeout(mark.timer)
    mark.element.remove()
    this.#marks.delete(person)
  }

  /** The first goes out at once; of those that follow too soon, the last one when its time has come. */
  #say(position) {
    this.#next = position
    if (this.#waiting) return
    const flush = () => {
      this.#waiting = this.#next !== null
      if (!this.#waiting) return
      this.say(this.#next)
      this.#next = null
      setTimeout(flush, EVERY_MS)
    }
    flush()
  }
}
