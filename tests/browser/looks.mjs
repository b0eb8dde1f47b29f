// Every view at three widths, and in the dark: nothing sticks out, and axe finds nothing. And names that are meant to harm.

import { LIVE_MS, WIDTHS, accessible, ask, assert, check, clean, close, closeClean, fits, harmless, openPage, publish, readable, url } from './support.mjs';

const VIEWS = {
  overview: '.part',
  devices: '.rows .row',
  'device/kitchen%2Fclimate?why=temperature': '.chart canvas',
  'device/kitchen%2Ffloor_light?attr=state': '.timeline',
  events: '.events > li',
  commands: '#commands > li',
  connections: '#sources li',
  quarantine: '#view h2',
};

for (const [index, width] of WIDTHS.entries()) {
  for (const colorScheme of index === 0 ? ['light', 'dark'] : ['light']) {
    await check(`${width} px wide and ${colorScheme}: nothing sticks out of any view, and all can be used`, async () => {
      const page = await openPage('', { viewport: { width, height: 900 }, colorScheme });
      for (const [view, ready] of Object.entries(VIEWS)) {
        for (const moment of index === 1 ? ['', new Date(Date.now() - 15_000).toISOString()] : ['']) {
          await page.goto(`${url}/#/${view}${moment ? `${view.includes('?') ? '&' : '?'}at=${moment}` : ''}`);
          if (moment) await page.locator('#time').waitFor({ timeout: LIVE_MS });
          else await page.locator(ready).first().waitFor({ timeout: LIVE_MS });
          await fits(page);
          await readable(page);
          await accessible(page).catch((error) => assert(false, `${view} ${moment}: ${error.message}`));
        }
      }
      await closeClean(page);
    });
  }
}

if (process.env.FIELDLOG_BROKER) {
  await check('hostile names and values stay text, and turn nothing around', async () => {
    const markup = '<img src=x onerror="window.xss=1">';
    const turned = 'page/\u202Egnp.exe\u2066\u200B';
    await publish([
      [`zigbee2mqtt/page/${markup}`, { [markup]: `<script>window.xss=2</script>${'\u202E'}abc`, ['level' + '\u200B']: 5 }],
      [`zigbee2mqtt/${turned}`, { level: 1 }],
      ['zigbee2mqtt/page/bad', `{"a": "${markup}`],
    ]);
    for (let wait = 0; (await ask(`/api/v1/devices/${encodeURIComponent(turned)}`)).device === undefined; wait += 1) {
      assert(wait < 40, 'it was not recorded');
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
    const page = await openPage('#/devices?find=page/');
    await page.locator('.rows .name', { hasText: markup }).waitFor({ timeout: LIVE_MS });
    await page.locator('.rows .name', { hasText: 'page/‹U+202E›gnp.exe‹U+2066›‹U+200B›' }).waitFor({ timeout: LIVE_MS });
    await page.locator('.rows .name', { hasText: markup }).click();
    await page.locator('h2', { hasText: markup }).waitFor({ timeout: LIVE_MS });
    await page.locator('.values tr', { hasText: '<script>window.xss=2</script>‹U+202E›abc' }).waitFor({ timeout: LIVE_MS });
    await page.locator('.chart canvas').waitFor({ timeout: LIVE_MS });
    const id = encodeURIComponent(`page/${markup}`);
    for (const view of [`device/${id}?attr=${encodeURIComponent(markup)}&why=${encodeURIComponent(markup)}`, `device/${encodeURIComponent(turned)}`, 'devices', 'events', 'quarantine', 'overview', 'commands', 'connections']) {
      await page.goto(`${url}/#/${view}`);
      await page.waitForTimeout(700);
      await harmless(page, view);
    }
    await fits(page);
    await clean(page);
    await close(page);
  });
}
