// A device: values and why, charts, timelines, events, command form.

import { readFile } from 'node:fs/promises';

import { LIVE_MS, accessible, adminToken, answeredWith, ask, assert, check, clean, close, closeClean, login, openPage, openWith, publish, readable, until, url } from './support.mjs';

const at = (id, query = '') => `#/device/${encodeURIComponent(id)}${query}`;

await check('a device shows what it is, its values, a chart and its events', async () => {
  const page = await openPage(at('kitchen/climate'));
  await page.locator('.values tr', { hasText: /Temperature\s*-?[\d.]+ °C/ }).waitFor({ timeout: LIVE_MS });
  const facts = await page.locator('.facts').innerText();
  for (const words of ['Aqara WSDCGQ11LM', 'zigbee2mqtt/bridge', '0x00158d']) assert(facts.includes(words), `no ${words} in ${facts}`);
  const first = await page.locator('.values tbody tr').first().innerText();
  assert(first.startsWith('Temperature'), `first comes ${first}`);
  await page.locator('.chart canvas').waitFor({ timeout: LIVE_MS });
  await page.locator('.readout', { hasText: /^lowest -?[\d.]+ °C, highest -?[\d.]+ °C, last -?[\d.]+ °C$/ }).waitFor({ timeout: LIVE_MS });
  // By keyboard: the newest value, then one before.
  await page.locator('.chart').focus();
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('ArrowLeft');
  await page.locator('.readout', { hasText: /: -?[\d.]+ °C$/ }).waitFor({ timeout: LIVE_MS });
  await page.locator('summary', { hasText: 'As a table' }).click();
  assert((await page.locator('details table tbody tr').count()) > 0, 'the table is empty');
  await page.locator('.eventcard .events li').first().waitFor({ timeout: LIVE_MS });
  await readable(page);
  // As the page before this one linked to a device.
  await page.goto(`${url}/#device=kitchen%2Ffridge`);
  await page.locator('h2', { hasText: 'kitchen/fridge' }).waitFor({ timeout: LIVE_MS });
  await closeClean(page);
});

await check('ranges are in the address; long ones show aggregates', async () => {
  const page = await openPage(at('kitchen/climate', '?attr=humidity'));
  await page.locator('.chart canvas').waitFor({ timeout: LIVE_MS });
  for (const range of ['day', 'week', 'all']) {
    await page.locator(`input[name=range][value=${range}]`).check({ force: true });
    await page.waitForFunction((it) => location.hash.includes(`range=${it}`), range);
    await page.locator('.chart canvas').waitFor({ timeout: LIVE_MS });
  }
  await page.route(/\/history\?/, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...(await response.json()), next: 5, complete: false } });
  });
  await page.locator('input[name=range][value=day]').check({ force: true });
  await page.locator('.note', { hasText: 'Mean, with lowest and highest, of every 5 min.' }).waitFor({ timeout: LIVE_MS });
  const [file] = await Promise.all([page.waitForEvent('download'), page.locator('button', { hasText: 'Download CSV' }).click()]);
  assert(file.suggestedFilename() === 'kitchen_climate-humidity-day.csv', file.suggestedFilename());
  await page.goto(`${url}/${at('kitchen/floor_light', '?attr=state')}`);
  await page.locator('.note', { hasText: 'There are too many changes to show: these are the first' }).waitFor({ timeout: LIVE_MS });
  const [head, first] = (await readFile(await file.path(), 'utf8')).split('\n');
  assert(head === 'time,min,mean,max,last,values' && /^\d{4}-[^,]+Z(,[\d.]+){5}$/.test(first), `${head} ${first}`);
  await closeClean(page);
});

if (process.env.FIELDLOG_BROKER) {
  await check('a value that has not changed is drawn as it holds; on and off are a timeline', async () => {
    await publish([['zigbee2mqtt/page/still', { level: 42, valve: 'open', on: true }]]);
    for (let wait = 0; (await ask('/api/v1/devices/page%2Fstill')).device === undefined; wait += 1) {
      assert(wait < 40, 'it was not recorded');
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
    const page = await openPage(at('page/still', '?attr=level'));
    await page.locator('.readout', { hasText: /^lowest 42, highest 42, last 42$/ }).waitFor({ timeout: LIVE_MS });
    await page.locator('.note', { hasText: '1 change in this time' }).waitFor({ timeout: LIVE_MS });
    await page.goto(`${url}/${at('page/still', '?attr=on')}`);
    await page.locator('.stretch.on', { hasText: 'yes' }).waitFor({ timeout: LIVE_MS });
    await page.locator('.stretch.none').waitFor({ timeout: LIVE_MS });
    await page.goto(`${url}/${at('page/still', '?attr=valve')}`);
    await page.locator('.stretch.on', { hasText: 'open' }).waitFor({ timeout: LIVE_MS });

    // As if it had been set long ago: nothing in range, and the held value is drawn and told.
    const old = new Date(Date.now() - 9 * 86_400_000).toISOString();
    await page.route(/\/history\?/, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), history: [], next: null } });
    });
    await page.route(/\/devices\/page%2Fstill(\?at=.*)?$/, async (route) => {
      const response = await route.fetch({ url: route.request().url().replace(/\?at=.*/, '') });
      const body = await response.json();
      body.device.discovered_at = old;
      for (const it of Object.values(body.device.attributes)) it.at = old;
      await route.fulfill({ response, json: body });
    });
    await page.goto(`${url}/${at('page/still', '?attr=level&range=day')}`);
    await page.locator('.readout', { hasText: /^42, unchanged since \d{4}-/ }).waitFor({ timeout: LIVE_MS });
    await page.locator('.chart canvas').waitFor({ timeout: LIVE_MS });
    await page.goto(`${url}/${at('page/still', '?attr=valve&range=day')}`);
    await page.locator('.readout', { hasText: /^open, unchanged since \d{4}-/ }).waitFor({ timeout: LIVE_MS });
    await closeClean(page);
  });
}

