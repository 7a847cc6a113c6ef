// Light or dark: as the system says, until somebody says otherwise.
import { find, icon } from './dom.js'

const KEPT = 'chat-theme'

export function theme() {
  const root = document.documentElement
  const set = (scheme) => (root.dataset.theme = scheme)
  const kept = localStorage.getItem(KEPT)
  if (kept) set(kept)
  find('#theme').append(icon('theme'))
  find('#theme').addEventListener('click', () => {
    const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches
    set(dark ? 'light' : 'dark')
    localStorage.setItem(KEPT, root.dataset.theme)
  })
}
