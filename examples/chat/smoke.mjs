// Alice writes to Bob: he must get it on the channel of the two and be notified of it; Cleo must be refused there.
import { fail, get, happenings, signIn } from '../smoke.mjs'

/** Joins a private channel and resolves to the first status that the library reports. */
const join = ({ client }, topic, listen = () => {}) =>
  new Promise((resolve) => {
    const channel = client.channel(topic, { config: { private: true } })
    listen(channel)
    channel.subscribe((status, error) => resolve({ status, reason: error?.message }))
  })

async function joined(who, topic, listen) {
  const { status, reason } = await join(who, topic, listen)
  if (status !== 'SUBSCRIBED') fail(`${who.name} may not join ${topic}: ${status} ${reason}`)
}

for (const path of ['/chat', '/chat.js', '/chat.css']) await get(path)
const [alice, bob, cleo] = await Promise.all(['alice', 'bob', 'cleo'].map(signIn))
const { add, received } = happenings()
const between = `dm:${[alice.user.id, bob.user.id].sort().join(':')}`
await joined(bob, between, (channel) =>
  channel.on('broadcast', { event: 'message' }, ({ payload }) => add(payload.record.body)),
)
await joined(bob, `user:${bob.user.id}`, (channel) =>
  channel.on('broadcast', { event: 'new' }, ({ payload }) => add(payload.kind)),
)
const { status } = await join(cleo, between)
if (status === 'SUBSCRIBED') fail('Cleo may listen to what is between Alice and Bob')

await alice.call('POST', `/api/chat/directs/${bob.user.id}`, { body: 'smoke: between us' })
await received('smoke: between us')
await received('direct')
await bob.call('POST', '/api/chat/notifications/read', { sender: alice.user.id })
console.log('smoke: the chat page is served, a private message reaches the one it is for, and nobody else may listen')
process.exit(0)
