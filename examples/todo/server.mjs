// The demo's backend: serves the page, signs a token for each demo user, and reads and writes rows with ordinary SQL
// as that user. It never talks to Rowcast; the browser learns about every change, including its own, from the database.
import { createServer } from 'node:http'
import { readFile } from 'node:fs/promises'
import { SignJWT, jwtVerify } from 'jose'
import pg from 'pg'
import { USERS } from './users.js'

const { DATABASE_URL, ROWCAST_URL = 'http://127.0.0.1:4000', JWT_SECRET, HOST = '127.0.0.1', PORT = '3000' } = process.env
for (const name of ['DATABASE_URL', 'JWT_SECRET']) {
  if (!process.env[name]) {
    console.error(`${name} is not set; run.sh sets it from what \`rowcast dev\` reports`)
    process.exit(2)
  }
}

const PAGE = {
  '/': ['page/index.html', 'text/html; charset=utf-8'],
  '/main.js': ['dist/main.js', 'text/javascript; charset=utf-8'],
  '/main.css': ['dist/main.css', 'text/css; charset=utf-8'],
}
const MAX_BODY_BYTES = 16 * 1024

const secret = new TextEncoder().encode(JWT_SECRET)
pg.types.setTypeParser(pg.types.builtins.INT8, Number)
const pool = new pg.Pool({ connectionString: DATABASE_URL, max: 5 })
pool.on('error', (error) => console.error(`lost a database connection: ${error.message}`))

/** An answer that is not 200, thrown from wherever it is noticed. */
class Refusal extends Error {
  constructor(status, message) {
    super(message)
    this.status = status
  }
}

const sign = (claims) =>
  new SignJWT(claims).setProtectedHeader({ alg: 'HS256', typ: 'JWT' }).setIssuedAt().setExpirationTime('12h').sign(secret)

/** For the demo, naming a user is signing in. A real backend asks for a password here. */
async function session(name) {
  const user = Object.hasOwn(USERS, name) && USERS[name]
  if (!user) throw new Refusal(404, `no demo user is called ${name}`)
  return {
    user,
    url: ROWCAST_URL,
    key: await sign({ role: 'anon' }),
    token: await sign({ role: 'authenticated', sub: user.id }),
  }
}

async function claimsOf(request) {
  const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1]
  if (!token) throw new Refusal(401, 'send the session token as a Bearer token')
  try {
    return (await jwtVerify(token, secret, { algorithms: ['HS256'] })).payload
  } catch (error) {
    throw new Refusal(401, `the session token does not hold: ${error.message}`)
  }
}

/** One statement in one transaction as the bearer of `claims`, so that row-level security judges it. */
async function queryAs(claims, sql, values = []) {
  const client = await pool.connect()
  try {
    await client.query('begin')
    await client.query('set local role authenticated')
    await client.query("select set_config('request.jwt.claims', $1, true)", [JSON.stringify(claims)])
    const { rows } = await client.query(sql, values)
    await client.query('commit')
    client.release()
    return rows
  } catch (error) {
    const broken = await client.query('rollback').then(() => false, () => true)
    client.release(broken)
    throw error
  }
}

async function bodyOf(request) {
  let text = ''
  for await (const chunk of request) {
    text += chunk
    if (text.length > MAX_BODY_BYTES) throw new Refusal(413, 'the body is too large')
  }
  try {
    return JSON.parse(text)
  } catch {
    throw new Refusal(400, 'the body must be JSON')
  }
}

async function todos(request, id) {
  const claims = await claimsOf(request)
  switch (request.method) {
    case 'GET':
      return queryAs(claims, 'select * from public.todos order by id desc limit 500')
    case 'POST': {
      const { title, shared = false } = await bodyOf(request)
      return queryAs(claims, 'insert into public.todos (title, shared) values ($1, $2) returning id', [title, shared])
    }
    case 'PATCH': {
      const { title, done, shared } = await bodyOf(request)
      return one(
        await queryAs(
          claims,
          `update public.todos set title = coalesce($2, title), done = coalesce($3, done), shared = coalesce($4, shared)
           where id = $1 returning id`,
          [id, title, done, shared],
        ),
      )
    }
    case 'DELETE':
      return one(await queryAs(claims, 'delete from public.todos where id = $1 returning id', [id]))
    default:
      throw new Refusal(405, 'use GET, POST, PATCH or DELETE')
  }
}

function one(rows) {
  if (rows.length === 0) throw new Refusal(404, 'there is no such row that you may change')
  return rows[0]
}

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
  const [, api, what, argument] = pathname.split('/')
  if (api !== 'api') throw new Refusal(404, 'not found')
  let answer
  if (what === 'session') answer = await session(argument)
  else if (what === 'todos') answer = await todos(request, argument)
  else throw new Refusal(404, 'not found')
  response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-store' })
  response.end(JSON.stringify(answer))
}

/** Postgres refusing a statement (a policy, a check, a value of the wrong type) is an answer to the user. */
function statusOf(error) {
  if (error instanceof Refusal) return error.status
  if (error.code === '42501') return 403
  if (/^2[23]/.test(error.code ?? '')) return 400
  return 500
}

const server = createServer((request, response) => {
  respond(request, response).catch((error) => {
    const status = statusOf(error)
    if (status === 500) console.error(`${request.method} ${request.url}: ${error.message}`)
    if (!response.headersSent) response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ error: status === 500 ? 'the database did not answer' : error.message }))
  })
})
server.listen(Number(PORT), HOST, () => console.log(`todo page on http://${HOST}:${server.address().port}`))

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    server.close(() => pool.end().finally(() => process.exit(0)))
    server.closeAllConnections()
  })
}
