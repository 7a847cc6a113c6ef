// Node's HTTP/2 client: asks several things at once on one connection, and tells the answers. README.md tells the contract.
import { connect } from 'node:http2'
import { readFileSync } from 'node:fs'
import { obey, say } from './contract.mjs'

const { ROWCAST_URL, ROOT } = process.env
const session = connect(ROWCAST_URL, ROOT ? { ca: readFileSync(ROOT) } : {})
session.on('error', (error) => say('error', { message: error.message }))
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

await obey({
  // All in one go, before any is answered.
  ask: ({ requests }) => requests.forEach(ask),
  exit: () => process.exit(0),
})
