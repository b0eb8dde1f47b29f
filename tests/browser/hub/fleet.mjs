// All gateways, one of them, and the lists of devices.

import { LIVE_MS, accessible, answeredWith, assert, check, closeClean, fits, openPage, readable, url } from '../support.mjs';
import { changed, gateway, named, openHub, shown, token } from './support.mjs';

await check('the page asks for a token, and says so when it is refused', async () => {
  const page = await openPage('#/devices');
  await shown(page, '#token');
  await page.locator('#token-text').fill('wrong');
  await page.keyboard.press('Enter');
  await shown(page, '#token-error', 'That token was refused.');
  await accessible(page);
  await page.locator('#token-text').fill(token);
  await page.keyboard.press('Enter');
  await shown(page, '#devices tr');
  await page.locator('#logout').click();
  await shown(page, '#token');
  answeredWith(page, 401);
  await closeClean(page);
});

await check('all gateways are well, and are found by name and by state; back goes back', async () => {
  const page = await openHub();
  await shown(page, '#verdict.good', 'All 3 gateways are well');
  for (const id of ['plant-1', 'plant-2', 'plant-3']) await named(page, new RegExp(`${id}.*complete.*nothing.* s ago`));
  await shown(page, '.figures', /3 complete\s*0 behind/);
  await page.locator('#parts .part.good', { hasText: /stream FIELDLOG.*reading/s }).waitFor({ timeout: LIVE_MS });
  await page.locator('#parts .part.good', { hasText: /Redis.*up to date/s }).waitFor({ timeout: LIVE_MS });
  await page.getByLabel('Search gateways by id').fill('NT-2');
  await page.waitForFunction(() => document.querySelectorAll('#gateways tr').length === 1, null, { timeout: LIVE_MS });
  assert(page.url().endsWith('#/gateways?find=NT-2'), page.url());
  await page.getByLabel('Search gateways by id').fill('');
  await page.waitForFunction(() => document.querySelectorAll('#gateways tr').length === 3, null, { timeout: LIVE_MS });
  await page.getByRole('link', { name: '0 silent' }).click();
  await shown(page, '.note', 'There is no such gateway.');
  assert(await page.getByLabel('Silent').isChecked(), 'the filter is not shown');
  await page.goBack();
  await named(page, 'plant-3');
  await page.locator('#gateways a', { hasText: 'plant-3' }).click();
  await shown(page, 'h2', 'plant-3');
  await page.goBack();
  await named(page, 'plant-1');
  await closeClean(page);
});

await check('what needs attention comes first, and ten thousand gateways are shown page by page', async () => {
  const page = await openPage('', {}, {});
  await page.context().addInitScript((text) => sessionStorage.setItem('token', text), token);
  const all = { gateways: 10_000, forked: 1, contradicted: 1, silent: 40, gaps: 1, behind: 7, lost: 2, complete: 9_948, lag_events: 12, events: 5_000_000 };
  await changed(page, '**/api/v1/fleet', () => all);
  const asked = [];
  await page.route('**/api/v1/gateways?*', (route) => {
    const query = new URL(route.request().url()).searchParams;
    asked.push(query);
    const n = Number(query.get('after')?.slice(5) ?? 0);
    const long = '2020-01-01T00:00:00Z';
    const items = {
      forked: [gateway('twin', { state: 'forked', forked: 'the chain after position 7 differs' })],
      contradicted: [gateway('odd', { state: 'contradicted', faults: [{ fault: 'content', seq: 5 }] })],
      silent: Array.from({ length: 5 }, (_, i) => gateway(`far-${i}`, { state: 'silent', last_seen: long, newest_time: long })),
      gaps: [gateway('holey', { state: 'gaps', lag_events: 3, lag_s: 75, version: '0.1.0', gaps: [{ first: 3, last: 5, state: 'asked', asks: 2, asked_at: long, since: long, why: null }] })],
    }[query.get('state')] ?? Array.from({ length: Number(query.get('limit')) }, (_, i) => gateway(`site-${String(n + i + 1).padStart(5, '0')}`));
    return route.fulfill({ json: { items } });
  });
  await page.goto(`${url}/#/gateways`);
  await page.reload();
  await shown(page, '#verdict.bad', '43 of 10,000 gateways need attention');
  const list = page.locator('#attention');
  for (const words of ['1 forked', 'twin The chain after position 7 differs.', 'Event 5 arrived again with other content.', '40 silent', 'far-0 Nothing has arrived for', 'and 35 more', '3 events got lost on the way']) {
    await list.getByText(words).first().waitFor({ timeout: LIVE_MS });
  }
  const order = await list.locator('p b').allTextContents();
  assert(order.join() === '1 forked,1 contradicted,40 silent,1 with gaps', order.join());
  assert((await page.locator('#gateways tr').count()) === 100, 'a page has not 100 gateways');
  await page.getByRole('link', { name: 'Next page' }).click();
  await named(page, 'site-00101');
  await page.goBack();
  await named(page, 'site-00001');
  assert(asked.every((query) => Number(query.get('limit')) <= 101), 'more was read than a page');
  await page.getByLabel('With gaps').check({ force: true });
  await named(page, /holey.*with gaps.*3 events, 1 min 15 s.*0\.1\.0/);
  await fits(page);
  await readable(page);
  await accessible(page);
  answeredWith(page, 401);
  await closeClean(page);
});

