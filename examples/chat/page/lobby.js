// Who is online, away or offline: presence in one room that everybody is in.

// A server may close a channel that changes its presence more often than five times in 30 s.
const CALLS = 5
const WINDOW_MS = 30_000
const SETTLE_MS = 100

export class Lobby {
  #status = 'online'
  #told = null
  #calls = []
  #timer = null
  #settling = null
  #channel = null
  #statuses = new Map()

  /** `changed()` hears when somebody's status may have. */
  constructor(connection, received, changed) {
    // A key for each tab: under a key that tabs share, supabase-js before 2.111 keeps those that have gone.
    const key = `${connection.user.id}:${Math.random().toString(36).slice(2)}`
    connection.keep('lobby', { private: true, presence: { key, enabled: true } }, {
      listen: (channel) =>
        channel.on('presence', { event: 'sync' }, () => {
          this.#statuses = statuses(channel.presenceState())
          received('presence', 'lobby', `${this.#statuses.size} here`)
          // Whoever changes status is gone for an instant.
          clearTimeout(this.#settling)
          this.#settling = setTimeout(changed, SETTLE_MS)
        }),
      joined: (channel) => {
        this.#channel = channel
        this.#told = null
        this.#calls = []
        this.#tell()
      },
      lost: () => {
        this.#channel = null
        this.#statuses.clear()
        changed()
      },
    })
  }

  statusOf = (person) => this.#statuses.get(person) ?? 'offline'

  /** `online` or `away`, told to the others as soon as that may be. */
  set(status) {
    this.#status = status
    this.#tell()
  }

  #tell() {
    if (!this.#channel || this.#told === this.#status || this.#timer) return
    const now = Date.now()
    this.#calls = this.#calls.filter((at) => now - at < WINDOW_MS)
    const calls = this.#told === null ? [now] : [now, now]
    const over = this.#calls.length + calls.length - CALLS
    if (over > 0) {
      this.#timer = setTimeout(() => {
        this.#timer = null
        this.#tell()
      }, WINDOW_MS - (now - this.#calls[over - 1]))
      return
    }
    this.#calls.push(...calls)
    // For the same reason as above the old status is taken back first: updated, it would stay beside the new one.
    if (this.#told !== null) this.#channel.untrack()
    this.#told = this.#status
    this.#channel.track({ status: this.#status })
  }
}

/** Who is here in one tab is not away in another. */
function statuses(state) {
  const people = new Map()
  for (const [key, [{ status }]] of Object.entries(state)) {
    const [person] = key.split(':')
    if (people.get(person) !== 'online') people.set(person, status === 'online' ? 'online' : 'away')
  }
  return people
}
