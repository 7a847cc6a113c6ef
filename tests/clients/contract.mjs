// What the client programs share: one JSON line per happening on stdout, one JSON command per line on stdin.
import { createInterface } from 'node:readline'

export const say = (kind, fields = {}) => process.stdout.write(`${JSON.stringify({ kind, ...fields })}\n`)

/** Runs `handlers[cmd](command)` for each line of stdin, one after the other; the end of stdin means `exit`. */
export async function obey(handlers) {
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim() === '') continue
    try {
      const command = JSON.parse(line)
      if (!Object.hasOwn(handlers, command.cmd)) throw new Error(`no command is called ${command.cmd}`)
      await handlers[command.cmd](command)
    } catch (error) {
      say('error', { message: error.message })
    }
  }
  await handlers.exit()
}
