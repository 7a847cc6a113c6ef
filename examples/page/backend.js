// The demos' own backend, spoken to with the user's token.

export class Backend {
  #token = null

  /** Signs in and returns `{user, url, key, token}`; later calls carry the token. */
  async signIn(name) {
    const session = await this.call('GET', `/api/session/${encodeURIComponent(name)}`)
    this.#token = session.token
    return session
  }

  async call(method, path, body) {
    const headers = { 'content-type': 'application/json' }
    if (this.#token) headers.authorization = `Bearer ${this.#token}`
    const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) })
    const answer = await response.json()
    if (!response.ok) throw new Error(answer.error ?? response.statusText)
    return answer
  }
}
