// The chat page in real browsers, one for each person: what reaches whom, and what does not.
// README.md tells the contract. Prints one line per check and ends with {"kind":"result","ok":…}.
import { createClient } from '@supabase/supabase-js'
import { WebSocket } from 'ws'
import { DESKTOP, TIMEOUT_MS, acrossARestart, check, equal, everyControlHasAName } from './browser.mjs'
import { fitsAPhone, holds, run, screenshot, sql } from './browser.mjs'

const { PAGE_URL, EXPECT_RESTART } = process.env
const ID = {
  alice: 'a11ce000-0000-4000-8000-000000000001',
  bob: 'b0b00000-0000-4000-8000-000000000002',
  cleo: 'c1e00000-0000-4000-8000-000000000003',
}
const BETWEEN = `dm:${ID.alice}:${ID.bob}`
const page = {}
const room = {}

// --- what is on a page --------------------------------------------------------------------------------------------

/** Waits until somebody's page shows it, or until it does not any more. */
const shows = (who, selector) => page[who].locator(selector).first().waitFor({ state: 'visible', timeout: TIMEOUT_MS })
const hides = (who, selector) => page[who].locator(selector).waitFor({ state: 'detached', timeout: TIMEOUT_MS })
const there = (who, selector) => page[who].locator(selector).first().waitFor({ state: 'attached', timeout: TIMEOUT_MS })
const count = (who, selector) => page[who].locator(selector).count()

const live = (who) => there(who, '#app[data-state="live"]')
const sees = (who, other, status) => shows(who, `#people [data-key="dm:${ID[other]}"][data-status="${status}"]`)
const message = (text) => `.message .body:text-is("${text}")`

/** Opens a conversation and waits until it is read and its channel joined. */
async function goTo(who, key) {
  await page[who].locator(`.side [data-key="${key}"]`).click()
  await settled(who, key)
}

const settled = (who, key) => there(who, `#thread[data-talk="${key}"][data-line="joined"][data-loaded="true"]`)

async function write(who, text) {
  await page[who].locator('#text').fill(text)
  await page[who].locator('#text').press('Enter')
}

// --- the checks ---------------------------------------------------------------------------------------------------

async function aRoom() {
  await check('those who are here are online for each other, and the others are not', async () => {
    // Who did nothing for a minute would be away.
    for (const who of ['alice', 'bob', 'cleo']) await page[who].keyboard.press('Shift')
    await sees('alice', 'bob', 'online')
    await sees('bob', 'alice', 'online')
    await sees('alice', 'cleo', 'online')
    await shows('alice', '#people [data-status="offline"]:has-text("Dede")')
  })
  await check('a room shows its history', async () => {
    for (const who of ['alice', 'bob', 'cleo']) await settled(who, room.kitchen)
    const written = await sql('select body from chat.messages where room = $1 order by id', [room.kitchen.slice(5)])
    equal(await page.bob.locator('.message .body').allTextContents(), written.map(({ body }) => body), 'messages')
  })
  await check('who types is seen typing until the message is there', async () => {
    await page.alice.locator('#text').pressSequentially('Breakfast')
    await there('bob', '#typing[data-people="Alice"]')
    await page.alice.locator('#text').press('Enter')
    for (const who of ['alice', 'bob', 'cleo']) await shows(who, message('Breakfast'))
    await there('bob', '#typing[data-people=""]')
  })
  await check('a pointer is seen by the others while it is there', async () => {
    const box = await page.alice.locator('.pointed').boundingBox()
    await page.alice.mouse.move(box.x + box.width / 4, box.y + box.height / 2)
    const cursor = page.bob.locator(`[data-cursor="${ID.alice}"]`)
    await cursor.waitFor({ timeout: TIMEOUT_MS })
    await page.alice.mouse.move(box.x + box.width / 2, box.y + box.height / 4, { steps: 40 })
    await page.bob.waitForFunction(
      (id) => {
        const { left, top } = document.querySelector(`[data-cursor="${id}"]`)?.style ?? {}
        return Math.abs(parseFloat(left) - 50) < 0.5 && Math.abs(parseFloat(top) - 25) < 0.5
      },
      ID.alice,
      { timeout: TIMEOUT_MS },
    )
    await screenshot(page.bob, 'chat')
    equal(await count('alice', '.cursor'), 0, 'pointers that Alice sees of herself')
    await page.alice.mouse.move(box.x + box.width / 2, box.y - 10)
    await hides('bob', `[data-cursor="${ID.alice}"]`)
  })
  await check('a row written in Postgres appears, and markup stays text', async () => {
    const markup = '<img src=x onerror=alert(1)>'
    await sql('insert into chat.messages (room, sender, body) values ($1, $2, $3)', [room.kitchen.slice(5), ID.cleo, markup])
    for (const who of ['alice', 'bob']) await shows(who, message(markup))
    equal(await count('bob', '.message img'), 0, 'elements made of what somebody wrote')
  })
}

