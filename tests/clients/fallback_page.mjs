// The Phoenix client on long polling in headless Chromium, where it asks by XMLHttpRequest from another origin. README.md
// tells the contract.
import { mkdtemp, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import { obey, say } from './contract.mjs'

const { ROWCAST_URL, ROWCAST_KEY, TOPIC = 'test', CHROMIUM = '/usr/bin/chromium' } = process.env
const library = createRequire(import.meta.url).resolve('@supabase/phoenix').replace(/[^/]*$/, 'phoenix.js')

const profile = await mkdtemp(join(tmpdir(), 'rowcast-page-'))
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-sync'],
  env: { ...process.env, HOME: profile },
})
const page = await browser.newPage()
page.on('pageerror', (error) => say('raised', { message: error.message }))
await page.exposeFunction('say', say)
await page.addScriptTag({ path: library })

/** In the page: a channel on long polling with this key. */
function connect({ url, key, topic }) {
  const socket = new Phoenix.Socket(url, { transport: Phoenix.LongPoll, params: { apikey: key } })
  socket.onError((error) => say('refused', { error }))
  socket.connect()
  const channel = socket.channel(topic, { config: { broadcast: { ack: true } } })
  channel.on('broadcast', ({ event, payload }) => say('broadcast', { event, payload }))
  channel.join().receive('ok', () => say('joined'))
  Object.assign(window, { socket, channel })
}

const url = `${ROWCAST_URL}/realtime/v1`
await obey({
  connect: ({ key = ROWCAST_KEY }) => page.evaluate(connect, { url, key, topic: `realtime:${TOPIC}` }),
  send: (message) =>
    page.evaluate(({ event, payload }) => {
      channel.push('broadcast', { type: 'broadcast', event, payload }).receive('ok', () => say('sent'))
    }, message),
  disconnect: () => page.evaluate(() => socket.disconnect(() => say('disconnected'))),
  exit: async () => {
    await browser.close()
    await rm(profile, { recursive: true, force: true })
    process.exit(0)
  },
})
