// Ordinary SQL as a user.
import pg from 'pg'
import { Refusal } from './http.mjs'
import { DATABASE_URL } from './settings.mjs'

pg.types.setTypeParser(pg.types.builtins.INT8, Number)
const pool = new pg.Pool({ connectionString: DATABASE_URL, max: 5 })
pool.on('error', (error) => console.error(`lost a database connection: ${error.message}`))

/** One statement in one transaction as the bearer of `claims`, so that row-level security judges it. */
export async function queryAs(claims, sql, values = []) {
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

export function one(rows) {
  if (rows.length === 0) throw new Refusal(404, 'there is no such row that you may change')
  return rows[0]
}

export const close = () => pool.end()
