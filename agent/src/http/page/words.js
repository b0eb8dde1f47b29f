// Values, times and sizes in words, and elements made of them. Names and values come from devices: they only ever
// become text nodes, and characters in them that reorder or hide other text are shown by their number.

export const $ = (id) => document.getElementById(id);

// Controls but tab and line feed, soft hyphen, marks and overrides of direction, zero width, tags.
const TRICKY = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;
/** Text in which such characters are shown by their number. All text of elements is; titles and labels have to be made so. */
export const tame = (text) => String(text).replace(TRICKY, (c) => `‹U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}›`);

const SHOWN = new Set(['title', 'aria-label', 'placeholder']);

/** An element, `tag` or `tag.class`, with attributes first if there are any, and children as nodes or text. */
export function el(kind, ...children) {
  const [tag, ...classes] = kind.split('.');
  const made = document.createElement(tag);
  made.className = classes.join(' ');
  if (children[0]?.constructor === Object) {
    for (const [name, v] of Object.entries(children.shift())) {
      if (v !== null && v !== undefined) made.setAttribute(name, SHOWN.has(name) ? tame(v) : v);
    }
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) made.append(child instanceof Node ? child : tame(child));
  }
  return made;
}

/** The same in SVG. */
export function svg(tag, attributes, ...children) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, v] of Object.entries(attributes)) made.setAttribute(name, v);
  made.append(...children.map((child) => (child instanceof Node ? child : tame(child))));
  return made;
}

/** Sets text only where it differs, so that ticking does not disturb a selection or a screen reader. */
export function setText(element, text) {
  const shown = tame(text);
  if (element.textContent !== shown) element.textContent = shown;
}

/** Makes the children anew where `key` differs. A link or button that had the focus gets it back. */
export function refill(element, key, make) {
  if (element.dataset.key === key) return;
  element.dataset.key = key;
  const all = () => [...element.querySelectorAll('a, button')];
  const had = all().indexOf(document.activeElement);
  element.replaceChildren(...make());
  if (had >= 0) all()[had]?.focus({ preventScroll: true });
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });

export const count = (n) => (Number.isFinite(n) ? whole.format(n) : '–');

/** `1 record`, `2 records`. */
export const many = (n, thing) => `${count(n)} ${thing}${n === 1 ? '' : 's'}`;

export function rate(n) {
  if (!Number.isFinite(n)) return '–';
  return n >= 100 ? whole.format(n) : short.format(n);
}

export function bytes(n) {
  if (!Number.isFinite(n)) return '–';
  for (const unit of ['B', 'kB', 'MB', 'GB']) {
    if (n < 999.5) return `${short.format(n)} ${unit}`;
    n /= 1000;
  }
  return `${short.format(n)} TB`;
}

/** A span of time, in its two largest units. */
export function span(seconds) {
  if (!Number.isFinite(seconds)) return '–';
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min${s < 600 && s % 60 ? ` ${s % 60} s` : ''}`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** A span of time, in its largest unit: for lists. */
export const brief = (seconds) => span(seconds).split(' ').slice(0, 2).join(' ');

const two = (n) => String(n).padStart(2, '0');

export function clock(ms, millis = false) {
  const t = new Date(ms);
  if (Number.isNaN(t.getTime())) return '–';
  const time = `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
  return millis ? `${time}.${String(t.getMilliseconds()).padStart(3, '0')}` : time;
}

/** Time of day, with the date when that is not today. */
export function moment(ms) {
  const t = new Date(ms);
  if (Number.isNaN(t.getTime())) return '–';
  const today = new Date().toDateString() === t.toDateString();
  return today ? clock(ms) : `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${clock(ms)}`;
}

/** JSON of what the API said. Integers beyond 2^53 arrive as BigInt, and leave as they came. */
export const json = (v) => JSON.stringify(v, (_, inner) => (typeof inner === 'bigint' ? JSON.rawJSON(String(inner)) : inner));

/** An attribute's value, as it was recorded. */
export function value(v) {
  if (typeof v === 'string') return v === '' ? '""' : v;
  return typeof v === 'bigint' ? String(v) : json(v);
}

/** Restarts the flash of a changed value: two equal animations by turns, so that no reflow has to be forced. */
export function flash(element) {
  const first = element.classList.contains('flash-a');
  element.classList.toggle('flash-a', !first);
  element.classList.toggle('flash-b', first);
}

/** Time of an event or a value, as an element; `at` is what the API says. */
export function when(at, seq, millis = false) {
  const ms = Date.parse(at);
  const today = new Date().toDateString() === new Date(ms).toDateString();
  return el('time', { datetime: at, title: seq === undefined ? null : `record ${seq}` }, today ? clock(ms, millis) : moment(ms));
}

/** Hands on a list to the user as a file. */
export function download(name, media, parts) {
  const url = URL.createObjectURL(new Blob(parts, { type: media }));
  el('a', { href: url, download: name.replace(/[^\w.-]+/g, '_') }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
