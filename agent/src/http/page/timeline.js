// What was on or off, or which text it was, over a time: a bar of stretches.

import { isOn, say } from './classes.js';
import { clock, el, moment, setText, span, tame, value } from './words.js';

const COLOURS = 6;

/** A colour that stays with a text. */
function colour(text) {
  let sum = 0;
  for (const c of text) sum = (sum * 31 + c.codePointAt(0)) % 9973;
  return `t${sum % COLOURS}`;
}

const kind = (v) => {
  if (v === null || v === undefined) return 'none';
  const on = isOn(v);
  return on === null ? colour(value(v)) : on ? 'on' : 'off';
};

/** The stretches of a series, oldest first; where nothing is known, `v` is undefined. */
function stretches({ points, held, from, to }) {
  const known = [{ t: from, v: held ? held.v : undefined }, ...points, { t: Math.max(to, points.at(-1)?.t ?? to) }];
  return known.slice(0, -1).map((it, index) => ({ ...it, end: known[index + 1].t })).filter((it) => it.end > it.t);
}

/** Draws a series of truth values or texts. */
export function drawTimeline(element, readout, series, name) {
  const list = stretches(series);
  const said = (v) => (v === undefined ? 'not known' : v === null ? 'none' : say(name, v));
  const long = ({ t, end, v }) => `${said(v)} from ${moment(t)} to ${moment(end)}, ${span((end - t) / 1000)}`;
  const parts = list.map((it) => {
    const part = el(`span.stretch.${kind(it.v)}`, { title: long(it) }, el('span', said(it.v)));
    part.style.flexGrow = it.end - it.t;
    return part;
  });
  const total = new Map();
  for (const { t, end, v } of list) total.set(said(v), (total.get(said(v)) ?? 0) + end - t);
  const words = [...total].sort((a, b) => b[1] - a[1]).slice(0, 4).map(([text, ms]) => `${text} for ${span(ms / 1000)}`).join(', ');
  const still = series.points.length === 0 && series.held;
  setText(readout, still ? `${said(series.held.v)}, unchanged since ${moment(series.held.t)}` : words);
  const edge = (ms) => el('span', series.to - series.from > 86_400_000 ? moment(ms) : clock(ms).slice(0, 5));
  element.setAttribute('aria-label', tame(`Timeline of ${name}: ${readout.textContent}`));
  element.replaceChildren(el('div.timeline', parts), el('div.edges.muted', [series.from, (series.from + series.to) / 2, series.to].map(edge)));
}
