// Node's HTTP/2 client: asks several things at once on one connection, follows streams of events, and tells what comes. README.md
// tells the contract.
import { connect, constants } from 'node:http2'
import { readFileSync } from 'node:fs'
import { obey, say } from './contract.mjs'

const { ROWCAST_URL, ROOT } = process.env
const session = connect(ROWCAST_URL, ROOT ? { ca: readFileSync(ROOT) } : {})
session.on('error', (error) => say('error', { message: error.message }))
session.on('goaway', (code) => say('goaway', { code }))
session.on('close', () => say('closed'))
session.on('connect', () =>
  say('connected', {
    protocol: session.alpnProtocol,
    extendedConnect: session.remoteSettings.enableConnectProtocol ?? false,
  }),
)

const ask = ({ id, headers, body }) => {
  const request = session.request(headers, { endStream: body === undefined })
  let status
  let text = ''
  request.setEncoding('utf8')
  request.on('response', (response) => (status = response[':status']))
  request.on('data', (part) => (text += part))
  request.on('end', () => say('answer', { id, status, text }))
  request.on('error', (error) => say('error', { id, message: error.message }))
  if (body !== undefined) request.end(body)
}

// Streams of events, until they end or are left.
const streams = new Map()
const follow = ({ id, headers }) => {
  const request = session.request(headers)
  streams.set(id, request)
  let text = ''
  let place = headers['last-event-id'] ?? ''
  request.setEncoding('utf8')
  request.on('response', (response) => say('followed', { id, status: response[':status'] }))
  request.on('data', (part) => {
    const blocks = (text + part).split('\n\n')
    text = blocks.pop()
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split('\n').map((line) => line.split(/: (.*)/s, 2)))
      place = fields.id ?? place
      if (fields.event) say('event', { id, name: fields.event, place, data: JSON.parse(fields.data) })
    }
  })
  request.on('error', (error) => say('error', { id, message: error.message }))
  request.on('close', () => say('left', { id, place, code: request.rstCode }))
}

await obey({
  // All in one go, before any is answered.
  ask: ({ requests }) => requests.forEach(ask),
  follow: ({ requests }) => requests.forEach(follow),
  // Nothing more is read of it, so that it fills up.
  stall: ({ id }) => streams.get(id).pause(),
  read: ({ id }) => streams.get(id).resume(),
  leave: ({ id }) => streams.get(id).close(constants.NGHTTP2_CANCEL),
  exit: () => process.exit(0),
})
