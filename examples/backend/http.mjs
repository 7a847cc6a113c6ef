// What the demos' backends have in common on the way in and out.
const MAX_BODY_BYTES = 16 * 1024

/** An answer that is not 200, thrown from wherever it is noticed. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message)
    this.status = status
  }
}

/** The JSON object that a request carries. */
export async function bodyOf(request) {
  let text = ''
  for await (const chunk of request) {
    text += chunk
    if (text.length > MAX_BODY_BYTES) throw new Refusal(413, 'the body is too large')
  }
  let body
  try {
    body = JSON.parse(text)
  } catch {
    throw new Refusal(400, 'the body must be JSON')
  }
  if (body === null || typeof body !== 'object') throw new Refusal(400, 'the body must be a JSON object')
  return body
}

/** Postgres refusing a statement (a policy, a check, a value of the wrong type) is an answer to the user. */
export function statusOf(error) {
  if (error instanceof Refusal) return error.status
  if (error.code === '42501') return 403
  if (/^2[23]/.test(error.code ?? '')) return 400
  return 500
}
