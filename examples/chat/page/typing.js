// Who is typing: said by broadcast while somebody does, believed for a moment.
const REPEAT_MS = 2000
const BELIEVED_MS = 5000

export class Typing {
  #said = 0
  #believed = new Map()

  /** `say(payload)` broadcasts, `changed(people)` hears who is typing now. */
  constructor(me, say, changed) {
    this.me = me
    this.say = say
    this.changed = changed
  }

  /** The text changed to `text`: empty means that it was sent or given up. */
  typed(text) {
    const now = Date.now()
    if (text === '') {
      if (this.#said > 0) this.say({ person: this.me, typing: false })
      this.#said = 0
    } else if (now - this.#said >= REPEAT_MS) {
      this.say({ person: this.me, typing: true })
      this.#said = now
    }
  }

  heard({ person, typing }) {
    clearTimeout(this.#believed.get(person))
    this.#believed.delete(person)
    if (typing === true) this.#believed.set(person, setTimeout(() => this.heard({ person }), BELIEVED_MS))
    this.changed([...this.#believed.keys()])
  }
}
