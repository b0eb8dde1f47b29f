// Is everything well? What needs attention comes first.

import { get } from './api.js';
import { attention, readOthers } from './attention.js';
import { deviceLink, eventItem } from './events.js';
import { parts } from './health.js';
import { at, link } from './route.js';
import { devicesAt, generation, live, nowAt } from './store.js';
import { bytes, count, el, many, rate, refill, setText, span } from './words.js';

const SHOWN_MAX = 30;
const TAIL_MAX = 8;
const AGAIN_MS = 5_000;

const NOTHING = { commands: [], alerts: [], quarantine: [] };
const ICONS = { good: '✓', warn: '!', bad: '✕', unknown: '–' };
const icon = (mood) => el(`i.icon.${mood}`, { 'aria-hidden': 'true' }, ICONS[mood]);

function partCard({ name, view, mood, main, detail }) {
  return el(
    `li.card.part.${mood}`,
    el('h3', icon(mood), view ? el('a', { href: link(view) }, name) : name),
    el('p.main', main),
    detail ? el('p.muted', detail) : null,
  );
}

const todoItem = ({ name, mood, main, todo }) => el(`li.${mood}`, el('b', `${name}: ${main}. `), el('span', todo));

function place({ device, sink, topic, notify }) {
  if (device) return deviceLink(device);
  if (notify) return el('a', { href: link('connections') }, notify);
  return sink ? el('a', { href: link('connections') }, `sink ${sink}`) : el('a', { href: link('quarantine', '', { topic }) }, topic ?? 'more topics');
}

const item = (it) => el('li', icon(it.mood), el(`b.${it.mood}`, it.badge), ' ', place(it), ' ', el('span.muted', it.words));

const figure = (name, main, href) => el('li', el('a', { href }, el('b', main), ' ', name));

