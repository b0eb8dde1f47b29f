// The status page in a real browser, against a running agent with devices that change (`fieldlog demo`).
//
//   FIELDLOG_URL    where the agent listens, default http://127.0.0.1:8687
//   FIELDLOG_TOKEN  its token, if it asks for one
//   FIELDLOG_ADMIN_TOKEN  its token for commands; without it they are not tested
//   FIELDLOG_LONELY_URL  another agent, without a broker, and with sinks that nobody answers
//   FIELDLOG_PID    process to stop and let continue, to see the page lose the agent and find it again
//   CHROMIUM        the browser, default /usr/bin/chromium
//
// A device whose name is markup is looked for, and skipped over when there is none.

import { readFile } from 'node:fs/promises';

import { chromium } from 'playwright-core';

const url = (process.env.FIELDLOG_URL ?? 'http://127.0.0.1:8687').replace(/\/$/, '');
const token = process.env.FIELDLOG_TOKEN;
const pid = Number(process.env.FIELDLOG_PID ?? 0);
const adminToken = process.env.FIELDLOG_ADMIN_TOKEN;
const LIVE_MS = 10_000;
/** How long the slowest of the demo's commands takes to come to something. */
const OUTCOME_MS = 90_000;

let passed = 0;
let failed = 0;

async function check(name, test) {
  try {
    await test();
    passed += 1;
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}: ${String(error.message).split('\n').slice(0, 4).join(' ')}`);
  }
}

function assert(condition, message) {
  if (!condition) throw new Error(message);
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking'],
});

/** A page that collects what it complains about; `quiet` is cleared where complaints are expected. */
async function openPage(options = {}, path = '/') {
  const context = await browser.newContext({ viewport: { width: 1400, height: 1000 }, ...options });
  const page = await context.newPage();
  page.complaints = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') page.complaints.push(message.text());
  });
  page.on('pageerror', (error) => page.complaints.push(String(error)));
  await page.addInitScript(() => {
    window.violations = [];
    document.addEventListener('securitypolicyviolation', (event) => {
      window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`);
    });
  });
  await page.goto(url + path, { waitUntil: 'load' });
  if (token) {
    await page.locator('#token-text').fill(token);
    await page.locator('#token button').click();
    page.complaints.length = 0; // the browser itself reports the 401 that brought the form up
  }
  return page;
}

const rows = (page) => page.locator('#rows tr');
const ids = (page) => page.locator('#rows th a').allTextContents();
const clean = async (page) => {
  const violations = await page.evaluate(() => window.violations);
  assert(violations.length === 0, `policy violations: ${violations.join('; ')}`);
  assert(page.complaints.length === 0, `complaints: ${page.complaints.join('; ')}`);
};

/** What the browser itself reports of an answer that is expected here. */
const answeredWith = (page, ...statuses) => {
  const expected = new RegExp(`Failed to load resource: the server responded with a status of (${statuses.join('|')})`);
  page.complaints = page.complaints.filter((complaint) => !expected.test(complaint));
};

