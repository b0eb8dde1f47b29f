// The values of an attribute over a time: every one of them where they are few, else aggregates.

import { list } from './api.js';

/** Ranges by their names in the address: words and seconds; 0: all that is kept. */
export const RANGES = {
  hour: ['Hour', 3_600],
  day: ['Day', 86_400],
  week: ['Week', 604_800],
  month: ['30 days', 2_592_000],
  all: ['All kept', 0],
};

const RAW_MAX = 2_000;
const BUCKETS_MAX = 10_000;
const BUCKETS_WANTED = 1_500;
const LENGTHS_S = [60, 3_600, 86_400];
const NEWEST = '9223372036854775807';

const iso = (ms) => new Date(ms).toISOString();
const point = ({ recorded, value }) => ({ t: Date.parse(recorded), v: value });

/** Windows of the shortest length of which there are not too many. */
async function windows(of, from, to, signal) {
  for (const windowS of LENGTHS_S) {
    if (from !== null && (to - from) / 1000 / windowS > BUCKETS_WANTED) continue;
    const found = await list('aggregates', { ...of, length_s: windowS, from: from === null ? null : iso(from), to: iso(to + 1), limit: BUCKETS_MAX }, signal);
    if (found.length > BUCKETS_WANTED && windowS !== LENGTHS_S.at(-1)) continue;
    return { windowS, buckets: found.map((b) => ({ ...b, t: Date.parse(b.start) })) };
  }
  return { windowS: 0, buckets: [] };
}

/**
 * Reads what there is of an attribute, `of` a device of a gateway, for `seconds` up to `to`: `points`, or `buckets` of `windowS`
 * seconds where these are too many or older ones are kept only so; and `held`, the value at the beginning.
 */
export async function readSeries(of, isNumeric, seconds, to, signal) {
  const from = seconds === 0 ? null : to - seconds * 1000;
  const begin = from === null ? null : iso(from);
  const [changes, before] = await Promise.all([
    list('history', { ...of, from: begin, to: iso(to + 1), before: NEWEST, limit: RAW_MAX }, signal),
    from === null ? [] : list('history', { ...of, to: begin, before: NEWEST, limit: 1 }, signal),
  ]);
  const points = changes.map(point).reverse();
  const held = before.length > 0 ? point(before[0]) : null;
  const isWhole = changes.length < RAW_MAX;
  const first = points[0]?.t ?? to - 3_600_000;
  const series = { held, points, buckets: null, windowS: 0, tooMany: !isWhole, from: from ?? Math.min(first, to - 60_000), to };
  // The newest of too many texts are shown from where they begin.
  if (!isNumeric) return isWhole ? series : { ...series, held: null, from: first };
  if (isWhole && seconds !== 0 && held !== null) return series;
  const found = await windows(of, from, to, signal);
  // Aggregates may be kept where events are not.
  const isOlder = found.buckets.length > 0 && (points.length === 0 || found.buckets[0].t + found.windowS * 1000 < points[0].t);
  if (isWhole && !isOlder) return series;
  return { ...series, ...found, points: [], tooMany: false, from: from ?? found.buckets[0]?.t ?? series.from };
}

/** The series as rows of a table, oldest first. */
export function rowsOf({ points, buckets, held, from }) {
  if (buckets) return { names: ['time', 'min', 'mean', 'max', 'last', 'values'], rows: buckets.map((b) => [iso(b.t), b.min, b.mean, b.max, b.last, b.count]) };
  const before = held && held.t < from ? [{ t: held.t, v: held.v }] : [];
  return { names: ['time', 'value'], rows: [...before, ...points].map(({ t, v }) => [iso(t), v]) };
}
