// Events, newest first, by kind, time, device and words: the view of all, and the list on a device's page.

import { get } from './api.js';
import { KINDS, describe } from './describe.js';
import { at, here, link, setQuery } from './route.js';
import { live, logEpoch, momentAt, nowAt } from './store.js';
import { count, download, el, json, setText, when } from './words.js';

const WANTED = 100;
const WANTED_OF_DEVICE = 25;
const SHOWN_MAX = 1_000;
const PAGE = 1_000;
const FIRST_REACH = 500;
const READ_MAX = 10_000; // events that one search looks through before it asks whether to go on
const EXPORT_MAX = 200_000;

const SPANS = { '': 'any time', 3600: 'the last hour', 86400: 'the last day', 604800: 'the last week' };

/** A link to a device by its name. */
export const deviceLink = (id) => el('a.name', { href: link('device', id), title: id }, el('bdi', live.get(id)?.name ?? id));

/** An event in a list. */
export function eventItem(event, withDevice) {
  const there = link(event.device ? 'device' : 'events', event.device ?? '', { at: event.time });
  const back = el('a.moment', { href: there, title: 'Look at this moment' }, when(event.time, event.seq, true));
  return el('li', back, withDevice && event.device ? [' ', deviceLink(event.device)] : null, ' ', ...describe(event));
}

const hasWords = (event, words) => {
  if (words.length === 0) return true;
  const text = `${event.device ?? ''}\n${live.get(event.device)?.name ?? ''}\n${event.type}\n${json(event.data)}`.toLowerCase();
  return words.every((word) => text.includes(word));
};

function toQuery({ device, types, command, from }) {
  const query = new URLSearchParams();
  for (const [name, v] of Object.entries({ device, type: types, command, from })) if (v) query.set(name, v);
  return query;
}

/**
 * Reads events backwards from before `end`: the API goes forwards, so a longer and longer stretch is read, each once. Returns
 * the events that match, newest first, and the position before which to go on; `null` at the log's beginning.
 */
async function before(end, filter, wanted, signal) {
  const found = [];
  const query = toQuery(filter);
  let read = 0;
  let reach = FIRST_REACH;
  while (end > 1 && found.length < wanted && read < READ_MAX) {
    const start = Math.max(0, end - 1 - reach);
    const part = [];
    for (let after = start; after !== null && after < end - 1; ) {
      query.set('after', after);
      query.set('limit', PAGE);
      const page = await get(`/api/v1/events?${query}`, signal);
      const events = page.events.filter((event) => event.seq < end);
      read += events.length;
      part.push(...events);
      after = events.length < page.events.length ? null : page.next;
    }
    found.unshift(...part.filter((event) => hasWords(event, filter.words)));
    end = start + 1;
    reach *= 8;
  }
  const events = found.reverse().slice(0, wanted);
  if (found.length > wanted) return { events, end: events.at(-1).seq };
  return { events, end: end > 1 ? end : null };
}

/** A list of events that fills itself. `device` limits it to one. */
function eventList(root, device) {
  const list = el('ol.events', { 'aria-label': 'Events, newest first' });
  const note = el('p.note');
  const more = el('button', { type: 'button', hidden: '' }, 'Look further back');
  let filter = null;
  let signal = null;
  let end = null;
  let newest = 0;
  let waiting = [];
  let paused = false;
  let reading = false;
  let missed = 0;
  root.append(list, note, more);

  function itemOf(event) {
    const item = eventItem(event, !device);
    item.dataset.seq = event.seq;
    return item;
  }

  async function readOn() {
    more.disabled = true;
    try {
      const { events, end: rest } = await before(end, filter, device ? WANTED_OF_DEVICE : WANTED, signal);
      list.append(...events.map(itemOf));
      end = rest;
      const none = list.children.length === 0;
      setText(note, rest === null ? (none ? 'There are no such events.' : 'That is all that is kept.') : none ? `None in the newest events, down to record ${count(rest)}.` : '');
      more.hidden = rest === null;
    } finally {
      more.disabled = false;
    }
  }
  more.addEventListener('click', () => readOn().catch((error) => setText(note, `Cannot be read: ${error.message}`)));

  const types = () => filter.types?.split(',');
  const takes = (event) => !filter.command && (!device || event.device === device) && (!filter.types || types().includes(event.type)) && hasWords(event, filter.words);
  return {
    /** Reads anew; with `until`, no record after that position. */
    async show(wanted, abort) {
      filter = { ...wanted, device };
      signal = abort;
      waiting = [];
      reading = true;
      try {
        const { position } = await get('/api/v1/events?limit=1', signal);
        const last = wanted.until ?? position.applied;
        // Events that came meanwhile are not among those that are read.
        waiting = waiting.filter((event) => event.seq > last);
        newest = waiting.at(-1)?.seq ?? last;
        end = last + 1;
        list.replaceChildren();
        await readOn();
      } finally {
        reading = false;
      }
    },
    event(event) {
      if (filter === null || event.seq <= newest || !takes(event)) return;
      newest = event.seq;
      waiting.push(event);
      missed += 1;
      if (waiting.length > SHOWN_MAX) waiting.shift();
    },
    frame() {
      if (paused || reading || waiting.length === 0) return;
      list.prepend(...waiting.reverse().map(itemOf));
      waiting = [];
      missed = 0;
      if (list.children.length <= SHOWN_MAX) return;
      while (list.children.length > SHOWN_MAX) list.lastChild.remove();
      end = Number(list.lastChild.dataset.seq);
      more.hidden = false;
      setText(note, '');
    },
    pause(on) {
      paused = on;
      missed = 0;
    },
    missed: () => (paused ? missed : 0),
    /** All events of the filter, as lines of JSON. */
    async save(name, say) {
      const query = toQuery(filter);
      const lines = [];
      for (let after = 0; after !== null && lines.length < EXPORT_MAX; ) {
        query.set('after', after);
        query.set('limit', PAGE);
        const page = await get(`/api/v1/events?${query}`);
        const then = page.events.filter((event) => event.seq <= (filter.until ?? Infinity));
        lines.push(...then.filter((event) => hasWords(event, filter.words)).map((event) => `${json(event)}\n`));
        after = then.length < page.events.length ? null : page.next;
        say(`${count(lines.length)} events …`);
      }
      download(name, 'application/x-ndjson', lines);
      say(lines.length < EXPORT_MAX ? `${count(lines.length)} events` : `The first ${count(EXPORT_MAX)} events; fieldlog export writes more.`);
    },
  };
}

