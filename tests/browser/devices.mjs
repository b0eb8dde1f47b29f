// The list of devices.

import { LIVE_MS, ask, assert, check, clean, close, closeClean, fits, openPage, publish, readable, url } from './support.mjs';

const rows = (page) => page.locator('.rows .row:not(.group)');
const names = (page) => page.locator('.rows .row .name').allTextContents();
const ready = (page) => rows(page).first().waitFor({ timeout: LIVE_MS });

const page = await openPage('#/devices');

await check('devices appear with their values, and the values change by themselves', async () => {
  await ready(page);
  assert((await page.locator('#banner').textContent()) === '', 'there is a banner');
  await page.locator('.rows .chip', { hasText: /^Temperature -?[\d.]+ °C$/ }).first().waitFor({ timeout: LIVE_MS });
  await page.locator('.rows .chip', { hasText: /^Contact (open|closed)$/ }).first().waitFor({ timeout: LIVE_MS });
  await page.locator('.rows :is(.flash-a, .flash-b)').first().waitFor({ timeout: LIVE_MS });
  await page.locator('.rows .where', { hasText: 'Aqara WSDCGQ11LM' }).first().waitFor({ timeout: LIVE_MS });
  await page.locator('.rows .spark path').first().waitFor({ timeout: 3 * LIVE_MS, state: 'attached' });
  await readable(page);
});

await check('what is computed is among the values that matter', async () => {
  const found = await openPage('#/devices?find=shelly');
  const chip = found.locator('.rows .chip.computed', { hasText: /^Apparent power [\d.]+ VA$/ }).first();
  await chip.waitFor({ timeout: LIVE_MS });
  const title = await chip.getAttribute('title');
  assert(title === 'Computed: switch:0.voltage × switch:0.current', title);
  await closeClean(found);
});

await check('ages tick', async () => {
  // Not the first seconds of something just heard: an age that only time moves.
  const older = () => page.locator('.rows .heard').evaluateAll((all) => all.map((it) => it.textContent).filter((text) => /^(\d\d s|\d+ min)/.test(text)));
  const deadline = Date.now() + 6 * LIVE_MS;
  for (let before = await older(); ; before = await older()) {
    await page.waitForTimeout(1_500);
    const now = await older();
    if (before.length > 0 && now.some((text, i) => before[i] !== text)) return;
    assert(Date.now() < deadline, 'no age has moved');
  }
});

