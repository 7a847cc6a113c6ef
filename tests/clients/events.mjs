// Unmodified readers of server-sent events: the EventSource of Chromium, or that of npm. README.md tells the contract.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EventSource } from 'eventsource'
import { chromium } from 'playwright-core'
import { obey, say } from './contract.mjs'

const { EVENTS_URL, PAGE_URL, COOKIE, CHROMIUM } = process.env
const NAMES = ['system', 'postgres_changes', 'broadcast', 'presence_state', 'presence_diff', 'cursor']

// Runs in Node and in a page alike: it sees nothing but its arguments.
const follow = ({ source, names, told }) => {
  source.onopen = () => told('open', {})
  source.onerror = () => told('lost', { state: source.readyState })
  for (const name of names) {
    source.addEventListener(name, ({ data, lastEventId }) =>
      told('event', { name, id: lastEventId, data: JSON.parse(data) }),
    )
  }
}

let close
if (CHROMIUM) {
  const profile = await mkdtemp(join(tmpdir(), 'rowcast-events-'))
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
    env: { ...process.env, HOME: profile },
  })
  const context = await browser.newContext()
  if (COOKIE) {
    const [name, value] = COOKIE.split('=')
    await context.addCookies([{ name, value, url: PAGE_URL }])
  }
  const page = await context.newPage()
  await page.exposeFunction('told', (kind, fields) => say(kind, fields))
  await page.goto(PAGE_URL)
  await page.evaluate(`(${follow})({ source: new EventSource(${JSON.stringify(EVENTS_URL)}), names: ${JSON.stringify(NAMES)}, told })`)
  close = async () => {
    await browser.close()
    await rm(profile, { recursive: true, force: true })
  }
} else {
  const source = new EventSource(EVENTS_URL)
  follow({ source, names: NAMES, told: say })
  close = () => source.close()
}

await obey({
  exit: async () => {
    await close()
    process.exit(0)
  },
})