async function roomsApart() {
  await check('a room that one is not in says nothing, until one joins', async () => {
    const before = 'Only for those on release duty'
    await goTo('alice', room.release)
    await write('alice', before)
    await shows('bob', `[data-key="${room.release}"] .unread`)
    // In commit order: had Cleo been sent the row before, it would have come before this one.
    await sql('insert into chat.messages (room, sender, body) values ($1, $2, $3)', [room.kitchen.slice(5), ID.bob, 'Anybody?'])
    await shows('cleo', message('Anybody?'))
    equal(await count('cleo', `[data-key="${room.release}"] .unread`), 0, 'unread messages of a room that Cleo is not in')
    await shows('cleo', `[data-key="${room.release}"]:has-text("join")`)
    await goTo('cleo', room.release)
    await shows('cleo', message(before))
    await write('cleo', 'May I help?')
    await shows('alice', message('May I help?'))
    await shows('alice', `[data-member="${ID.cleo}"]`)
  })
  await check('a private room is there for those who were brought along, as long as they stay', async () => {
    equal(await count('bob', `[data-key="${room.surprise}"]`), 0, 'rooms that Bob must not know of')
    await page.alice.locator('#found [name=name]').fill('Cellar')
    await page.alice.locator('#found [name=private]').check()
    await page.alice.locator('#found [name=name]').press('Enter')
    await shows('alice', '#title:text-is("Cellar")')
    const [{ id }] = await sql(`select id from chat.rooms where name = 'Cellar'`)
    room.cellar = `room:${id}`
    await settled('alice', room.cellar)
    await page.alice.locator('#invite select').selectOption(ID.bob)
    await page.alice.locator('#invite button').click()
    await goTo('bob', room.cellar)
    await write('bob', 'It is dark in here')
    await shows('alice', message('It is dark in here'))
    equal(await count('cleo', `[data-key="${room.cellar}"]`), 0, 'private rooms of others that Cleo sees')
    await page.bob.locator('#leave').click()
    await hides('bob', `[data-key="${room.cellar}"]`)
    await hides('alice', `[data-member="${ID.bob}"]`)
  })
}

async function betweenTwo() {
  const [toAlice, toBob] = [`dm:${ID.alice}`, `dm:${ID.bob}`]
  await check('a private message rings at the other one, who finds it there', async () => {
    await goTo('alice', toBob)
    await write('alice', 'Only for you')
    await shows('alice', message('Only for you'))
    await shows('bob', '.toast:has-text("Only for you")')
    await shows('bob', `[data-key="${toAlice}"] .unread`)
    await page.bob.locator('#bell').click()
    await page.bob.locator('[data-notification][data-kind="direct"][data-read="false"] button').click()
    await settled('bob', toAlice)
    await shows('bob', message('Only for you'))
    await there('bob', '[data-notification][data-kind="direct"][data-read="true"]')
    await hides('bob', `[data-key="${toAlice}"] .unread`)
  })
  await check('the two see each other type and write', async () => {
    await page.bob.locator('#text').pressSequentially('Thank')
    await there('alice', '#typing[data-people="Bob"]')
    await write('bob', 'Thank you')
    await shows('alice', message('Thank you'))
    await there('alice', '#typing[data-people=""]')
  })
  await check('nothing of it reached the third one', async () => {
    // What follows on the same connections comes later than what must not have come.
    await sql('insert into chat.directs (sender, recipient, body) values ($1, $2, $3)', [ID.bob, ID.cleo, 'Hello Cleo'])
    await there('cleo', '[data-notification]:has-text("Hello Cleo")')
    equal(await count('cleo', '[data-notification]'), 1, 'notifications of Cleo')
    const heard = await page.cleo.locator('#log li').evaluateAll((lines) => lines.map((line) => line.title))
    equal(heard.filter((where) => where.startsWith('dm:')), [], 'what Cleo heard of private conversations')
  })
}

