// An unmodified supabase-js client on a channel: broadcasts, presence, private channels. README.md tells the contract.
import { createClient } from '@supabase/supabase-js'
import { obey, say } from './contract.mjs'
import { transport } from './transport.mjs'

const { ROWCAST_URL, ROWCAST_KEY, ROWCAST_TOKEN, TOPIC = 'test', VSN } = process.env
const config = JSON.parse(process.env.CHANNEL_CONFIG ?? '{}')

const realtime = { transport, ...(VSN && { vsn: VSN }) }
const client = createClient(ROWCAST_URL, ROWCAST_KEY, {
  realtime,
  auth: { persistSession: false, autoRefreshToken: false },
})
if (ROWCAST_TOKEN) await client.realtime.setAuth(ROWCAST_TOKEN)

const people = (state) =>
  Object.fromEntries(Object.entries(state).map(([key, metas]) => [key, metas.map(({ presence_ref, ...meta }) => meta)]))
const bytes = (payload) => (payload instanceof ArrayBuffer ? { bytes: [...new Uint8Array(payload)] } : { payload })

const channel = client.channel(TOPIC, { config })
channel
  .on('broadcast', { event: '*' }, ({ event, payload, meta }) =>
    say('broadcast', { event, ...bytes(payload), ...(meta && { meta }) }),
  )
  .on('system', {}, (payload) => say('system', payload))
if (process.env.PRESENCE) {
  channel
    .on('presence', { event: 'sync' }, () => say('sync', { state: people(channel.presenceState()) }))
    .on('presence', { event: 'join' }, ({ key, newPresences }) => say('join', { key, count: newPresences.length }))
    .on('presence', { event: 'leave' }, ({ key, leftPresences }) => say('leave', { key, count: leftPresences.length }))
}
const subscribe = () =>
  channel.subscribe((status, error) => say('status', { status, ...(error && { message: error.message }) }))
if (!process.env.NOT_JOINED) subscribe()

await obey({
  send: async ({ event, payload }) => say('sent', { result: await channel.send({ type: 'broadcast', event, payload }) }),
  send_bytes: async ({ event, bytes }) => {
    const payload = new Uint8Array(bytes).buffer
    say('sent', { result: await channel.send({ type: 'broadcast', event, payload }) })
  },
  http_send: async ({ event, payload, bytes }) => {
    const result = await channel.httpSend(event, bytes ? new Uint8Array(bytes).buffer : payload)
    say('sent', { result })
  },
  track: async ({ payload }) => say('tracked', { result: await channel.track(payload) }),
  untrack: async () => say('tracked', { result: await channel.untrack() }),
  heartbeat: () => {
    client.realtime.onHeartbeat((status) => say('heartbeat', { status }))
    return client.realtime.sendHeartbeat()
  },
  set_auth: ({ token }) => client.realtime.setAuth(token),
  subscribe,
  unsubscribe: async () => say('unsubscribed', { result: await client.removeChannel(channel) }),
  exit: async () => {
    await client.removeAllChannels()
    process.exit(0)
  },
})
