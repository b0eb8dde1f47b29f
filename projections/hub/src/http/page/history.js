// The chart or timeline of one attribute of a device, over a chosen time, and its values as a table and as a file.

import { hubNow } from './api.js';
import { Chart } from './chart.js';
import { here, setQuery } from './route.js';
import { RANGES, readSeries, rowsOf } from './series.js';
import { drawTimeline } from './timeline.js';
import { count, download, el, json, many, moment, setText, span, value } from './words.js';

const TABLE_MAX = 500;
const REREAD_MS = 10_000;
const PER_SECOND = 1 / 1_000; // of a longer time: it moves slower

const isNumber = (v) => typeof v === 'number' || typeof v === 'bigint';

function cell(v) {
  const text = v === null ? '' : typeof v === 'string' ? v : value(v);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function history(root, gateway, device) {
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
  const section = el('section.card', { id: 'history' }, el('h2', 'History'), el('div.bar', el('label', 'Of ', choice), ranges, save), lines, bar, readout, note, inWords);
  section.hidden = true;
  root.append(section);
  const chart = new Chart(lines, readout);
  let series = null;
  let shown = { key: '', attribute: '', range: '', isNumeric: false, unit: '' };
  let due = 0;

  choice.addEventListener('change', () => setQuery({ attr: choice.value }));
  inWords.addEventListener('toggle', () => drawTable());
  save.addEventListener('click', () => {
    const { names, rows } = rowsOf(series);
    const text = [names, ...rows].map((row) => row.map(cell).join(',')).join('\n');
    download(`${gateway}-${device}-${shown.attribute}-${shown.range}.csv`, 'text/csv', [`${text}\n`]);
  });

  function drawTable() {
    if (!inWords.open || series === null) return;
    const { names, rows } = rowsOf(series);
    const last = rows.slice(-TABLE_MAX).reverse();
    const head = el('thead', el('tr', names.map((name) => el('th', { scope: 'col' }, name))));
    const body = last.map(([at, ...rest]) => el('tr', el('th', { scope: 'row' }, moment(Date.parse(at))), rest.map((v) => el('td', value(v)))));
    table.replaceChildren(el('caption.unseen', `Values of ${shown.attribute}, newest first`), head, el('tbody', body));
  }

  function draw() {
    lines.hidden = !shown.isNumeric;
    bar.hidden = shown.isNumeric;
    if (shown.isNumeric) chart.show(series, shown.attribute, shown.unit);
    else drawTimeline(bar, readout, series, shown.attribute);
    const words = series.buckets
      ? `Mean, with lowest and highest, of every ${span(series.windowS).replace(/ 0 \w+$/, '')}.`
      : series.tooMany
        ? `There are too many changes to show: these are the newest ${count(series.points.length)}. Choose a shorter time.`
        : `${series.points.length === 0 ? 'No change' : many(series.points.length, 'change')} in this time; a value holds until the next one.`;
    setText(note, words);
    drawTable();
  }

  return {
    /** `attributes` are those of the device, by name; `names` has those that matter most, first. */
    async show(attributes, names, signal) {
      const { query } = here();
      const options = [...names, ...[...attributes.keys()].filter((name) => !names.includes(name))];
      section.hidden = options.length === 0;
      if (options.length === 0) return;
      if (json(options) !== choice.dataset.key) {
        choice.dataset.key = json(options);
        choice.replaceChildren(...options.map((name) => el('option', { value: name }, name)));
      }
      const wanted = query.get('attr');
      const attribute = options.includes(wanted) ? wanted : (names.find((name) => isNumber(attributes.get(name).value)) ?? options[0]);
      const range = query.get('range') in RANGES ? query.get('range') : 'hour';
      choice.value = attribute;
      for (const input of ranges.querySelectorAll('input')) input.checked = input.value === range;
      const { value: now, changed, description } = attributes.get(attribute);
      const key = `${attribute}\n${range}\n${isNumber(now)}`;
      // A chart that is looked at closely is left as it is.
      if (key === shown.key && (performance.now() < due || lines.matches(':hover'))) return;
      let found = null;
      try {
        const held = { t: Date.parse(changed), v: now };
        found = await readSeries({ gateway, device, attribute }, held, isNumber(now), RANGES[range][1], hubNow(), signal);
      } catch (error) {
        if (error.status === undefined && error.name !== 'TimeoutError') throw error;
        // The rest of the device is there all the same.
        setText(note, `The history cannot be read: ${error.status ? error.message : 'it takes too long. Choose a shorter time.'}`);
        return;
      }
      due = performance.now() + Math.max(REREAD_MS, RANGES[range][1] * PER_SECOND * 1000);
      shown = { key, attribute, range, isNumeric: isNumber(now), unit: description?.unit ?? '' };
      series = { ...found, attribute };
      draw();
    },
    close: () => chart.close(),
  };
}