await check('what is computed is shown with how, follows its values, and is drawn where an aggregate has it', async () => {
  const { devices } = await ask('/api/v1/devices?limit=1000');
  const { id } = devices.find((d) => d.derived?.apparent_power);
  const page = await openPage(at(id));
  const row = page.locator('.values .computed tr');
  await row.filter({ hasText: /Apparent power\s*computed: switch:0\.voltage × switch:0\.current\s*[\d.]+ VA/ }).waitFor({ timeout: LIVE_MS });
  const value = () => row.locator('.v').innerText();
  const first = await value();
  // As the agent computes it, also after a change that came by the stream.
  await page.waitForFunction((old) => document.querySelector('.computed .v').textContent !== old, first, { timeout: 6 * LIVE_MS });
  await until(async () => {
    const { device } = await ask(`/api/v1/devices/${encodeURIComponent(id)}`);
    return Math.abs(device.derived.apparent_power.value - Number.parseFloat(await value())) < 0.01;
  }, LIVE_MS);
  await row.locator('button').click();
  await page.waitForFunction(() => location.hash.includes('attr=load-minutely'));
  await page.locator('.note', { hasText: 'Mean of every 60 s: the named aggregate load-minutely.' }).waitFor({ timeout: LIVE_MS });
  await page.locator('.readout', { hasText: /^lowest [\d.]+ VA, highest [\d.]+ VA/ }).waitFor({ timeout: LIVE_MS });
  await accessible(page);
  await readable(page);
  await closeClean(page);
});

await check('why a value is as it is, and the way to that moment', async () => {
  const page = await openPage(at('kitchen/floor_light'));
  const row = page.locator('.values tr', { hasText: 'State' }).first();
  await row.locator('button', { hasText: 'Why' }).click();
  const why = page.locator('.why', { hasText: 'Set at' });
  await why.waitFor({ timeout: LIVE_MS });
  assert(/by record [\d,]+, from demo/.test(await why.innerText()), await why.innerText());
  assert(page.url().includes('why=state'), page.url());
  await why.locator('p a').first().click();
  await page.locator('#time-words', { hasText: 'You look at the past' }).waitFor({ timeout: LIVE_MS });
  await closeClean(page);
});

await check('a device that does not exist is said to be none', async () => {
  const page = await openPage(at('kitchen/clymate'));
  await page.locator('#notice', { hasText: 'there is no device `kitchen/clymate`' }).waitFor({ timeout: LIVE_MS });
  await close(page);
});

const hasOutcome = (page, words, timeout = LIVE_MS) => page.locator('#command-outcome', { hasText: words }).waitFor({ timeout });

async function send(page, name, value) {
  await page.locator('#command-name').selectOption(name);
  const input = page.locator('#command-input');
  if (await input.evaluate((it) => it.tagName === 'SELECT')) await input.selectOption(value);
  else await input.fill(value);
  await page.locator('#command-send').click();
}

