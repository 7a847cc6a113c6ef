// Reads and writes to-dos with ordinary SQL as the user. It never talks to Rowcast; the browser learns about every
// change, including its own, from the database.
import { one, queryAs } from '../backend/database.mjs'
import { Refusal, bodyOf } from '../backend/http.mjs'
import { claimsOf } from '../backend/sessions.mjs'

export async function todos(request, [id]) {
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
