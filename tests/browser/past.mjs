// The time slider: the page shows the state at a moment.

import { LIVE_MS, accessible, ask, assert, check, close, closeClean, fits, openPage, publish, readable, url } from './support.mjs';

const past = (page) => page.locator('#time-words', { hasText: 'You look at the past' });
const exact = (page) => page.locator('#time-exact', { hasText: 'Exact: all that was recorded up to record' });

await check('the slider opens in the present, goes into the past, and the way back is marked', async () => {
  const page = await openPage('#/devices');
  await page.locator('.rows .row').first().waitFor({ timeout: LIVE_MS });
  await page.locator('#time-open').click();
  await past(page).waitFor({ timeout: LIVE_MS });
  await exact(page).waitFor({ timeout: LIVE_MS });
  assert(await page.locator('#time-slider').evaluate((it) => it === document.activeElement), 'the focus is not on the slider');
  assert((await page.evaluate(() => document.body.className)) === 'past', 'the page does not look different');
  const before = await page.locator('#time-exact').textContent();
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('PageDown');
  await page.waitForFunction((words) => document.getElementById('time-exact').textContent !== words, before, { timeout: LIVE_MS });
  await page.locator('#time-back').click();
  assert(/at=\d{4}-/.test(page.url()), page.url());
  await accessible(page);
  await fits(page);
  await page.locator('#time-close').click();
  await page.locator('#time').waitFor({ state: 'hidden', timeout: LIVE_MS });
  assert(!page.url().includes('at='), page.url());
  await page.locator('.rows :is(.flash-a, .flash-b)').first().waitFor({ timeout: LIVE_MS });
  await page.goBack();
  await past(page).waitFor({ timeout: LIVE_MS });
  await closeClean(page);
});

