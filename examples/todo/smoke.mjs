// Alice writes a private and a shared to-do through the backend; she must receive both, Bob the shared one only.
import { fail, get, happenings, signIn } from '../smoke.mjs'

/** Resolves, once the subscription stands, to the user and what they receive. */
async function follow(name) {
  const { client, call } = await signIn(name)
  const { events, add, received } = happenings()
  const channel = client
    .channel('smoke')
    .on('postgres_changes', { event: '*', schema: 'public', table: 'todos' }, (change) =>
      add(`${change.eventType} ${change.new.title ?? change.old.id}`),
    )
  await new Promise((resolve) => {
    channel
      .on('system', {}, ({ status, message }) => (status === 'ok' ? resolve() : console.error(`smoke: ${name}: ${message}`)))
      .subscribe((status, error) => error && console.error(`smoke: ${name}: ${status} ${error.message}`))
  })
  return { call, events, received }
}

for (const path of ['/', '/door.css', '/todo', '/todo.js', '/todo.css']) await get(path)
const [alice, bob] = await Promise.all([follow('alice'), follow('bob')])

const add = async (title, shared) => (await alice.call('POST', '/api/todos', { title, shared }))[0].id
const secret = await add('smoke: private', false)
const shared = await add('smoke: shared', true)
for (const id of [secret, shared]) await alice.call('DELETE', `/api/todos/${id}`)

await alice.received('INSERT smoke: private')
await alice.received(`DELETE ${shared}`)
await bob.received('INSERT smoke: shared')
await bob.received(`DELETE ${shared}`)
const leaked = bob.events.filter((event) => event.includes('private') || event === `DELETE ${secret}`)
if (leaked.length > 0) fail(`Bob received what only Alice may see: ${leaked.join(', ')}`)
console.log('smoke: the to-do page is served and each user receives what row-level security lets them see')
process.exit(0)
