// Devices across gateways.

import { list } from './api.js';
import { label, main, say } from './classes.js';
import { ago, deviceLink, gatewayLink, idOf } from './name.js';
import { here, link, setQuery } from './route.js';
import { named, placeRows } from './rows.js';
import { el, many, setText } from './words.js';

const PAGE = 100;
const VALUES_MAX = 5;
const TYPING_MS = 300;

/** Whether a device can be reached: words, and their class. */
export function reachable({ retired, availability }) {
  if (retired) return ['removed', 'muted'];
  return availability ? [availability, availability] : ['not said', 'unknown'];
}

function chips(state) {
  const values = new Map(Object.entries(state ?? {}));
  const names = main(values, null, VALUES_MAX);
  return names.map((name) => el('span.chip', el('span.muted', label(name, names)), ' ', say(name, values.get(name))));
}

/** A device as a row of a table. */
export function deviceRow(device, withGateway) {
  const { gateway, device: id, description } = device;
  const name = description?.name;
  const [words, kind] = reachable(device);
  const tr = el(
    'tr',
    el('th', { scope: 'row' }, deviceLink(gateway, id, name), name && name !== id ? el('small.muted', el('bdi', id)) : null),
    withGateway ? el('td', { 'data-of': 'gateway ' }, gatewayLink(gateway)) : null,
    el('td', el(`span.${kind}`, el(`i.dot.${kind}`, { 'aria-hidden': 'true' }), words)),
    el('td', { 'data-of': 'last change ' }, ago(device.changed)),
    el('td.wide', chips(device.state)),
  );
  return named(tr, idOf(gateway, id));
}

const COLUMNS = ['Device', 'Gateway', 'Reachable', 'Last change', 'Values'];

export function openDevices(root) {
  const field = (placeholder, words) => el('input', { type: 'search', placeholder, autocomplete: 'off', spellcheck: 'false', 'aria-label': words, maxlength: 128 });
  const search = field('Part of id, name, model', 'Search devices by id and description');
  const gateway = field('Gateway: all', 'Only devices of the gateway with this id');
  const body = el('tbody', { id: 'devices' });
  const table = el('table.fleet', el('caption.unseen', 'Devices by gateway and id'), el('thead', el('tr', COLUMNS.map((name) => el('th', { scope: 'col' }, name)))), body);
  const note = el('p.note', { role: 'status' });
  const first = el('a', { hidden: '' }, 'First page');
  const next = el('a', { hidden: '' }, 'Next page');
  root.append(el('section.card', el('h2', 'Devices'), el('div.bar', search, gateway), table, note, el('nav.pages', { 'aria-label': 'Pages of the list' }, first, next)));
  let typing = null;
  for (const [input, name] of [[search, 'find'], [gateway, 'gateway']]) {
    input.addEventListener('input', () => {
      clearTimeout(typing);
      typing = setTimeout(() => setQuery({ [name]: input.value.trim(), after: null }), TYPING_MS);
    });
  }
  return {
    async show(_, signal) {
      const { query } = here();
      const [find, own, after] = ['find', 'gateway', 'after'].map((name) => query.get(name) ?? '');
      if (document.activeElement !== search) search.value = find;
      if (document.activeElement !== gateway) gateway.value = own;
      const devices = await list('devices', { q: find, gateway: own, after, limit: PAGE + 1 }, signal);
      const rows = devices.slice(0, PAGE).map((device) => deviceRow(device, true));
      placeRows(body, rows);
      table.hidden = rows.length === 0;
      const isMore = devices.length > PAGE;
      const none = after ? 'There are no more.' : find || own ? 'There is no such device. A gateway is named by its whole id here.' : 'No device is known yet.';
      setText(note, rows.length === 0 ? none : after || isMore ? `${many(rows.length, 'device')} on this page, by gateway and id.` : '');
      const last = devices.at(PAGE - 1);
      first.hidden = after === '';
      next.hidden = !isMore;
      first.href = link('devices', '', { ...Object.fromEntries(query), after: null });
      next.href = link('devices', '', { ...Object.fromEntries(query), after: last ? idOf(last.gateway, last.device) : null });
    },
    close: () => clearTimeout(typing),
  };
}