const axe = await readFile(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');

/** Faults that axe finds, each with the elements that have it. */
async function accessible(page, context = 'document') {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(`axe.run(${context}, { resultTypes: ['violations'] })`);
  const words = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target.join(' ')).join(', ')}`);
  assert(words.length === 0, words.join('; '));
}

const page = await openPage();

await check('devices appear, and no banner', async () => {
  await rows(page).first().waitFor({ timeout: LIVE_MS });
  assert((await page.locator('#banner').textContent()) === '', 'there is a banner');
});

await check('the health strip and the sources are filled', async () => {
  await page.locator('#sources li').first().waitFor({ timeout: LIVE_MS });
  const strip = await page.locator('#tiles').innerText();
  for (const name of ['Uptime', 'Position applied', 'Lag', 'Events per second', 'Flash per event', 'Memory']) {
    assert(strip.includes(name), `no ${name} in the strip`);
  }
  assert(!/undefined|NaN|null|\[object/.test(await page.locator('body').innerText()), 'a value is not put into words');
});

await check('a value changes live', async () => {
  await page.locator('#rows .flash-a, #rows .flash-b').first().waitFor({ timeout: LIVE_MS });
});

await check('the tail moves, and Pause holds it', async () => {
  const newest = () => page.locator('#tail li').first().textContent();
  const first = await newest();
  await page.waitForFunction((old) => document.querySelector('#tail li')?.textContent !== old, first, { timeout: LIVE_MS });
  await page.locator('#pause').click();
  const held = await newest();
  await page.waitForFunction(() => /\d+ new/.test(document.getElementById('pause').textContent), null, { timeout: LIVE_MS });
  assert((await newest()) === held, 'the tail moved while paused');
  await page.locator('#pause').click();
  assert((await page.locator('#tail li').count()) <= 50, 'the tail is longer than 50');
});

await check('ages tick', async () => {
  // Not the first seconds of something just heard: an age that only time moves.
  const older = () => page.locator('#rows .age').evaluateAll((all) => all.map((it) => it.textContent).filter((text) => /^(\d\d s|\d+ min)/.test(text)));
  const deadline = Date.now() + 3 * LIVE_MS;
  let before = await older();
  for (;;) {
    await page.waitForTimeout(1_500);
    const now = await older();
    if (before.length > 0 && now.some((text, i) => before[i] !== text)) return;
    assert(Date.now() < deadline, 'no age has moved');
    before = now;
  }
});

await check('search narrows the table', async () => {
  const all = await ids(page);
  const wanted = all.find((id) => /^[\w/-]+$/.test(id));
  await page.locator('#search').fill(wanted.toUpperCase());
  const found = await ids(page);
  assert(found.includes(wanted), `${wanted} was not found`);
  assert(found.length < all.length || all.length === 1, 'nothing was left out');
  await page.locator('#search').fill('no device has this name');
  assert((await rows(page).count()) === 0, 'rows are left');
  await page.locator('#search').fill('');
});

await check('the availability filter shows only what it says', async () => {
  await page.locator('#filter input[value=online]').check({ force: true });
  const words = await page.locator('#rows td:nth-child(2)').allTextContents();
  assert(words.every((text) => text.trim() === 'online'), `not all are online: ${words.join(', ')}`);
  await page.locator('#filter input[value=all]').check({ force: true });
});

await check('sorting by last change orders by age', async () => {
  await page.locator('#sort').selectOption('changed');
  assert((await page.locator('#col-age').getAttribute('aria-sort')) === 'ascending', 'aria-sort is not set');
  await page.locator('#sort').selectOption('name');
  const found = await ids(page);
  assert(found.every((id, i) => i === 0 || found[i - 1] < id), 'names are not in order');
});

await check('numbers have their units, in the table, in the tail and in the panel', async () => {
  const withUnit = { hasText: /=-?\d+(\.\d+)? (%|°C|W|lqi|hPa)$/ };
  const row = rows(page).filter({ has: page.locator('.chip', withUnit) }).first();
  await row.waitFor({ timeout: LIVE_MS });
  await page.locator('#tail .chip', withUnit).first().waitFor({ timeout: LIVE_MS });
  await row.locator('th a').click();
  await page.locator('#panel-attributes .v', { hasText: /^-?\d+(\.\d+)? \S+$/ }).first().waitFor({ timeout: LIVE_MS });
  await page.keyboard.press('Escape');
  await page.locator('#panel').waitFor({ state: 'hidden' });
});

await check('a device opens by keyboard, shows attributes, chart and history, and closes by Escape', async () => {
  const row = rows(page).filter({ has: page.locator('.chip', { hasText: /^[\w.:]+=-?\d+(\.\d+)?( \S+)?$/ }) }).first();
  const link = row.locator('th a');
  const id = await link.textContent();
  await link.focus();
  await page.keyboard.press('Enter');
  await page.locator('#panel-attributes tr').first().waitFor({ timeout: LIVE_MS });
  assert((await page.locator('#panel-title').textContent()) === id, 'the panel has another name');
  await page.locator('#chart text').first().waitFor({ timeout: LIVE_MS });
  await page.locator('#history li').first().waitFor({ timeout: LIVE_MS });
  assert(!/undefined|NaN/.test(await page.locator('#panel').innerHTML()), 'a value is not put into words');
  await page.keyboard.press('Escape');
  await page.locator('#panel').waitFor({ state: 'hidden' });
  assert(await link.evaluate((it) => it === document.activeElement), 'the focus did not come back');
});

await check('markup in names and values stays text', async () => {
  await page.locator('#search').fill('<');
  const found = await ids(page);
  if (found.length === 0) console.log('        (no device has markup in its name)');
  for (const id of found) {
    await page.locator('#rows th a', { hasText: id }).first().click();
    await page.locator('#panel-attributes tr').first().waitFor({ timeout: LIVE_MS });
    await page.keyboard.press('Escape');
  }
  const foreign = await page.locator('#rows :is(img, script, svg, iframe, b), #panel :is(img, script, iframe), #tail :is(img, script, svg)').count();
  assert(foreign === 0, `${foreign} elements came out of names or values`);
  assert(await page.evaluate(() => window.xss === undefined), 'a script in a name ran');
  await page.locator('#search').fill('');
});

await check('no console errors, no policy violations', () => clean(page));

await check('a device can be linked to', async () => {
  const id = (await ids(page)).find((it) => /^[\w/-]+$/.test(it));
  const linked = await openPage({}, `/#device=${encodeURIComponent(id)}`);
  await linked.locator('#panel').waitFor({ timeout: LIVE_MS });
  assert((await linked.locator('#panel-title').textContent()) === id, 'another device was opened');
  await linked.context().close();
});