if (adminToken) {
  await check('a command is sent by keyboard, asks for the token, and is applied', async () => {
    const page = await openPage(at('kitchen/floor_light'), { viewport: { width: 390, height: 844 } });
    await page.locator('#command-card').waitFor({ timeout: LIVE_MS });
    const posts = [];
    page.on('request', (request) => request.url().endsWith('/commands') && request.method() === 'POST' && posts.push(request.postDataJSON()));
    await page.locator('#command-name').selectOption('brightness');
    const hint = await page.locator('#command-hint').textContent();
    assert(hint === '0 to 254. Not accepted while the device is offline. Done when the device reports the value.', hint);
    await page.locator('#command-input').focus();
    await page.keyboard.press('Control+A');
    await page.keyboard.type('99');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Tab');
    await page.keyboard.type('<b>because</b>');
    await page.keyboard.press('Enter');
    await page.locator('#admin').waitFor({ timeout: LIVE_MS });
    assert(posts.length === 0, 'it was sent without a token');
    assert(await page.locator('#admin-text').evaluate((it) => it === document.activeElement), 'the focus is not in the field for the token');
    await page.locator('#admin-text').fill('not-the-token');
    await page.keyboard.press('Enter');
    await page.locator('#admin-error', { hasText: 'That token was refused.' }).waitFor({ timeout: LIVE_MS });
    await page.locator('#admin-text').fill(adminToken);
    await page.keyboard.press('Enter');
    await hasOutcome(page, /^Command \d+ applied: the device reports the value\.$/);
    assert(posts.length === 1 && posts[0].value === 99 && posts[0].ttl_s === 30 && posts[0].reason === '<b>because</b>', JSON.stringify(posts));
    await page.locator('#device-commands li', { hasText: /brightness 99 *applied.*by token:admin: <b>because<\/b>/ }).waitFor({ timeout: LIVE_MS });
    // The browser stays logged in, and no script can read with what.
    assert((await page.evaluate(() => document.cookie + JSON.stringify(sessionStorage) + JSON.stringify(localStorage))) === '{}{}', 'the page can read the session');
    await send(page, 'brightness', '400');
    await hasOutcome(page, /^Not accepted: .*254/);
    assert((await page.locator('#command-input').getAttribute('aria-invalid')) === 'true', 'the field is not marked');
    answeredWith(page, 401, 422);
    await page.locator('#logout').click();
    // The page is loaded again, where nobody is logged in, and nobody can log out.
    await page.locator('#logout').waitFor({ state: 'hidden', timeout: LIVE_MS });
    await page.locator('#command-card').waitFor({ timeout: LIVE_MS });
    await send(page, 'brightness', '98');
    await page.locator('#admin').waitFor({ timeout: LIVE_MS });
    await page.locator('#admin-cancel').click();
    assert(posts.length === 2, 'a cancelled form sends something');
    await closeClean(page);
  });

  await check('what is wanted but not reported is shown', async () => {
    const page = await openPage(at('router_plug'));
    await login(page, adminToken);
    await page.locator('#command-card').waitFor({ timeout: LIVE_MS });
    await send(page, 'state', 'OFF');
    await page.locator('#wanted tr', { hasText: /state\s*OFF\s*ON\s*command \d+/ }).waitFor({ timeout: 2 * LIVE_MS });
    await closeClean(page);
  });
}

await check('where commands are switched off, the page says how to switch them on', async () => {
  const page = await openWith('**/status', (status) => ({ ...status, commands: { ...status.commands, admin_token: false } }), at('kitchen/floor_light'));
  await page.locator('#command-card .note', { hasText: 'http.admin_token_file' }).waitFor({ timeout: LIVE_MS });
  assert(await page.locator('.command').isHidden(), 'there is a form all the same');
  await closeClean(page);
});

await check('a form is made from what is declared', async () => {
  const declared = { operation: false, idempotent: true, on_offline: 'hold', evidence: 'none' };
  const commands = [
    { ...declared, name: 'choice', type: 'enum', values: ['a', 'b'] },
    { ...declared, name: 'flag', type: 'boolean' },
    { ...declared, name: 'whole', type: 'integer', min: 1, step: 2, unit: '%' },
    { ...declared, name: 'document', type: 'json' },
    { ...declared, name: 'any' },
    { ...declared, name: 'identify', operation: true, idempotent: false },
  ];
  const page = await openWith('**/command-set', (body) => ({ ...body, commands }), at('kitchen/floor_light'));
  const bodies = [];
  await page.route('**/devices/*/commands', async (route) => {
    bodies.push(route.request().postDataJSON());
    await route.fulfill({ status: 409, contentType: 'application/problem+json', body: JSON.stringify({ code: 'unreachable', detail: 'it is away' }) });
  });
  await page.route('**/api/v1/session', (route) => route.fulfill({ json: { scope: 'command' } }));
  await page.reload();
  await page.locator('#command-card').waitFor({ timeout: LIVE_MS });
  const values = { choice: ['b', 'b'], flag: ['false', false], whole: ['3', 3], document: ['{"a":[1]}', { a: [1] }], any: ['2.5', 2.5] };
  for (const [name, [text, json]] of Object.entries(values)) {
    await send(page, name, text);
    await hasOutcome(page, 'Not accepted: it is away');
    assert(bodies.at(-1).attribute === name && JSON.stringify(bodies.at(-1).value) === JSON.stringify(json), JSON.stringify(bodies.at(-1)));
    await page.evaluate(() => document.getElementById('command-outcome').replaceChildren());
  }
  await send(page, 'document', '{');
  await hasOutcome(page, 'The value is not JSON: ');
  await page.locator('#command-name').selectOption('identify');
  assert((await page.locator('#command-input').count()) === 0, 'an operation without a value has a field for one');
  await page.locator('#command-send').click();
  await hasOutcome(page, 'Not accepted: ');
  assert(bodies.at(-1).operation === 'identify' && !('value' in bodies.at(-1)), JSON.stringify(bodies.at(-1)));
  answeredWith(page, 409);
  await clean(page);
  await close(page);
});
