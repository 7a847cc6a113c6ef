// The conversation that is open: where its messages come from, where they go, and what else is heard meanwhile.
import { Cursors } from './cursors.js'
import { Typing } from './typing.js'

/** The order of the two is part of the topic, so that both mean the same channel. */
const direct = (a, b) => `dm:${[a, b].sort().join(':')}`

/**
 * A room. Its messages are rows that come through the feed of all rooms (app.js), judged one by one; its own channel
 * carries what nobody keeps: typing and cursors.
 */
export class RoomTalk {
  constructor(room, { api, connection, people, thread, received, who }) {
    Object.assign(this, { room, api, thread, key: `room:${room.id}`, about: { room: room.id } })
    const me = connection.user.id
    const typing = new Typing(me, (payload) => this.line.send('typing', payload), (list) => thread.typing(list))
    const point = (position) => this.line.send('cursor', { person: me, ...position })
    const cursors = new Cursors(thread.area(), thread.layer, people, point)
    this.typing = typing
    this.line = connection.keep(this.key, { private: true }, {
      listen: (channel) =>
        channel
          .on('broadcast', { event: 'typing' }, ({ payload }) => {
            received('broadcast', this.key, 'typing')
            typing.heard(payload)
          })
          // Not who, only that somebody came or left: who is here now is in the table.
          .on('broadcast', { event: 'members' }, () => {
            received('broadcast', this.key, 'members')
            who()
          })
          .on('broadcast', { event: 'cursor' }, ({ payload }) => {
            received('broadcast', this.key, 'cursor')
            cursors.heard(payload)
          }),
      joined: () => thread.line(this.key, true),
      lost: () => {
        thread.line(this.key, false)
        cursors.clear()
      },
    })
    this.close = () => {
      this.line.leave()
      cursors.clear()
    }
    this.load().catch((error) => thread.problem(error.message))
  }

  async load() {
    const rows = await this.api.messages(this.room.id)
    this.thread.rows(this.key, rows.reverse())
  }

  /** A row of the feed. */
  row(row) {
    this.thread.row(this.key, row)
    this.typing.heard({ person: row.sender })
  }

  send = (body) => this.api.say(this.room.id, body)
  typed = (text) => this.typing.typed(text)
}

/**
 * Two people. What they write is broadcast by the database, on a channel that only these two may read and that nobody
 * else writes to; that somebody is typing comes from the other one, on a second channel.
 */
export class DirectTalk {
  constructor(person, { api, connection, thread, received }) {
    Object.assign(this, { person, api, thread, key: `dm:${person.id}`, about: { sender: person.id } })
    const topic = direct(connection.user.id, person.id)
    const typing = new Typing(connection.user.id, (payload) => whispers.send('typing', payload), (list) => thread.typing(list))
    this.typing = typing
    const line = connection.keep(topic, { private: true }, {
      listen: (channel) =>
        channel.on('broadcast', { event: 'message' }, ({ payload }) => {
          received('broadcast', topic, `${payload.operation} ${payload.table}`)
          thread.row(this.key, payload.record)
          typing.heard({ person: payload.record.sender })
        }),
      // From here on nothing is missed, so this is the moment to read what was written before.
      joined: () => this.load().catch((error) => thread.problem(error.message)),
    })
    const whispers = connection.keep(`${topic}:typing`, { private: true }, {
      listen: (channel) =>
        channel.on('broadcast', { event: 'typing' }, ({ payload }) => {
          received('broadcast', `${topic}:typing`, 'typing')
          typing.heard(payload)
        }),
      joined: () => thread.line(this.key, true),
      lost: () => thread.line(this.key, false),
    })
    this.close = () => {
      line.leave()
      whispers.leave()
    }
  }

  async load() {
    const rows = await this.api.directs(this.person.id)
    this.thread.rows(this.key, rows.reverse())
  }

  send = (body) => this.api.tell(this.person.id, body)
  typed = (text) => this.typing.typed(text)
}
