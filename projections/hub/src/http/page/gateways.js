// All gateways: is everything well, what needs attention first, and each of them in a list.

import { get, hubNow, list } from './api.js';
import { ago, gatewayLink } from './name.js';
import { here, link, setQuery } from './route.js';
import { named, placeRows } from './rows.js';
import { FILTERS, STATES, TODO, lagWords, stateOf, todoWords, wrongWords } from './standing.js';
import { sourceCards } from './sources.js';
import { icon, storeCards } from './stores.js';
import { count, el, json, many, refill, setText } from './words.js';

const PAGE = 100;
const OF_STATE_MAX = 5;
const TYPING_MS = 300;
const ATTENTION_MS = 30_000;

const sum = (fleet, states) => states.reduce((all, state) => all + (fleet[state] ?? 0), 0);
const narrowed = (show) => link('gateways', '', { show });

function verdictOf(fleet) {
  if (fleet.gateways === 0) return ['No gateway has sent anything yet', 'unknown'];
  const wrong = sum(fleet, TODO);
  if (wrong > 0) return [`${count(wrong)} of ${many(fleet.gateways, 'gateway')} need${wrong === 1 ? 's' : ''} attention`, sum(fleet, ['forked', 'contradicted', 'silent']) > 0 ? 'bad' : 'warn'];
  return [fleet.gateways === 1 ? 'The gateway is well' : `All ${count(fleet.gateways)} gateways are well`, 'good'];
}

const figure = (name, main, show) => el('li', el('a', { href: narrowed(show) }, el('b', main), ' ', name));

function figuresOf(fleet) {
  const shown = Object.keys(FILTERS).filter((name) => name !== 'all' && name !== 'attention');
  return [
    ...shown.map((name) => figure(FILTERS[name][0].toLowerCase(), count(sum(fleet, FILTERS[name][1])), name)),
    el('li.muted', el('b', count(Number(fleet.events))), ' events here, ', el('b', count(Number(fleet.lag_events))), ' still to come'),
  ];
}

/** The gateways in a state, with what to do about them. */
function attentionItem(state, all, gateways) {
  const { word, mood } = STATES[state];
  const rest = all - gateways.length;
  const show = Object.keys(FILTERS).find((name) => name !== 'all' && name !== 'attention' && FILTERS[name][1].includes(state));
  return el(
    'li',
    el('p', icon(mood), el(`b.${mood}`, `${count(all)} ${word}`), ' ', el('span.muted', todoWords({ state }))),
    el(
      'ul.which',
      gateways.map((gateway) => el('li', gatewayLink(gateway.gateway), ' ', el('span', wrongWords(gateway)))),
      rest > 0 ? el('li', el('a', { href: narrowed(show) }, `and ${count(rest)} more`)) : null,
    ),
  );
}

const COLUMNS = ['Gateway', 'State', 'Behind by', 'Newest event', 'Last seen', 'Version'];

function row(gateway) {
  const { word, mood } = stateOf(gateway);
  return el(
    'tr',
    el('th', { scope: 'row' }, gatewayLink(gateway.gateway)),
    el('td', el(`span.${mood}`, icon(mood), word), gateway.state === 'complete' ? null : el('small.muted', wrongWords(gateway))),
    el('td', { 'data-of': 'behind by ' }, lagWords(gateway)),
    el('td', { 'data-of': 'newest event ' }, ago(gateway.newest_time)),
    el('td', { 'data-of': 'last seen ' }, ago(gateway.last_seen)),
    el('td', { 'data-of': 'version ' }, gateway.version ?? '–'),
  );
}

