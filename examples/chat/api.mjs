// Rooms, messages and notifications, read and written with ordinary SQL as the user: what is allowed stands in
// schema.sql, not here.
import { one, queryAs } from '../backend/database.mjs'
import { Refusal, bodyOf } from '../backend/http.mjs'
import { claimsOf } from '../backend/sessions.mjs'

const HISTORY = 100

/** `METHOD path`, where `:` stands for one argument. Each takes the query as the user, the arguments and the body. */
const ROUTES = {
  'GET ': async (query) => {
    // One connection after the other, as the pool is small and shared by everybody.
    const people = await query('select id, name from chat.people order by name')
    const rooms = await query(
      `select id, name, private, exists (select from chat.members where room = rooms.id and person = auth.uid()) as member
       from chat.rooms order by id`,
    )
    return { people, rooms }
  },
  'POST rooms': async (query, _, { name, private: hidden = false }) =>
    one(await query('insert into chat.rooms (name, private) values ($1, $2) returning id', [name, hidden])),

  'GET rooms/:/members': async (query, [room]) =>
    (await query('select chat.members_of($1) as person', [room])).map(({ person }) => person),
  'POST rooms/:/members': (query, [room], { person }) =>
    query('insert into chat.members (room, person) values ($1, coalesce($2, auth.uid()))', [room, person]),
  'DELETE rooms/:/members': (query, [room]) =>
    query('delete from chat.members where room = $1 and person = auth.uid()', [room]),

  'GET rooms/:/messages': (query, [room]) =>
    query('select id, sender, body, sent_at from chat.messages where room = $1 order by id desc limit $2', [room, HISTORY]),
  'POST rooms/:/messages': (query, [room], { body }) =>
    query('insert into chat.messages (room, body) values ($1, $2)', [room, body]),

  'GET directs/:': (query, [person]) =>
    query(
      `select id, sender, body, sent_at from chat.directs
       where least(sender, recipient) = least(auth.uid(), $1::uuid)
         and greatest(sender, recipient) = greatest(auth.uid(), $1::uuid)
       order by id desc limit $2`,
      [person, HISTORY],
    ),
  'POST directs/:': (query, [person], { body }) =>
    query('insert into chat.directs (recipient, body) values ($1, $2)', [person, body]),

  'GET notifications': (query) => query('select * from chat.notifications order by id desc limit 30'),
  // All, those about one room, or those about one person's direct messages.
  'POST notifications/read': (query, _, { room, sender }) =>
    query(
      `update chat.notifications set read = true
       where not read and ($1::bigint is null or room = $1) and ($2::uuid is null or sender = $2 and kind = 'direct')`,
      [room, sender],
    ),
}

export async function chat(request, path) {
  const claims = await claimsOf(request)
  const steps = path.join('/')
  for (const [route, answer] of Object.entries(ROUTES)) {
    const [method, pattern] = route.split(' ')
    const found = request.method === method && new RegExp(`^${pattern.replaceAll(':', '([^/]+)')}$`).exec(steps)
    if (found) {
      const body = method === 'POST' ? await bodyOf(request) : undefined
      return answer((sql, values) => queryAs(claims, sql, values), found.slice(1), body)
    }
  }
  throw new Refusal(404, 'not found')
}
