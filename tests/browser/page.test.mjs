// The status page in a real browser, against a running agent with devices that change (`fieldlog demo`).
//
//   FIELDLOG_URL          where the agent listens, default http://127.0.0.1:8687
//   FIELDLOG_ADMIN_TOKEN  its token for commands; without it they are not tested
//   FIELDLOG_BROKER       the demo's broker (mqtt://…); without it nothing is published, and what needs that is left out
//   FIELDLOG_LONELY_URL   another agent, without a broker, and with sinks that nobody answers; it asks for a token,
//   FIELDLOG_LONELY_TOKEN which is this
//   FIELDLOG_PID          process to stop and let continue, to see the page lose the agent and find it again
//   CHROMIUM              the browser, default /usr/bin/chromium

import { finish } from './support.mjs';

const run = async (...suites) => {
  for (const suite of suites) await import(`./${suite}.mjs`);
};

// Two at a time: they mostly wait. The list of 5,000 devices comes late, since they stay.
await Promise.all([run('overview', 'device', 'past'), run('lists', 'looks')]);
await run('devices', 'away');
await finish();
