// The page of the hub in a real browser, against `fieldlog-hub demo` with three gateways.
//
//   FIELDLOG_URL          where the hub listens
//   FIELDLOG_HUB_TOKEN    its token, which allows everything
//   FIELDLOG_BROKER       the broker of the demo's gateway plant-1 (mqtt://…), which takes commands
//   CHROMIUM              the browser, default /usr/bin/chromium

import { LIVE_MS, finish, until } from './support.mjs';
import { ask } from './hub/support.mjs';

/** Everything that the demo has to have for what follows. */
await until(async () => (await ask('fleet')).complete === 3, 6 * LIVE_MS);
await until(async () => (await ask(`devices?gateway=plant-1&device=${encodeURIComponent('kitchen/floor_light')}`)).items[0]?.state?.brightness !== undefined, 6 * LIVE_MS);

const run = async (...suites) => {
  for (const suite of suites) await import(`./hub/${suite}.mjs`);
};

// Two at a time: they mostly wait.
await Promise.all([run('fleet', 'away'), run('device', 'looks')]);
await finish();
