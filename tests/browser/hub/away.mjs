// The hub cannot be reached: the page says so, and goes on when it is back.

import { LIVE_MS, check, close } from '../support.mjs';
import { named, openHub, shown } from './support.mjs';

await check('the banner comes when the hub cannot be reached, and goes when it is back', async () => {
  const page = await openHub('#/gateways');
  await named(page, 'plant-1');
  await page.context().setOffline(true);
  await shown(page, '#banner', 'offline: cannot reach the hub');
  await page.context().setOffline(false);
  await page.waitForFunction(() => document.getElementById('banner').textContent === '', null, { timeout: 2 * LIVE_MS });
  await close(page);
});