async function atTheWire() {
  await checkAs('cleo', 'the third one may not even join the channel of the two', async (client) => {
    const { status, reason } = await join(client, BETWEEN)
    equal(status, 'CHANNEL_ERROR', 'what Cleo is answered')
    if (!reason.includes('You do not have permissions to read from this Channel topic')) throw new Error(reason)
  })
  await checkAs('bob', 'nobody puts words into the mouth of another one', async (client) => {
    const [rows, typing] = [await join(client, BETWEEN), await join(client, `${BETWEEN}:typing`)]
    equal([rows.status, typing.status], ['SUBSCRIBED', 'SUBSCRIBED'], 'what Bob is answered')
    const record = { id: 1e9, sender: ID.alice, body: 'Forged', sent_at: new Date() }
    const forged = { operation: 'INSERT', table: 'directs', record }
    await rows.channel.send({ type: 'broadcast', event: 'message', payload: forged })
    // Sent later on the same connection, so it would arrive later, too.
    await typing.channel.send({ type: 'broadcast', event: 'typing', payload: { person: ID.bob, typing: true } })
    await there('alice', '#typing[data-people="Bob"]')
    equal(await count('alice', message('Forged')), 0, 'forged messages that Alice sees')
  })
}

/** A check by somebody who has a token, and a client of their own instead of the page. */
async function checkAs(who, name, body) {
  const { url, key, token } = await (await fetch(new URL(`/api/session/${who}`, PAGE_URL))).json()
  const client = createClient(url, key, { accessToken: async () => token, realtime: { transport: WebSocket } })
  await client.realtime.setAuth(token)
  await check(name, () => body(client))
  await client.removeAllChannels()
  client.realtime.disconnect()
}

const join = (client, topic) =>
  new Promise((resolve) => {
    const channel = client.channel(topic, { config: { private: true } })
    channel.subscribe((status, error) => resolve({ channel, status, reason: error?.message }))
  })

async function notifications() {
  await check('a mention rings where it is meant, and nowhere else', async () => {
    await goTo('alice', room.kitchen)
    await goTo('bob', room.release)
    await goTo('cleo', room.release)
    await write('alice', 'Coffee is ready, @Bob')
    await shows('bob', '.toast:has-text("Coffee is ready, @Bob")')
    await shows('bob', '#unread')
    await page.bob.locator('.toast:has-text("Coffee is ready, @Bob")').click()
    await settled('bob', room.kitchen)
    await shows('bob', '.message mark[data-me="true"]:text-is("@Bob")')
    await there('bob', '[data-notification][data-kind="mention"][data-read="true"]')
    await there('bob', '#unread[hidden]')
    equal(await count('cleo', '[data-notification][data-kind="mention"]'), 0, 'mentions that Cleo was told of')
  })
}

