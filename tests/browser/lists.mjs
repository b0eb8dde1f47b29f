// Events, commands, connections and the quarantine.

import { readFile } from 'node:fs/promises';

import { LIVE_MS, adminToken, ask, assert, check, closeClean, fits, login, openPage, openWith, publish, readable, until, url } from './support.mjs';

const items = (page) => page.locator('.events > li');

await check('events come by themselves, Pause holds them, filters and search choose', async () => {
  const page = await openPage('#/events');
  await items(page).first().waitFor({ timeout: LIVE_MS });
  const newest = () => items(page).first().textContent();
  const first = await newest();
  await page.waitForFunction((old) => document.querySelector('.events > li')?.textContent !== old, first, { timeout: LIVE_MS });
  await page.locator('button', { hasText: 'Pause' }).click();
  const held = await newest();
  await page.locator('button', { hasText: /^Resume \(\d+ new\)$/ }).waitFor({ timeout: LIVE_MS });
  assert((await newest()) === held, 'the list moved while paused');

  await page.locator('label', { hasText: 'Show' }).locator('select').selectOption('commands');
  await page.waitForFunction(() => [...document.querySelectorAll('.events > li')].every((it) => /command|asked for|not accepted/.test(it.textContent)), null, { timeout: LIVE_MS });
  assert(page.url().includes('kind=commands'), page.url());
  await page.goto(`${url}/#/events?kind=availability&find=bridge`);
  await page.waitForFunction(() => [...document.querySelectorAll('.events > li')].every((it) => /zigbee2mqtt\/bridge.*(online|offline)/.test(it.textContent)) && document.querySelector('.eventcard .note').textContent !== '', null, { timeout: LIVE_MS });
  await page.goto(`${url}/#/events?find=nothing+has+these+words`);
  await page.locator('.note', { hasText: /^There are no such events\.|^None in the newest events/ }).waitFor({ timeout: 2 * LIVE_MS });
  await readable(page);
  await closeClean(page);
});

await check('events go back to the first one, each once, and can be downloaded', async () => {
  const page = await openPage('#/events?kind=gateway');
  await page.locator('.events > li', { hasText: /fieldlog [\d.]+ started/ }).last().waitFor({ timeout: LIVE_MS });
  await page.locator('.note', { hasText: 'That is all that is kept.' }).waitFor({ timeout: LIVE_MS });
  const [file] = await Promise.all([page.waitForEvent('download'), page.locator('button', { hasText: 'Download' }).click()]);
  const lines = (await readFile(await file.path(), 'utf8')).trim().split('\n').map((line) => JSON.parse(line));
  assert(lines[0].type === 'booted' && lines[0].seq === 1, JSON.stringify(lines[0]));

  // A demo that has just begun has not enough of them to go back.
  await until(async () => (await ask('/api/v1/events?type=state_changed,history_reported&limit=210')).events.length === 210, 6 * LIVE_MS);
  await page.goto(`${url}/#/events?kind=values`);
  await items(page).nth(99).waitFor({ timeout: LIVE_MS });
  await page.locator('button', { hasText: 'Pause' }).click();
  await page.locator('button', { hasText: 'Look further back' }).click();
  await items(page).nth(199).waitFor({ timeout: LIVE_MS });
  const records = await page.locator('.events > li time').evaluateAll((all) => all.map((it) => Number(it.title.replace('record ', ''))));
  assert(records.every((seq, i) => i === 0 || seq < records[i - 1]), 'not newest first, or twice');
  const { events } = await ask(`/api/v1/events?type=state_changed,history_reported&after=${records.at(-1) - 1}&limit=${records.length}`);
  assert(events.every((event, i) => event.seq === records[records.length - 1 - i]), 'an event is missing');
  await closeClean(page);
});

await check('commands say what became of them, and lead to their steps', async () => {
  const page = await openPage('#/commands');
  const list = page.locator('#commands > li');
  await list.first().waitFor({ timeout: LIVE_MS });
  await list.filter({ hasText: 'failed: the device refuses it' }).first().waitFor({ timeout: 9 * LIVE_MS });
  await page.locator('input[name=commands][value=failed]').check({ force: true });
  await page.waitForFunction(() => [...document.querySelectorAll('#commands > li b.bad, #commands > li b.warn')].length === document.querySelectorAll('#commands > li').length, null, { timeout: LIVE_MS });
  await list.first().locator('a', { hasText: /^command \d+$/ }).click();
  await page.locator('.events > li', { hasText: 'asked for' }).waitFor({ timeout: LIVE_MS });
  await page.locator('button', { hasText: /^Only command \d+/ }).waitFor({ timeout: LIVE_MS });
  await closeClean(page);
});

