// One gateway: how it is doing, what is missing, its logs, devices, commands and events.

import { Refusal, get, list } from './api.js';
import { commandList } from './commands.js';
import { deviceRow } from './devices.js';
import { eventSection } from './events.js';
import { forkCard } from './fork.js';
import { ago, gatewayPath, time } from './name.js';
import { link } from './route.js';
import { named, placeRows } from './rows.js';
import { faultWords, lagWords, rangeOf, stateOf, todoWords, wrongWords } from './standing.js';
import { icon } from './stores.js';
import { count, el, json, many, refill, setText } from './words.js';

const DEVICES = 20;
const GAPS_MAX = 100;

const GAP_STATES = {
  expected: 'may still come by itself',
  asked: 'the gateway was asked for it',
  lost: 'lost: the gateway does not have it any more',
};

const number = (n) => (n === null || n === undefined ? '–' : count(Number(n)));
const heads = (names) => el('thead', el('tr', names.map((name) => el('th', { scope: 'col' }, name))));

function facts(gateway, logs) {
  return [
    ['Complete up to position', number(gateway.position)],
    ['Newest position here', number(gateway.newest)],
    ['Newest at the gateway', number(gateway.head)],
    ['Behind by', lagWords(gateway)],
    ['Newest event', ago(gateway.newest_time)],
    ['Last seen', ago(gateway.last_seen)],
    ['First seen', logs.length > 0 ? time(logs.at(-1).first_seen) : ''],
    ['Version', gateway.version],
    ['Events here', number(gateway.events)],
    ['Came again', gateway.duplicates ? many(Number(gateway.duplicates), 'event') : ''],
    ['Written by', gateway.holder ? gateway.holder.replace(/-[0-9a-f]{16}$/, '') : 'no hub right now'],
  ].filter(([, said]) => said);
}

function gapRow(gap) {
  const asks = gap.asks > 0 ? [`${many(gap.asks, 'time')}, last `, time(gap.asked_at)] : ['–'];
  return el(
    'tr',
    el('th', { scope: 'row' }, rangeOf(gap)),
    el('td', { 'data-of': 'events ' }, count(Number(gap.last) - Number(gap.first) + 1)),
    el('td', el(`span.${gap.state === 'asked' ? 'warn' : 'plain'}`, GAP_STATES[gap.state] ?? gap.state), gap.why ? el('small.muted', gap.why) : null),
    el('td', { 'data-of': 'since ' }, gap.since ? time(gap.since) : '–'),
    el('td', { 'data-of': 'asked ' }, asks),
  );
}

function logRow(log, index) {
  const wrong = [...(log.forked ? [log.forked] : []), ...log.faults.map(faultWords)];
  return el(
    'tr',
    el('th', { scope: 'row' }, el('code', log.epoch), index === 0 ? ' (current)' : '', log.version ? el('small.muted', `fieldlog ${log.version}`) : null),
    el('td', { 'data-of': 'from ' }, time(log.first_seen)),
    el('td', { 'data-of': 'to ' }, time(log.last_seen)),
    el('td', { 'data-of': 'events ' }, number(log.events)),
    el('td', { 'data-of': 'newest position ' }, number(log.newest)),
    el('td', log.missing.length > 0 ? el('span.warn', many(log.missing.length, 'gap')) : 'no gap', wrong.map((words) => el('small.bad', words))),
  );
}

export function openGateway(root, id) {
  const state = el('p.stateline');
  const todo = el('p.muted');
  const about = el('dl.facts');
  root.append(el('section.card', el('h2', el('bdi', id)), state, todo, about));
  let seen = Promise.resolve();
  const fork = forkCard(root, id, () => {
    seen = seen.then(() => show(null, undefined)).catch(() => {});
  });
  const gapRows = el('tbody', { id: 'gaps' });
  const gapNote = el('p.note');
  const gaps = el('section.card', { hidden: '' }, el('h2', 'Missing'), el('table.fleet', el('caption.unseen', 'Missing positions'), heads(['Positions', 'Events', 'What is known', 'Since', 'Asked']), gapRows), gapNote);
  const deviceRows = el('tbody', { id: 'gateway-devices' });
  const deviceTable = el('table.fleet', el('caption.unseen', 'Devices by id'), heads(['Device', 'Reachable', 'Last change', 'Values']), deviceRows);
  const deviceNote = el('p.note');
  const devices = el('section.card', el('h2', 'Devices'), deviceTable, deviceNote);
  root.append(gaps, devices);
  const commands = commandList(root, { gateway: id });
  const logRows = el('tbody', { id: 'logs' });
  root.append(el('section.card', el('h2', 'Logs'), el('p.note', 'Each is an incarnation of the gateway’s log, an epoch; the newest counts.'), el('table.fleet', el('caption.unseen', 'Logs, newest first'), heads(['Epoch', 'From', 'To', 'Events', 'Newest position', 'Wrong']), logRows)));
  const events = eventSection(root, { gateway: id });

  async function show(_, signal) {
    const [[gateway], logs, found] = await Promise.all([
      list('gateways', { gateway: id }, signal),
      get(gatewayPath(id), signal).then(({ items }) => items),
      list('devices', { gateway: id, limit: DEVICES + 1 }, signal),
    ]);
    if (gateway === undefined) throw new Refusal(404, { detail: `No gateway “${id}” has sent anything to this hub.` });
    const { word, mood } = stateOf(gateway);
    refill(state, json([word, wrongWords(gateway)]), () => [icon(mood), el(`b.${mood}`, word), `. ${wrongWords(gateway)}`]);
    setText(todo, gateway.state === 'forked' ? '' : todoWords(gateway));
    const said = facts(gateway, logs).map(([name, words]) => el('div', el('dt', name), el('dd', words)));
    refill(about, said.map((it) => it.textContent).join('\n'), () => said);
    fork.show(gateway);
    const missing = gateway.gaps ?? [];
    gaps.hidden = missing.length === 0;
    placeRows(gapRows, missing.slice(0, GAPS_MAX).map((gap) => named(gapRow(gap), String(gap.first))));
    setText(gapNote, missing.length > GAPS_MAX ? `and ${count(missing.length - GAPS_MAX)} more gaps` : '');
    const rows = found.slice(0, DEVICES).map((device) => deviceRow(device, false));
    placeRows(deviceRows, rows);
    deviceTable.hidden = rows.length === 0;
    refill(deviceNote, String(Math.min(found.length, DEVICES + 1)), () => (rows.length === 0 ? ['It has reported no device yet.'] : [el('a', { href: link('devices', '', { gateway: id }) }, found.length > DEVICES ? 'All devices of this gateway' : 'The same as a list of its own, to search in')]));
    placeRows(logRows, logs.map((log, index) => named(logRow(log, index), log.epoch)));
    await Promise.all([commands.show(signal), events.show(signal)]);
  }
  return { show };
}
