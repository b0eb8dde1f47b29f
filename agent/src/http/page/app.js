// The status page: shows the view that the address names, follows the events, and says so when it cannot.

import { parse } from './answer.js';
import { follow, get, isAsking, logout, resume } from './api.js';
import { openCommands } from './commands.js';
import { openConnections } from './connections.js';
import { openDevice } from './device.js';
import { openDevices } from './devices.js';
import { openEvents } from './events.js';
import { openOverview } from './overview.js';
import { showExact, showMoment, tickMoment } from './past.js';
import { openQuarantine } from './quarantine.js';
import { at, here, link } from './route.js';
import { applyEvent, live, loadDevices } from './store.js';
import { $, clock, el, setText, tame } from './words.js';

const STATUS_MS = 2_000;
const REFRESH_MS = 15_000; // messages that change nothing move ages, and are not in the stream
const DRAW_MS = 200;
const BEHIND_MAX = 5_000; // further behind the head, reading the devices again is cheaper than their events

/**
 * The views by their names in the address. A view shows itself in an element and returns what it does about: `show(route)`,
 * a changed address; `event(event)`, an event of the stream; `status(status)`; `frame()`, several times a second;
 * `second()`; `close()`. In the past there are no events.
 */
const VIEWS = {
  overview: ['Overview', openOverview],
  devices: ['Devices', openDevices],
  device: [null, openDevice],
  events: ['Events', openEvents],
  commands: ['Commands', openCommands],
  connections: ['Connections', openConnections],
  quarantine: ['Quarantine', openQuarantine],
};

let position = null; // of the newest event taken: { epoch, seq }
let stream = null;
let streamError = null;
let statusError = null;
let status = null;
let lastAnswer = Date.now();
let reading = null;
let shown = null; // { name, id, view, abort, hash, place }
const places = new Map(); // how far each address was scrolled when it was left
let clicked = false; // a link leads to the top of what it names; back leads to where one was

function showBanner() {
  const error = isAsking() ? null : (statusError ?? streamError);
  const words =
    error?.status === undefined
      ? `offline: cannot reach fieldlog, retrying (last answer at ${clock(lastAnswer)})`
      : `fieldlog answered with an error, retrying: ${error.message}`;
  setText($('banner'), error === null ? '' : words);
}

function showNav(name) {
  const entries = Object.entries(VIEWS).filter(([, [title]]) => title !== null);
  const current = name === 'device' ? 'devices' : name;
  const items = entries.map(([view, [title]]) => el('li', el('a', { href: link(view), 'aria-current': view === current ? 'page' : null }, title)));
  $('nav').replaceChildren(...items);
  // The list of views scrolls on a narrow screen.
  const chosen = $('nav').querySelector('[aria-current]');
  $('nav').scrollLeft = chosen.offsetLeft - $('nav').offsetLeft - 60;
}

function showTitle(route) {
  const [title] = VIEWS[shown.name];
  document.title = tame(`${title ?? (live.get(route.id)?.name || route.id)} · ${status?.gateway_id ?? 'fieldlog'}`);
}

let showing = null;
let stale = false;

/** Shows what the address names. One address after the other: a slider that is drawn asks for no more than can be answered. */
async function followAddress() {
  const route = here();
  if (!(route.view in VIEWS)) {
    location.replace(link('overview'));
    return;
  }
  showNav(route.view);
  showMoment(at());
  if (shown?.name !== route.view || shown.id !== route.id) openView(route);
  shown.hash = location.hash;
  clicked = false;
  stale = true;
  showing ??= (async () => {
    while (stale) {
      stale = false;
      const now = here();
      const { view, abort } = shown;
      showExact(undefined);
      try {
        const asOf = await view.show(now, abort.signal);
        if (shown.view === view) {
          showExact(at() === null ? null : (asOf ?? null));
          setText($('notice'), '');
          $('view').hidden = false;
          if (shown.place > 0) scrollTo(0, shown.place);
          shown.place = 0;
        }
      } catch (error) {
        if (shown.view === view && !abort.signal.aborted) {
          showExact(null);
          setText($('notice'), error.status ? error.message : `fieldlog does not answer: ${error.message}`);
          // What was shown is not what the address names.
          $('view').hidden = error.status !== undefined;
        }
      }
      showTitle(now);
    }
    showing = null;
  })();
}

