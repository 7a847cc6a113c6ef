// To-dos, read and written through the backend.
import { Backend } from '../../page/backend.js'

export class Api extends Backend {
  rows = () => this.call('GET', '/api/todos')
  add = (title, shared) => this.call('POST', '/api/todos', { title, shared })
  change = (id, values) => this.call('PATCH', `/api/todos/${id}`, values)
  remove = (id) => this.call('DELETE', `/api/todos/${id}`)
}
