// One person's connection, through unmodified supabase-js, and channels that stay joined until they are left.
import { createClient } from '@supabase/supabase-js'

const RETRY_MS = 2000
const RENEW_TOKEN_MS = 60 * 60 * 1000

/** Does `work` until it succeeds; `trouble(reason)` hears why that takes longer. */
export async function persist(work, trouble) {
  for (;;) {
    try {
      return await work()
    } catch (error) {
      trouble(error.message)
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
    }
  }
}

export class Connection {
  #client
  #renew
  /** What is still being left, by topic: until that is done, the library hands out the channel that is going. */
  #leaving = new Map()

  /** Signs `name` in. */
  static async open(api, name) {
    const { user, url, key, token } = await api.signIn(name)
    const client = createClient(url, key, { accessToken: async () => token })
    await client.realtime.setAuth(token)
    return new Connection(client, user, async () => client.realtime.setAuth((await api.signIn(name)).token))
  }

  constructor(client, user, renew) {
    this.#client = client
    this.#renew = renew
    this.user = user
    setInterval(() => renew().catch(console.warn), RENEW_TOKEN_MS)
  }

  /**
   * Keeps a channel joined. `listen(channel)` adds listeners before each new join; `joined(channel)` hears of every join
   * and `lost(reason)` of every loss. Returns `{send(event, payload), leave()}`.
   */
  keep(topic, config, { listen, joined = () => {}, lost = () => {} }) {
    let channel = null
    let live = false
    let left = false

    const open = async () => {
      await this.#leaving.get(topic)
      if (left) return
      channel = this.#client.channel(topic, { config })
      listen(channel)
      channel.subscribe((status, error) => {
        if (left) return
        live = status === 'SUBSCRIBED'
        if (live) joined(channel)
        else lost(error?.message ?? status)
        // The library rejoins by itself after an error. A channel that the server closed, because the token ran out or
        // somebody sent too much, stays closed: that takes a new token and a new channel.
        if (status === 'CLOSED') setTimeout(reopen, RETRY_MS)
      })
    }
    const reopen = () => left || this.#renew().then(open, () => setTimeout(reopen, RETRY_MS))
    open()

    return {
      /** What cannot be sent now is not sent: typing and cursors are of no use later. */
      send: (event, payload) => live && channel.send({ type: 'broadcast', event, payload }),
      leave: () => {
        left = true
        if (!channel) return
        const leaving = this.#client.removeChannel(channel).finally(() => {
          if (this.#leaving.get(topic) === leaving) this.#leaving.delete(topic)
        })
        this.#leaving.set(topic, leaving)
      },
    }
  }
}