export function openOverview(root) {
  const verdict = el('h2', { id: 'verdict' });
  const counts = el('ul.figures');
  const cards = el('ul.parts', { 'aria-label': 'Parts of the gateway' });
  const todos = el('ul.todos', { 'aria-label': 'What to do' });
  const gone = el('p.note', { hidden: '' }, 'How brokers, disk and sinks were is not recorded. Devices and commands are shown as they were.');
  const list = el('ol.attention');
  const listNote = el('p.note');
  const tail = el('ol.events');
  const inner = el('dl.inner');
  root.append(
    verdict,
    counts,
    gone,
    cards,
    todos,
    el('div.columns', el('section.card', el('h2', 'Needs attention'), list, listNote), el('section.card', el('h2', 'Newest events'), tail, el('p', el('a', { href: link('events') }, 'All events')))),
    el('details.card', el('summary', 'Figures of the agent'), inner),
  );
  let status = null;
  let others = NOTHING;
  let devices = live;
  let asOf = null;
  let againAt = 0;
  let waiting = [];
  let events = null;

  function draw() {
    const wrong = attention(devices, others, nowAt(asOf), at() === null ? status?.notify : []);
    const unwell = at() === null && status ? parts(status).filter((part) => part.mood === 'bad' || part.mood === 'warn') : [];
    const severe = wrong.filter((it) => it.mood === 'bad').length + unwell.filter((it) => it.mood === 'bad').length;
    const all = wrong.length + unwell.length;
    const tense = at() === null ? 'is' : 'was';
    const needs = at() === null ? (all === 1 ? 'needs' : 'need') : 'needed';
    const blank = asOf?.inexact_because === 'before-log';
    setText(verdict, blank ? 'Nothing is known of this moment' : all === 0 ? `Everything ${tense} well` : `${many(all, 'thing')} ${needs} attention`);
    verdict.className = blank ? '' : severe > 0 ? 'bad' : all > 0 ? 'warn' : 'good';
    refill(list, JSON.stringify([at(), wrong]), () => wrong.slice(0, SHOWN_MAX).map(item));
    const rest = wrong.length - SHOWN_MAX;
    const nothing = devices.size === 0 ? 'No device has been seen yet.' : `Nothing: no alert ${tense} open, no device ${tense} offline, silent or low on battery, and no command came to nothing.`;
    refill(listNote, `${rest} ${wrong.length} ${nothing}`, () => (wrong.length === 0 ? [nothing] : rest > 0 ? [el('a', { href: link('devices', '', { show: 'attention' }) }, `and ${count(rest)} more`)] : []));
    const by = { online: 0, offline: 0, unknown: 0 };
    for (const d of devices.values()) by[d.availability] += 1;
    const perSecond = events === null || at() !== null ? null : rate(events);
    refill(counts, JSON.stringify([at(), devices.size, by, perSecond]), () => [
      figure('devices', count(devices.size), link('devices')),
      ...Object.entries(by).map(([name, n]) => figure(name, count(n), link('devices', '', { show: name }))),
      ...(perSecond === null ? [] : [figure('events a second', perSecond, link('events'))]),
    ]);
  }

  function drawInner({ position, uptime_s, version, log, snapshot, process, commands }) {
    const rows = [
      ['Version', version],
      ['Running for', span(uptime_s)],
      ['Record', `${count(position.applied)}${position.lag > 0 ? `, ${count(position.lag)} behind the log` : ''}`],
      ['Written to flash', `${bytes(log.bytes_per_event)} per event, ${bytes(log.bytes_written_per_day)} a day`],
      ['Commit', `${rate(log.commit_ms_mean)} ms on average, ${rate(log.commit_ms_max)} ms at most${log.journal.used ? '' : `; no journal: ${log.journal.unused_because}`}`],
      ['Last snapshot', snapshot.at ? `${span((nowAt(null) - Date.parse(snapshot.at)) / 1000)} ago, ${bytes(snapshot.bytes)}` : 'none since the start'],
      ['Snapshots of the past', `${count(snapshot.past.count)}, ${bytes(snapshot.past.bytes)}`],
      ['Memory', bytes(process.resident_bytes)],
      ['Processor', `${span(process.cpu_s)} since the start`],
      ['Open commands', commands.open === null ? 'being read again' : count(commands.open)],
    ];
    refill(inner, JSON.stringify(rows), () => rows.map(([name, words]) => el('div', el('dt', name), el('dd', words))));
  }

  async function readAgain(signal) {
    const moment = at();
    againAt = performance.now();
    const found = await readOthers(moment, signal);
    if (moment === at()) others = found;
  }

  async function readTail(until, signal) {
    const newest = until ?? (await get('/api/v1/events?limit=1', signal)).position.applied;
    const { events: found } = await get(`/api/v1/events?after=${Math.max(0, newest - TAIL_MAX)}&limit=${TAIL_MAX}`, signal);
    tail.replaceChildren(...found.filter((event) => event.seq <= newest).reverse().map((event) => eventItem(event, true)));
  }

  let drawnAt = -1;
  return {
    async show(_, signal) {
      const past = at() === null ? null : await devicesAt(at(), signal);
      devices = past?.devices ?? live;
      asOf = past?.asOf ?? null;
      others = NOTHING;
      gone.hidden = past === null;
      cards.hidden = past !== null;
      todos.hidden = past !== null;
      draw();
      await Promise.all([readAgain(signal), readTail(asOf?.seq, signal)]);
      draw();
      return asOf;
    },
    status(fresh) {
      if (status && fresh.position.epoch === status.position.epoch && fresh.uptime_s > status.uptime_s) {
        events = (fresh.position.head - status.position.head) / (fresh.uptime_s - status.uptime_s);
      }
      status = fresh;
      const now = parts(status);
      refill(cards, JSON.stringify(now), () => now.map(partCard));
      const unwell = now.filter(({ todo }) => todo);
      refill(todos, JSON.stringify(unwell), () => unwell.map(todoItem));
      drawInner(status);
      if (at() === null) draw();
    },
    event(event) {
      waiting.push(event);
      if (waiting.length > TAIL_MAX) waiting.shift();
      if (/^(command_|alert_|input_quarantined|quarantine_)/.test(event.type) && performance.now() - againAt > AGAIN_MS) againAt = -Infinity;
    },
    frame() {
      if (waiting.length === 0) return;
      tail.prepend(...waiting.reverse().map((event) => eventItem(event, true)));
      waiting = [];
      while (tail.children.length > TAIL_MAX) tail.lastChild.remove();
    },
    second() {
      if (at() !== null) return;
      if (againAt === -Infinity) readAgain().then(draw, () => {});
      if (drawnAt !== generation()) {
        drawnAt = generation();
        draw();
      }
    },
  };
}
