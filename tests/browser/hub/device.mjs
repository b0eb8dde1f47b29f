// A device of a gateway: values, charts, commands.

import { LIVE_MS, answeredWith, assert, check, closeClean, readable, url } from '../support.mjs';
import { ask, deviceHash, named, openHub, shown } from './support.mjs';

const DEVICE = 'plant-1/kitchen/floor_light';
const COMMAND_MS = 3 * LIVE_MS;

await check('a device has its values, a chart over a chosen time, and a timeline of what is no number', async () => {
  const page = await openHub(deviceHash('plant-3/kitchen/climate'));
  await shown(page, '.values tr', /Temperature\s*-?[\d.]+ °C.* s ago/);
  await shown(page, '.facts', 'Aqara WSDCGQ11LM');
  await shown(page, '.chart canvas');
  await shown(page, '.readout', /^lowest -?[\d.]+ °C, highest -?[\d.]+ °C, last -?[\d.]+ °C$/);
  await page.locator('.chart').focus();
  await page.keyboard.press('ArrowLeft');
  await shown(page, '.readout', /: -?[\d.]+ °C/);
  await page.locator('.chart').blur();
  await page.getByText('Day', { exact: true }).click();
  assert(page.url().includes('range=day'), page.url());
  await page.locator('summary', { hasText: 'As a table' }).click();
  await shown(page, '#history details tbody tr');
  // Where there are many values, aggregates take their place.
  await page.route('**/api/v1/history?*', (route) => {
    const many = Array.from({ length: 2_000 }, (_, i) => ({ seq: i, recorded: new Date(Date.now() - i * 100).toISOString(), time: '', value: i % 7 }));
    return route.fulfill({ json: { items: new URL(route.request().url()).searchParams.get('limit') === '1' ? [] : many } });
  });
  await page.getByText('Week', { exact: true }).click();
  await shown(page, '.note', 'Mean, with lowest and highest, of every 1 h.');
  await page.unroute('**/api/v1/history?*');
  await page.getByRole('button', { name: 'Humidity' }).click();
  await shown(page, '.readout', /highest [\d.]+ %/);
  await page.goBack();
  await shown(page, '.readout', '°C');
  await page.goto(`${url}/${deviceHash(DEVICE, '?attr=state')}`);
  await shown(page, '.timeline');
  await readable(page);
  await closeClean(page);
});

await check('a command goes to a device, and its outcome is followed with every step', async () => {
  const { items } = await ask(`devices?gateway=plant-1&device=${encodeURIComponent('kitchen/floor_light')}`);
  const level = items[0].state.brightness === 77 ? 78 : 77;
  const page = await openHub(deviceHash(DEVICE));
  await page.locator('#command-name').fill('brightness', { timeout: LIVE_MS });
  await page.locator('#command-value').fill('9999');
  await shown(page, '#command-hint', /Now \d+\. It takes 0 to 254\. The value is sent as a number\./);
  await page.locator('#command-send').click();
  await shown(page, '#command-outcome.bad', 'Not accepted: `value` is 9999');
  await page.locator('#command-value').fill(String(level));
  await page.locator('#command-reason').fill('<b>because</b>');
  await page.keyboard.press('Enter');
  await page.locator('#command-outcome', { hasText: /^Command \d+ applied: the device reports the value\.$/ }).waitFor({ timeout: COMMAND_MS });
  for (const words of [/asked for by .*<b>because<\/b>/, /sent/, /done/]) await shown(page, '#command-steps li', words);
  await page.locator('.commands li', { hasText: new RegExp(`brightness ${level} *applied`) }).locator('summary').first().click();
  await shown(page, '.commands .steps li', 'asked for by');
  // A gateway that posts over HTTP: the hub's own words.
  await page.goto(`${url}/${deviceHash('plant-2/kitchen/floor_light')}`);
  await page.locator('#command-name').fill('brightness', { timeout: LIVE_MS });
  await page.locator('#command-value').fill('5');
  await page.locator('#command-send').click();
  await shown(page, '#command-outcome.bad', 'sends its events over HTTP');
  answeredWith(page, 409, 422);
  await closeClean(page);
});

await check('what is not there is said', async () => {
  const page = await openHub(deviceHash('plant-1/none'));
  await shown(page, '#notice', 'The hub knows no device “none” of a gateway “plant-1”.');
  await page.goto(`${url}/#/gateway/none`);
  await shown(page, '#notice', 'No gateway “none” has sent anything');
  await page.goto(`${url}/#/nothing`);
  await named(page, 'plant-1');
  await closeClean(page);
});
