// The newest events of a gateway or of one of its devices, by kind.

import { list } from './api.js';
import { KINDS, describe } from './describe.js';
import { deviceLink, time } from './name.js';
import { here, setQuery } from './route.js';
import { el, refill, setText } from './words.js';

const PAGE = 30;
const NEWEST = '9223372036854775807';

function item(event, gateway, withDevice) {
  const device = withDevice && event.device ? [deviceLink(gateway, event.device), ' '] : [];
  return el('li', time(event.recorded), ' ', ...device, ...describe(event));
}

/** A list with its filter; `device` limits it to one. */
export function eventSection(root, { gateway, device = null }) {
  const kind = el('select', el('option', { value: '' }, 'all kinds'), Object.entries(KINDS).map(([name, [words]]) => el('option', { value: name }, words)));
  const events = el('ol.events', { 'aria-label': 'Events, newest first' });
  const note = el('p.note');
  const more = el('button', { type: 'button', hidden: '' }, 'Look further back');
  const newest = el('button', { type: 'button', hidden: '' }, 'Back to the newest');
  root.append(el('section.card.eventcard', el('h2', 'Events'), el('div.bar', el('label', 'Show ', kind), newest), events, note, more));
  let end = null; // position before which to go on
  let isBack = false; // further back than the newest page, which is left as it is
  let shownKind = '';

  const read = (before, signal) => list('events', { gateway, device, type: KINDS[shownKind]?.[1], before, limit: PAGE }, signal);
  const place = (found) => {
    end = found.at(-1)?.seq ?? end;
    more.hidden = found.length < PAGE;
    setText(note, events.children.length === 0 ? 'There are no such events.' : found.length < PAGE ? 'That is all that is kept.' : '');
  };
  async function readOn() {
    more.disabled = true;
    isBack = true;
    newest.hidden = false;
    try {
      const found = await read(end);
      events.append(...found.map((event) => item(event, gateway, device === null)));
      place(found);
    } catch (error) {
      setText(note, `Cannot be read: ${error.message}`);
    } finally {
      more.disabled = false;
    }
  }
  async function show(signal) {
    const wanted = here().query.get('kind') ?? '';
    kind.value = wanted in KINDS ? wanted : '';
    if (kind.value !== shownKind) isBack = false;
    shownKind = kind.value;
    if (isBack) return;
    newest.hidden = true;
    const found = await read(NEWEST, signal);
    if (isBack) return;
    refill(events, `${shownKind} ${found.map(({ seq }) => seq)}`, () => found.map((event) => item(event, gateway, device === null)));
    place(found);
  }
  kind.addEventListener('change', () => setQuery({ kind: kind.value }));
  more.addEventListener('click', readOn);
  newest.addEventListener('click', () => {
    isBack = false;
    delete events.dataset.key;
    show().catch((error) => setText(note, `Cannot be read: ${error.message}`));
  });
  return { show };
}