await check('a gateway that is stopped goes on after a question', async () => {
  const page = await openHub();
  let isForked = true;
  await changed(page, '**/api/v1/gateways?gateway=*', ({ items: [it] }) => ({ items: [isForked ? { ...it, state: 'forked', forked: 'two histories' } : it] }));
  const posts = [];
  await page.route('**/api/v1/gateways/plant-2/resume', (route) => {
    const { authorization } = route.request().headers();
    posts.push(authorization);
    if (authorization !== 'Bearer of-an-admin') return route.fulfill({ status: 403, json: { detail: 'the token needs the scope "admin"' } });
    isForked = false;
    return route.fulfill({ status: 204 });
  });
  await page.goto(`${url}/#/gateway/plant-2`);
  await page.locator('#resume').click({ timeout: LIVE_MS });
  await page.locator('#sure-cancel').click();
  assert(posts.length === 0, 'it did not ask');
  await page.locator('#resume').click();
  await accessible(page);
  await page.locator('#sure-form .main').click();
  await shown(page, '#other-words', 'the token needs the scope "admin"');
  await accessible(page);
  await page.locator('#other-text').fill('of-an-admin');
  await page.keyboard.press('Enter');
  await shown(page, '.stateline', 'complete. Nothing is missing.');
  await page.locator('#fork').waitFor({ state: 'hidden', timeout: LIVE_MS });
  assert(posts.join() === `Bearer ${token},Bearer of-an-admin`, posts.join());
  answeredWith(page, 403);
  await closeClean(page);
});

await check('a gateway has its devices, logs, and events by kind, each with a link', async () => {
  const page = await openHub('#/gateway/plant-1');
  await shown(page, '#gateway-devices tr', /bathroom\/climate.*(online|offline).*Temperature/);
  await shown(page, '#logs tr', /[0-9a-f]{16} \(current\).*no gap/);
  await shown(page, '.events > li');
  await page.locator('.eventcard select').selectOption('gateway');
  await shown(page, '.events > li', /fieldlog [\d.]+ started/);
  await page.waitForFunction(() => [...document.querySelectorAll('.events > li')].every((it) => !it.textContent.includes('temperature')), null, { timeout: LIVE_MS });
  const title = await page.locator('.events time').first().getAttribute('title');
  assert(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [+-]\d\d:\d\d$/.test(title), title);
  await page.locator('.eventcard select').selectOption('values');
  await shown(page, '.events > li', 'temperature');
  const before = await page.locator('.events > li').count();
  await page.getByRole('button', { name: 'Look further back' }).click();
  await page.waitForFunction((n) => document.querySelectorAll('.events > li').length > n, before, { timeout: LIVE_MS });
  await page.getByRole('link', { name: 'All devices of this gateway' }).click();
  await shown(page, '#devices tr', 'plant-1');
  assert(!(await page.locator('#devices').innerText()).includes('plant-2'), 'devices of another gateway');
  await closeClean(page);
});

await check('devices are found across gateways, also by words', async () => {
  const page = await openHub('#/devices?find=WSDCGQ11LM');
  for (const id of ['plant-1', 'plant-2', 'plant-3']) await shown(page, '#devices tr', new RegExp(`kitchen/climate.*${id}`));
  await page.getByRole('link', { name: 'Search', exact: true }).click();
  await page.getByLabel('Words to look for').fill('kitchen clim');
  await shown(page, '#hits li', /kitchen\/climate of plant-2/);
  assert(page.url().endsWith('#/search?q=kitchen+clim'), page.url());
  await page.getByLabel('Words to look for').fill('nothing that is there');
  await shown(page, '.note', 'Nothing has all of these words.');
  await page.getByLabel('Words to look for').fill('--');
  await shown(page, '.note', 'has no word to look for');
  answeredWith(page, 400);
  await closeClean(page);
});
