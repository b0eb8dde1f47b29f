// The card with the history of one attribute: the choice of attribute and time, the chart or timeline, and the values as a table
// and as a file. The pages of agent and hub both fill it.

import { Chart } from './chart.js';
import { setQuery } from './route.js';
import { drawTimeline } from './timeline.js';
import { count, download, el, many, moment, setText, span, value } from './words.js';

const TABLE_MAX = 500;

export const isNumber = (v) => typeof v === 'number' || typeof v === 'bigint';

function cell(v) {
  const text = v === null ? '' : typeof v === 'string' ? v : value(v);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** The series as rows of a table, oldest first. */
function rowsOf({ points, buckets, held, from }) {
  const iso = (ms) => new Date(ms).toISOString();
  if (buckets) return { names: ['time', 'min', 'mean', 'max', 'last', 'values'], rows: buckets.map((b) => [iso(b.t), b.min, b.mean, b.max, b.last, b.count]) };
  const before = held && held.t < from ? [{ t: held.t, v: held.v }] : [];
  return { names: ['time', 'value'], rows: [...before, ...points].map(({ t, v }) => [iso(t), v]) };
}

/** What is shown of a series; of too many changes, these are the `ones`: first or newest. */
export function valuesWords(series, ones) {
  if (series.buckets) return `Mean, with lowest and highest, of every ${span(series.windowS).replace(/ 0 \w+$/, '')}.`;
  if (series.tooMany) return `There are too many changes to show: these are the ${ones} ${count(series.points.length)}. Choose a shorter time.`;
  return `${series.points.length === 0 ? 'No change' : many(series.points.length, 'change')} in this time; a value holds until the next one.`;
}

/** A card at the end of `root`, hidden until it is offered something; its files are named after `of`. */
export function historyCard(root, ranges, of) {
  const choice = el('select');
  const times = el('fieldset.filter', el('legend.unseen', 'Time of the chart'));
  for (const [name, [words]] of Object.entries(ranges)) {
    const input = el('input', { type: 'radio', name: 'range', value: name });
    input.addEventListener('change', () => setQuery({ range: name }));
    times.append(el('label', input, el('span', words)));
  }
  const save = el('button', { type: 'button' }, 'Download CSV');
  const lines = el('div.chart', { role: 'img', tabindex: 0 });
  const bar = el('div', { role: 'img', hidden: '' });
  const readout = el('p.readout');
  const note = el('p.note');
  const table = el('table');
  const inWords = el('details', el('summary', 'As a table'), table);
  const section = el('section.card', { id: 'history' }, el('h2', 'History'), el('div.bar', el('label', 'Of ', choice), times, save), lines, bar, readout, note, inWords);
  section.hidden = true;
  root.append(section);
  const chart = new Chart(lines, readout);
  let series = null;
  let shown = null;

  function drawTable() {
    if (!inWords.open || series === null) return;
    const { names, rows } = rowsOf(series);
    const last = rows.slice(-TABLE_MAX).reverse();
    const head = el('thead', el('tr', names.map((name) => el('th', { scope: 'col' }, name))));
    const body = last.map(([time, ...rest]) => el('tr', el('th', { scope: 'row' }, moment(Date.parse(time))), rest.map((v) => el('td', value(v)))));
    table.replaceChildren(el('caption.unseen', `Values of ${shown.attribute}, newest first`), head, el('tbody', body));
  }

  choice.addEventListener('change', () => setQuery({ attr: choice.value }));
  inWords.addEventListener('toggle', () => drawTable());
  save.addEventListener('click', () => {
    const { names, rows } = rowsOf(series);
    const text = [names, ...rows].map((row) => row.map(cell).join(',')).join('\n');
    download(`${of}-${shown.attribute}-${shown.range}.csv`, 'text/csv', [`${text}\n`]);
  });

  return {
    /** Whether somebody points at the chart, to read it. */
    isRead: () => lines.matches(':hover'),
    /** What can be chosen; whether that is anything. */
    offer(options) {
      section.hidden = options.length === 0;
      const key = JSON.stringify(options);
      if (key !== choice.dataset.key && options.length > 0) {
        choice.dataset.key = key;
        choice.replaceChildren(...options.map((name) => el('option', { value: name }, name)));
      }
      return options.length > 0;
    },
    /** What is chosen. */
    choose(attribute, range) {
      choice.value = attribute;
      for (const input of times.querySelectorAll('input')) input.checked = input.value === range;
    },
    say: (words) => setText(note, words),
    /** Shows a series of `{attribute, range, isNumeric, unit}`. */
    draw(found, what, words) {
      series = found;
      shown = what;
      lines.hidden = !what.isNumeric;
      bar.hidden = what.isNumeric;
      if (what.isNumeric) chart.show(series, what.attribute, what.unit);
      else drawTimeline(bar, readout, series, what.attribute);
      setText(note, words);
      drawTable();
    },
    close: () => chart.close(),
  };
}