await check('the sink is there with its state, its backlog and its rate', async () => {
  const sink = page.locator('#sinks li[data-name=receiver]');
  await sink.waitFor({ timeout: LIVE_MS });
  await page.waitForFunction(
    () => /connected since \d\d:\d\d:\d\d/.test(document.querySelector('#sinks li').innerText) && !/events\/s\s*0\b/.test(document.querySelector('#sinks li').innerText),
    null,
    { timeout: 2 * LIVE_MS },
  );
  const words = await sink.innerText();
  for (const part of ['http://127.0.0.1', 'events behind', 'events/s', 'events acked']) assert(words.includes(part), `no ${part} in: ${words}`);
  assert(/Upstream\s*1 of 1\s*sinks up/.test(await page.locator('#tiles').innerText()), 'the strip does not say 1 of 1');
  assert((await page.locator('#blocked').textContent()) === '', 'it claims to be blocked');
});

/** A page whose /status is the agent's own, changed. */
async function openWith(change, options = {}) {
  const shown = await openPage(options);
  await shown.route('**/status', async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: change(await response.json()) });
  });
  return shown;
}

const inMinutes = (n) => new Date(Date.now() + n * 60_000).toISOString();
const LONG = `cannot connect to broker.example:8883: ${'the certificate is for another host; '.repeat(60)}<b>really</b>`;
const away = { connected: false, connected_at: null, backlog_events: 12345, backlog_bytes: 678900, backlog_oldest: inMinutes(-3), events_per_s: 0 };

await check('three sinks: one is up, one backs off and says why and until, one waits; a long error stays in its box', async () => {
  const shown = await openWith(
    (status) => {
      const [up] = status.sinks;
      const until = inMinutes(1);
      status.sinks = [
        up,
        { ...up, ...away, name: 'cloud', state: 'backing_off', state_text: 'x', waiting_until: until, waiting_why: LONG, last_error: LONG, last_error_at: inMinutes(0) },
        { ...up, name: 'lab', state: 'held', waiting_until: until, waiting_why: 'quota exceeded', warning: 'nobody listens', dead_letters: 3, last_error: 'refused', last_error_at: inMinutes(-9) },
      ];
      return status;
    },
    { viewport: { width: 375, height: 800 } },
  );
  const text = (name) => shown.locator(`#sinks li[data-name=${name}]`).innerText();
  await shown.locator('#sinks li[data-name=lab]').waitFor({ timeout: LIVE_MS });
  const cloud = await text('cloud');
  assert(/backing off until \d\d:\d\d:\d\d: cannot connect to broker/.test(cloud), cloud.slice(0, 200));
  assert(cloud.includes('12,345') && cloud.includes('679 kB') && /3 min \d+ s/.test(cloud), cloud.slice(-200));
  const lab = await text('lab');
  assert(/connected, but told to wait until \d\d:\d\d:\d\d: quota exceeded/.test(lab) && lab.includes('nobody listens'), lab);
  assert(/Last error, .*: refused/.test(lab) && /dead letters\s*3/.test(lab), lab);
  assert(/Upstream\s*2 of 3\s*sinks up, 12,345 behind/.test(await shown.locator('#tiles').innerText()), 'the strip does not sum up');
  const box = await shown.locator('#sinks li[data-name=cloud]').boundingBox();
  assert(box.height < 400 && box.x + box.width <= 375, `the box of the long error is ${box.width} by ${box.height}`);
  assert((await shown.locator('#sinks li b').count()) === 3, 'markup in an error became markup');
  assert((await shown.evaluate(() => document.documentElement.scrollWidth)) <= 375, 'it sticks out');
  assert(!/undefined|NaN|null/.test(await shown.locator('#sinks').innerText()), 'a value is not put into words');
  await clean(shown);
  await shown.context().close();
});

