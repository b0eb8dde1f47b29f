// The live event tail and the quarantine.

import { get, getBlob } from './api.js';
import { $, bytes, clock, count, describe, el, moment, setText } from './words.js';

const TAIL_MAX = 50;
const REASONS_MAX = 8;

let waiting = [];
let paused = false;
let missed = 0;

$('pause').addEventListener('click', () => {
  paused = !paused;
  $('pause').setAttribute('aria-pressed', String(paused));
  missed = 0;
  flushTail();
});

/** Events of before the page was opened, so that the tail does not start empty. */
export async function loadTail(position) {
  const found = [];
  let after = Math.max(0, position.applied - TAIL_MAX);
  while (typeof after === 'number' && after < position.applied) {
    // A page of large events ends early.
    const answer = await get(`/api/v1/events?after=${after}&limit=${TAIL_MAX}`);
    found.push(...(answer.events ?? []));
    after = answer.next;
  }
  waiting = [];
  $('tail').replaceChildren();
  found.filter((event) => event.seq <= position.applied).forEach(tailEvent);
}

export function tailEvent(event) {
  waiting.push(event);
  missed += 1;
  if (waiting.length > TAIL_MAX) waiting.splice(0, waiting.length - TAIL_MAX);
}

export function flushTail() {
  setText($('pause'), paused ? `Resume${missed > 0 ? ` (${count(missed)} new)` : ''}` : 'Pause');
  if (paused || waiting.length === 0) return;
  const list = $('tail');
  list.prepend(...waiting.reverse().map(entry));
  waiting = [];
  missed = 0;
  while (list.children.length > TAIL_MAX) list.lastChild.remove();
}

function entry(event) {
  const time = el('time', { datetime: event.time, title: `position ${event.seq}` }, clock(Date.parse(event.time), true));
  const device = event.device ? el('a', { href: `#device=${encodeURIComponent(event.device)}` }, event.device) : null;
  return el('li', time, ' ', device, ' ', ...describe(event));
}

/** Counter of all sources since the agent started. */
export function showQuarantineCount(sources) {
  const total = sources.reduce((sum, source) => sum + (source.quarantined ?? 0), 0);
  setText($('quarantine-count'), `${count(total)} since start`);
  $('quarantine-count').className = total > 0 ? 'warn' : '';
}

export async function loadQuarantine() {
  const answer = await get(`/api/v1/quarantine?limit=${REASONS_MAX}`);
  const list = Array.isArray(answer) ? answer : (answer.quarantine ?? []);
  $('quarantine').replaceChildren(...list.slice(0, REASONS_MAX).map(rejected));
  if (list.length === 0) $('quarantine').append(el('li.note', 'Every message could be read.'));
}

export function quarantineEvent({ seq, time, data }) {
  const list = $('quarantine');
  list.querySelector('.note')?.remove();
  list.prepend(rejected({ seq, at: time, ...data }));
  while (list.children.length > REASONS_MAX) list.lastChild.remove();
}

function rejected({ seq, at, source, topic, reason, size }) {
  const save = el('button.link', { type: 'button', 'aria-label': `${bytes(size)}: download payload ${seq}` }, bytes(size));
  save.onclick = () => download(seq, save);
  return el(
    'li',
    el('time', { datetime: at }, moment(Date.parse(at))),
    ' ',
    el('b', topic),
    el('span.muted', ` on ${source}, `),
    save,
    `: ${reason}`,
  );
}

/** By fetch, because a plain link would not carry the token. */
async function download(seq, button) {
  try {
    const url = URL.createObjectURL(await getBlob(`/api/v1/quarantine/${seq}`));
    el('a', { href: url, download: `quarantine-${seq}.bin` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  } catch (error) {
    setText(button, error.status === 404 ? 'no longer kept' : 'cannot be read now');
  }
}
