// The page of the hub: shows the view that the address names, reads it again every few seconds, and says so when it cannot.

import { hubNow, isAsking, logout } from './api.js';
import { openDevice } from './device.js';
import { openDevices } from './devices.js';
import { openGateway } from './gateway.js';
import { openGateways } from './gateways.js';
import { partsOf } from './name.js';
import { here, link } from './route.js';
import { openSearch } from './search.js';
import { $, clock, el, setText, tame } from './words.js';

const AGAIN_MS = 5_000;
const SHARE_MAX = 0.1; // of the time that is spent on asking

/**
 * The views by their names in the address: title and place in the navigation, and what opens them. A view shows itself in an
 * element and returns `show(route, signal)`, called for a changed address and every few seconds, and `close()` if it needs that.
 */
const VIEWS = {
  gateways: ['Gateways', 'gateways', openGateways],
  gateway: [null, 'gateways', openGateway],
  devices: ['Devices', 'devices', openDevices],
  device: [null, 'devices', openDevice],
  search: ['Search', 'search', openSearch],
};

let shown = null; // { name, id, view, abort }
let lastAnswer = Date.now();

function showNav(name) {
  const entries = Object.entries(VIEWS).filter(([, [title]]) => title !== null);
  const current = VIEWS[name][1];
  const items = entries.map(([view, [title]]) => el('li', el('a', { href: link(view), 'aria-current': view === current ? 'page' : null }, title)));
  $('nav').replaceChildren(...items);
}

function openView({ view: name, id }) {
  const first = shown === null;
  shown?.abort.abort();
  shown?.view.close?.();
  $('view').replaceChildren();
  $('view').hidden = false;
  setText($('notice'), '');
  shown = { name, id, view: VIEWS[name][2]($('view'), id), abort: new AbortController() };
  document.title = tame(`${VIEWS[name][0] ?? partsOf(id).filter(Boolean).reverse().join(' · ')} · fieldlog hub`);
  showNav(name);
  if (first) return;
  scrollTo(0, 0);
  $('view').focus({ preventScroll: true });
}

/** Shows what the address names, as it is now. */
async function showAgain() {
  const route = here();
  if (!(route.view in VIEWS)) {
    location.replace(link('gateways'));
    return;
  }
  if (shown?.name !== route.view || shown.id !== route.id) openView(route);
  const { view, abort } = shown;
  try {
    await view.show(route, abort.signal);
    if (abort.signal.aborted) return;
    lastAnswer = hubNow();
    setText($('notice'), '');
    setText($('banner'), '');
    $('view').hidden = false;
  } catch (error) {
    if (abort.signal.aborted) return;
    if (error.status === undefined) {
      setText($('banner'), `offline: cannot reach the hub, trying again (last answer at ${clock(lastAnswer)})`);
      return;
    }
    setText($('banner'), '');
    setText($('notice'), error.message);
    // What was shown is not what the address names.
    if (error.status === 404) $('view').hidden = true;
  }
}

let showing = null;
let stale = false;

/** One after the other; an address that has changed meanwhile comes next. */
function show() {
  stale = true;
  showing ??= (async () => {
    while (stale) {
      stale = false;
      await showAgain();
    }
    showing = null;
  })();
  return showing;
}

async function showInTurn() {
  const began = performance.now();
  if (!document.hidden && !isAsking()) await show();
  const took = performance.now() - began;
  setTimeout(showInTurn, Math.max(AGAIN_MS, took / SHARE_MAX));
}

document.addEventListener('visibilitychange', () => {
  if (!document.hidden && !isAsking()) show();
});
addEventListener('hashchange', () => {
  // What is left is not waited for.
  const route = here();
  if (shown && (shown.name !== route.view || shown.id !== route.id)) shown.abort.abort();
  show();
});
$('skip').addEventListener('click', (click) => {
  click.preventDefault();
  $('view').focus();
});
$('logout').addEventListener('click', logout);
showInTurn();