await check('without sinks there is no box for them; a blocked ingest stands out', async () => {
  const why = 'the log has reached retention.bytes_max and sink "cloud" still needs its oldest records';
  const shown = await openWith((status) => ({ ...status, sinks: [], blocked: why }));
  const alert = shown.locator('#blocked', { hasText: why });
  await alert.waitFor({ timeout: LIVE_MS });
  assert((await alert.textContent()).startsWith('fieldlog accepts no messages: '), 'it does not say what happens');
  assert(await shown.locator('#sinks-card').isHidden(), 'there is an empty box');
  assert(/Upstream\s*–\s*no sinks/.test(await shown.locator('#tiles').innerText()), 'the strip does not say so');
  await shown.context().close();
});

/** A page with the panel of a device whose commands are chosen by name. */
async function openDevice(id, options = {}) {
  const shown = await openPage(options, `/#device=${encodeURIComponent(id)}`);
  await shown.locator('#command-card').waitFor({ timeout: LIVE_MS });
  return shown;
}

const outcomeOf = (page) => page.locator('#command-outcome').textContent();
const hasOutcome = (page, words, timeout = LIVE_MS) => page.locator('#command-outcome', { hasText: words }).waitFor({ timeout });

async function send(page, name, value, ttl = 30) {
  await page.locator('#command-name').selectOption(name);
  await page.locator('#command-ttl').fill(String(ttl));
  const input = page.locator('#command-input');
  if (await input.evaluate((it) => it.tagName === 'SELECT')) await input.selectOption(value);
  else await input.fill(value);
  await page.locator('#command-send').click();
}

