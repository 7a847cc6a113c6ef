// Whether somebody is at the page: away when the tab is hidden, or when nothing was touched for a while.
const IDLE_MS = 60_000

/** `changed('online' | 'away')` hears of every change. */
export function watchActivity(changed) {
  let status = 'online'
  let timer = null
  const become = (next) => {
    if (status !== next) changed((status = next))
  }
  const awake = () => {
    clearTimeout(timer)
    if (document.visibilityState === 'hidden') return become('away')
    timer = setTimeout(() => become('away'), IDLE_MS)
    become('online')
  }
  for (const event of ['pointermove', 'pointerdown', 'keydown', 'focus']) addEventListener(event, awake, { passive: true })
  document.addEventListener('visibilitychange', awake)
  awake()
}
