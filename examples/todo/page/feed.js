// One user's live view of the table: the rows as they are, then every change, through unmodified supabase-js.
import { createClient } from '@supabase/supabase-js'

const RETRY_MS = 2000
const RENEW_TOKEN_MS = 60 * 60 * 1000

/**
 * Follows `public.todos` as the demo user `name`. Tells `view`:
 * - `state(state, reason)`: `live` or `reconnecting`;
 * - `rows(list)`: all rows the user may see, after every (re)connection;
 * - `change({eventType, new, old, commit_timestamp})`: one change, in commit order.
 */
export async function follow(api, name, view) {
  const { url, key, token } = await signIn(api, name, view)
  const client = createClient(url, key, { accessToken: async () => token })
  await client.realtime.setAuth(token)

  // While the rows are being read, changes are held back and then applied to what was read, so that none falls into
  // the gap between the two. Some may be applied twice, which does no harm: the last one wins.
  let subscribed = false
  let held = []
  const change = (payload) => {
    // Without its row, because it was too large or could not be judged: what the row is now is in the table.
    if (payload.errors?.length) load()
    else if (held) held.push(payload)
    else view.change(payload)
  }

  const load = async () => {
    const mine = (held = [])
    try {
      const rows = await api.rows()
      if (held !== mine) return
      held = null
      view.rows(rows)
      for (const payload of mine) view.change(payload)
      view.state('live')
    } catch (error) {
      view.state('reconnecting', error.message)
      setTimeout(() => held === mine && load(), RETRY_MS)
    }
  }

  const lost = (reason) => {
    subscribed = false
    held = [] // and whatever is being read is out of date
    view.state('reconnecting', reason)
  }

  const subscribe = () =>
    client
      .channel('todos')
      .on('postgres_changes', { event: '*', schema: 'public', table: 'todos' }, change)
      // "Subscribed to PostgreSQL": from here on no change is missed, so this is the moment to read the rows.
      .on('system', {}, ({ extension, status, message }) => {
        if (status === 'error') view.state('reconnecting', message)
        else if (extension === 'postgres_changes') {
          subscribed = true
          load()
        }
      })
      .subscribe((status, error) => {
        if (status !== 'SUBSCRIBED') lost(error?.message ?? status)
        // The library rejoins by itself after an error. A channel that the server closed, because the token ran out
        // for instance, stays closed: that takes a new token and a new channel.
        if (status === 'CLOSED') setTimeout(reopen, RETRY_MS)
      })

  const renew = async () => client.realtime.setAuth((await api.signIn(name)).token)
  const reopen = () => renew().then(subscribe, () => setTimeout(reopen, RETRY_MS))
  setInterval(() => renew().catch(console.warn), RENEW_TOKEN_MS)
  // An update that takes a row out of this user's sight is not told to them: the new row is no longer theirs to see.
  // So the rows are read again whenever somebody comes back to look.
  const look = () => document.visibilityState === 'visible' && subscribed && load()
  addEventListener('focus', look)
  document.addEventListener('visibilitychange', look)
  subscribe()
}

async function signIn(api, name, view) {
  for (;;) {
    try {
      return await api.signIn(name)
    } catch (error) {
      view.state('reconnecting', error.message)
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
    }
  }
}
