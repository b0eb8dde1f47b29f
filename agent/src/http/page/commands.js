// Commands: all of them, those of a device, and what is wanted of it but not reported.

import { devicePath, get } from './api.js';
import { chip, outcome } from './describe.js';
import { deviceLink } from './events.js';
import { at, link, setQuery } from './route.js';
import { el, json, moment, refill, setText, value, when } from './words.js';

const PAGE = 50;
const OF_DEVICE_MAX = 10;
const RELOAD_MS = 1_000;

const FILTERS = { all: ['All', ''], open: ['Open', 'open=true'], failed: ['Came to nothing', 'state=failed,expired,unconfirmed,unknown'] };

const atQuery = () => (at() === null ? '' : `&at=${encodeURIComponent(at())}`);

/** A command in a list: what, who, when and why, and what has become of it. */
function item(command, withDevice) {
  const [words, kind] = outcome(command);
  const what = command.operation && command.value === null ? el('span.chip', command.name) : chip(command.name, command.value);
  const steps = link('events', '', { command: command.id });
  return el(
    'li',
    when(command.requested_at, command.id),
    ' ',
    withDevice ? [deviceLink(command.device), ' '] : null,
    what,
    ' ',
    el(`b.${kind || 'plain'}`, command.state),
    el('span', `: ${words}`),
    el('span.muted', ` — by ${command.actor}${command.reason ? `: ${command.reason}` : ''}, `, el('a', { href: steps }, `command ${command.id}`)),
  );
}

/** Calls `read` soon; once for all of a burst. */
function together(read) {
  let soon = null;
  return () => {
    soon ??= setTimeout(() => {
      soon = null;
      read().catch(() => {}); // the agent is away, or rebuilds its commands: the next step comes with the stream
    }, RELOAD_MS);
  };
}

export function openCommands(root) {
  const filter = el('fieldset.filter', el('legend.unseen', 'Show'));
  for (const [name, [words]] of Object.entries(FILTERS)) {
    const input = el('input', { type: 'radio', name: 'commands', value: name });
    input.addEventListener('change', () => setQuery({ show: name === 'all' ? null : name }));
    filter.append(el('label', input, el('span', words)));
  }
  const list = el('ol.commands', { id: 'commands', 'aria-label': 'Commands, newest first' });
  const note = el('p.note');
  const more = el('button', { type: 'button', hidden: '' }, 'Show more');
  root.append(el('section.card', el('h2', 'Commands'), el('div.bar', filter), list, note, more));
  let name = 'all';
  let next = null;

  async function read(signal, before = null) {
    const states = FILTERS[name][1];
    const page = await get(`/api/v1/commands?limit=${PAGE}${states ? `&${states}` : ''}${before ? `&before=${before}` : ''}${atQuery()}`, signal);
    const items = page.commands.map((command) => item(command, true));
    if (before) list.append(...items);
    else refill(list, json([at(), page.commands]), () => items);
    next = page.next ?? null;
    more.hidden = next === null;
    setText(note, list.children.length > 0 ? '' : 'There are none. A device’s page has a form where it can be told something.');
    return page.as_of;
  }
  more.addEventListener('click', () => read(undefined, next).catch((error) => setText(note, `Cannot be read: ${error.message}`)));
  const soon = together(() => (at() === null ? read() : Promise.resolve()));
  return {
    show({ query }, signal) {
      name = query.get('show') in FILTERS ? query.get('show') : 'all';
      for (const input of filter.querySelectorAll('input')) input.checked = input.value === name;
      return read(signal);
    },
    event(event) {
      if (event.type.startsWith('command_')) soon();
    },
  };
}

/** The commands of a device, and what is wanted of it. */
export function deviceCommands(root, id) {
  const rows = el('tbody', { id: 'wanted' });
  const head = el('tr', ['Attribute', 'Wanted', 'Reported', 'By'].map((words) => el('th', { scope: 'col' }, words)));
  const wanted = el('section.card', { id: 'wanted-card', hidden: '' }, el('h2', 'Wanted, but not reported'), el('table', el('thead', head), rows));
  const list = el('ol.commands', { id: 'device-commands', 'aria-label': 'Newest commands of the device' });
  const newest = el('section.card', { hidden: '' }, el('h2', 'Newest commands'), list);
  root.append(wanted, newest);

  async function read(signal) {
    const past = atQuery();
    const path = devicePath(id);
    const [{ commands }, twin] = await Promise.all([get(`${path}/commands?limit=${OF_DEVICE_MAX}${past}`, signal), get(`${path}/twin${past.replace('&', '?')}`, signal)]);
    refill(list, json([at(), commands]), () => commands.map((command) => item(command, false)));
    newest.hidden = commands.length === 0;
    const delta = Object.entries(twin.delta).map(([name, v]) => {
      const { command, at: asked } = twin.desired[name];
      const now = twin.reported[name];
      return el('tr', el('th', { scope: 'row' }, name), el('td.v', value(v)), el('td.v', now === undefined ? '–' : value(now.value)), el('td', `command ${command}, ${moment(Date.parse(asked))}`));
    });
    rows.replaceChildren(...delta);
    wanted.hidden = delta.length === 0;
  }
  const soon = together(() => (at() === null && root.isConnected ? read() : Promise.resolve()));
  return {
    show: read,
    moved(event) {
      if (event.device === undefined || event.device === id) soon();
    },
    /** What the device reports has changed: what is wanted may be so now. */
    reported() {
      if (!wanted.hidden) soon();
    },
  };
}
