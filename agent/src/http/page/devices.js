// All devices, as a list of which only what is on the screen is in the page.

import { label, main, say } from './classes.js';
import { formulaOf } from './derived.js';
import { at, here, link, setQuery } from './route.js';
import { Sparks } from './spark.js';
import { allValues, devicesAt, dirty, generation, live, nowAt, trouble } from './store.js';
import { brief, count, el, flash, setText, tame } from './words.js';

const VALUES_MAX = 3;
const BEYOND = 8; // rows that are kept above and below the screen
const RESORT_MS = 1_000;

const FILTERS = { all: 'All', attention: 'Need attention', online: 'Online', offline: 'Offline', unknown: 'Unknown' };
const GROUPS = { '': ['nothing'], area: ['area', 'No area'], source: ['source', 'No source'], model: ['model', 'No model'] };

const passes = (d, filter) => filter === 'all' || (filter === 'attention' ? (trouble(d)?.kind ?? 'behind') !== 'behind' : d.availability === filter);
const byName = (a, b) => a.name.localeCompare(b.name) || (a.id < b.id ? -1 : 1);

export function openDevices(root) {
  const search = el('input', { type: 'search', id: 'search', placeholder: 'Name, area, model, attribute', autocomplete: 'off', spellcheck: 'false', 'aria-label': 'Search devices' });
  const filters = el('fieldset.filter', el('legend.unseen', 'Show'));
  const numbers = {};
  for (const [name, words] of Object.entries(FILTERS)) {
    numbers[name] = el('b');
    const input = el('input', { type: 'radio', name: 'show', value: name });
    input.addEventListener('change', () => setQuery({ show: name === 'all' ? null : name }));
    filters.append(el('label', input, el('span', words, ' ', numbers[name])));
  }
  const group = el('select', Object.entries(GROUPS).map(([name, [words]]) => el('option', { value: name }, words)));
  const sort = el('select', el('option', { value: '' }, 'name'), el('option', { value: 'changed' }, 'last change'));
  const body = el('div.rows', { role: 'rowgroup' });
  const head = el('div.row.head', { role: 'row', 'aria-rowindex': 1 }, ['Device', 'Values', 'Lately', 'Heard'].map((words) => el('span', { role: 'columnheader' }, words)));
  const table = el('div.table', { role: 'table', 'aria-label': 'Devices' }, el('div', { role: 'rowgroup' }, head), body);
  const note = el('p.note');
  root.append(
    el('section.card', el('h2', 'Devices'), el('div.bar', search, filters, el('label', 'Group by ', group), el('label', 'Sort by ', sort)), table, note),
  );
  group.addEventListener('change', () => setQuery({ group: group.value }));
  sort.addEventListener('change', () => setQuery({ sort: sort.value }));
  let typing = null;
  search.addEventListener('input', () => {
    clearTimeout(typing);
    typing = setTimeout(() => setQuery({ find: search.value }), 150);
  });

  let devices = live;
  let asOf = null;
  let entries = []; // devices, and { group, size } for headings
  let rows = new Map(); // entry → row on the page
  let made = -1;
  let sorted = 0;
  let heights = { row: 0, group: 0 };
  let tops = [];
  const sparks = new Sparks();

  function choose() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const filter = document.querySelector('input[name=show]:checked')?.value ?? 'all';
    const counts = Object.fromEntries(Object.keys(FILTERS).map((name) => [name, 0]));
    const found = [];
    for (const d of devices.values()) {
      for (const name of Object.keys(FILTERS)) if (passes(d, name)) counts[name] += 1;
      if (passes(d, filter) && words.every((word) => d.text.includes(word))) found.push(d);
    }
    for (const [name, n] of Object.entries(counts)) setText(numbers[name], count(n));
    found.sort(sort.value === 'changed' ? (a, b) => b.changed - a.changed || byName(a, b) : byName);
    if (group.value === '') return found;
    const groups = new Map();
    for (const d of found) {
      const name = d[group.value];
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(d);
    }
    const order = [...groups].sort(([a], [b]) => Number(a === '') - Number(b === '') || a.localeCompare(b));
    return order.flatMap(([name, list]) => [{ group: name || GROUPS[group.value][1], size: list.length }, ...list]);
  }

  /** Whether moving rows now would pull one away from under the pointer or the focus. */
  const busy = () => sort.value === 'changed' && (body.matches(':hover') || body.contains(document.activeElement));

  function list() {
    made = generation();
    sorted = performance.now();
    // Device objects are replaced when they are read again: what a row shows is found by id.
    entries = choose();
    const style = getComputedStyle(table);
    heights = { row: parseFloat(style.getPropertyValue('--row')), group: parseFloat(style.getPropertyValue('--group')) };
    let top = 0;
    tops = entries.map((entry) => {
      const own = top;
      top += entry.id === undefined ? heights.group : heights.row;
      return own;
    });
    body.style.height = `${top}px`;
    table.setAttribute('aria-rowcount', entries.length + 1);
    setText(note, entries.length > 0 ? '' : devices.size > 0 ? 'No device matches.' : 'No device has been seen yet.');
    place();
  }

  /** The first entry that ends below `y`. */
  function indexAt(y) {
    let [low, high] = [0, entries.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (tops[middle] + heights.row < y) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Brings the rows into the page that are on the screen, and takes the others out. */
  function place() {
    const top = -body.getBoundingClientRect().top;
    const first = Math.max(0, indexAt(top) - BEYOND);
    const last = Math.min(entries.length, indexAt(top + innerHeight) + BEYOND);
    const kept = new Map();
    const focused = document.activeElement?.closest?.('.row');
    for (let index = first; index < last; index += 1) {
      const entry = entries[index];
      const name = entry.id === undefined ? `group ${entry.group}` : `device ${entry.id}`;
      const row = rows.get(name) ?? (entry.id === undefined ? headingRow() : deviceRow());
      rows.delete(name);
      kept.set(name, row);
      row.tr.style.top = `${tops[index]}px`;
      row.tr.setAttribute('aria-rowindex', index + 2);
      row.fill(devices.get(entry.id) ?? entry);
    }
    for (const [name, row] of rows) {
      // Whoever tabs through the list keeps the place.
      if (row.tr === focused) kept.set(name, row);
      else row.tr.remove();
    }
    rows = kept;
    const ordered = [...rows.values()].sort((a, b) => a.tr.getAttribute('aria-rowindex') - b.tr.getAttribute('aria-rowindex'));
    ordered.forEach(({ tr }, index) => {
      if (body.children[index] !== tr) body.insertBefore(tr, body.children[index] ?? null);
    });
    if (at() === null) sparks.want([...rows.values()].filter((row) => row.d));
  }

  function headingRow() {
    const words = el('span', { role: 'cell', 'aria-colspan': 4 });
    return { tr: el('div.row.group', { role: 'row' }, words), fill: (entry) => setText(words, `${entry.group} (${count(entry.size)})`) };
  }

  function deviceRow() {
    const dot = el('i.dot');
    const anchor = el('a.name');
    const name = el('bdi');
    anchor.append(name);
    const state = el('span.state');
    const where = el('span.muted.where');
    const values = el('span.values', { role: 'cell' });
    const spark = el('span.spark', { role: 'cell' });
    const heard = el('span.heard.muted', { role: 'cell' });
    const tr = el('div.row', { role: 'row' }, el('span.who', { role: 'rowheader' }, dot, anchor, ' ', state, where), values, spark, heard);
    const row = { tr, d: null, spark, chips: new Map(), attribute: null, fill, tick };
    function fill(d) {
      const other = row.d?.id !== d.id;
      row.d = d;
      dot.className = `dot ${d.availability}`;
      anchor.href = link('device', d.id);
      setText(name, d.name);
      setText(where, [d.area, d.model, d.name === d.id ? '' : d.id, d.parent ? `behind ${live.get(d.parent)?.name ?? d.parent}` : ''].filter(Boolean).join(' · '));
      const all = allValues(d);
      const isComputed = (attribute) => !d.attributes.has(attribute);
      const names = main(all, d.classes, VALUES_MAX, { has: isComputed });
      const shown = new Set(names);
      for (const [old, made_] of row.chips) {
        if (shown.has(old)) continue;
        made_.remove();
        row.chips.delete(old);
      }
      for (const attribute of names) {
        let chip = row.chips.get(attribute);
        if (!chip) {
          chip = el('span.chip', el('span.muted'), ' ', el('b'));
          row.chips.set(attribute, chip);
        }
        setText(chip.firstChild, label(attribute, names));
        chip.classList.toggle('computed', isComputed(attribute));
        chip.title = isComputed(attribute) ? tame(`Computed: ${formulaOf(attribute)}`) : '';
        setText(chip.lastChild, say(attribute, all.get(attribute), isComputed(attribute) ? d.derived.get(attribute).unit : d.units.get(attribute)));
        if (d.fresh.has(attribute) && !other) flash(chip);
      }
      values.append(...names.map((attribute) => row.chips.get(attribute)));
      const numeric = names.find((attribute) => typeof d.attributes.get(attribute) === 'number') ?? null;
      if (other || numeric !== row.attribute || at() !== null) {
        spark.replaceChildren();
        delete spark.dataset.at;
      }
      row.attribute = numeric;
      d.fresh.clear();
      tick();
    }
    function tick() {
      const now = nowAt(asOf);
      const wrong = trouble(row.d);
      const long = row.d.availability === 'offline' && !row.d.because ? ` for ${brief((now - row.d.availabilityAt) / 1000)}` : '';
      state.className = `state ${wrong?.mood ?? row.d.availability}`;
      setText(state, wrong ? `${wrong.kind === 'behind' ? 'offline' : wrong.word}${wrong.kind === 'battery' ? '' : long}` : row.d.availability === 'unknown' ? 'unknown' : '');
      dot.title = row.d.availability;
      setText(heard, `${brief((now - row.d.heard) / 1000)} ${at() === null ? 'ago' : 'before'}`);
    }
    return row;
  }

  const scrolled = () => requestAnimationFrame(() => root.isConnected && table.isConnected && place());
  addEventListener('scroll', scrolled, { passive: true });
  addEventListener('resize', list);
  return {
    async show(_, signal) {
      const past = at() === null ? null : await devicesAt(at(), signal);
      const { query } = here();
      devices = past?.devices ?? live;
      asOf = past?.asOf ?? null;
      setText(head.lastChild, past ? 'Last change' : 'Heard');
      if (document.activeElement !== search) search.value = query.get('find') ?? '';
      group.value = query.get('group') ?? '';
      sort.value = query.get('sort') ?? '';
      const filter = query.get('show') ?? 'all';
      for (const input of filters.querySelectorAll('input')) input.checked = input.value === filter;
      list();
      return asOf;
    },
    frame() {
      if (at() !== null) return;
      const due = generation() !== made || (sort.value === 'changed' && dirty.size > 0);
      if (due && performance.now() - sorted > RESORT_MS && !busy()) list();
      for (const id of dirty) {
        const d = live.get(id);
        if (d) rows.get(`device ${id}`)?.fill(d);
      }
      dirty.clear();
    },
    second() {
      for (const row of rows.values()) row.tick?.();
    },
    close() {
      removeEventListener('scroll', scrolled);
      removeEventListener('resize', list);
    },
  };
}
