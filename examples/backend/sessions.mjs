// Tokens: signed for a demo user, and verified when they come back.
import { SignJWT, jwtVerify } from 'jose'
import { USERS } from '../users.js'
import { Refusal } from './http.mjs'
import { JWT_SECRET, ROWCAST_URL } from './settings.mjs'

const secret = new TextEncoder().encode(JWT_SECRET)

const sign = (claims) =>
  new SignJWT(claims).setProtectedHeader({ alg: 'HS256', typ: 'JWT' }).setIssuedAt().setExpirationTime('12h').sign(secret)

/** For the demo, naming a user is signing in. A real backend asks for a password here. */
export async function session(name) {
  const user = Object.hasOwn(USERS, name) && USERS[name]
  if (!user) throw new Refusal(404, `no demo user is called ${name}`)
  return {
    user,
    url: ROWCAST_URL,
    key: await sign({ role: 'anon' }),
    token: await sign({ role: 'authenticated', sub: user.id }),
  }
}

export async function claimsOf(request) {
  const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1]
  if (!token) throw new Refusal(401, 'send the session token as a Bearer token')
  try {
    return (await jwtVerify(token, secret, { algorithms: ['HS256'] })).payload
  } catch (error) {
    throw new Refusal(401, `the session token does not hold: ${error.message}`)
  }
}
