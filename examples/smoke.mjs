// What the smoke checks of the demos share: `node todo/smoke.mjs http://127.0.0.1:3000` checks a running demo from
// outside.
import { createClient } from '@supabase/supabase-js'
import { WebSocket } from 'ws'

const TIMEOUT_MS = 30_000
const page = process.argv[2]
setTimeout(() => fail(`nothing more happened within ${TIMEOUT_MS / 1000} s`), TIMEOUT_MS).unref()

export function fail(reason) {
  console.error(`smoke: ${reason}`)
  process.exit(1)
}

export async function get(path, options) {
  const response = await fetch(page + path, options)
  if (!response.ok) fail(`${path} answered ${response.status}: ${await response.text()}`)
  return response
}

/** A demo user: their client, and calls to the backend as them. */
export async function signIn(name) {
  const { user, url, key, token } = await (await get(`/api/session/${name}`)).json()
  const client = createClient(url, key, { accessToken: async () => token, realtime: { transport: WebSocket } })
  await client.realtime.setAuth(token)
  const headers = { authorization: `Bearer ${token}` }
  const call = async (method, path, body) =>
    (await get(path, { method, headers, body: body && JSON.stringify(body) })).json()
  return { name, user, client, call }
}

/** Things that happen, and a way to await one of them. */
export function happenings() {
  const events = []
  let woken = () => {}
  const add = (event) => {
    events.push(event)
    woken()
  }
  const received = async (event) => {
    while (!events.includes(event)) await new Promise((resolve) => (woken = resolve))
  }
  return { events, add, received }
}
