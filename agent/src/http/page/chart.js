// Charts of numbers, drawn by uPlot. Only changes are recorded, so a value holds until the next one, and is drawn so.

import { clock, el, moment, setText, tame } from './words.js';

const HEIGHT = 260;
const DAY_S = 86_400;

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const decimal = new Intl.NumberFormat('en', { maximumSignificantDigits: 6 });

function ticks(splits, step) {
  let day = '';
  return splits.map((s) => {
    const date = new Date(s * 1000);
    const today = date.toLocaleDateString('en', { day: 'numeric', month: 'short', ...(step >= 300 * DAY_S ? { year: 'numeric' } : {}) });
    if (step >= DAY_S) return today;
    const time = clock(s * 1000).slice(0, step < 60 ? 8 : 5);
    const shown = today === day ? time : `${time}\n${today}`;
    day = today;
    return shown;
  });
}

/** What uPlot draws: times in seconds, then the lines. */
function columns({ points, buckets, held, from, to, windowS }) {
  if (buckets) {
    const middle = buckets.map((b) => b.t / 1000 + windowS / 2);
    return [middle, buckets.map((b) => b.mean), buckets.map((b) => b.min), buckets.map((b) => b.max)];
  }
  const all = points.filter(({ v }) => v === null || Number.isFinite(Number(v)));
  const known = held && held.t <= from && Number.isFinite(Number(held.v)) ? [{ t: from, v: held.v }, ...all] : [...all];
  if (known.length > 0) known.push({ t: Math.max(to, known.at(-1).t), v: known.at(-1).v });
  return [known.map(({ t }) => t / 1000), known.map(({ v }) => (v === null ? null : Number(v)))];
}

/** A chart in `element`, with what is under the pointer, or chosen by arrow keys, in `readout`. */
export class Chart {
  #plot = null;
  #series = null;
  #element;
  #readout;
  #words = '';
  #watch;
  #dark = matchMedia('(prefers-color-scheme: dark)');
  #redraw = () => this.#plot?.redraw();

  constructor(element, readout) {
    this.#element = element;
    this.#readout = readout;
    this.#watch = new ResizeObserver(() => this.#plot?.setSize({ width: this.#width(), height: HEIGHT }));
    this.#watch.observe(element);
    this.#dark.addEventListener('change', this.#redraw);
    element.addEventListener('keydown', (press) => this.#press(press));
    // Read out while values are chosen, not whenever a new one comes.
    element.addEventListener('focus', () => readout.setAttribute('aria-live', 'polite'));
    element.addEventListener('blur', () => {
      readout.removeAttribute('aria-live');
      this.#plot?.setCursor({ left: -10, top: -10 });
    });
  }

  #width = () => Math.max(200, this.#element.clientWidth);

  /** Shows a series; `name` and `unit` are for people. */
  show(series, name, unit) {
    const data = columns(series);
    const same = this.#plot && Boolean(this.#series.buckets) === Boolean(series.buckets) && this.#series.attribute === series.attribute;
    this.#series = series;
    this.#say(data, name, unit);
    if (data[0].length === 0) {
      this.clear();
      this.#element.append(el('p.empty', 'No value is known in this time.'));
      return;
    }
    if (same) {
      this.#plot.setData(data);
      return;
    }
    this.clear();
    this.#plot = new uPlot(this.#options(Boolean(series.buckets), unit), data, this.#element);
  }

  clear() {
    this.#plot?.destroy();
    this.#plot = null;
    this.#element.replaceChildren();
  }

  close() {
    this.clear();
    this.#watch.disconnect();
    this.#dark.removeEventListener('change', this.#redraw);
  }

  #options(banded, unit) {
    const line = { stroke: () => css('--accent'), width: 2, points: { show: (u) => u.data[0].length < 60 } };
    const edge = { stroke: () => css('--band'), width: 0, points: { show: false } };
    const axis = { stroke: () => css('--muted'), grid: { stroke: () => css('--line'), width: 1 }, ticks: { show: false }, font: '12px system-ui, sans-serif' };
    const stepped = uPlot.paths.stepped({ align: 1 });
    return {
      width: this.#width(),
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
      scales: { x: { range: () => [this.#series.from / 1000, this.#series.to / 1000] } },
      series: [{}, { ...line, ...(banded ? {} : { paths: stepped }) }, ...(banded ? [edge, edge] : [])],
      bands: banded ? [{ series: [3, 2], fill: () => css('--band') }] : [],
      axes: [
        { ...axis, values: (_, splits, __, ___, step) => ticks(splits, step), space: 70 },
        { ...axis, values: (_, splits) => splits.map((v) => (v === null ? '' : decimal.format(v))), size: (_, values) => 16 + 7 * Math.max(1, ...(values ?? []).map((v) => v.length)) },
      ],
      hooks: { setCursor: [(u) => this.#point(u.cursor.idx, unit)] },
    };
  }

  #say(data, name, unit) {
    const { buckets, held } = this.#series;
    const withUnit = (v) => `${decimal.format(v)}${unit ? ` ${unit}` : ''}`;
    const numbers = (list) => list.filter((v) => v !== null);
    const low = Math.min(...numbers(data[buckets ? 2 : 1] ?? []));
    const high = Math.max(...numbers(data[buckets ? 3 : 1] ?? []));
    const last = buckets ? buckets.at(-1)?.last : data[1].at(-1);
    const still = !buckets && this.#series.points.length === 0 && held;
    if (!Number.isFinite(low)) this.#words = '';
    else if (still) this.#words = `${withUnit(last)}, unchanged since ${moment(held.t)}`;
    else this.#words = `lowest ${withUnit(low)}, highest ${withUnit(high)}${Number.isFinite(last) ? `, last ${withUnit(last)}` : ''}`;
    setText(this.#readout, this.#words);
    this.#element.setAttribute('aria-label', tame(`Chart of ${name}: ${this.#words || 'no value'}. Arrow keys read single values.`));
  }

  #point(index, unit) {
    const withUnit = (v) => `${decimal.format(v)}${unit ? ` ${unit}` : ''}`;
    const data = this.#plot?.data;
    if (index === null || index === undefined || !data) {
      setText(this.#readout, this.#words);
      return;
    }
    const { buckets, points, held, from } = this.#series;
    const b = buckets?.[index];
    if (b) {
      setText(this.#readout, `${moment(b.t)}: mean ${withUnit(b.mean)}, lowest ${withUnit(b.min)}, highest ${withUnit(b.max)}, ${b.count} ${b.count === 1 ? 'value' : 'values'}`);
      return;
    }
    const v = data[1][index];
    const since = data[0][index] * 1000 <= from && held ? `since ${moment(held.t)}` : moment(data[0][index] * 1000);
    setText(this.#readout, `${points.length === 0 && held ? `since ${moment(held.t)}` : since}: ${v === null ? 'none' : withUnit(v)}`);
  }

  #press(press) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[press.key];
    if (!by || !this.#plot) return;
    press.preventDefault();
    const u = this.#plot;
    const count = u.data[0].length;
    const next = Math.min(count - 1, Math.max(0, (u.cursor.idx ?? (by > 0 ? -1 : count)) + by));
    u.setCursor({ left: u.valToPos(u.data[0][next], 'x'), top: 10 });
  }
}
