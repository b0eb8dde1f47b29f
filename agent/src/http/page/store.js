// What is known about each device: as it is now, kept up to date by events, and as it was at a past moment.

import { devicePath, gatewayNow, get } from './api.js';
import { batteryLow } from './classes.js';
import { derivedOf, loadDeclared } from './derived.js';

const PAGE = 1_000;

/** The devices as they are now, by id. */
export const live = new Map();
let parents = new Set();
let epoch = null;
/** Of the log: positions of different epochs cannot be compared. */
export const logEpoch = () => epoch;
/** Those that have changed since the last drawing. */
export const dirty = new Set();
let changes = 0;
/** Grows when devices come, go or change their availability. */
export const generation = () => changes;
const NO_PAST = { at: null, devices: new Map(), asOf: null };
let past = NO_PAST;

async function pages(take, query = '', signal) {
  let first = null;
  let after = '';
  do {
    const page = await get(`/api/v1/devices?limit=${PAGE}${query}${after}`, signal);
    if (first && page.position.epoch !== first.position.epoch) return pages(take, query, signal);
    first ??= page;
    take(page);
    after = page.next === null || page.next === undefined ? null : `&after=${encodeURIComponent(page.next)}`;
  } while (after !== null);
  return first;
}

/** Reads all pages and returns the position of the first: the stream is to be followed from there. */
export async function loadDevices() {
  const seen = new Set();
  await loadDeclared();
  const { position } = await pages((page) => {
    if (epoch !== page.position.epoch) {
      live.clear();
      seen.clear();
      epoch = page.position.epoch;
      past = NO_PAST;
    }
    for (const row of page.devices) {
      seen.add(row.id);
      merge(row, page.position.applied);
    }
  });
  for (const [id, d] of live) if (!seen.has(id) && d.seq <= position.applied) live.delete(id);
  parents = new Set([...live.values()].map((d) => d.parent).filter(Boolean));
  changes += 1;
  return position;
}

/** The devices at a past moment, and how exactly they are known. The last moment asked for is kept. */
export async function devicesAt(at, signal) {
  if (past.at === at) return past;
  const devices = new Map();
  const first = await pages(
    (page) => {
      for (const row of page.devices) devices.set(row.id, made(row, page.as_of.seq));
    },
    `&at=${encodeURIComponent(at)}`,
    signal,
  );
  const found = { at, devices, asOf: first.as_of };
  // Records of a moment that has just been may still come.
  if (first.as_of.exact) past = found;
  return found;
}

/** How exactly a past moment is known, and its last record. */
export const momentAt = async (at, signal) => (await get(`/api/v1/devices?limit=1&at=${encodeURIComponent(at)}`, signal)).as_of;

/** One device with the details of its attributes, now or at a past moment. */
export const readDevice = (id, at, signal) => get(devicePath(id) + (at ? `?at=${encodeURIComponent(at)}` : ''), signal);

const touched = (row) => Math.max(Date.parse(row.changed_at), row.heard_at ? Date.parse(row.heard_at) : 0);

function made(row, seq) {
  const d = {
    id: row.id,
    name: row.description?.name || row.id,
    area: row.description?.area ?? '',
    model: [row.description?.manufacturer, row.description?.model].filter(Boolean).join(' '),
    source: row.source,
    parent: row.parent,
    availability: row.availability,
    cause: row.availability_cause,
    availabilityAt: Date.parse(row.availability_at),
    because: row.offline_because,
    changed: Date.parse(row.changed_at),
    heard: touched(row),
    seq,
    attributes: new Map(Object.entries(row.attributes)),
    units: new Map(Object.entries(row.units ?? {})),
    classes: new Map(Object.entries(row.classes ?? {})),
    derived: new Map(Object.entries(row.derived ?? {})),
    fresh: new Set(),
  };
  d.text = [d.name, d.id, d.area, d.model, d.source, ...d.attributes.keys(), ...d.derived.keys()].join('\n').toLowerCase();
  return d;
}

function merge(row, applied) {
  const old = live.get(row.id);
  if (old && old.seq > applied) {
    old.heard = Math.max(old.heard, touched(row)); // the stream was faster than this page
    return;
  }
  const d = made(row, applied);
  for (const [name, v] of d.attributes) if (old && !same(old.attributes.get(name), v)) d.fresh.add(name);
  live.set(row.id, d);
  dirty.add(row.id);
}

/** The values that a device has reported and those that are computed; what it has reported is not replaced. */
export const allValues = (d) => new Map([...d.attributes, ...[...d.derived].filter(([name]) => !d.attributes.has(name)).map(([name, it]) => [name, it.value])]);

const same = (a, b) => a === b || (typeof a === 'object' && typeof b === 'object' && JSON.stringify(a) === JSON.stringify(b));

/** Applies an event of the stream. Returns whether the devices have to be read again to know what it means. */
export function applyEvent(event) {
  if (!event.device) return false;
  const d = live.get(event.device);
  if (!d || event.type === 'device_discovered' || event.type === 'device_renamed') return true;
  if (event.seq <= d.seq) return false;
  const at = Date.parse(event.time);
  Object.assign(d, { seq: event.seq, changed: at, heard: Math.max(d.heard, at) });
  dirty.add(d.id);
  if (event.type === 'state_changed') {
    for (const [name, v] of Object.entries(event.data.changes ?? {})) {
      if (v === null) d.attributes.delete(name);
      else d.attributes.set(name, v);
      d.fresh.add(name);
    }
    const derived = derivedOf(d.attributes);
    for (const [name, { value }] of derived) if (value !== d.derived.get(name)?.value) d.fresh.add(name);
    d.derived = derived;
  } else if (event.type === 'availability_changed') {
    // Behind a bridge that is offline, what a device says about itself does not count; the agent knows.
    if (d.because || parents.has(d.id)) return true;
    Object.assign(d, { availability: event.data.availability, cause: event.data.cause, availabilityAt: at });
    changes += 1;
  } else if (event.type === 'device_retired') {
    live.delete(d.id);
    changes += 1;
  } else if (event.type === 'attribute_described' || event.type === 'device_described') {
    return true;
  }
  return false;
}

/** What is wrong with a device: a word, and how bad. Null: nothing is known to be wrong. */
export function trouble(d) {
  if (d.availability === 'offline') {
    if (d.because) return { word: `offline because of ${d.because}`, kind: 'behind', mood: 'bad' };
    return d.cause === 'silence' ? { word: 'silent', kind: 'silent', mood: 'bad' } : { word: 'offline', kind: 'offline', mood: 'bad' };
  }
  const battery = batteryLow(d.attributes, d.units);
  return battery ? { word: battery, kind: 'battery', mood: 'warn' } : null;
}

/** The time that "now" is for what is looked at, in ms; null: the present. */
export const nowAt = (asOf) => (asOf ? Date.parse(asOf.time) : gatewayNow());
