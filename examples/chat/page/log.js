// What this page received, and by which way: rows, broadcasts or presence.
import { find, h } from './dom.js'

const LINES = 40

let last = null

export function received(way, where, what) {
  // A cursor comes twenty times a second: the same again counts up.
  const same = `${way} ${where} ${what}`
  if (last?.same === same) {
    last.times += 1
    last.count.textContent = `×${last.times}`
    return
  }
  const count = h('span', { class: 'count' })
  last = { same, count, times: 1 }
  const log = find('#log')
  const parts = [h('span', { class: 'way' }, way), h('span', { class: 'what' }, what), count]
  log.prepend(h('li', { 'data-way': way, title: where }, ...parts))
  while (log.children.length > LINES) log.lastElementChild.remove()
}
