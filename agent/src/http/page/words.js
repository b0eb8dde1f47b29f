// Values, times and sizes in words, and elements made of them. Names and values come from devices: they only ever
// become text nodes.

export const $ = (id) => document.getElementById(id);

/** An element, `tag` or `tag.class`, with attributes first if there are any, and children as nodes or text. */
export function el(kind, ...children) {
  const [tag, ...classes] = kind.split('.');
  const made = document.createElement(tag);
  made.className = classes.join(' ');
  if (children[0]?.constructor === Object) {
    for (const [name, v] of Object.entries(children.shift())) made.setAttribute(name, v);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Sets text only where it differs, so that ticking does not disturb a selection or a screen reader. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });

export const count = (n) => (Number.isFinite(n) ? whole.format(n) : '–');

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
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

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

/** An attribute's value. Integers beyond 2^53 arrive as BigInt. */
export function value(v) {
  if (typeof v === 'string') return v === '' ? '""' : v;
  if (v !== null && typeof v === 'object') {
    return JSON.stringify(v, (_, inner) => (typeof inner === 'bigint' ? String(inner) : inner));
  }
  return String(v);
}

/** The unit of a number, as it stands behind it. */
export const unitOf = (v, unit) => (unit && /number|bigint/.test(typeof v) ? ` ${unit}` : '');

export function chip(name, v, unit) {
  return el('span.chip', el('span.muted', name), `=${value(v)}`, el('span.muted', unitOf(v, unit)));
}

/** Restarts the flash of a changed value: two equal animations by turns, so that no reflow has to be forced. */
export function flash(element) {
  const first = element.classList.contains('flash-a');
  element.classList.toggle('flash-a', !first);
  element.classList.toggle('flash-b', first);
}

const STEP_CLASS = { applied: 'online', failed: 'offline', expired: 'offline', unconfirmed: 'warn', unknown: 'warn' };

/** A step of a command. */
function step(word, data) {
  const kind = STEP_CLASS[word];
  const more = [
    data.by ? ` by the ${data.by}` : '',
    data.superseded_by ? ` by ${data.superseded_by}` : '',
    data.reason ? `: ${data.reason}` : '',
  ].join('');
  return [`command ${data.command} `, el(kind ? `span.${kind}` : 'span', word), more];
}

/** What an event or a history entry says: a word, and the changes as chips. */
export function describe({ type, data = {} }) {
  switch (type) {
    case 'state_changed':
      return Object.entries(data.changes ?? {}).map(([name, v]) =>
        v === null ? el('span.chip', `${name} removed`) : chip(name, v, data.described?.[name]?.unit),
      );
    case 'availability_changed':
      return [el(`span.${data.availability}`, data.availability), data.cause === 'silence' ? ' (nothing heard)' : ''];
    case 'device_discovered':
      return [`first seen on ${data.source}`, data.parent ? ` behind ${data.parent}` : ''];
    case 'device_renamed':
      return [`is called ${data.called} now`];
    case 'device_retired':
      return ['removed at its source'];
    case 'device_forgotten':
      return ['forgotten to make room'];
    case 'device_described':
      return [`described by ${data.by}: ${Object.values(data.description).join(', ') || 'nothing'}`];
    case 'attribute_described':
      return [`${data.attribute} described by ${data.by}: ${data.description.unit || data.description.name || ''}`];
    case 'action_fired':
      return ['action ', chip(data.attribute, data.value)];
    case 'attribute_named':
      return [`new attribute ${data.name ?? ''}`];
    case 'input_quarantined':
      return [el('span.offline', 'quarantined '), `${data.topic}: ${data.reason}`];
    case 'quarantine_summarised':
      return [el('span.offline', 'quarantined '), `${data.count} more on ${data.topic || 'many topics'}: ${data.reason}`];
    case 'command_requested':
      return ['asks for ', data.operation && data.value === null ? el('span.chip', data.name) : chip(data.name, data.value), ` by ${data.actor}`];
    case 'command_rejected':
      return [el('span.offline', 'not accepted '), `${data.name} by ${data.actor}: ${data.reason}`];
    case 'administered':
      return [`${data.call} ${data.target ?? ''} by ${data.actor}`];
    case 'booted':
      return [`fieldlog ${data.version} started`];
    default:
      return /^command_[a-z]+$/.test(type) ? step(type.slice(8), data) : [`${type} ${value(data)}`];
  }
}
