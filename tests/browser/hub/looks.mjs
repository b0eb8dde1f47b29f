// Every view at three widths, and in the dark: nothing sticks out, and axe finds nothing. And names that are meant to harm.

import { LIVE_MS, WIDTHS, accessible, assert, check, clean, close, closeClean, fits, harmless, publish, readable, until, url } from '../support.mjs';
import { ask, openHub, shown } from './support.mjs';

const VIEWS = {
  gateways: '#gateways tr',
  'gateway/plant-1': '.events > li',
  devices: '#devices tr',
  'device/plant-1%2Fkitchen%2Fclimate': '.chart canvas',
  'device/plant-1%2Fkitchen%2Ffloor_light?attr=state': '.timeline',
  'search?q=lamp': '#hits li',
};

for (const [index, width] of WIDTHS.entries()) {
  for (const colorScheme of index === 0 ? ['light', 'dark'] : ['light']) {
    await check(`${width} px wide and ${colorScheme}: nothing sticks out of any view, and all can be used`, async () => {
      const page = await openHub('', { viewport: { width, height: 900 }, colorScheme });
      for (const [view, ready] of Object.entries(VIEWS)) {
        await page.goto(`${url}/#/${view}`);
        await shown(page, ready);
        await fits(page);
        await readable(page);
        await accessible(page).catch((error) => assert(false, `${view}: ${error.message}`));
      }
      await closeClean(page);
    });
  }
}

await check('hostile names and values stay text, and turn nothing around', async () => {
  const markup = '<img src=x onerror="window.xss=1">';
  const turned = 'page/\u202Egnp.exe\u2066\u200B';
  await publish([
    [`zigbee2mqtt/page/${markup}`, { [markup]: `<script>window.xss=2</script>${'\u202E'}abc`, ['level' + '\u200B']: 5 }],
    [`zigbee2mqtt/${turned}`, { level: 1 }],
    ['zigbee2mqtt/page/bad', `{"a": "${markup}`],
  ]);
  await until(async () => (await ask(`devices?gateway=plant-1&device=${encodeURIComponent(turned)}`)).items.length > 0, 2 * LIVE_MS);
  const page = await openHub('#/devices?find=page/');
  await shown(page, '#devices .name', markup);
  await shown(page, '#devices .name', 'page/‹U+202E›gnp.exe‹U+2066›‹U+200B›');
  await page.setViewportSize({ width: 390, height: 900 });
  await fits(page);
  await page.locator('#devices .name', { hasText: markup }).click();
  await shown(page, '.values tr', '<script>window.xss=2</script>‹U+202E›abc');
  const id = encodeURIComponent(`plant-1/page/${markup}`);
  for (const view of [`device/${id}?attr=${encodeURIComponent(markup)}`, `device/${encodeURIComponent(`plant-1/${turned}`)}`, 'devices?find=page', 'gateway/plant-1?kind=quarantine', 'search?q=page', 'search?q=zigbee2mqtt', 'gateways']) {
    await page.goto(`${url}/#/${view}`);
    await page.waitForTimeout(700);
    await harmless(page, view);
  }
  await fits(page);
  await clean(page);
  await close(page);
});
