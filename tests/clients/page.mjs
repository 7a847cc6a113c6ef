// The to-do page in a real browser: what Alice and Bob each see while rows change in Postgres and in the page.
// README.md tells the contract. Prints one line per check and ends with {"kind":"result","ok":…}.
import { DESKTOP, TIMEOUT_MS, acrossARestart, check, equal, everyControlHasAName } from './browser.mjs'
import { fitsAPhone, holds, run, screenshot, sql } from './browser.mjs'

const { PAGE_URL, EXPECT_RESTART } = process.env
const ALICE = 'a11ce000-0000-4000-8000-000000000001'
const BOB = 'b0b00000-0000-4000-8000-000000000002'

let page

const insert = async (owner, title, shared) =>
  (await sql('insert into public.todos (owner, title, shared) values ($1, $2, $3) returning id', [owner, title, shared]))[0].id

const pane = (user) => page.locator(`[data-user="${user}"]`)
const row = (user, id, also = '') => pane(user).locator(`.todo[data-id="${id}"]:not([data-leaving])${also}`)
const shows = (user, id, also = '') => row(user, id, also).waitFor({ state: 'visible', timeout: TIMEOUT_MS })
const hides = (user, id) => row(user, id).waitFor({ state: 'detached', timeout: TIMEOUT_MS })
const becomes = (user, state) => page.locator(`[data-user="${user}"][data-state="${state}"]`).waitFor({ timeout: TIMEOUT_MS })
const idsShown = (user) => pane(user).locator('.todo:not([data-leaving])').evaluateAll((rows) => rows.map((r) => Number(r.dataset.id)))
/** What the browser tells a page that somebody comes back to. */
const refocus = () => page.evaluate(() => window.dispatchEvent(new Event('focus')))
const received = (user, id) => pane(user).locator(`.log li[data-id="${id}"]`).count()

async function changesFromSql() {
  let secret, shared
  await check('each user sees their own and the shared rows', async () => {
    for (const [user, id] of [['alice', ALICE], ['bob', BOB]]) {
      const visible = await sql('select id from public.todos where shared or owner = $1 order by id desc', [id])
      for (const { id } of visible) await shows(user, id)
      equal(await idsShown(user), visible.map(({ id }) => id), `rows of ${user}`)
    }
  })
  await check('an inserted row appears for those who may see it', async () => {
    secret = await insert(ALICE, 'Secret of Alice', false)
    shared = await insert(ALICE, 'Shared by Alice', true)
    await shows('alice', secret)
    await shows('alice', shared)
    // In commit order: had Bob been sent the secret, it would have come before this.
    await shows('bob', shared)
    equal(await row('bob', secret).count(), 0, 'secret rows of Alice that Bob sees')
  })
  await check('an updated row changes in place and is highlighted', async () => {
    await sql(`update public.todos set title = 'Renamed by SQL', done = true where id = $1`, [shared])
    for (const user of ['alice', 'bob']) {
      await shows(user, shared, '[data-title="Renamed by SQL"][data-done="true"][data-last-event="UPDATE"]')
    }
  })
  await screenshot(page, 'desktop')
  await check('a row that stops being shared is gone for the other user at the next look, and comes back', async () => {
    await sql('update public.todos set shared = false where id = $1', [shared])
    await shows('alice', shared, '[data-shared="false"]')
    await refocus()
    await hides('bob', shared)
    await sql('update public.todos set shared = true where id = $1', [shared])
    await shows('bob', shared)
  })
  await check('a deleted row vanishes', async () => {
    await sql('delete from public.todos where id = $1', [secret])
    await hides('alice', secret)
    await sql('delete from public.todos where id = $1', [shared])
    await hides('alice', shared)
    await hides('bob', shared)
  })
  await check('nothing about the secret row ever reached Bob', async () => {
    equal(await received('bob', secret), 0, 'changes of the secret row sent to Bob')
    equal(await received('alice', secret), 2, 'changes of the secret row sent to Alice')
  })
}

async function changesFromThePage() {
  let id
  await check('Bob adds a shared row with the keyboard', async () => {
    await pane('bob').locator('[name=shared]').check()
    await pane('bob').locator('.new-title').fill('Typed by Bob')
    await pane('bob').locator('.new-title').press('Enter')
    for (const user of ['bob', 'alice']) {
      await pane(user).locator('.todo[data-title="Typed by Bob"]').waitFor({ timeout: TIMEOUT_MS })
    }
    id = (await sql(`select max(id) as id from public.todos where title = 'Typed by Bob'`))[0].id
  })
  await check('Alice ticks it and renames it', async () => {
    await row('alice', id).locator('.done').check()
    await shows('bob', id, '[data-done="true"]')
    await row('alice', id).locator('.title').fill('Renamed by Alice')
    await row('alice', id).locator('.title').press('Enter')
    await shows('bob', id, '[data-title="Renamed by Alice"]')
  })
  await check('only its owner can make it private or delete it', async () => {
    equal(await row('alice', id).locator('.share').isVisible(), false, "Alice's share button being visible")
    equal(await row('alice', id).locator('.delete').isVisible(), false, "Alice's delete button being visible")
    await row('bob', id).locator('.share').click()
    await shows('bob', id, '[data-shared="false"]')
    await refocus()
    await hides('alice', id)
    await row('bob', id).locator('.delete').click()
    await hides('bob', id)
  })
  await check('what the database refuses is shown', async () => {
    const refused = await insert(BOB, 'Gone before the click', true)
    await shows('alice', refused)
    // Somebody else's session takes the row away between the click and the write.
    await page.route('**/api/todos/*', async (route) => {
      await sql('delete from public.todos where id = $1', [refused])
      await route.continue()
    })
    await row('alice', refused).locator('.done').click()
    await pane('alice').locator('.problem', { hasText: 'no such row' }).waitFor({ timeout: TIMEOUT_MS })
    await hides('alice', refused)
    await page.unroute('**/api/todos/*')
  })
}

async function throughARestart() {
  let missed
  await acrossARestart(
    'the page comes back after the server was away and has what it missed',
    async () => {
      for (const user of ['alice', 'bob']) await becomes(user, 'reconnecting')
      await screenshot(page, 'reconnecting')
      missed = await insert(ALICE, 'Written while the server was away', true)
    },
    async () => {
      for (const user of ['alice', 'bob']) {
        await becomes(user, 'live')
        await shows(user, missed)
      }
      await sql('delete from public.todos where id = $1', [missed])
      for (const user of ['alice', 'bob']) await hides(user, missed)
    },
  )
}

await run(async (open) => {
  page = await open(PAGE_URL)
  await check('both users go live', async () => {
    for (const user of ['alice', 'bob']) await becomes(user, 'live')
  })
  if (!holds()) return
  await changesFromSql()
  await changesFromThePage()
  if (EXPECT_RESTART) await throughARestart()
  await fitsAPhone(page)
  await everyControlHasAName(page)
  await page.emulateMedia({ colorScheme: 'dark' })
  await page.setViewportSize(DESKTOP)
  await screenshot(page, 'desktop-dark')
})