if (adminToken) {
  await check('a command is sent by keyboard, asks for the token, and is applied', async () => {
    const shown = await openDevice('kitchen/floor_light');
    const posts = [];
    shown.on('request', (request) => request.method() === 'POST' && posts.push(request.postDataJSON()));
    await shown.locator('#command-name').selectOption('brightness');
    const hint = await shown.locator('#command-hint').textContent();
    assert(hint === '0 to 254. Not accepted while the device is offline. Done when the device reports the value.', hint);
    assert((await shown.locator('#command-input').getAttribute('max')) === '254', 'the range is not in the field');
    await shown.locator('#command-input').focus();
    await shown.keyboard.press('Control+A');
    await shown.keyboard.type('99');
    await shown.keyboard.press('Tab');
    await shown.keyboard.press('Tab');
    await shown.keyboard.type('<b>because</b>');
    await shown.keyboard.press('Enter');
    await shown.locator('#admin').waitFor({ timeout: LIVE_MS });
    assert(posts.length === 0, 'it was sent without a token');
    assert(await shown.locator('#admin-text').evaluate((it) => it === document.activeElement), 'the focus is not in the field for the token');
    await accessible(shown);
    await shown.keyboard.type('not the token');
    await shown.keyboard.press('Enter');
    assert((await shown.locator('#admin-error').textContent()) === 'A token has no spaces and only ASCII characters.', 'spaces are taken');
    await shown.locator('#admin-text').fill('not-the-token');
    await shown.keyboard.press('Enter');
    await shown.locator('#admin-error', { hasText: 'That token was refused.' }).waitFor({ timeout: LIVE_MS });
    await shown.locator('#admin-text').fill(adminToken);
    await shown.keyboard.press('Enter');
    await hasOutcome(shown, /^Command \d+ applied: the device reports the value\.$/);
    assert(posts.length === 2 && posts[0].idempotency_key === posts[1].idempotency_key, 'another key for the same press');
    assert(posts[1].value === 99 && posts[1].ttl_s === 30 && posts[1].reason === '<b>because</b>', JSON.stringify(posts[1]));
    const entry = /brightness = 99 *applied by token:admin: <b>because<\/b>/;
    await shown.locator('#device-commands li', { hasText: entry }).waitFor({ timeout: LIVE_MS });
    await shown.locator('#commands li', { hasText: '<b>because</b>' }).waitFor({ timeout: LIVE_MS, state: 'attached' });
    assert((await shown.locator('#command-outcome').getAttribute('aria-live')) === 'polite', 'the outcome is not announced');

    // The token is kept in the tab: the next one is sent at once. A select for the words of a switch.
    const state = await shown.locator('#panel-attributes tr', { hasText: 'state' }).first().locator('.v').textContent();
    await send(shown, 'state', state === 'ON' ? 'OFF' : 'ON');
    await hasOutcome(shown, /^Command \d+ applied/);
    assert(await shown.locator('#admin').isHidden(), 'it asks for the token again');
    answeredWith(shown, 403);
    await clean(shown);
    await shown.context().close();
  });

  const signedIn = async (id, options) => {
    const shown = await openDevice(id, options);
    await shown.evaluate((text) => sessionStorage.setItem('fieldlog-admin-token', text), adminToken);
    await shown.reload();
    await shown.locator('#command-card').waitFor({ timeout: LIVE_MS });
    return shown;
  };

  await check('a command that is not accepted says why', async () => {
    const shown = await signedIn('kitchen/floor_light');
    await send(shown, 'brightness', '300');
    await hasOutcome(shown, 'Not accepted: `value` is 300; `brightness` takes a number from 0 to 254');
    assert((await shown.locator('#command-input').getAttribute('aria-invalid')) === 'true', 'the field is not marked');
    await send(shown, 'brightness', '9', 0);
    await hasOutcome(shown, 'Not accepted: `ttl_s` is 0; it must be 1 to 604800 seconds');
    answeredWith(shown, 422, 400);
    await clean(shown);
    await shown.context().close();
  });

  await check('a command whose time is over while another is on its way expires', async () => {
    const shown = await signedIn('bulb_color');
    await send(shown, 'brightness', '45', 60);
    await hasOutcome(shown, /acknowledged: the device has not reported the value yet/, OUTCOME_MS);
    await send(shown, 'brightness', '46', 1);
    await hasOutcome(shown, /^Command \d+ expired: it was not sent within 1 s, and will not be\.$/);
    await clean(shown);
    await shown.context().close();
  });

  await check('an answer that gets lost does not make two commands of one', async () => {
    const shown = await signedIn('kitchen/floor_light');
    await shown.evaluate(() => {
      Crypto.prototype.randomUUID = undefined; // as on a page that came over plain HTTP
    });
    const keys = [];
    await shown.route('**/devices/*/commands', async (route) => {
      keys.push(route.request().postDataJSON().idempotency_key);
      if (keys.length > 1) return route.continue();
      await route.fetch();
      return route.abort('connectionreset');
    });
    await send(shown, 'brightness', '123');
    await hasOutcome(shown, /^Command \d+ applied/);
    assert(keys.length === 2 && keys[0] === keys[1] && /^[0-9a-f]{32}$/.test(keys[0]), keys.join(' '));
    assert((await shown.locator('#device-commands li', { hasText: 'brightness = 123' }).count()) === 1, 'two commands');
    shown.complaints = shown.complaints.filter((complaint) => !complaint.includes('ERR_CONNECTION_RESET'));
    await clean(shown);
    await shown.context().close();
  });

  await check('the demo shows every outcome in a minute, in words', async () => {
    const shown = await signedIn('router_plug', { viewport: { width: 390, height: 844 }, colorScheme: 'dark' });
    for (const state of ['applied', 'failed', 'expired', 'superseded', 'unconfirmed']) {
      await shown.locator('#commands li b', { hasText: state }).first().waitFor({ timeout: OUTCOME_MS, state: 'attached' });
    }
    const failed = await shown.locator('#commands li', { hasText: 'failed' }).first().textContent();
    assert(failed.includes('by demo: the device refuses (the device refuses it: switch:0 is locked after overpower)'), failed);
    // What was not done is still wanted.
    const wanted = shown.locator('#wanted tr').first();
    await wanted.waitFor({ timeout: LIVE_MS });
    assert(/state\s*OFF\s*ON\s*command \d+/.test(await wanted.innerText()), await wanted.innerText());
    const width = await shown.evaluate(() => Math.max(document.documentElement.scrollWidth, document.getElementById('panel').scrollWidth));
    assert(width <= 390, `the panel is ${width} px wide`);
    await accessible(shown);
    await clean(shown);
    await shown.context().close();
  });
}