async function comingAndGoing(open) {
  await check('who looks elsewhere is away, and back when they look again', async () => {
    await look('bob', 'hidden')
    await sees('alice', 'bob', 'away')
    await screenshot(page.alice, 'chat-away')
    await look('bob', 'visible')
    await sees('alice', 'bob', 'online')
  })
  await check('a reload shows the same room with its history', async () => {
    const before = await page.bob.locator('.message .body').allTextContents()
    await page.bob.reload()
    await settled('bob', room.kitchen)
    equal(await page.bob.locator('.message .body').allTextContents(), before, 'messages after the reload')
    await shows('bob', '.message .body:has-text("Coffee is ready, @Bob")')
  })
  await check('who closes the page is offline, and online again when they come back', async () => {
    await page.cleo.context().close()
    await sees('alice', 'cleo', 'offline')
    page.cleo = await open(`${PAGE_URL}?as=cleo`, (fresh) => fresh.clock.install())
    await sees('alice', 'cleo', 'online')
  })
  await check('who does nothing for a minute is away, too', async () => {
    await page.cleo.clock.fastForward(61_000)
    await sees('alice', 'cleo', 'away')
    await page.cleo.keyboard.press('Shift')
    await sees('alice', 'cleo', 'online')
  })
}

/** What the browser tells a page whose tab is hidden or shown. */
const look = (who, state) =>
  page[who].evaluate((value) => {
    Object.defineProperty(document, 'visibilityState', { value, configurable: true })
    document.dispatchEvent(new Event('visibilitychange'))
  }, state)

async function throughARestart() {
  const missed = 'Written while the server was away'
  await acrossARestart(
    'the pages come back after the server was away, with what they missed and with each other',
    async () => {
      for (const who of ['alice', 'bob']) await there(who, '#app[data-state="reconnecting"]')
      await sees('alice', 'bob', 'offline')
      await sql('insert into chat.messages (room, sender, body) values ($1, $2, $3)', [room.kitchen.slice(5), ID.alice, missed])
    },
    async () => {
      for (const who of ['alice', 'bob']) {
        await live(who)
        await shows(who, message(missed))
      }
      await page.bob.keyboard.press('Shift')
      await sees('alice', 'bob', 'online')
      await settled('alice', room.kitchen)
      await settled('bob', room.kitchen)
      await page.bob.locator('#text').pressSequentially('Back')
      await there('alice', '#typing[data-people="Bob"]')
    },
  )
}

async function looks() {
  await check('the keyboard is enough', async () => {
    await page.alice.locator('#title').click()
    await page.alice.keyboard.press('/')
    await there('alice', '#text:focus')
    await page.alice.keyboard.press('Alt+ArrowDown')
    await settled('alice', room.release)
    await page.alice.locator('#bell').press('Enter')
    await shows('alice', '#notifications')
    await page.alice.keyboard.press('Escape')
    await there('alice', '#notifications[hidden]')
  })
  await everyControlHasAName(page.alice)
  await fitsAPhone(page.alice)
  await check('on a phone, rooms and people are one step back', async () => {
    await page.alice.locator('#back').click()
    await goTo('alice', room.kitchen)
    await shows('alice', '#text')
  })
  await page.alice.setViewportSize(DESKTOP)
  await check('light and dark change places', async () => {
    const scheme = () => page.alice.evaluate(() => getComputedStyle(document.documentElement).backgroundColor)
    const before = await scheme()
    await page.alice.locator('#theme').click()
    equal((await scheme()) === before, false, 'the colour of the page staying the same')
    await screenshot(page.alice, 'chat-dark')
  })
}

await run(async (open) => {
  for (const { id, name } of await sql('select id, name from chat.rooms')) room[name.split(' ')[0].toLowerCase()] = `room:${id}`
  await check('the door leads in', async () => {
    page.alice = await open(PAGE_URL)
    await page.alice.locator('[data-person="alice"]').click()
    for (const who of ['bob', 'cleo']) page[who] = await open(`${PAGE_URL}?as=${who}`)
    for (const who of ['alice', 'bob', 'cleo']) await live(who)
  })
  if (!holds()) return
  await aRoom()
  await roomsApart()
  await betweenTwo()
  await atTheWire()
  await notifications()
  await comingAndGoing(open)
  if (EXPECT_RESTART) await throughARestart()
  await looks()
})
