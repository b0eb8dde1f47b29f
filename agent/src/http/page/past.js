// The time slider: the whole page shows the state at the moment that it is on.

import { gatewayNow, get } from './api.js';
import { at, setQuery, timeOf } from './route.js';
import { $, clock, count, many, moment, setText, span } from './words.js';

const STEPS = 2_000;
const STEP_SHARE = 60; // "Earlier" and "Later" go a sixtieth of the slider

let begin = null; // of the log, in ms
let from = 0;
let to = 0;
let dragging = false;
let shown = NaN; // the moment that is looked at, in ms; of a record's number, its time is known with the answer

const iso = (ms) => new Date(ms).toISOString();

/** The first record's time: before it there is nothing to see. */
async function readBegin() {
  const { events } = await get('/api/v1/events?limit=1').catch(() => ({ events: [] }));
  if (events.length > 0) begin = Date.parse(events[0].time);
}

/** Places the slider's ends so that `ms` is between them. */
function place(ms) {
  const now = gatewayNow();
  const length = Number($('time-span').value) * 1000 || now - (begin ?? now - 3_600_000);
  if (ms >= now - length) [from, to] = [now - length, now];
  else [from, to] = [ms - length / 2, ms + length / 2];
  if (begin !== null && from < begin) [from, to] = [begin, Math.max(to, begin + 60_000)];
  setText($('time-first'), moment(from));
  setText($('time-last'), Math.abs(to - now) < 1_000 ? 'now' : moment(to));
  showKnob(ms);
}

function showKnob(ms) {
  shown = ms;
  $('time-slider').value = Math.round(((ms - from) / (to - from)) * STEPS);
  $('time-slider').setAttribute('aria-valuetext', moment(ms));
}

/** The page looks at this moment now; null: at the present. */
export function showMoment(text) {
  document.body.classList.toggle('past', text !== null);
  $('time-open').setAttribute('aria-expanded', String(text !== null));
  $('time').hidden = text === null;
  if (text === null) return;
  tickMoment();
  const ms = timeOf(text);
  shown = ms;
  if (Number.isNaN(ms)) return;
  if (begin === null) readBegin().then(() => begin !== null && place(ms));
  if (!dragging && !(ms >= from && ms <= to && to > from)) place(ms);
  else showKnob(ms);
  if (document.activeElement !== $('time-field')) $('time-field').value = iso(ms - new Date(ms).getTimezoneOffset() * 60_000).slice(0, 19);
}

/** How long ago it is goes on by itself. */
export function tickMoment() {
  const text = at();
  if (text === null) return;
  const ms = timeOf(text);
  if (Number.isNaN(ms)) {
    setText($('time-date'), /^\d+$/.test(text) ? `You look at the past: after record ${count(Number(text))}` : 'The address names no moment.');
    setText($('time-ago'), '');
    return;
  }
  const day = new Intl.DateTimeFormat('en', { weekday: 'short', day: 'numeric', month: 'short', year: 'numeric' }).format(ms);
  const ago = gatewayNow() - ms;
  // Only the moment is announced, not each second that it is longer ago.
  setText($('time-date'), `You look at the past: ${day}, ${clock(ms)}`);
  setText($('time-ago'), ago >= 1_000 ? `, ${span(ago / 1000)} ago` : '');
}

/** How exactly the shown state is known; null: that is not known; undefined: it is being asked for. */
export function showExact(asOf) {
  $('time-exact').className = asOf && !asOf.exact ? 'warn' : 'muted';
  if (!asOf) {
    setText($('time-exact'), asOf === null ? '' : 'That moment is being rebuilt …');
    return;
  }
  if (Number.isNaN(timeOf(at()))) place(Date.parse(asOf.time));
  const base = asOf.base === undefined ? '' : asOf.base === 0 ? ', rebuilt from the first record on' : `, rebuilt from the snapshot at record ${count(asOf.base)}`;
  const made = `${base}${asOf.replayed > 0 ? ` with ${many(asOf.replayed, 'record')}${asOf.base ? ' after it' : ''}` : ''}`;
  const words = asOf.exact
    ? `Exact: all that was recorded up to record ${count(asOf.seq)}${made}.`
    : asOf.inexact_because === 'before-log'
      ? 'The log begins later: nothing is known of this moment.'
      : 'Not exact yet: the moment is so recent that records of it may still come.';
  setText($('time-exact'), words);
}

function goTo(ms, replace = true) {
  if (Number.isNaN(ms)) return;
  if (ms >= gatewayNow()) leave();
  else setQuery({ at: iso(Math.max(ms, begin ?? ms)) }, replace);
}

function leave() {
  setQuery({ at: null }, false);
  $('time-open').focus();
}

$('time-open').addEventListener('click', async () => {
  if (at() !== null) return leave();
  if (begin === null) await readBegin();
  const now = gatewayNow();
  place(now);
  goTo(Math.max(now - 60_000, (begin ?? now) + (now - (begin ?? now)) / 2), false);
  return $('time-slider').focus();
});
$('time-close').addEventListener('click', leave);
$('time-slider').addEventListener('input', () => {
  dragging = true;
  goTo(from + (Number($('time-slider').value) / STEPS) * Math.min(to - from, gatewayNow() - 1 - from));
});
$('time-slider').addEventListener('change', () => {
  dragging = false;
});
$('time-span').addEventListener('change', async () => {
  if (begin === null) await readBegin();
  if (!Number.isNaN(shown)) place(shown);
});
for (const [id, sign] of [['time-back', -1], ['time-forward', 1]]) {
  $(id).addEventListener('click', () => goTo(shown + (sign * (to - from)) / STEP_SHARE));
}
$('time-field').addEventListener('change', () => {
  goTo(Date.parse($('time-field').value));
});