await check('every view shows the state at the moment, and the moment goes along from view to view', async () => {
  // A device with a value before the moment, and another after it.
  const id = `page/clock${Date.now()}`;
  const path = `/api/v1/devices/${encodeURIComponent(id)}`;
  const heard = async (v) => {
    await publish([[`zigbee2mqtt/${id}`, { level: v }]]);
    for (let wait = 0; wait < 40; wait += 1) {
      const { device } = await ask(path);
      if (device?.attributes.level?.value === v) return device.attributes.level;
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
    throw new Error(`the value ${v} was not recorded`);
  };
  const first = await heard(11);
  await heard(22);
  const page = await openPage(`#/device/${encodeURIComponent(id)}?at=${encodeURIComponent(first.at)}`);
  await past(page).waitFor({ timeout: LIVE_MS });
  await page.locator('.values tr', { hasText: /Level\s*11/ }).waitFor({ timeout: LIVE_MS });
  await exact(page).waitFor({ timeout: LIVE_MS });
  // Records of the same moment may follow it.
  const words = await page.locator('#time-exact').textContent();
  assert(Number(/up to record ([\d,]+)/.exec(words)[1].replaceAll(',', '')) >= first.seq, words);
  await page.locator('.readout', { hasText: 'last 11' }).waitFor({ timeout: LIVE_MS });
  const events = await page.locator('.eventcard .events').innerText();
  assert(events.includes('level 11') && !events.includes('level 22'), events);

  await page.locator('nav a', { hasText: 'Devices' }).click();
  await page.locator('#search').fill(id);
  await page.locator('.rows .chip', { hasText: /^Level 11$/ }).waitFor({ timeout: LIVE_MS });
  assert((await page.locator('.head').innerText()).includes('Last change'), 'the heading is that of the present');
  await page.locator('nav a', { hasText: 'Events' }).click();
  // Others may have been recorded in the same moment.
  await page.locator('.events li:nth-child(-n + 20)', { hasText: `${id} level 11` }).waitFor({ timeout: LIVE_MS });
  assert(!(await page.locator('.events').innerText()).includes('level 22'), 'what came later is shown');
  await page.locator('nav a', { hasText: 'Commands' }).click();
  await exact(page).waitFor({ timeout: LIVE_MS });
  await page.locator('nav a', { hasText: 'Overview' }).click();
  await page.locator('#verdict', { hasText: /was well|needed attention/ }).waitFor({ timeout: LIVE_MS });
  assert(await page.locator('.parts').isHidden(), 'parts are shown whose past is not recorded');
  await page.locator('nav a', { hasText: 'Connections' }).click();
  await page.locator('.note', { hasText: 'How the connections were is not recorded' }).waitFor({ timeout: LIVE_MS });
  await readable(page);
  await closeClean(page);
});

await check('commands and their form belong to their time', async () => {
  const { commands } = await ask('/api/v1/commands?limit=200');
  const done = commands.filter((it) => it.state === 'applied' && it.device === 'kitchen/floor_light').at(-1);
  assert(done, 'the demo has sent none yet');
  const page = await openPage(`#/device/${encodeURIComponent(done.device)}?at=${encodeURIComponent(done.requested_at)}`);
  await page.locator('#device-commands li', { hasText: 'requested' }).first().waitFor({ timeout: LIVE_MS });
  await page.locator('#command-card', { hasText: 'Commands are sent in the present' }).waitFor({ timeout: LIVE_MS });
  assert(await page.locator('.command').isHidden(), 'there is a form');
  await closeClean(page);
});

await check('moments that nothing is known of say so', async () => {
  const page = await openPage('#/devices?at=2001-01-01T00:00:00.000Z');
  await page.locator('#time-exact', { hasText: 'The log begins later' }).waitFor({ timeout: LIVE_MS });
  await page.goto(`${url}/#/overview?at=2001-01-01T00:00:00.000Z`);
  await page.locator('#verdict', { hasText: 'Nothing is known of this moment' }).waitFor({ timeout: LIVE_MS });
  await page.goto(`${url}/#/devices?at=${new Date(Date.now() + 3_600_000).toISOString()}`);
  await page.locator('#time-exact', { hasText: 'Not exact yet' }).waitFor({ timeout: LIVE_MS });
  await closeClean(page);
  const early = await openPage('#/device/kitchen%2Fclimate');
  await early.locator('.values tr').first().waitFor({ timeout: LIVE_MS });
  await early.goto(`${url}/#/device/kitchen%2Fclimate?at=2001-01-01T00:00:00.000Z`);
  await early.locator('#notice', { hasText: '`kitchen/climate` was not known at that time; it was first seen at 20' }).waitFor({ timeout: LIVE_MS });
  assert(await early.locator('.values').first().isHidden(), 'values of another moment are shown');
  await early.locator('#time-close').click();
  await early.locator('.values tr').first().waitFor({ timeout: LIVE_MS });
  await close(early);
  const record = await openPage('#/devices?at=100');
  await record.locator('#time-words', { hasText: 'You look at the past: after record 100' }).waitFor({ timeout: LIVE_MS });
  await record.locator('#time-exact', { hasText: 'up to record 100,' }).waitFor({ timeout: LIVE_MS });
  await record.locator('#time-back').click();
  await record.waitForFunction(() => /at=\d{4}-/.test(location.hash), null, { timeout: LIVE_MS });
  await closeClean(record);
  const gone = await openPage('#/devices');
  await gone.route(/\/api\/v1\/devices\?.*at=/, (route) =>
    route.fulfill({ status: 410, contentType: 'application/problem+json', body: JSON.stringify({ code: 'trimmed', detail: 'the log begins at sequence 7' }) }),
  );
  await gone.locator('#time-open').click();
  await gone.locator('#notice', { hasText: 'the log begins at sequence 7' }).waitFor({ timeout: LIVE_MS });
  assert(await gone.locator('.rows').isHidden(), 'the present is shown as the past');
  await close(gone);
  const odd = await openPage('#/devices?at=yesterday');
  await odd.locator('#notice', { hasText: '`at=yesterday` must be a time' }).waitFor({ timeout: LIVE_MS });
  await close(odd);
});
