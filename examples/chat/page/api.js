// Rooms, messages and notifications, read and written through the backend.
import { Backend } from '../../page/backend.js'

export class Api extends Backend {
  home = () => this.call('GET', '/api/chat/')
  found = (name, hidden) => this.call('POST', '/api/chat/rooms', { name, private: hidden })
  members = (room) => this.call('GET', `/api/chat/rooms/${room}/members`)
  join = (room, person) => this.call('POST', `/api/chat/rooms/${room}/members`, { person })
  leave = (room) => this.call('DELETE', `/api/chat/rooms/${room}/members`)
  messages = (room) => this.call('GET', `/api/chat/rooms/${room}/messages`)
  say = (room, body) => this.call('POST', `/api/chat/rooms/${room}/messages`, { body })
  directs = (person) => this.call('GET', `/api/chat/directs/${person}`)
  tell = (person, body) => this.call('POST', `/api/chat/directs/${person}`, { body })
  notifications = () => this.call('GET', '/api/chat/notifications')
  read = (which) => this.call('POST', '/api/chat/notifications/read', which)
}
