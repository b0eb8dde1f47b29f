// Small charts in SVG.

import { clock, setText, unitOf } from './words.js';

const NS = 'http://www.w3.org/2000/svg';
const HEIGHT = 170;
const PAD = { top: 10, right: 8, bottom: 20, left: 46 };

function svg(tag, attributes, text) {
  const made = document.createElementNS(NS, tag);
  for (const [name, v] of Object.entries(attributes)) made.setAttribute(name, v);
  if (text !== undefined) made.textContent = text;
  return made;
}

const points = (list) => list.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join('L');

/** A line without axes, for a tile. */
export function spark(element, values) {
  const top = Math.max(...values, 1e-9);
  const at = values.map((v, i) => [(i / Math.max(1, values.length - 1)) * 100, 23 - (v / top) * 21]);
  element.replaceChildren(svg('path', { class: 'line', d: values.length > 1 ? `M${points(at)}` : '' }));
}

const decimal = new Intl.NumberFormat('en', { maximumSignificantDigits: 6 });
const tidy = (v) => decimal.format(v);

/** Three round values around the range, so that the labels are short. */
function ticks(low, high) {
  const raw = (high - low) / 2 || Math.abs(high) / 10 || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((f) => f * power).find((s) => s >= raw);
  const first = Math.floor(low / step) * step;
  const list = [first];
  while (list.at(-1) < high && list.length < 5) list.push(first + list.length * step);
  return list.length > 1 ? list : [first, first + step];
}

/**
 * Mean as a line, minimum to maximum as a band. Only changes are recorded, so between buckets the last value still
 * holds, and is drawn so. Returns a function that shows the bucket nearest to a fraction of the width.
 */
export function lineChart(element, readout, { buckets, from, to, windowMs, name, unit }) {
  const list = buckets
    .map((b) => ({ ...b, at: Date.parse(b.start) }))
    .filter((b) => Number.isFinite(b.mean) && b.at + windowMs > from);
  const width = element.clientWidth || 480;
  element.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
  element.replaceChildren();
  if (list.length === 0) {
    element.setAttribute('aria-label', `${name}: no change in the last hour`);
    element.append(svg('text', { x: width / 2, y: HEIGHT / 2, 'text-anchor': 'middle' }, 'No change in the last hour'));
    setText(readout, '');
    return () => {};
  }
  const low = Math.min(...list.map((b) => b.min));
  const high = Math.max(...list.map((b) => b.max));
  const marks = ticks(low, high);
  const [bottom, top] = [marks[0], marks.at(-1)];
  const x = (t) => PAD.left + ((Math.min(to, Math.max(from, t)) - from) / (to - from)) * (width - PAD.left - PAD.right);
  const y = (v) => PAD.top + ((top - v) / (top - bottom)) * (HEIGHT - PAD.top - PAD.bottom);

  for (const mark of marks) {
    element.append(svg('path', { class: 'grid', d: `M${PAD.left},${y(mark)}H${width - PAD.right}` }));
    element.append(svg('text', { x: PAD.left - 6, y: y(mark) + 4, 'text-anchor': 'end' }, tidy(mark)));
  }
  for (const [t, anchor] of [[from, 'start'], [(from + to) / 2, 'middle'], [to, 'end']]) {
    element.append(svg('text', { x: x(t), y: HEIGHT - 4, 'text-anchor': anchor }, clock(t).slice(0, 5)));
  }
  element.append(...band(list, x, y, windowMs), svg('path', { class: 'line', d: `M${points(line(list, x, y, windowMs, to))}` }));
  const cursor = svg('path', { class: 'cursor', d: '' });
  element.append(cursor);

  const withUnit = (v) => tidy(v) + unitOf(v, unit);
  const last = list.at(-1).last ?? list.at(-1).mean;
  const all = `minimum ${withUnit(low)}, maximum ${withUnit(high)}, last ${withUnit(last)}`;
  element.setAttribute('aria-label', `${name} in the last hour: ${all}. Arrow keys read single minutes.`);
  setText(readout, all);
  return (fraction) => {
    if (fraction === null) {
      cursor.setAttribute('d', '');
      setText(readout, all);
      return;
    }
    const t = from + ((fraction * width - PAD.left) / (width - PAD.left - PAD.right)) * (to - from) - windowMs / 2;
    const b = list.reduce((best, it) => (Math.abs(it.at - t) < Math.abs(best.at - t) ? it : best));
    cursor.setAttribute('d', `M${x(b.at + windowMs / 2)},${PAD.top}V${HEIGHT - PAD.bottom}`);
    const range = `min ${withUnit(b.min)}, mean ${withUnit(b.mean)}, max ${withUnit(b.max)}`;
    setText(readout, `${clock(b.at).slice(0, 5)}: ${range}; ${b.count} ${b.count === 1 ? 'value' : 'values'}`);
  };
}

function line(list, x, y, windowMs, to) {
  const path = [];
  list.forEach((b, i) => {
    const next = list[i + 1]?.at ?? to;
    path.push([x(b.at + windowMs / 2), y(b.mean)]);
    if (next - b.at > windowMs * 1.5 || i === list.length - 1) {
      const held = y(Number.isFinite(b.last) ? b.last : b.mean);
      path.push([x(b.at + windowMs), held], [x(next), held]);
    }
  });
  return path;
}

/** One closed shape for each run of neighbouring buckets. */
function band(list, x, y, windowMs) {
  const runs = [];
  for (const b of list) {
    const run = runs.at(-1);
    if (run && b.at - run.at(-1).at <= windowMs * 1.5) run.push(b);
    else runs.push([b]);
  }
  return runs.map((run) => {
    const ends = (pick) => [
      [x(run[0].at), y(pick(run[0]))],
      ...run.map((b) => [x(b.at + windowMs / 2), y(pick(b))]),
      [x(run.at(-1).at + windowMs), y(pick(run.at(-1)))],
    ];
    const shape = [...ends((b) => b.max), ...ends((b) => b.min).reverse()];
    return svg('path', { class: 'band', d: `M${points(shape)}Z` });
  });
}
