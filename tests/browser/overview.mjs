// The overview: whether everything is well, and what needs attention.

import { LIVE_MS, accessible, answeredWith, assert, check, closeClean, fits, openPage, openWith, readable } from './support.mjs';

const verdict = (page) => page.locator('#verdict');
const part = (page, name) => page.locator('.part', { hasText: name });
const inMinutes = (n) => new Date(Date.now() + n * 60_000).toISOString();

await check('the overview names each part, with its state', async () => {
  const page = await openPage();
  await page.locator('.part').nth(5).waitFor({ timeout: LIVE_MS });
  const words = (await page.locator('.parts').innerText()).replace(/\s+/g, ' ');
  for (const name of ['Brokers Connected', 'Log Recording', 'Upstream Connected', 'Disk', ' free', 'Clock', 'Flash', 'years left']) assert(words.includes(name), `no "${name}" in ${words}`);
  assert(/^\d+ things? needs? attention$|^Everything is well$/.test(await verdict(page).innerText()), await verdict(page).innerText());
  await page.locator('.events li').first().waitFor({ timeout: LIVE_MS });
  await page.locator('summary', { hasText: 'Figures' }).click();
  assert(/Commit\s+[\d.]+ ms/.test(await page.locator('.inner').innerText()), 'no figures');
  await readable(page);
  await closeClean(page);
});

await check('where nothing is wrong, everything is well', async () => {
  const page = await openWith('**/status', (status) => ({ ...status, clock_synchronised: true }));
  await page.route(/\/api\/v1\/(quarantine|commands)\?/, async (route) => {
    const response = await route.fetch();
    const body = await response.json();
    await route.fulfill({ response, json: { ...body, quarantine: [], commands: [] } });
  });
  await page.route(/\/api\/v1\/devices\?/, async (route) => {
    const response = await route.fetch();
    const body = await response.json();
    for (const d of body.devices) Object.assign(d, { availability: 'online', attributes: {} });
    await route.fulfill({ response, json: body });
  });
  await page.reload();
  await verdict(page).filter({ hasText: 'Everything is well' }).waitFor({ timeout: LIVE_MS });
  assert((await page.locator('.todos li').count()) === 0, 'there is something to do');
  await page.locator('.columns .note', { hasText: /^Nothing: no alert is open, no device is offline/ }).waitFor({ timeout: LIVE_MS });
  await closeClean(page);
});

await check('each part says what is wrong, and what to do', async () => {
  const why = 'the log has reached retention.bytes_max and sink "cloud" still needs its oldest records';
  const page = await openWith('**/status', (status) => ({
    ...status,
    blocked: why,
    clock_advice: 'log time is 3 years ahead: fieldlog correct-clock',
    uptime_s: 90_000,
    log: { ...status.log, disk_free_bytes: 9e6, endurance_years: 1.5 },
    sources: status.sources.map((source) => ({ ...source, connected: false, connected_at: null, state: 'backing_off', state_text: 'backing off', last_error: 'refused', advice: 'Check username and password_file.' })),
    sinks: status.sinks.map((sink) => ({ ...sink, connected: false, state: 'backing_off', waiting_until: inMinutes(1), waiting_why: 'no route', backlog_events: 12_345 })),
  }));
  await page.locator('.todos li').nth(5).waitFor({ timeout: LIVE_MS });
  const todos = await page.locator('.todos').innerText();
  for (const words of ['Brokers: demo is not connected. Backing off: refused. Check username', why, /receiver is not reached. Backing off until [\d:]+: no route. Check the link/, '9 MB free. Make room on the disk', 'fieldlog correct-clock', 'about 1.5 years left. Raise log.commit_delay_ms']) {
    assert(words instanceof RegExp ? words.test(todos) : todos.includes(words), `no "${words}" in ${todos}`);
  }
  assert((await page.locator('.part.bad').count()) === 6, 'not all parts are marked');
  assert((await part(page, 'Upstream').innerText()).includes('12,345 records to send'), 'no backlog');
  assert((await page.locator('#blocked').textContent()).includes(why), 'a blocked ingest does not stand out');
  await fits(page);
  await closeClean(page);
});

await check('why a broker is not connected is said once', async () => {
  const why = 'not authorized: check `username` and `password_file`';
  const page = await openWith('**/status', (status) => ({
    ...status,
    sources: status.sources.map((source) => ({ ...source, connected: false, connected_at: null, state: 'backing_off', state_text: `waiting to try again: ${why}`, last_error: why, advice: why })),
  }));
  const todo = page.locator('.todos li', { hasText: 'Brokers: ' });
  await todo.waitFor({ timeout: LIVE_MS });
  const once = async (text) => assert(text.split(why).length === 2 && !text.includes('Check that the broker runs'), text);
  await once(await todo.innerText());
  await page.goto(`${page.url().split('#')[0]}#/connections`);
  await page.locator('#sources li').first().waitFor({ timeout: LIVE_MS });
  await once(await page.locator('#sources').innerText());
  await closeClean(page);
});

await check('all views are in sight at the width of a tablet', async () => {
  const page = await openPage('', { viewport: { width: 768, height: 1024 } });
  await page.locator('.part').first().waitFor({ timeout: LIVE_MS });
  await page.locator('#logout').evaluate((it) => (it.hidden = false));
  const { inner, wide } = await page.locator('nav ul').evaluate((list) => ({ inner: list.clientWidth, wide: list.scrollWidth }));
  assert(wide <= inner, `the views take ${wide} px of ${inner}`);
  await closeClean(page);
});