function openView(route) {
  const first = shown === null;
  if (!first) places.set(shown.hash, scrollY);
  const place = clicked ? 0 : places.get(location.hash);
  shown?.abort.abort();
  shown?.view.close?.();
  $('view').replaceChildren();
  $('view').hidden = false;
  setText($('notice'), '');
  const view = VIEWS[route.view][1]($('view'), route.id);
  shown = { name: route.view, id: route.id, view, abort: new AbortController(), place };
  if (status) view.status?.(status);
  if (!first) {
    scrollTo(0, 0);
    $('view').focus({ preventScroll: true });
  }
}

async function pollStatus() {
  const answer = await get('/status').catch((error) => {
    statusError = error;
  });
  setTimeout(pollStatus, STATUS_MS);
  if (answer) {
    status = answer;
    lastAnswer = Date.now();
    statusError = null;
    setText($('gateway'), status.gateway_id);
    setText($('blocked'), status.blocked === null ? '' : `fieldlog accepts no messages: ${status.blocked}`);
    shown?.view.status?.(status);
    if (shown) showTitle(here());
    const { epoch, applied } = status.position;
    const behind = position && (epoch !== position.epoch || applied - position.seq > BEHIND_MAX);
    if (behind && streamError === null && !document.hidden) start();
  }
  showBanner();
}

/** Reads everything, then follows the stream from where that was read. One at a time. */
function start() {
  reading ??= (async () => {
    try {
      const from = await loadDevices();
      position = { epoch: from.epoch, seq: from.applied };
      await followAddress();
      stream?.abort();
      stream = new AbortController();
      follow({ position: () => `${position.epoch}-${position.seq}`, onUp, onDown, onFrame, signal: stream.signal });
    } catch (error) {
      onDown(error);
      setTimeout(start, STATUS_MS);
    } finally {
      reading = null;
    }
  })();
  return reading;
}

function onUp() {
  streamError = null;
  lastAnswer = Date.now();
  showBanner();
}

function onDown(error) {
  streamError = error;
  showBanner();
}

function onFrame({ event, data }) {
  if (event === 'reset') {
    start(); // another log, or one trimmed past our position
    return;
  }
  const record = parse(data);
  if (record.seq <= position.seq) return;
  position.seq = record.seq;
  if (applyEvent(record)) refreshSoon();
  if (at() === null) shown?.view.event?.(record);
}

let refreshing = false;

async function refresh() {
  // An agent that answers, but has no stream to spare, is read by turns all the same.
  const unreachable = streamError !== null && streamError.status === undefined;
  if (refreshing || document.hidden || unreachable || isAsking()) return;
  refreshing = true;
  try {
    await loadDevices();
  } catch {
    // the status poll says what is wrong
  }
  refreshing = false;
}

let soon = null;

/** Together for all events of a burst, such as a bridge that goes with its devices. */
function refreshSoon() {
  soon ??= setTimeout(() => {
    soon = null;
    refresh();
  }, 400);
}

function refreshInTurn() {
  const pages = Math.max(1, Math.ceil(live.size / 1000));
  setTimeout(() => refresh().finally(refreshInTurn), REFRESH_MS * pages);
}

setInterval(() => {
  if (!document.hidden) shown?.view.frame?.();
}, DRAW_MS);
setInterval(() => {
  tickMoment();
  shown?.view.second?.();
}, 1_000);
document.addEventListener('visibilitychange', refresh);
addEventListener('hashchange', followAddress);
addEventListener('click', ({ target }) => {
  clicked = target.closest('a') !== null;
});
$('skip').addEventListener('click', (click) => {
  click.preventDefault();
  $('view').focus();
});

$('logout').addEventListener('click', () => logout().catch(onDown));

// Without an answer the status poll says what is wrong.
resume().catch(() => {});
pollStatus();
start();
refreshInTurn();