await check('where commands are switched off, the page says how to switch them on', async () => {
  const shown = await openWith((status) => ({ ...status, commands: { ...status.commands, admin_token: false } }));
  await shown.goto(`${url}/#device=${encodeURIComponent('kitchen/floor_light')}`);
  const off = shown.locator('#command-off', { hasText: 'http.admin_token_file' });
  await off.waitFor({ timeout: LIVE_MS });
  assert(await shown.locator('#command').isHidden(), 'there is a form all the same');
  await clean(shown);
  await shown.context().close();
});

await check('a device that can be told nothing has no form', async () => {
  const shown = await openPage({}, `/#device=${encodeURIComponent('bathroom/climate')}`);
  await shown.locator('#history li').first().waitFor({ timeout: LIVE_MS });
  await shown.waitForLoadState('networkidle', { timeout: 3_000 }).catch(() => {});
  assert(await shown.locator('#command-card').isHidden(), 'there is a form');
  await shown.context().close();
});

await check('a form is made from what is declared, and hostile words in it stay text', async () => {
  const XSS = '<img src=x onerror="window.xss=1">';
  const shown = await openPage();
  const declared = { operation: false, idempotent: true, on_offline: 'hold', evidence: 'none' };
  const commands = [
    { ...declared, name: XSS, type: 'enum', values: [XSS, 'b'], unit: XSS },
    { ...declared, name: 'flag', type: 'boolean' },
    { ...declared, name: 'whole', type: 'integer', min: 1, step: 2, unit: '%' },
    { ...declared, name: 'document', type: 'json' },
    { ...declared, name: 'any' },
    { ...declared, name: 'identify', operation: true, idempotent: false },
  ];
  await shown.route('**/command-set', async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...(await response.json()), commands } });
  });
  const command = {
    id: 7, url: '/x', device: XSS, name: XSS, operation: false, value: XSS, state: 'failed', closed: true, failure: XSS, actor: XSS,
    idempotency_key: 'k', reason: XSS, requested_at: inMinutes(-1), expires_at: inMinutes(1), ttl_s: 5, idempotent: true, evidence: 'none',
    attempts: 1, dispatched_seq: 8, acknowledged_seq: null, evidence_seq: null, changed_seq: 9, changed_at: inMinutes(0),
  };
  await shown.route(/\/commands\?limit/, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...(await response.json()), commands: [command] } });
  });
  const bodies = [];
  await shown.route('**/devices/*/commands', async (route) => {
    bodies.push(route.request().postDataJSON());
    await route.fulfill({ status: 409, contentType: 'application/problem+json', body: JSON.stringify({ code: 'unreachable', detail: XSS }) });
  });
  await shown.evaluate(() => sessionStorage.setItem('fieldlog-admin-token', 'x'.repeat(16)));
  await shown.goto(`${url}/#device=${encodeURIComponent('kitchen/floor_light')}`);
  await shown.reload();
  await shown.locator('#command-card').waitFor({ timeout: LIVE_MS });
  const values = { [XSS]: [XSS, XSS], flag: ['false', false], whole: ['3', 3], document: ['{"a":[1]}', { a: [1] }], any: ['2.5', 2.5] };
  for (const [name, [text, json]] of Object.entries(values)) {
    await shown.locator('#command-name').selectOption(name);
    await send(shown, name, text);
    await hasOutcome(shown, `Not accepted: ${XSS}`);
    const body = bodies.at(-1);
    assert(body.attribute === name && JSON.stringify(body.value) === JSON.stringify(json), JSON.stringify(body));
    await shown.evaluate(() => document.getElementById('command-outcome').replaceChildren());
  }
  await shown.locator('#command-name').selectOption('document');
  await shown.locator('#command-input').fill('{');
  await shown.locator('#command-send').click();
  await hasOutcome(shown, 'The value is not JSON: ');
  await shown.locator('#command-name').selectOption('identify');
  assert((await shown.locator('#command-input').count()) === 0, 'an operation without a value has a field for one');
  await shown.locator('#command-send').click();
  await hasOutcome(shown, 'Not accepted: ');
  assert(bodies.at(-1).operation === 'identify' && !('value' in bodies.at(-1)), JSON.stringify(bodies.at(-1)));
  assert((await shown.locator('#command-hint').textContent()) === 'Waits while the device is offline. The device does not say whether it was done. Sent once at most.', 'the hint');
  assert((await shown.locator('#panel :is(img, script), #commands :is(img, script)').count()) === 0, 'markup became markup');
  assert(await shown.evaluate(() => window.xss === undefined), 'a script ran');
  answeredWith(shown, 409);
  await clean(shown);
  await shown.context().close();
});

