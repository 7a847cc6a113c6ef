// Two users side by side, each with a client, a token and a connection of their own.
import './style.css'
import { Api } from './api.js'
import { follow } from './feed.js'
import { Pane } from './pane.js'
import { USERS } from '../../users.js'

for (const key of ['alice', 'bob']) {
  const api = new Api()
  const pane = new Pane(key, USERS[key], api)
  document.querySelector('#panes').append(pane.element)
  follow(api, key, pane)
}

const STATEMENTS = [
  `insert into todos (owner, title, shared) values ('${USERS.bob.id}', 'Hello from psql', true);`,
  `insert into todos (owner, title) values ('${USERS.alice.id}', 'From psql, for Alice alone');`,
  'update todos set done = not done where shared;',
  `delete from todos where title like '%psql%';`,
]
for (const sql of STATEMENTS) {
  const item = document.querySelector('#statement').content.firstElementChild.cloneNode(true)
  item.querySelector('code').textContent = sql
  const copy = item.querySelector('.copy')
  copy.setAttribute('aria-label', `Copy: ${sql}`)
  copy.addEventListener('click', async () => {
    await navigator.clipboard.writeText(sql)
    copy.textContent = 'Copied'
    setTimeout(() => (copy.textContent = 'Copy'), 1500)
  })
  document.querySelector('#statements').append(item)
}