await check('search, filter, order and groups are in the address', async () => {
  const all = await names(page);
  await page.locator('#search').fill('KITCHEN wsd');
  await page.waitForFunction(() => document.querySelectorAll('.rows .row').length === 1);
  assert((await names(page))[0] === 'kitchen/climate' && page.url().includes('find=KITCHEN+wsd'), page.url());
  await page.locator('#search').fill('no device has this name');
  await page.locator('.note', { hasText: 'No device matches.' }).waitFor({ timeout: LIVE_MS });
  await page.locator('#search').fill('');
  await page.waitForFunction((n) => document.querySelectorAll('.rows .row').length === n, all.length);

  await page.locator('input[name=show][value=unknown]').check({ force: true });
  const { devices } = await ask('/api/v1/devices?limit=1000&availability=unknown');
  await page.waitForFunction((n) => document.querySelectorAll('.rows .row').length === n, devices.length);
  assert(page.url().includes('show=unknown'), page.url());
  await page.locator('input[name=show][value=all]').check({ force: true });

  await page.locator('label', { hasText: 'Group by' }).locator('select').selectOption('model');
  const heading = page.locator('.rows .group', { hasText: /^Aqara WSDCGQ11LM \(8\)$/ });
  await heading.waitFor({ timeout: LIVE_MS });
  await page.locator('label', { hasText: 'Sort by' }).locator('select').selectOption('changed');
  const linked = await openPage(page.url().replace(url, '').replace(/^\//, ''));
  await linked.locator('.rows .group', { hasText: 'Aqara' }).first().waitFor({ timeout: LIVE_MS });
  await closeClean(linked);
  await clean(page);
});

await close(page);

await check('a device opens and closes by keyboard', async () => {
  const shown = await openPage('#/devices');
  await ready(shown);
  const link = rows(shown).first().locator('.name');
  const name = await link.textContent();
  await link.focus();
  await shown.keyboard.press('Enter');
  await shown.locator('h2', { hasText: name }).waitFor({ timeout: LIVE_MS });
  assert(await shown.evaluate(() => document.activeElement.id === 'view'), 'the focus is not in the view');
  await shown.goBack();
  await ready(shown);
  await shown.locator('#skip').focus();
  await shown.keyboard.press('Enter');
  assert(await shown.evaluate(() => document.activeElement.id === 'view'), 'the skip link does not skip');
  await closeClean(shown);
});

await check('back leads to where one was in the list, a link to its top', async () => {
  const shown = await openPage('#/devices', { viewport: { width: 1400, height: 500 } });
  await ready(shown);
  await shown.evaluate(() => scrollTo(0, 600));
  await shown.locator('.rows .row[aria-rowindex="20"] .name').click();
  await shown.locator('.values tr').first().waitFor({ timeout: LIVE_MS });
  assert((await shown.evaluate(() => scrollY)) === 0, 'the device does not begin at its top');
  await shown.goBack();
  await shown.waitForFunction(() => scrollY === 600, null, { timeout: LIVE_MS });
  await shown.locator('.rows .row[aria-rowindex="20"] .name').click();
  await shown.locator('.values tr').first().waitFor({ timeout: LIVE_MS });
  await shown.locator('#nav a', { hasText: 'Devices' }).click();
  await ready(shown);
  await shown.waitForTimeout(500);
  assert((await shown.evaluate(() => scrollY)) === 0, 'the list does not begin at its top');
  await closeClean(shown);
});

if (process.env.FIELDLOG_BROKER) {
  await check('5,000 devices: each can be reached by scrolling, and few rows are in the page', async () => {
    const many = Array.from({ length: 5_000 }, (_, i) => [`zigbee2mqtt/bulk/${String(i).padStart(4, '0')}`, { temperature: 20 + (i % 100) / 10, contact: i % 2 === 0 }]);
    await publish(many);
    for (let deadline = Date.now() + 60_000; (await ask('/status')).devices.total < 5_000; ) {
      assert(Date.now() < deadline, 'the agent has not recorded them');
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
    for (const options of [{}, { viewport: { width: 390, height: 844 } }]) {
      const shown = await openPage('#/devices', options);
      await ready(shown);
      await shown.locator('.filter b', { hasText: /^5,0\d\d$/ }).first().waitFor({ timeout: 3 * LIVE_MS });
      // On the narrow one, rows are higher and the way is long: every tenth screen does.
      const every = options.viewport ? 10 : 1;
      const scrolled = await shown.evaluate(async (every) => {
        const seen = new Set();
        const frames = [];
        let most = 0;
        let last = performance.now();
        const step = innerHeight * 0.8 * every;
        for (let y = 0; y < document.documentElement.scrollHeight; y += step) {
          scrollTo(0, y);
          // The rows are placed in the frame after the scroll.
          for (let i = 0; i < 2; i += 1) await new Promise(requestAnimationFrame);
          frames.push((performance.now() - last) / 2);
          last = performance.now();
          for (const name of document.querySelectorAll('.rows .name')) seen.add(name.textContent);
          most = Math.max(most, document.querySelectorAll('.rows .row').length);
        }
        frames.sort((a, b) => a - b);
        return { bulk: [...seen].filter((name) => name.startsWith('bulk/')).length, most, frame: frames[frames.length >> 1], worst: frames.at(-1) };
      }, every);
      console.log(`        median ${scrolled.frame.toFixed(1)} ms a frame, the longest ${scrolled.worst.toFixed(0)} ms, at most ${scrolled.most} rows`);
      assert(every > 1 ? scrolled.bulk > 300 : scrolled.bulk === 5_000, `${scrolled.bulk} were seen`);
      assert(scrolled.most < 100, `${scrolled.most} rows are in the page`);
      // By keyboard, the list goes on where the screen ends.
      await shown.evaluate(() => scrollTo(0, 0));
      await shown.locator('.rows .row[aria-rowindex="2"] .name').focus();
      for (let i = 0; i < 60; i += 1) await shown.keyboard.press('Tab');
      const place = await shown.evaluate(() => Number(document.activeElement.closest('.row').getAttribute('aria-rowindex')));
      assert(place === 62, `after 60 steps the focus is in row ${place}`);
      await shown.locator('#search').fill('bulk/4999');
      await shown.waitForFunction(() => document.querySelectorAll('.rows .row').length === 1);
      await fits(shown);
      await closeClean(shown);
    }
  });
}