if (process.env.FIELDLOG_LONELY_URL) {
  await check('a sink that nobody answers says why it backs off, and until when', async () => {
    const context = await browser.newContext();
    const lonely = await context.newPage();
    await lonely.goto(process.env.FIELDLOG_LONELY_URL);
    for (const [name, host] of [['cloud', '127.0.0.1:1'], ['web', '127.0.0.1:1']]) {
      const words = new RegExp(`backing off until \\d\\d:\\d\\d:\\d\\d: .*${host}.*`);
      await lonely.locator(`#sinks li[data-name=${name}]`, { hasText: words }).waitFor({ timeout: 2 * LIVE_MS });
    }
    assert(/Upstream\s*0 of 2/.test(await lonely.locator('#tiles').innerText()), 'the strip does not say 0 of 2');
    await context.close();
  });
}

for (const colorScheme of ['light', 'dark']) {
  await check(`390 px wide and ${colorScheme}: nothing sticks out`, async () => {
    const narrow = await openPage({ viewport: { width: 390, height: 844 }, colorScheme });
    await rows(narrow).first().waitFor({ timeout: LIVE_MS });
    await accessible(narrow);
    await narrow.locator('#search').fill('no device has this name');
    await narrow.locator('#devices-note', { hasText: 'No device matches.' }).waitFor({ timeout: LIVE_MS });
    await accessible(narrow);
    await narrow.locator('#search').fill('');
    await narrow.locator('#sources li').first().waitFor({ timeout: LIVE_MS });
    const width = await narrow.evaluate(() => document.documentElement.scrollWidth);
    assert(width <= 390, `the page is ${width} px wide`);
    await clean(narrow);
    await narrow.context().close();
  });
}

await check('the banner comes when the network goes, and goes when it comes back', async () => {
  await page.context().setOffline(true);
  await page.locator('#banner', { hasText: 'offline: cannot reach fieldlog' }).waitFor({ timeout: 3 * LIVE_MS });
  await page.context().setOffline(false);
  await page.waitForFunction(() => document.getElementById('banner').textContent === '', null, { timeout: 3 * LIVE_MS });
  await page.locator('#rows .flash-a, #rows .flash-b').first().waitFor({ timeout: LIVE_MS });
});

if (pid > 0) {
  await check('the banner comes when the agent stops answering, and goes when it goes on', async () => {
    process.kill(pid, 'SIGSTOP');
    try {
      await page.locator('#banner', { hasText: 'offline: cannot reach fieldlog' }).waitFor({ timeout: 60_000 });
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await page.waitForFunction(() => document.getElementById('banner').textContent === '', null, { timeout: 3 * LIVE_MS });
  });
}

await browser.close();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
