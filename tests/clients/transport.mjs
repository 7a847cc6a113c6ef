// What a client's messages travel by: TRANSPORT in README.md.
import { createRequire } from 'node:module'
import { LongPoll } from '@supabase/phoenix'
import { WebSocket } from 'ws'

// The class that the library itself has loaded. It takes Phoenix' serialiser for that one, and its own for any other.
const library = createRequire(import.meta.resolve('@supabase/realtime-js'))

const transports = {
  websocket: WebSocket,
  longpoll: LongPoll,
  'longpoll-phoenix': library('@supabase/phoenix').LongPoll,
}

const { TRANSPORT = 'websocket' } = process.env
// Node 20 has no WebSocket of its own, so the library asks for one here.
export const transport = transports[TRANSPORT]
