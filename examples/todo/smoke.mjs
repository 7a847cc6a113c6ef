// Checks a running demo from outside: `node smoke.mjs http://127.0.0.1:3000`. Alice writes a private and a shared
// to-do through the backend; she must receive both, Bob the shared one only.
import { createClient } from '@supabase/supabase-js'
import { WebSocket } from 'ws'

const TIMEOUT_MS = 30_000
const page = process.argv[2]
setTimeout(() => fail(`nothing more happened within ${TIMEOUT_MS / 1000} s`), TIMEOUT_MS).unref()

function fail(reason) {
  console.error(`smoke: ${reason}`)
  process.exit(1)
}

async function get(path, options) {
  const response = await fetch(page + path, options)
  if (!response.ok) fail(`${path} answered ${response.status}: ${await response.text()}`)
  return response
}

/** Resolves, once the subscription stands, to the user's token, the titles received so far and a way to await more. */
async function follow(name) {
  const { url, key, token } = await (await get(`/api/session/${name}`)).json()
  const client = createClient(url, key, { accessToken: async () => token, realtime: { transport: WebSocket } })
  await client.realtime.setAuth(token)
  const events = []
  let woken = () => {}
  const channel = client.channel('smoke').on('postgres_changes', { event: '*', schema: 'public', table: 'todos' }, (change) => {
    events.push(`${change.eventType} ${change.new.title ?? change.old.id}`)
    woken()
  })
  await new Promise((resolve) => {
    channel
      .on('system', {}, ({ status, message }) => (status === 'ok' ? resolve() : console.error(`smoke: ${name}: ${message}`)))
      .subscribe((status, error) => error && console.error(`smoke: ${name}: ${status} ${error.message}`))
  })
  const received = async (event) => {
    while (!events.includes(event)) await new Promise((resolve) => (woken = resolve))
  }
  return { token, events, received }
}

for (const path of ['/', '/main.js', '/main.css']) await get(path)
const [alice, bob] = await Promise.all([follow('alice'), follow('bob')])

const headers = { authorization: `Bearer ${alice.token}` }
const add = async (title, shared) => {
  const response = await get('/api/todos', { method: 'POST', headers, body: JSON.stringify({ title, shared }) })
  return (await response.json())[0].id
}
const secret = await add('smoke: private', false)
const shared = await add('smoke: shared', true)
for (const id of [secret, shared]) await get(`/api/todos/${id}`, { method: 'DELETE', headers })

await alice.received('INSERT smoke: private')
await alice.received(`DELETE ${shared}`)
await bob.received('INSERT smoke: shared')
await bob.received(`DELETE ${shared}`)
const leaked = bob.events.filter((event) => event.includes('private') || event === `DELETE ${secret}`)
if (leaked.length > 0) fail(`Bob received what only Alice may see: ${leaked.join(', ')}`)
console.log('smoke: the page is served and each user receives what row-level security lets them see')
process.exit(0)
