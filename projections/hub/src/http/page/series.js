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
const RAW_SPAN_MS = 31 * 86_400_000; // of a longer time, single values are not looked for
const NEWEST = '9223372036854775807';

const iso = (ms) => new Date(ms).toISOString();
const point = ({ recorded, value }) => ({ t: Date.parse(recorded), v: value });

async function windows(of, windowS, from, to, signal) {
  const found = await list('aggregates', { ...of, length_s: windowS, from: from === null ? null : iso(from), to: iso(to + 1), limit: BUCKETS_MAX }, signal);
  return { windowS, buckets: found.map((b) => ({ ...b, t: Date.parse(b.start) })) };
}

/** Windows of the shortest length of which there are not too many. */
const shortest = (of, from, to, signal) => windows(of, LENGTHS_S.find((s) => (to - from) / 1000 / s <= BUCKETS_WANTED) ?? LENGTHS_S.at(-1), from, to, signal);

/** The value that was held at a moment, if it was set in the time before. */
async function heldAt(of, ms, signal) {
  const [last] = await list('history', { ...of, from: iso(ms - RAW_SPAN_MS), to: iso(ms), before: NEWEST, limit: 1 }, signal);
  return last ? point(last) : null;
}

/**
 * Reads what there is of an attribute, `of` a device of a gateway, for `seconds` up to `to`; 0: all. It has the value `now`. The answer
 * has `points`, or `buckets` of `windowS` seconds where these are too many or older ones are kept only so; and `held`, the value at
 * the beginning.
 */
export async function readSeries(of, now, isNumeric, seconds, to, signal) {
  const days = isNumeric && seconds === 0 ? await windows(of, LENGTHS_S.at(-1), null, to, signal) : null;
  // A day's window begins before its first value.
  const from = seconds > 0 ? to - seconds * 1000 : (days?.buckets[0]?.t ?? null);
  const nothing = { held: null, points: [], buckets: null, windowS: 0, tooMany: false, from: from ?? to, to };
  if (seconds > 0 && now.t < from) return { ...nothing, held: now };
  if (days && to - from > RAW_SPAN_MS) {
    const isLong = (to - from) / 1000 / LENGTHS_S[1] > BUCKETS_WANTED;
    return { ...nothing, ...(isLong ? days : await shortest(of, from, to, signal)) };
  }
  const [changes, held] = await Promise.all([
    list('history', { ...of, from: from === null ? null : iso(from), to: iso(to + 1), before: NEWEST, limit: RAW_MAX }, signal),
    seconds === 0 ? null : heldAt(of, from, signal),
  ]);
  const points = changes.map(point).reverse();
  const begin = points[0]?.t ?? to - 60_000;
  const series = { ...nothing, held, points, from: seconds === 0 ? begin : from };
  const isWhole = changes.length < RAW_MAX;
  // The newest of too many texts are shown from where they begin.
  if (!isNumeric) return isWhole ? series : { ...series, held: null, tooMany: true, from: begin };
  if (isWhole && (seconds === 0 || held !== null)) return series;
  const found = await shortest(of, from ?? begin, to, signal);
  // Aggregates may be kept where events are not.
  const isOlder = found.buckets.length > 0 && found.buckets[0].t + found.windowS * 1000 < begin;
  return isWhole && !isOlder ? series : { ...series, ...found, points: [], from: seconds === 0 ? (found.buckets[0]?.t ?? begin) : from };
}