const inMinutes = (n) => new Date(Date.now() + n * 60_000).toISOString();

await check('brokers and sinks show rate, backlog and last error; a long error stays in its box', async () => {
  const long = `cannot connect to broker.example:8883: ${'the certificate is for another host; '.repeat(60)}<b>really</b>`;
  const away = { connected: false, connected_at: null, backlog_events: 12345, backlog_bytes: 678900, backlog_oldest: inMinutes(-3), events_per_s: 0 };
  const page = await openWith(
    '**/status',
    (status) => {
      const [up] = status.sinks;
      status.sinks = [
        up,
        { ...up, ...away, name: 'cloud', state: 'backing_off', state_text: 'x', waiting_until: inMinutes(1), waiting_why: long, last_error: long, last_error_at: inMinutes(0) },
        { ...up, name: 'lab', state: 'held', waiting_until: inMinutes(1), waiting_why: 'quota exceeded', warning: 'nobody listens', dead_letters: 3, last_error: 'refused', last_error_at: inMinutes(-9) },
      ];
      return status;
    },
    '#/connections',
    { viewport: { width: 390, height: 800 } },
  );
  const text = (name) => page.locator(`#sinks li[data-name=${name}]`).innerText();
  await page.locator('#sinks li[data-name=lab]').waitFor({ timeout: LIVE_MS });
  await page.waitForFunction(() => /messages a second\s*[1-9]/.test(document.querySelector('#sources').innerText), null, { timeout: 2 * LIVE_MS });
  assert(/connected since \d\d:\d\d:\d\d/.test(await text('receiver')), await text('receiver'));
  const cloud = await text('cloud');
  assert(/backing off until \d\d:\d\d:\d\d: cannot connect to broker/.test(cloud), cloud.slice(0, 200));
  assert(cloud.includes('12,345') && cloud.includes('679 kB') && /3 min/.test(cloud), cloud.slice(-200));
  const lab = await text('lab');
  assert(/connected, but told to wait until \d\d:\d\d:\d\d: quota exceeded/.test(lab) && lab.includes('nobody listens'), lab);
  assert(/Last error, .*: refused/.test(lab) && /refused, skipped\s*3/.test(lab), lab);
  const box = await page.locator('#sinks li[data-name=cloud]').boundingBox();
  assert(box.height < 420 && box.x + box.width <= 390, `the box of the long error is ${box.width} by ${box.height}`);
  assert((await page.locator('#sinks b').count()) === 0, 'markup in an error became markup');
  await fits(page);
  await readable(page);
  await closeClean(page);
});

if (adminToken && process.env.FIELDLOG_BROKER) {
  await check('a message that is not understood is listed, can be saved, and is taken again', async () => {
    await publish([['zigbee2mqtt/page/odd', '{"half":']]);
    const page = await openPage('#/quarantine');
    await login(page, adminToken);
    const item = page.locator('#quarantine li', { hasText: 'zigbee2mqtt/page/odd' }).first();
    await item.waitFor({ timeout: 2 * LIVE_MS });
    const [file] = await Promise.all([page.waitForEvent('download'), item.locator('button', { hasText: '8 B' }).click()]);
    assert((await readFile(await file.path(), 'utf8')) === '{"half":', 'other bytes were saved');
    await item.locator('button', { hasText: 'zigbee2mqtt/page/odd' }).click();
    await page.locator('button', { hasText: 'Take all on zigbee2mqtt/page/odd again' }).waitFor({ timeout: LIVE_MS });
    assert((await page.locator('#quarantine li').count()) === 1, 'other topics are shown');
    await page.locator('button', { hasText: 'Take all on' }).click();
    await page.locator('.outcome', { hasText: /^0 taken again.* 1 stays: / }).waitFor({ timeout: LIVE_MS });
    await page.locator('#quarantine li button', { hasText: 'Take again' }).click();
    await page.locator('.outcome', { hasText: /^Not taken again: / }).waitFor({ timeout: LIVE_MS });
    page.complaints = page.complaints.filter((it) => !it.includes('422'));
    await closeClean(page);
  });
}
