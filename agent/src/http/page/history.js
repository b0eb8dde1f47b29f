// The chart or timeline of one attribute of a device, over a chosen time, and its values as a table and as a file.

import { Chart } from './chart.js';
import { aggregateWords, chartsOf } from './derived.js';
import { at, here, setQuery } from './route.js';
import { RANGES, readNamed, readSeries, rowsOf } from './series.js';
import { nowAt } from './store.js';
import { drawTimeline } from './timeline.js';
import { count, download, el, many, moment, setText, span, value } from './words.js';

const REDRAW_MS = 1_000;
const REREAD_MS = 15_000;
const TABLE_MAX = 500;

const isNumber = (v) => typeof v === 'number' || typeof v === 'bigint';

function cell(v) {
  const text = v === null ? '' : typeof v === 'string' ? v : value(v);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function history(root, id) {
  const choice = el('select');
  const ranges = el('fieldset.filter', el('legend.unseen', 'Time of the chart'));
  for (const [name, [words]] of Object.entries(RANGES)) {
    const input = el('input', { type: 'radio', name: 'range', value: name });
    input.addEventListener('change', () => setQuery({ range: name }));
    ranges.append(el('label', input, el('span', words)));
  }
  const save = el('button', { type: 'button' }, 'Download CSV');
  const lines = el('div.chart', { role: 'img', tabindex: 0 });
  const bar = el('div', { role: 'img', hidden: '' });
  const readout = el('p.readout');
  const note = el('p.note');
  const table = el('table');
  const inWords = el('details', el('summary', 'As a table'), table);
  const section = el('section.card', el('h2', 'History'), el('div.bar', el('label', 'Of ', choice), ranges, save), lines, bar, readout, note, inWords);
  section.hidden = true;
  root.append(section);
  const chart = new Chart(lines, readout);
  let series = null;
  let named = { attribute: null, numeric: false, unit: '', range: 'hour' };
  let stale = false;
  let drawn = 0;
  let read = 0;
  let reread = () => {};

  choice.addEventListener('change', () => setQuery({ attr: choice.value }));
  inWords.addEventListener('toggle', () => drawTable());
  save.addEventListener('click', () => {
    const { names, rows } = rowsOf(series);
    const text = [names, ...rows].map((row) => row.map(cell).join(',')).join('\n');
    download(`${id}-${named.attribute}-${named.range}.csv`, 'text/csv', [`${text}\n`]);
  });

  function drawTable() {
    if (!inWords.open || series === null) return;
    const { names, rows } = rowsOf(series);
    const shown = rows.slice(-TABLE_MAX).reverse();
    const head = el('thead', el('tr', names.map((name) => el('th', { scope: 'col' }, name))));
    const body = shown.map(([time, ...rest]) => el('tr', el('th', { scope: 'row' }, moment(Date.parse(time))), rest.map((v) => el('td', value(v)))));
    table.replaceChildren(el('caption.unseen', `Values of ${named.attribute}, newest first`), head, el('tbody', body));
  }

  function draw() {
    drawn = performance.now();
    stale = false;
    lines.hidden = !named.numeric;
    bar.hidden = named.numeric;
    if (named.numeric) chart.show(series, named.attribute, named.unit);
    else drawTimeline(bar, readout, series, named.attribute);
    const what = series.aggregate
      ? aggregateWords(series.aggregate)
      : series.buckets
      ? `Mean, with lowest and highest, of every ${span(series.windowS).replace(/ 0 \w+$/, '')}.`
      : series.tooMany
        ? `There are too many changes to show: these are the first ${count(series.points.length)}. Choose a shorter time.`
        : `${series.points.length === 0 ? 'No change' : many(series.points.length, 'change')} in this time; a value holds until the next one.`;
    const from = series.completeFrom && series.completeFrom > series.from ? ` Complete from ${moment(series.completeFrom)} on; older records were deleted.` : '';
    setText(note, what + from);
    drawTable();
  }

  return {
    async show(device, names, asOf, signal) {
      // The address may have changed since the device was asked for.
      const { query } = here();
      const all = [...names, ...Object.keys(device.attributes).filter((name) => !names.includes(name) && device.attributes[name].value !== null)];
      const computed = Object.keys(device.derived ?? {}).flatMap(chartsOf);
      const options = [...all, ...computed.map(({ key }) => key)];
      section.hidden = options.length === 0;
      if (options.length === 0) return;
      if (JSON.stringify(options) !== choice.dataset.key) {
        choice.dataset.key = JSON.stringify(options);
        choice.replaceChildren(...options.map((name) => el('option', { value: name }, name)));
      }
      const first = names.find((name) => isNumber(device.attributes[name].value)) ?? names[0] ?? options[0];
      const wanted = query.get('attr');
      const attribute = options.includes(wanted) ? wanted : first;
      const own = all.includes(attribute) ? device.attributes[attribute] : null;
      const ofComputed = own ? null : computed.find(({ key }) => key === attribute);
      const range = query.get('range') in RANGES ? query.get('range') : 'hour';
      choice.value = attribute;
      for (const input of ranges.querySelectorAll('input')) input.checked = input.value === range;
      named = { attribute, range, numeric: own === null || isNumber(own.value), unit: own?.unit ?? ofComputed?.aggregate.unit ?? '' };
      const mine = named;
      reread = async () => {
        const to = nowAt(asOf);
        const seconds = RANGES[range][1];
        const from = seconds === 0 ? Date.parse(device.discovered_at) : to - seconds * 1000;
        const time = { from, to: Math.max(to, from + 1_000), since: Date.parse(device.discovered_at), at: at(), until: asOf?.seq, whole: seconds === 0 };
        const found = await (ofComputed ? readNamed(id, ofComputed, time, signal) : readSeries(id, attribute, mine.numeric, time, signal));
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
      if (series === null || at() !== null || series.tooMany || lines.matches(':hover')) return;
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
    close: () => chart.close(),
  };
}
