// The values of an attribute over a time: every one of them where they are few, else aggregates.

import { devicePath, get } from './api.js';

/** Ranges by their names in the address: words and seconds; 0: all that is kept. */
export const RANGES = {
  hour: ['Hour', 3_600],
  day: ['Day', 86_400],
  week: ['Week', 604_800],
  month: ['30 days', 2_592_000],
  year: ['Year', 31_536_000],
  all: ['All kept', 0],
};

const RAW_MAX = 2_000;
const BUCKETS_MAX = 800;
const WINDOWS_S = [60, 300, 900, 3_600, 10_800, 21_600, 86_400, 604_800, 2_592_000];

const iso = (ms) => new Date(ms).toISOString();

/** The value that an attribute had at a moment, and since when; null: it had none, or it is not known any more. */
async function heldAt(path, attribute, ms, signal) {
  try {
    const { device } = await get(`${path}?at=${iso(ms)}`, signal);
    const then = device.attributes[attribute];
    return then === undefined || then.value === null ? null : { t: Date.parse(then.at), v: then.value };
  } catch (error) {
    if (error.status) return null;
    throw error;
  }
}

async function every(path, attribute, { from, to, until }, signal) {
  const query = new URLSearchParams({ attribute, from: iso(from), to: iso(to + 1), limit: RAW_MAX });
  const { history, next } = await get(`${path}/history?${query}`, signal);
  // Actions are over at once: they hold no value.
  const changes = history.filter((it) => it.type === 'state_changed' && it.seq <= until);
  return { points: changes.map((it) => ({ t: Date.parse(it.at), v: it.changes[attribute] })), whole: next === null };
}

async function aggregates(path, attribute, { from, to, at }, signal) {
  const windowS = WINDOWS_S.find((s) => (to - from) / 1000 / s <= BUCKETS_MAX) ?? WINDOWS_S.at(-1);
  const query = new URLSearchParams({ attribute, window_s: windowS, from: iso(from), ...(at ? { at } : {}) });
  const { buckets, complete_from } = await get(`${path}/aggregates?${query}`, signal);
  return { windowS, buckets: buckets.map((b) => ({ ...b, t: Date.parse(b.start) })), completeFrom: complete_from ? Date.parse(complete_from) : null };
}

/**
 * Reads what there is of an attribute in `from..=to`: `points`, or `buckets` of `windowS` seconds where these are too many or
 * older ones are kept only so; and `held`, the value at the beginning. The device is known from `since` on. `at` and `until` are a
 * past moment and its last record.
 */
export async function readSeries(id, attribute, numeric, { from, to, since, at = null, until = Infinity, whole = false }, signal) {
  const path = devicePath(id);
  const span = { from, to, at, until };
  const [held, raw] = await Promise.all([from > since ? heldAt(path, attribute, from, signal) : null, every(path, attribute, span, signal)]);
  const series = { held, points: raw.points, buckets: null, windowS: 0, completeFrom: null, tooMany: !raw.whole, from, to };
  // What came after the last of too many is not known here.
  if (!numeric && !raw.whole) return { ...series, to: raw.points.at(-1)?.t ?? to };
  if (!numeric || (raw.whole && !whole)) return series;
  const found = await aggregates(path, attribute, span, signal);
  // Older than the log: aggregates may be kept where records are not.
  const older = found.buckets.length > 0 && (raw.points.length === 0 || found.buckets[0].t + found.windowS * 1000 < raw.points[0].t);
  return raw.whole && !older ? series : { ...series, ...found, points: [], tooMany: false };
}

/** The windows of a named aggregate in `from..=to`, each as a value that holds as long as it is. */
export async function readNamed(id, { name, aggregate }, { from, to, at, whole }, signal) {
  const query = new URLSearchParams({ device: id, attribute: name, to: iso(to), ...(whole ? {} : { from: iso(from) }) });
  const answer = await get(`/api/v1/aggregates/${aggregate.name}?${query}`, signal);
  const length = aggregate.window_s * 1000;
  // One that goes on beyond a past moment has values of later.
  const isOver = ({ start }) => !at || Date.parse(start) + length <= to;
  const windows = answer.devices[0]?.series.find(({ derived }) => derived)?.windows.filter(isOver) ?? [];
  const points = windows.flatMap(({ start, value }, index) => {
    const t = Date.parse(start);
    const next = windows[index + 1] ? Date.parse(windows[index + 1].start) : to;
    return next > t + length ? [{ t, v: value }, { t: t + length, v: null }] : [{ t, v: value }];
  });
  const begin = whole ? Math.min(points[0]?.t ?? from, to - length) : from;
  const complete = answer.aggregate.complete_from;
  return { held: null, points, buckets: null, windowS: aggregate.window_s, aggregate, completeFrom: complete ? Date.parse(complete) : null, tooMany: false, from: begin, to };
}
