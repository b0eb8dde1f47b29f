// The chart or timeline of one attribute of a device, over a chosen time, and its values as a table and as a file.

import { historyCard, isNumber, valuesWords } from './card.js';
import { aggregateWords, chartsOf } from './derived.js';
import { at, here } from './route.js';
import { RANGES, readNamed, readSeries } from './series.js';
import { nowAt } from './store.js';
import { moment } from './words.js';

const REDRAW_MS = 1_000;
const REREAD_MS = 15_000;

export function history(root, id) {
  const card = historyCard(root, RANGES, id);
  let series = null;
  let named = { attribute: null, isNumeric: false, unit: '', range: 'hour' };
  let stale = false;
  let drawn = 0;
  let read = 0;
  let reread = () => {};

  function draw() {
    drawn = performance.now();
    stale = false;
    const what = series.aggregate ? aggregateWords(series.aggregate) : valuesWords(series, 'first');
    const from = series.completeFrom && series.completeFrom > series.from ? ` Complete from ${moment(series.completeFrom)} on; older records were deleted.` : '';
    card.draw(series, named, what + from);
  }

  return {
    async show(device, names, asOf, signal) {
      // The address may have changed since the device was asked for.
      const { query } = here();
      const all = [...names, ...Object.keys(device.attributes).filter((name) => !names.includes(name) && device.attributes[name].value !== null)];
      const computed = Object.keys(device.derived ?? {}).flatMap(chartsOf);
      const options = [...all, ...computed.map(({ key }) => key)];
      if (!card.offer(options)) return;
      const first = names.find((name) => isNumber(device.attributes[name].value)) ?? names[0] ?? options[0];
      const wanted = query.get('attr');
      const attribute = options.includes(wanted) ? wanted : first;
      const own = all.includes(attribute) ? device.attributes[attribute] : null;
      const ofComputed = own ? null : computed.find(({ key }) => key === attribute);
      const range = query.get('range') in RANGES ? query.get('range') : 'hour';
      card.choose(attribute, range);
      named = { attribute, range, isNumeric: own === null || isNumber(own.value), unit: own?.unit ?? ofComputed?.aggregate.unit ?? '' };
      const mine = named;
      reread = async () => {
        const to = nowAt(asOf);
        const seconds = RANGES[range][1];
        const from = seconds === 0 ? Date.parse(device.discovered_at) : to - seconds * 1000;
        const time = { from, to: Math.max(to, from + 1_000), since: Date.parse(device.discovered_at), at: at(), until: asOf?.seq, whole: seconds === 0 };
        const found = await (ofComputed ? readNamed(id, ofComputed, time, signal) : readSeries(id, attribute, mine.isNumeric, time, signal));
        if (named !== mine) return;
        series = { ...found, attribute };
        read = performance.now();
        draw();
      };
      await reread();
    },
    /** A new value of the device. */
    value(name, v, t) {
      if (series === null || name !== named.attribute || series.buckets || series.tooMany) return;
      if (t >= (series.points.at(-1)?.t ?? 0)) series.points.push({ t, v });
      stale = true;
    },
    /** Lets the chart go on with time. */
    frame(now) {
      if (series === null || at() !== null || series.tooMany || card.isRead()) return;
      const wait = Math.max(REDRAW_MS, RANGES[named.range][1]);
      if (!stale && performance.now() - drawn < wait) return;
      if (performance.now() - drawn < REDRAW_MS) return;
      if (series.buckets || series.aggregate) {
        if (performance.now() - read > REREAD_MS) {
          read = performance.now();
          reread().catch(() => {});
        }
        drawn = performance.now();
        return;
      }
      const length = RANGES[named.range][1] * 1000;
      series.to = Math.max(now, series.to);
      if (length > 0) {
        series.from = series.to - length;
        const gone = series.points.filter(({ t }) => t < series.from);
        if (gone.length > 0) {
          series.held = gone.at(-1);
          series.points = series.points.slice(gone.length);
        }
      }
      draw();
    },
    close: card.close,
  };
}
