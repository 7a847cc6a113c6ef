// An unmodified Phoenix client whose WebSocket does not come through. README.md tells the contract.
import { Socket } from '@supabase/phoenix'
import { WebSocket } from 'ws'
import { obey, say } from './contract.mjs'

const { ROWCAST_URL, ROWCAST_KEY, TOPIC = 'test' } = process.env

/** What a proxy makes of a WebSocket that it does not know: no port is open at this address. */
class Blocked extends WebSocket {
  constructor() {
    super('ws://127.0.0.1:1/')
  }
}

const socket = new Socket(`${ROWCAST_URL}/socket`.replace(/^http/, 'ws'), {
  transport: Blocked,
  longPollFallbackMs: 5000,
  params: { apikey: ROWCAST_KEY },
  logger: (kind, message) => console.error(kind, message),
})
socket.onClose(({ code }) => say('closed', { code }))
socket.connect()

const channel = socket.channel(`realtime:${TOPIC}`, { config: { broadcast: { ack: true, self: true } } })
channel.on('broadcast', ({ event, payload }) => say('broadcast', { event, payload }))
const answered = (push, kind) =>
  push
    .receive('ok', () => say(kind, { status: 'ok', transport: socket.conn.constructor.name }))
    .receive('error', (response) => say(kind, { status: 'error', response }))
    .receive('timeout', () => say(kind, { status: 'timeout' }))
answered(channel.join(), 'joined')

await obey({
  send: ({ event, payload }) => answered(channel.push('broadcast', { type: 'broadcast', event, payload }), 'sent'),
  exit: () => socket.disconnect(() => process.exit(0)),
})
