// What all tests of the page need: a browser whose pages collect what they complain about, and a way to publish to the
// demo's broker.

import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';

import { chromium } from 'playwright-core';

export const url = (process.env.FIELDLOG_URL ?? 'http://127.0.0.1:8687').replace(/\/$/, '');
export const adminToken = process.env.FIELDLOG_ADMIN_TOKEN;
export const LIVE_MS = 10_000;
export const WIDTHS = [390, 800, 1400];

let passed = 0;
let failed = 0;

export async function check(name, test) {
  const began = performance.now();
  try {
    await test();
    passed += 1;
    console.log(`ok      ${name} (${((performance.now() - began) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}: ${String(error.message).split('\n').slice(0, 6).join(' ')}`);
  }
}

export function assert(condition, message) {
  if (!condition) throw new Error(message);
}

export const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking'],
});

/** Ends the run: the number of failures is its result. */
export async function finish() {
  await browser.close();
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed > 0 ? 1 : 0);
}

/** A page at an address such as `#/devices`; `kept` is what its tab remembers. */
export async function openPage(hash = '', options = {}, kept = {}) {
  const context = await browser.newContext({ viewport: { width: 1400, height: 1000 }, ...options });
  await context.addInitScript((all) => {
    for (const [name, text] of Object.entries(all)) sessionStorage.setItem(name, text);
  }, kept);
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
  await page.goto(`${url}/${hash}`, { waitUntil: 'load' });
  return page;
}

/** Closes a page that has had nothing to complain about. */
export async function closeClean(page) {
  await clean(page);
  await close(page);
}

export async function close(page) {
  await page.unrouteAll({ behavior: 'ignoreErrors' });
  await page.context().close();
}

export async function clean(page) {
  const violations = await page.evaluate(() => window.violations);
  assert(violations.length === 0, `policy violations: ${violations.join('; ')}`);
  assert(page.complaints.length === 0, `complaints: ${page.complaints.join('; ')}`);
  const notice = await page.locator('#notice').textContent();
  assert(notice === '', `the page says: ${notice}`);
}

/** What the browser itself reports of an answer that is expected here. */
export function answeredWith(page, ...statuses) {
  const expected = new RegExp(`Failed to load resource: the server responded with a status of (${statuses.join('|')})`);
  page.complaints = page.complaints.filter((complaint) => !expected.test(complaint));
}

const axe = await readFile(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');

/** Faults that axe finds, each with the elements that have it. */
export async function accessible(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(`axe.run(document, { resultTypes: ['violations'] })`);
  const words = violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => node.target.join(' ')).join(', ')}`);
  assert(words.length === 0, words.join('; '));
}

/** Nothing is put into words that is none. */
export async function readable(page) {
  const text = await page.locator('body').innerText();
  const found = /undefined|NaN|null|\[object|Invalid Date/.exec(text);
  assert(found === null, `"${text.slice(Math.max(0, (found?.index ?? 0) - 60), (found?.index ?? 0) + 30)}"`);
}

/** What devices have said is text: it has become no element and no script, and turns nothing around. */
export async function harmless(page, where) {
  const odd = await page.evaluate(() => ({
    foreign: document.querySelectorAll('#view :is(img, script, iframe, object)').length,
    tricky: /[\u202a-\u202e\u2066-\u2069\u200b]/.test([document.title, document.body.innerText, ...[...document.querySelectorAll('[title], [aria-label]')].flatMap((it) => [it.title, it.ariaLabel])].join('\n')),
    xss: window.xss,
  }));
  assert(odd.foreign === 0 && !odd.tricky && odd.xss === undefined, `${where}: ${JSON.stringify(odd)}`);
}

export async function fits(page) {
  const { inner, wide } = await page.evaluate(() => ({ inner: innerWidth, wide: document.documentElement.scrollWidth }));
  assert(wide <= inner, `the page is ${wide} px wide on ${inner}`);
}

/** A page whose answers at `path` are the agent's own, changed. */
export async function openWith(path, change, hash = '', options = {}) {
  const page = await openPage('#/none', options);
  await page.route(path, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: change(await response.json()) });
  });
  await page.goto(`${url}/${hash}`);
  await page.reload();
  return page;
}

/** Publishes at QoS 1, and waits for each acknowledgement: what is acknowledged has reached the demo's broker. */
export function publish(messages) {
  const { hostname, port } = new URL(process.env.FIELDLOG_BROKER);
  const field = (bytes) => Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes]);
  const packet = (type, body) => {
    const length = [];
    for (let rest = body.length; length.length === 0 || rest > 0; rest >>= 7) length.push((rest & 127) | (rest > 127 ? 128 : 0));
    return Buffer.concat([Buffer.from([type, ...length]), body]);
  };
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname);
    let rest = Buffer.alloc(0);
    let acked = 0;
    socket.on('error', reject);
    socket.on('data', (data) => {
      rest = Buffer.concat([rest, data]);
      while (rest.length >= 4) {
        if (rest[0] === 0x20) {
          messages.forEach(([topic, payload], index) => {
            const text = typeof payload === 'string' ? payload : JSON.stringify(payload);
            const id = Buffer.from([(index + 1) >> 8, (index + 1) & 255]);
            socket.write(packet(0x32, Buffer.concat([field(Buffer.from(topic)), id, Buffer.from(text)])));
          });
        } else acked += 1;
        rest = rest.subarray(4);
      }
      if (acked === messages.length) {
        socket.end(Buffer.from([0xe0, 0]));
        resolve();
      }
    });
    const options = Buffer.from([0, 4, 0x4d, 0x51, 0x54, 0x54, 4, 2, 0, 60]);
    socket.write(packet(0x10, Buffer.concat([options, field(Buffer.from(`page-${process.pid}-${Date.now()}`))])));
  });
}

/** Logs in, as the form of the page does; the page knows it once it is loaded again. */
export async function login(page, token) {
  const answer = await page.request.post(`${url}/api/v1/session`, { data: { token } });
  assert(answer.ok(), `logging in is answered with ${answer.status()}`);
  await page.reload();
}

/** The JSON that the agent answers. */
export const ask = async (path) => (await fetch(url + path)).json();

/** Waits until something that is asked of the agent is so. */
export async function until(isSo, patience) {
  const end = performance.now() + patience;
  while (!(await isSo())) {
    assert(performance.now() < end, `not so within ${patience} ms: ${isSo}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