export function openGateways(root) {
  const verdict = el('h2', { id: 'verdict' }, '…');
  const figures = el('ul.figures', { 'aria-label': 'Gateways by state' });
  const parts = el('ul.parts', { id: 'parts', 'aria-label': 'Sources, and stores that follow the tables' });
  const wrong = el('ol.attention');
  const attention = el('section.card', { id: 'attention', hidden: '' }, el('h2', 'Needs attention'), wrong);
  const search = el('input', { type: 'search', placeholder: 'Part of its id', autocomplete: 'off', spellcheck: 'false', 'aria-label': 'Search gateways by id', maxlength: 128 });
  const filters = el('fieldset.filter', el('legend.unseen', 'State'));
  const counts = new Map();
  for (const [name, [words]] of Object.entries(FILTERS)) {
    const input = el('input', { type: 'radio', name: 'show', value: name });
    input.addEventListener('change', () => setQuery({ show: name === 'all' ? null : name, after: null }, false));
    const number = el('b');
    counts.set(name, number);
    filters.append(el('label', input, el('span', words, ' ', number)));
  }
  const body = el('tbody', { id: 'gateways' });
  const table = el('table.fleet', el('caption.unseen', 'Gateways by id'), el('thead', el('tr', COLUMNS.map((name) => el('th', { scope: 'col' }, name)))), body);
  const note = el('p.note', { role: 'status' });
  const first = el('a', { hidden: '' }, 'First page');
  const next = el('a', { hidden: '' }, 'Next page');
  root.append(verdict, figures, attention, parts, el('section.card', el('h2', 'All gateways'), el('div.bar', search, filters), table, note, el('nav.pages', { 'aria-label': 'Pages of the list' }, first, next)));
  let typing = null;
  search.addEventListener('input', () => {
    clearTimeout(typing);
    typing = setTimeout(() => setQuery({ find: search.value.trim(), after: null }), TYPING_MS);
  });

  let known = { key: '', at: 0 };
  /** Not as often as the rest: in a large fleet, it is looked for among all gateways. */
  async function showAttention(fleet, signal) {
    const states = TODO.filter((state) => fleet[state] > 0);
    const key = json(states.map((state) => [state, fleet[state]]));
    if (key === known.key && hubNow() - known.at < ATTENTION_MS) return;
    const found = await Promise.all(states.map((state) => list('gateways', { state, limit: OF_STATE_MAX }, signal)));
    const items = states.map((state, index) => attentionItem(state, fleet[state], found[index]));
    attention.hidden = items.length === 0;
    refill(wrong, items.map((item) => item.textContent).join('\n'), () => items);
    known = { key, at: hubNow() };
  }

  async function showList(route, signal) {
    const { query } = here();
    const show = query.get('show') in FILTERS ? query.get('show') : 'all';
    const [find, after] = [query.get('find') ?? '', query.get('after') ?? ''];
    if (document.activeElement !== search) search.value = find;
    for (const input of filters.querySelectorAll('input')) input.checked = input.value === show;
    const states = FILTERS[show][1];
    const gateways = await list('gateways', { q: find, state: states.join(','), after, limit: PAGE + 1 }, signal);
    const isMore = gateways.length > PAGE;
    const rows = gateways.slice(0, PAGE).map((gateway) => named(row(gateway), gateway.gateway));
    placeRows(body, rows);
    table.hidden = rows.length === 0;
    const none = find || show !== 'all' ? 'There is no such gateway.' : 'A gateway comes by itself, with the first that it sends. docs/src/hub.md says how to let one send here.';
    setText(note, rows.length === 0 ? (after ? 'There are no more.' : none) : after || isMore ? `${many(rows.length, 'gateway')} on this page, by id.` : '');
    first.hidden = after === '';
    next.hidden = !isMore;
    first.href = link('gateways', '', { ...Object.fromEntries(query), after: null });
    next.href = link('gateways', '', { ...Object.fromEntries(query), after: gateways.at(PAGE - 1)?.gateway });
  }

  return {
    async show(route, signal) {
      const listed = showList(route, signal);
      const read = ['fleet', 'sources', 'stores'].map((what) => get(`/api/v1/${what}`, signal));
      const [fleet, { items: sources }, { items: stores }] = await Promise.all([...read, listed]);
      const [words, mood] = verdictOf(fleet);
      setText(verdict, words);
      verdict.className = mood;
      refill(figures, json(fleet), () => figuresOf(fleet));
      figures.hidden = fleet.gateways === 0;
      for (const [name, number] of counts) setText(number, count(name === 'all' ? fleet.gateways : sum(fleet, FILTERS[name][1])));
      const cards = [...sourceCards(sources), ...storeCards(stores)];
      parts.hidden = cards.length === 0;
      refill(parts, cards.map((card) => card.textContent).join('\n'), () => cards);
      await showAttention(fleet, signal);
    },
    close: () => clearTimeout(typing),
  };
}
