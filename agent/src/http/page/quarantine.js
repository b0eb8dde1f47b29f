// Messages that could not be understood: why, their bytes, and taking them again.

import { CANCELLED, change } from './admin.js';
import { get, getBlob } from './api.js';
import { at, here, setQuery } from './route.js';
import { bytes, count, download, el, many, setText, when } from './words.js';

const PAGE = 100;
const READ_MAX = 5; // pages that a search looks through before it asks whether to go on

export function openQuarantine(root) {
  const past = el('p.note', { hidden: '' }, 'This is what is kept now; events of the kind Quarantine show what was not understood back then.');
  const search = el('input', { type: 'search', placeholder: 'Topic, source or reason', autocomplete: 'off', spellcheck: 'false', 'aria-label': 'Search the quarantine' });
  const all = el('button', { type: 'button', hidden: '' });
  const said = el('p.outcome', { role: 'status', 'aria-live': 'polite' });
  const list = el('ol.quarantine', { id: 'quarantine', 'aria-label': 'Messages, newest first' });
  const note = el('p.note');
  const more = el('button', { type: 'button', hidden: '' }, 'Show more');
  const help = el(
    'p.muted',
    'What could not be understood is kept here, and nothing else is lost by it. Mend the rule in the configuration (', el('code', 'fieldlog try'),
    ' shows what a message becomes), then take it again: what it says is recorded as history, and changes no present state.',
  );
  root.append(el('section.card', el('h2', 'Quarantine'), help, past, el('div.bar', search, all), said, list, note, more));
  let next = null;
  let topic = '';
  let words = [];
  let typing = null;
  search.addEventListener('input', () => {
    clearTimeout(typing);
    typing = setTimeout(() => setQuery({ find: search.value, topic: null }), 300);
  });

  const takes = (it) => (topic === '' || it.topic === topic) && words.every((word) => `${it.source}\n${it.topic}\n${it.reason}`.toLowerCase().includes(word));

  async function read(signal, before = null) {
    let found = [];
    for (let pages = 0; pages < READ_MAX && found.length < PAGE; pages += 1) {
      const page = await get(`/api/v1/quarantine?limit=${PAGE}${before ? `&before=${before}` : ''}`, signal);
      found = found.concat(page.quarantine.filter(takes));
      before = page.next ?? null;
      if (before === null) break;
    }
    next = before;
    return found;
  }

  function tell() {
    more.hidden = next === null;
    const none = list.children.length === 0;
    setText(note, !none ? '' : topic || words.length > 0 ? 'None of the newest match.' : 'Every message could be understood.');
    // A `*` would stand for any text.
    all.hidden = topic === '' || topic.includes('*') || none || at() !== null;
    setText(all, `Take all on ${topic} again`);
  }

  async function take(path, body, button) {
    button.disabled = true;
    try {
      const [resolved, kept] = [[], []];
      for (let after; after !== null; ) {
        const done = await change(path, after === undefined ? body : { ...body, after });
        resolved.push(...done.resolved);
        kept.push(...done.kept);
        after = done.next;
      }
      const records = resolved.reduce((sum, it) => sum + it.records, 0);
      const stays = kept.length > 0 ? ` ${count(kept.length)} ${kept.length === 1 ? 'stays' : 'stay'}: ${kept[0].reason}` : '';
      setText(said, `${count(resolved.length)} taken again, ${many(records, 'record')} made of ${resolved.length === 1 ? 'it' : 'them'}.${stays}`);
      said.className = `outcome ${kept.length > 0 ? 'warn' : 'good'}`;
      list.replaceChildren(...(await read()).map(item));
      tell();
    } catch (error) {
      const off = error.code === 'no-admin-token' ? ' Until then: fieldlog quarantine requeue, on the gateway.' : '';
      setText(said, error === CANCELLED ? '' : `Not taken again: ${error.message}${off}`);
      said.className = 'outcome bad';
    } finally {
      button.disabled = false;
    }
  }
  all.addEventListener('click', () => take('/api/v1/quarantine/requeue', { topic }, all));

  /** By fetch, so that a refusal is said here. */
  async function save(seq, button) {
    try {
      download(`quarantine-${seq}.bin`, 'application/octet-stream', [await getBlob(`/api/v1/quarantine/${seq}`)]);
    } catch (error) {
      setText(button, error.status === 404 ? 'no longer kept' : 'cannot be read now');
    }
  }

  function item({ seq, at: time, source, topic: on, reason, size, count: summed }) {
    const bytes_ = el('button.link', { type: 'button', 'aria-label': `Download the ${bytes(size)} of message ${seq}` }, bytes(size));
    bytes_.addEventListener('click', () => save(seq, bytes_));
    const again = el('button', { type: 'button', 'aria-label': `Take again: message ${seq}` }, 'Take again');
    again.addEventListener('click', () => take(`/api/v1/quarantine/${seq}/requeue`, {}, again));
    const only = el('button.link', { type: 'button', title: 'Only this topic' }, on || 'many topics');
    only.addEventListener('click', () => setQuery({ topic: on, find: null }, false));
    return el(
      'li',
      el('div', when(time, seq), ' ', el('b', only), el('span.muted', ` on ${source}, `), bytes_, summed ? ` (${many(summed, 'message')})` : '', el('p', reason)),
      at() === null && !summed ? again : null,
    );
  }

  more.addEventListener('click', async () => {
    list.append(...(await read(undefined, next)).map(item));
    tell();
  });
  return {
    async show({ query }, signal) {
      past.hidden = at() === null;
      topic = query.get('topic') ?? '';
      const find = query.get('find') ?? '';
      words = find.toLowerCase().split(/\s+/).filter(Boolean);
      if (document.activeElement !== search) search.value = topic || find;
      list.replaceChildren(...(await read(signal)).map(item));
      tell();
    },
    event(event) {
      if (event.type !== 'input_quarantined' && event.type !== 'quarantine_summarised') return;
      const made = { seq: event.seq, at: event.time, ...event.data };
      if (here().view === 'quarantine' && takes(made)) {
        list.prepend(item(made));
        tell();
      }
    },
  };
}
