// Rooms and people: where one may go, and what has happened there meanwhile.
import { avatar, find, h, icon } from './dom.js'

/** One line of a list. */
function place({ key, mark, name, hint, open, unread, status, onclick }) {
  const button = h(
    'button',
    { type: 'button', 'data-key': key, 'data-status': status, 'aria-current': open ? 'page' : null, onclick },
    mark,
    h('span', { class: 'label' }, name),
    hint && h('span', { class: 'hint' }, hint),
    unread > 0 && h('span', { class: 'unread', 'aria-label': `${unread} unread` }, String(unread)),
  )
  return h('li', {}, button)
}

/** Puts lines into a list. What has not changed stays, so that nothing is taken away under a finger, or the focus. */
function fill(list, lines) {
  const focused = list.contains(document.activeElement) && document.activeElement.dataset.key
  for (const [index, line] of lines.entries()) {
    const shown = list.children[index]
    if (!shown) list.append(line)
    else if (!shown.isEqualNode(line)) shown.replaceWith(line)
  }
  while (list.children.length > lines.length) list.lastElementChild.remove()
  if (focused) list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus()
}

export function showRooms(rooms, { current, unread, open }) {
  const line = (room) => {
    const key = `room:${room.id}`
    return place({
      key,
      mark: icon(room.private ? 'private' : 'room'),
      name: room.name,
      hint: room.member ? null : 'join',
      open: key === current,
      unread: unread(key),
      onclick: () => open(key),
    })
  }
  fill(find('#rooms'), rooms.map(line))
}

export function showPeople(people, { current, unread, open, statusOf }) {
  const line = (person) => {
    const key = `dm:${person.id}`
    const status = statusOf(person.id)
    return place({
      key,
      mark: avatar(person, status),
      name: person.name,
      hint: status,
      open: key === current,
      unread: unread(key),
      status,
      onclick: () => open(key),
    })
  }
  fill(find('#people'), people.map(line))
}

/** Who is in the room that is open. */
export function showMembers(members, statusOf) {
  const line = (person) => {
    const status = statusOf(person.id)
    const [name, hint] = [h('span', { class: 'label' }, person.name), h('span', { class: 'hint' }, status)]
    return h('li', { 'data-member': person.id, 'data-status': status }, avatar(person, status), name, hint)
  }
  fill(find('#members'), members.map(line))
}

/** Alt and an arrow: to the next or the last of everything that can be opened. */
export function step(current, by, open) {
  const keys = [...document.querySelectorAll('.side [data-key]')].map((button) => button.dataset.key)
  if (keys.length > 0) open(keys[(keys.indexOf(current) + by + keys.length) % keys.length])
}
