// What is known about each device, and the table of them.

import { get } from './api.js';
import { $, chip, count, el, flash, setText, span } from './words.js';

const PAGE = 1_000;
const ROWS_STEP = 200;
const CHIPS_MAX = 12;
const RESORT_MS = 1_000;

const devices = new Map();
const dirty = new Set();
let parents = new Set();
let epoch = null;
let clockOffset = 0;
let rowsMax = ROWS_STEP;
let relist = true;
let sorted = 0;
let loaded = false;

/** The gateway's wall clock, as far as its answers tell; the browser's may be another. */
export const gatewayNow = () => Date.now() + clockOffset;

export const device = (id) => devices.get(id);
export const deviceCount = () => devices.size;

/** Reads all pages and returns the position of the first: the stream is to be followed from there. */
export async function loadDevices() {
  let first = null;
  let after = '';
  const seen = new Set();
  do {
    const page = await get(`/api/v1/devices?limit=${PAGE}${after}`);
    if (first && page.position.epoch !== first.epoch) return loadDevices();
    first ??= page.position;
    if (epoch !== first.epoch) {
      devices.clear();
      epoch = first.epoch;
    }
    for (const row of page.devices) {
      seen.add(row.id);
      merge(row, page.position.applied);
    }
    after = page.next === null || page.next === undefined ? null : `&after=${encodeURIComponent(page.next)}`;
  } while (after !== null);
  for (const [id, d] of devices) if (!seen.has(id) && d.seq <= first.applied) devices.delete(id);
  parents = new Set([...devices.values()].map((d) => d.parent).filter(Boolean));
  loaded = true;
  relist = true;
  return first;
}

function merge(row, applied) {
  const touched = Math.max(Date.parse(row.changed_at), row.heard_at ? Date.parse(row.heard_at) : 0);
  if (Number.isFinite(row.data_age_s)) clockOffset = touched + row.data_age_s * 1000 - Date.now();
  const old = devices.get(row.id);
  if (old && old.seq > applied) {
    old.heard = Math.max(old.heard, touched); // the stream was faster than this page
    return;
  }
  const attributes = new Map(Object.entries(row.attributes));
  for (const [name, v] of attributes) if (old && !same(old.attributes.get(name), v)) old.fresh.add(name);
  devices.set(row.id, {
    ...old,
    id: row.id,
    source: row.source,
    parent: row.parent,
    availability: row.availability,
    cause: row.availability_cause,
    availabilityAt: Date.parse(row.availability_at),
    because: row.offline_because,
    changed: Date.parse(row.changed_at),
    heard: touched,
    seq: applied,
    attributes,
    units: new Map(Object.entries(row.units ?? {})),
    fresh: old?.fresh ?? new Set(),
  });
  dirty.add(row.id);
}

const same = (a, b) => a === b || (typeof a === 'object' && typeof b === 'object' && JSON.stringify(a) === JSON.stringify(b));

/** Applies an event of the stream. Returns whether the devices have to be read again to know what it means. */
export function applyEvent(event) {
  if (!event.device) return false;
  const d = devices.get(event.device);
  if (!d || event.type === 'device_discovered' || event.type === 'device_renamed') return true;
  if (event.seq <= d.seq) return false;
  const at = Date.parse(event.time);
  Object.assign(d, { seq: event.seq, changed: at, heard: Math.max(d.heard, at) });
  dirty.add(d.id);
  relist ||= $('sort').value === 'changed';
  if (event.type === 'state_changed') {
    for (const [name, v] of Object.entries(event.data.changes ?? {})) {
      if (v === null) d.attributes.delete(name);
      else d.attributes.set(name, v);
      d.fresh.add(name);
    }
  } else if (event.type === 'availability_changed') {
    // Behind a bridge that is offline, what a device says about itself does not count; the agent knows.
    if (d.because || parents.has(d.id)) return true;
    Object.assign(d, { availability: event.data.availability, cause: event.data.cause, availabilityAt: at });
    relist = true;
  } else if (event.type === 'device_retired') {
    devices.delete(d.id);
    relist = true;
  } else if (event.type === 'attribute_described') {
    return true;
  }
  return false;
}

function availabilityWords(d) {
  if (d.availability !== 'offline') return d.availability;
  if (d.because) return `offline because of ${d.because}`;
  const long = span((gatewayNow() - d.availabilityAt) / 1000);
  return d.cause === 'silence' ? `offline, silent (${long})` : `offline for ${long}`;
}

const age = (d) => span((gatewayNow() - d.heard) / 1000);

