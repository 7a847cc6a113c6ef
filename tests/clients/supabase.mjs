// An unmodified supabase-js client that subscribes to row changes and tells what it gets. README.md tells the contract.
import { createClient } from '@supabase/supabase-js'
import { obey, say } from './contract.mjs'
import { transport } from './transport.mjs'

const { ROWCAST_URL, ROWCAST_KEY, ROWCAST_TOKEN, TOPIC = 'test', VSN, SESSION } = process.env
const bindings = JSON.parse(process.env.BINDINGS ?? '[{"event":"*","schema":"public"}]')
const config = JSON.parse(process.env.CHANNEL_CONFIG ?? '{}')

const params = SESSION && { params: { session: SESSION } }
const realtime = { transport, ...(VSN && { vsn: VSN }), ...params }
const client = createClient(ROWCAST_URL, ROWCAST_KEY, {
  realtime,
  auth: { persistSession: false, autoRefreshToken: false },
})
if (ROWCAST_TOKEN) await client.realtime.setAuth(ROWCAST_TOKEN)

const channel = client.channel(TOPIC, { config })
bindings.forEach((filter, binding) =>
  channel.on('postgres_changes', filter, (change) => say('change', { binding, ...change })),
)
channel
  .on('system', {}, (payload) => {
    say('system', payload)
    if (payload.extension === 'postgres_changes' && payload.status === 'ok') say('subscribed')
  })
  .subscribe((status, error) => say('status', { status, ...(error && { message: error.message }) }))

await obey({
  set_auth: ({ token }) => client.realtime.setAuth(token),
  unsubscribe: async () => say('unsubscribed', { result: await client.removeChannel(channel) }),
  exit: async () => {
    await client.removeAllChannels()
    process.exit(0)
  },
})
