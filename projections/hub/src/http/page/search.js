// Words, looked for in the devices of all gateways and in what gateways could not read.

import { get } from './api.js';
import { deviceLink, gatewayLink, time } from './name.js';
import { here, setQuery } from './route.js';
import { count, el, refill, setText } from './words.js';

const PAGE = 50;
const TYPING_MS = 300;

function item({ kind, gateway, device, seq, recorded, text }) {
  const found = kind === 'device' ? [deviceLink(gateway, device)] : [el('b.warn', 'not understood'), ' ', time(recorded), ` at position ${count(Number(seq))}`];
  return el('li', ...found, ' of ', gatewayLink(gateway), el('p.muted', el('bdi', text)));
}

export function openSearch(root) {
  const search = el('input', { type: 'search', placeholder: 'kitchen lamp', autocomplete: 'off', spellcheck: 'false', maxlength: 80, 'aria-label': 'Words to look for' });
  const hits = el('ol.things', { id: 'hits', 'aria-label': 'What was found' });
  const note = el('p.note', { role: 'status' });
  const more = el('button', { type: 'button', hidden: '' }, 'Show more');
  root.append(el('section.card', el('h2', 'Search'), el('div.bar', { role: 'search' }, search), note, hits, more));
  let typing = null;
  let next = null;
  let wanted = null;
  search.addEventListener('input', () => {
    clearTimeout(typing);
    typing = setTimeout(() => setQuery({ q: search.value.trim() }), TYPING_MS);
  });

  async function read(q, after, signal) {
    const query = new URLSearchParams({ q, limit: PAGE, ...(after ? { after } : {}) });
    const found = await get(`/api/v1/search?${query}`, signal);
    if (wanted !== q) return;
    const items = found.items.map(item);
    if (after) hits.append(...items);
    else refill(hits, `${q}\n${items.map((it) => it.textContent).join('\n')}`, () => items);
    next = found.next;
    more.hidden = next === null;
    setText(note, hits.children.length === 0 ? 'Nothing has all of these words.' : '');
  }
  more.addEventListener('click', () => read(wanted, next).catch((error) => setText(note, `Cannot be read: ${error.message}`)));
  let shown = null;
  return {
    async show(_, signal) {
      const q = here().query.get('q') ?? '';
      if (document.activeElement !== search) search.value = q;
      if (q === shown) return;
      wanted = q;
      if (q === '') {
        hits.replaceChildren();
        delete hits.dataset.key;
        more.hidden = true;
        setText(note, 'Words of ids, names, areas, makers and models of devices, and of messages that gateways could not read. All of them have to be there; the last one may be the beginning of one.');
      } else {
        try {
          await read(q, null, signal);
        } catch (error) {
          // A question without a word.
          if (error.status !== 400) throw error;
          hits.replaceChildren();
          delete hits.dataset.key;
          more.hidden = true;
          setText(note, error.message);
        }
      }
      shown = q;
    },
    close: () => clearTimeout(typing),
  };
}