/** Filters and list. `device` limits both to one; `title` is that of the section. */
export function eventSection(root, { device = null, level = 'h2' } = {}) {
  const kind = el('select', el('option', { value: '' }, 'all kinds'), Object.entries(KINDS).map(([name, [words]]) => el('option', { value: name }, words)));
  const time = el('select', Object.entries(SPANS).map(([s, words]) => el('option', { value: s }, words)));
  const search = el('input', { type: 'search', placeholder: 'Device, attribute, value', autocomplete: 'off', spellcheck: 'false', 'aria-label': 'Search events' });
  const pause = el('button', { type: 'button', 'aria-pressed': 'false' }, 'Pause');
  const save = el('button', { type: 'button' }, 'Download');
  const saved = el('span.muted', { role: 'status' });
  const only = el('button', { type: 'button', hidden: '' });
  only.addEventListener('click', () => setQuery({ command: null }));
  const filters = el('div.bar', el('label', 'Show ', kind), el('label', 'of ', time), search, only, pause, save, saved);
  const section = el('section.card.eventcard', el(level, 'Events'), filters);
  const list = eventList(section, device);
  root.append(section);
  for (const [field, name] of [[kind, 'kind'], [time, 'span']]) field.addEventListener('change', () => setQuery({ [name]: field.value }));
  let typing = null;
  search.addEventListener('input', () => {
    clearTimeout(typing);
    typing = setTimeout(() => setQuery({ find: search.value }), 300);
  });
  pause.addEventListener('click', () => {
    const on = pause.getAttribute('aria-pressed') !== 'true';
    pause.setAttribute('aria-pressed', String(on));
    list.pause(on);
    setText(pause, on ? 'Resume' : 'Pause');
  });
  save.addEventListener('click', () => {
    list.save(`events${device ? `-${device}` : ''}.ndjson`, (words) => setText(saved, words)).catch((error) => setText(saved, `Not complete: ${error.message}`));
  });
  let shown = null;
  return {
    /** `asOf` is the past moment that is looked at; null: the present. */
    async show(signal, asOf) {
      const { query } = here();
      const moment_ = at();
      const [wantedKind, seconds, find] = ['kind', 'span', 'find'].map((name) => query.get(name) ?? '');
      const command = query.get('command');
      const key = JSON.stringify([logEpoch(), moment_, wantedKind, seconds, find, command]);
      if (key === shown) return;
      kind.value = wantedKind;
      time.value = seconds;
      if (document.activeElement !== search) search.value = find;
      pause.hidden = moment_ !== null || command !== null;
      only.hidden = command === null;
      setText(only, `Only command ${command} ✕`);
            const from = seconds === '' ? null : new Date(nowAt(asOf) - Number(seconds) * 1000).toISOString();
      await list.show({ types: KINDS[wantedKind]?.[1], command, from, until: asOf?.seq, words: find.toLowerCase().split(/\s+/).filter(Boolean) }, signal);
      shown = key;
    },
    event: list.event,
    frame() {
      list.frame();
      const missed = list.missed();
      if (pause.getAttribute('aria-pressed') === 'true') setText(pause, missed > 0 ? `Resume (${count(missed)} new)` : 'Resume');
    },
  };
}

export function openEvents(root) {
  const events = eventSection(root);
  return {
    ...events,
    async show(_, signal) {
      const asOf = at() === null ? null : await momentAt(at(), signal);
      await events.show(signal, asOf);
      return asOf;
    },
  };
}