function wanted() {
  const words = $('search').value.toLowerCase().split(/\s+/).filter(Boolean);
  const filter = document.querySelector('input[name=filter]:checked').value;
  const counts = { all: 0, online: 0, offline: 0 };
  const list = [];
  for (const d of devices.values()) {
    counts.all += 1;
    if (d.availability in counts) counts[d.availability] += 1;
    if (filter !== 'all' && d.availability !== filter) continue;
    const text = words.length > 0 ? [d.id, d.source, ...d.attributes.keys()].join('\n').toLowerCase() : '';
    if (words.every((word) => text.includes(word))) list.push(d);
  }
  const byName = (a, b) => (a.id < b.id ? -1 : 1);
  list.sort($('sort').value === 'changed' ? (a, b) => b.changed - a.changed || byName(a, b) : byName);
  for (const input of document.querySelectorAll('input[name=filter]')) {
    setText(input.nextElementSibling.querySelector('b'), count(counts[input.value]));
  }
  return list;
}

/** Whether moving rows now would pull one away from under the pointer or the focus. */
const busy = () => $('rows').matches(':hover') || $('rows').contains(document.activeElement);

function list() {
  const all = wanted();
  const shown = all.slice(0, rowsMax);
  const body = $('rows');
  const keep = new Set(shown.map((d) => (d.row ??= makeRow(d)).tr));
  for (const tr of [...body.children]) if (!keep.has(tr)) tr.remove();
  shown.forEach((d, index) => {
    if (body.children[index] !== d.row.tr) body.insertBefore(d.row.tr, body.children[index] ?? null);
    fill(d);
  });
  const changed = $('sort').value === 'changed';
  $('col-name').setAttribute('aria-sort', changed ? 'none' : 'ascending');
  $('col-age').setAttribute('aria-sort', changed ? 'ascending' : 'none');
  const more = all.length - shown.length;
  $('more').hidden = more === 0;
  setText($('more'), `Show ${count(Math.min(more, ROWS_STEP))} more of ${count(more)}`);
  setText($('devices-note'), all.length > 0 || !loaded ? '' : devices.size > 0 ? 'No device matches.' : 'No device has been seen yet.');
}

function makeRow(d) {
  const row = { chips: new Map(), state: el('span', el('i.dot'), el('span')), age: el('span'), values: el('td.values', { role: 'cell' }) };
  const link = el('a', { href: `#device=${encodeURIComponent(d.id)}` }, d.id);
  row.where = el('span.muted');
  row.more = el('span.muted');
  row.values.append(row.more);
  row.tr = el(
    'tr',
    { role: 'row' },
    el('th', { role: 'rowheader', scope: 'row' }, link, row.where),
    el('td', { role: 'cell' }, row.state),
    el('td.age', { role: 'cell' }, row.age),
    row.values,
  );
  row.tr.addEventListener('click', (click) => {
    // A click into selected text is not meant for the row.
    if (click.target !== link && getSelection().isCollapsed) link.click();
  });
  return row;
}

function fill(d) {
  const { row } = d;
  setText(row.where, [d.source, d.parent ? `behind ${d.parent}` : ''].filter(Boolean).join(', '));
  row.state.className = d.availability;
  tickRow(d);
  const names = [...d.attributes.keys()].slice(0, CHIPS_MAX);
  const shown = new Set(names);
  for (const [name, old] of row.chips) {
    if (!shown.has(name)) {
      old.remove();
      row.chips.delete(name);
    }
  }
  for (const name of names) {
    const old = row.chips.get(name);
    const unit = d.units.get(name) ?? '';
    const known = old && !d.fresh.has(name) && old.dataset.unit === unit;
    const made = known ? old : chip(name, d.attributes.get(name), unit);
    made.dataset.unit = unit;
    if (made === old) continue;
    if (d.fresh.has(name)) {
      made.classList.toggle('flash-a', old?.classList.contains('flash-a') ?? false);
      flash(made);
    }
    if (old) old.replaceWith(made);
    else row.more.before(made);
    row.chips.set(name, made);
  }
  const rest = d.attributes.size - names.length;
  setText(row.more, rest > 0 ? `and ${rest} more` : '');
  d.fresh.clear();
}

function tickRow(d) {
  setText(d.row.state.lastChild, availabilityWords(d));
  setText(d.row.age, age(d));
}

/** Brings the table up to date. */
export function flushDevices() {
  if (relist && (performance.now() - sorted > RESORT_MS || !loaded) && !(busy() && $('sort').value === 'changed')) {
    relist = false;
    sorted = performance.now();
    list();
  }
  for (const id of dirty) {
    const d = devices.get(id);
    if (d?.row?.tr.isConnected) fill(d);
  }
  dirty.clear();
}

/** Ages go on by themselves. */
export function tickDevices() {
  for (const d of devices.values()) if (d.row?.tr.isConnected) tickRow(d);
}

function relistNow() {
  relist = true;
  sorted = -RESORT_MS;
  list();
}

for (const id of ['search', 'filter', 'sort']) {
  $(id).addEventListener('input', () => {
    rowsMax = ROWS_STEP;
    relistNow();
  });
}
$('more').addEventListener('click', () => {
  rowsMax += ROWS_STEP;
  relistNow();
});