await check('alerts that reach nobody need attention, with why and what to do', async () => {
  const way = { told: 4, failures: 3, refused: 0 };
  const notify = [
    { ...way, name: 'pager', target: 'https://pager.example', last_error: 'connection refused' },
    { ...way, name: 'broker', target: 'source demo', last_error: null },
  ];
  const page = await openWith('**/status', (status) => ({ ...status, notify }));
  const item = page.locator('.attention li', { hasText: 'alerts not told' });
  await item.waitFor({ timeout: LIVE_MS });
  const words = (await item.innerText()).replace(/\s+/g, ' ');
  assert(words.includes('pager connection refused. Check https://pager.example and [[notify]]; it is tried again by itself.'), words);
  assert((await item.count()) === 1, 'the other one is listed, too');
  await accessible(page);
  await item.locator('a').click();
  await page.locator('#notify li', { hasText: 'not told: connection refused' }).waitFor({ timeout: LIVE_MS });
  await page.locator('#notify li', { hasText: /broker source demo\s*told of all alerts/ }).waitFor({ timeout: LIVE_MS });
  await accessible(page);
  await fits(page);
  await closeClean(page);
});

await check('what needs attention is listed, the worst first, and links to it', async () => {
  const page = await openPage('#/none');
  await page.route(/\/api\/v1\/devices\?/, async (route) => {
    const response = await route.fetch();
    const body = await response.json();
    const [a, b, c, d] = body.devices.filter((it) => it.parent === null && it.id !== 'zigbee2mqtt/bridge');
    Object.assign(a, { availability: 'online', attributes: { battery: 7 }, units: { battery: '%' } });
    Object.assign(b, { availability: 'offline', availability_cause: 'silence' });
    Object.assign(c, { availability: 'offline', availability_cause: 'topic' });
    Object.assign(d, { availability: 'offline', availability_cause: 'topic', offline_because: c.id });
    await route.fulfill({ response, json: body });
  });
  const alert = { id: 1, attribute: 'temperature', condition: 'above', threshold: 1, value: 2, raised_at: new Date().toISOString() };
  await page.route(/\/api\/v1\/alerts\?/, async (route) => {
    const response = await route.fetch();
    const alerts = [{ ...alert, rule: 'warm', severity: 'warning', device: 'a' }, { ...alert, rule: 'hot', severity: 'critical', device: 'b' }];
    await route.fulfill({ response, json: { ...(await response.json()), alerts } });
  });
  await page.goto(`${page.url().split('#')[0]}#/overview`);
  await page.reload();
  await page.locator('.attention li', { hasText: 'battery 7 %' }).waitFor({ timeout: LIVE_MS });
  await page.locator('.attention li', { hasText: 'hot b' }).waitFor({ timeout: LIVE_MS });
  const list = await page.locator('.attention li').allInnerTexts();
  const place = (word) => list.findIndex((text) => text.includes(word));
  assert(place('hot b') >= 0 && place('hot b') < place('warm a') && place('warm a') < place('behind it'), list.join(' | '));
  assert(/offline.*and 1 device behind it/s.test(list[place('behind it')]), list.join(' | '));
  assert(place('behind it') < place('nothing heard for') && place('nothing heard for') < place('battery 7 %'), list.join(' | '));
  await page.locator('.attention li', { hasText: 'behind it' }).locator('a').click();
  await page.waitForFunction(() => location.hash.startsWith('#/device/'));
  answeredWith(page, 404);
  await closeClean(page);
});

const lonely = process.env.FIELDLOG_LONELY_URL?.replace(/\/$/, '');

if (lonely) {
  await check('a gateway with a token asks for it, and says that it reaches nobody, and why, and until when', async () => {
    const page = await openPage();
    await page.goto(lonely);
    await page.locator('#token').waitFor({ timeout: LIVE_MS });
    assert((await page.locator('#main').isHidden()) && (await page.locator('#banner').textContent()) === '', 'something is shown without the token');
    await page.locator('#token-text').fill('not-the-token-of-it');
    await page.keyboard.press('Enter');
    await page.locator('#token-error', { hasText: 'That token was refused.' }).waitFor({ timeout: LIVE_MS });
    await accessible(page);
    await page.locator('#token-text').fill(process.env.FIELDLOG_LONELY_TOKEN);
    await page.keyboard.press('Enter');
    answeredWith(page, 401);
    await page.locator('#logout').waitFor({ timeout: LIVE_MS });
    // Another tab is logged in, too.
    const other = await page.context().newPage();
    await other.goto(lonely);
    await other.locator('#verdict', { hasText: /./ }).waitFor({ timeout: 2 * LIVE_MS });
    assert(await other.locator('#token').isHidden(), 'the other tab asks again');
    await other.close();
    await page.locator('.todos li', { hasText: 'Brokers: plant is not connected' }).waitFor({ timeout: 2 * LIVE_MS });
    await page.locator('.todos li', { hasText: 'is not reached' }).waitFor({ timeout: LIVE_MS });
    assert((await page.locator('.columns .note').innerText()).includes('No device has been seen yet.'), 'it does not say that there is no device');
    await page.goto(`${lonely}/#/connections`);
    for (const name of ['cloud', 'web']) {
      await page.locator(`#sinks li[data-name=${name}]`, { hasText: /backing off until \d\d:\d\d:\d\d: .*127\.0\.0\.1:1.*/ }).waitFor({ timeout: 2 * LIVE_MS });
    }
    // Whoever has mended the receiver need not wait; the token for it is asked for.
    await page.locator('#sinks li[data-name=cloud] button', { hasText: 'Retry now' }).click();
    await page.locator('#admin[open]').waitFor({ timeout: LIVE_MS });
    await page.locator('#admin-cancel').click();
    // Whoever logs out is a stranger again.
    await page.locator('#logout').click();
    await page.locator('#token').waitFor({ timeout: LIVE_MS });
    answeredWith(page, 401);
    await closeClean(page);
  });
}
