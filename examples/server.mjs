// The demos' backend: serves the pages, signs a token for each demo user, and reads and writes rows with ordinary SQL
// as that user. It never talks to Rowcast; the browser learns about every change, including its own, from there.
import { createServer } from 'node:http'
import { readFile } from 'node:fs/promises'
import { close } from './backend/database.mjs'
import { Refusal, statusOf } from './backend/http.mjs'
import { session } from './backend/sessions.mjs'
import { HOST, PORT, ROWCAST_URL } from './backend/settings.mjs'
import { chat } from './chat/api.mjs'
import { todos } from './todo/api.mjs'

const HTML = 'text/html; charset=utf-8'
const SCRIPT = 'text/javascript; charset=utf-8'
const STYLE = 'text/css; charset=utf-8'
const PAGE = {
  '/': ['door/index.html', HTML],
  '/door.css': ['dist/door.css', STYLE],
  '/todo': ['todo/page/index.html', HTML],
  '/todo.js': ['dist/todo.js', SCRIPT],
  '/todo.css': ['dist/todo.css', STYLE],
  '/chat': ['chat/page/index.html', HTML],
  '/chat.js': ['dist/chat.js', SCRIPT],
  '/chat.css': ['dist/chat.css', STYLE],
}
/** Each takes the request and what follows its name in the path. */
const API = { session: (request, [name]) => session(name), todos, chat }

/** What the browser may load: this origin, and a WebSocket to Rowcast. */
const CONTENT_SECURITY = `default-src 'self'; connect-src 'self' ${ROWCAST_URL} ${ROWCAST_URL.replace(/^http/, 'ws')}; img-src 'self' data:`

async function respond(request, response) {
  const { pathname } = new URL(request.url, 'http://localhost')
  if (pathname === '/healthz') return response.end('ok')
  if (Object.hasOwn(PAGE, pathname)) {
    const [file, type] = PAGE[pathname]
    const content = await readFile(new URL(file, import.meta.url))
    response.writeHead(200, { 'content-type': type, 'cache-control': 'no-cache', 'content-security-policy': CONTENT_SECURITY })
    return response.end(content)
  }
  const [, api, what, ...rest] = pathname.split('/')
  if (api !== 'api' || !Object.hasOwn(API, what)) throw new Refusal(404, 'not found')
  const answer = await API[what](request, rest)
  response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-store' })
  response.end(JSON.stringify(answer))
}

const server = createServer((request, response) => {
  respond(request, response).catch((error) => {
    const status = statusOf(error)
    if (status === 500) console.error(`${request.method} ${request.url}: ${error.message}`)
    if (!response.headersSent) response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ error: status === 500 ? 'the database did not answer' : error.message }))
  })
})
server.listen(Number(PORT), HOST, () => console.log(`demo pages on http://${HOST}:${server.address().port}`))

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    server.close(() => close().finally(() => process.exit(0)))
    server.closeAllConnections()
  })
}
