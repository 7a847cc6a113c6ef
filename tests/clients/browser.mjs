// What the programs that drive pages share: headless Chromium, checks by name, and waiting for what is shown.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import pg from 'pg'
import { say } from './contract.mjs'

const { DATABASE_URL, SCREENSHOTS, CHROMIUM = '/usr/bin/chromium' } = process.env

export const TIMEOUT_MS = Number(process.env.TIMEOUT_MS ?? 20_000)
export const DESKTOP = { width: 1200, height: 980 }
export const PHONE = { width: 375, height: 800 }
const ARGUMENTS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
]

pg.types.setTypeParser(pg.types.builtins.INT8, Number)
const database = new pg.Client({ connectionString: DATABASE_URL })
let failed = false

export const sql = async (text, values) => (await database.query(text, values)).rows

/** Runs one check and tells how it went; the others run anyway. */
export async function check(name, body) {
  try {
    await body()
    say('check', { name, ok: true })
  } catch (error) {
    failed = true
    say('check', { name, ok: false, error: error.message })
  }
}

export const holds = () => !failed

export function equal(actual, expected, what) {
  const [a, e] = [JSON.stringify(actual), JSON.stringify(expected)]
  if (a !== e) throw new Error(`${what}: ${a} where ${e} was expected`)
}

export async function screenshot(page, name) {
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: true, animations: 'disabled' })
}

/** The check that every page has: assistive technology can name what there is to use. */
export const everyControlHasAName = (page) =>
  check('every control has a name', async () => {
    const nameless = await page.locator('input, textarea, select, button').evaluateAll((controls) =>
      controls.filter((c) => !c.hidden && !c.getAttribute('aria-label') && !c.labels?.length && !c.textContent.trim()).map((c) => c.outerHTML),
    )
    equal(nameless, [], 'controls without a name')
  })

export const fitsAPhone = (page) =>
  check('the page fits a phone', async () => {
    await page.setViewportSize(PHONE)
    const width = await page.evaluate(() => document.scrollingElement.scrollWidth)
    equal(width, PHONE.width, 'width of the page')
    await screenshot(page, 'phone')
  })

/** Asks whoever started this to stop the server; `down` checks and waits, then the server is to come back for `up`. */
export async function acrossARestart(name, down, up) {
  await check(name, async () => {
    say('restart', { ask: 'stop the server, and start it again when the line "reconnecting" comes' })
    await down()
    say('reconnecting')
    await up()
  })
}

/** Runs `body(open)`, where each opened page is somebody else's browser; ends with the result. */
export async function run(body) {
  const profile = await mkdtemp(join(tmpdir(), 'rowcast-page-'))
  const complaints = []
  let browser
  try {
    await database.connect()
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS, env: { ...process.env, HOME: profile } })
    const open = async (url, prepare = async () => {}) => {
      const context = await browser.newContext({ viewport: DESKTOP })
      const page = await context.newPage()
      page.on('pageerror', (error) => complaints.push(error.message))
      await prepare(page)
      await page.goto(url)
      return page
    }
    await body(open)
    await check('no page raised an error', async () => equal(complaints, [], 'errors'))
  } catch (error) {
    failed = true
    say('error', { message: error.message })
  } finally {
    await browser?.close()
    await database.end().catch(() => {})
    await rm(profile, { recursive: true, force: true })
  }
  say('result', { ok: !failed })
  process.exitCode = failed ? 1 : 0
}
