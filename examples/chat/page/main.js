// The door, or, with `?as=alice`, the chat as Alice.
import './style.css'
import { USERS } from '../../users.js'
import { App } from './app.js'
import { avatar, find, h } from './dom.js'
import { hueOf } from './people.js'
import { theme } from './theme.js'

theme()
const name = new URLSearchParams(location.search).get('as')
if (name && Object.hasOwn(USERS, name)) {
  find('#app').hidden = false
  document.title = `${USERS[name].name} · Rowcast chat`
  App.start(name)
} else {
  find('#door').hidden = false
  for (const [index, [key, user]] of Object.entries(USERS).entries()) {
    const face = avatar({ ...user, hue: hueOf(index) })
    find('#faces').append(h('li', {}, h('a', { href: `/chat?as=${key}`, 'data-person': key }, face, h('span', {}, user.name))))
  }
}
