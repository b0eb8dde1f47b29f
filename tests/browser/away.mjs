// The network or the agent is away: the page says so, and goes on when it is back.

import { LIVE_MS, check, close, openPage } from './support.mjs';

const pid = Number(process.env.FIELDLOG_PID ?? 0);
const lost = (page, timeout) => page.locator('#banner', { hasText: 'offline: cannot reach fieldlog' }).waitFor({ timeout });
const back = (page) => page.waitForFunction(() => document.getElementById('banner').textContent === '', null, { timeout: 3 * LIVE_MS });

const page = await openPage('#/devices');

await check('the banner comes when the network goes, and goes when it comes back', async () => {
  await page.locator('.rows .row').first().waitFor({ timeout: LIVE_MS });
  await page.context().setOffline(true);
  await lost(page, 3 * LIVE_MS);
  await page.context().setOffline(false);
  await back(page);
  await page.locator('.rows :is(.flash-a, .flash-b)').first().waitFor({ timeout: LIVE_MS });
});

if (pid > 0) {
  await check('the banner comes when the agent stops answering, and goes when it goes on', async () => {
    process.kill(pid, 'SIGSTOP');
    try {
      await lost(page, 6 * LIVE_MS);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await back(page);
  });
}

await close(page);
