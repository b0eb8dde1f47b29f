// The health strip and the sources, from /status.

import { spark } from './chart.js';
import { gatewayNow } from './devices.js';
import { $, bytes, count, el, rate, setText, span } from './words.js';

const RATE_WINDOW_MS = 10_000;
const SPARK_POINTS = 60;
const LAG_WARN = 1_000;

const samples = [];
const rates = [];
const tiles = new Map();

export function tile(name, main, detail, warn = false) {
  let made = tiles.get(name);
  if (!made) {
    made = { main: el('dd'), detail: el('dd.detail') };
    made.box = el('div', el('dt', name), made.main, made.detail);
    $('tiles').append(made.box);
    tiles.set(name, made);
  }
  setText(made.main, main);
  setText(made.detail, detail);
  made.box.classList.toggle('warn', warn);
  return made;
}

/** What a counter grew by in a second, over the last samples; `null` until there are two. */
function perSecond(pick) {
  const [first, last] = [samples[0], samples.at(-1)];
  const [a, b] = [pick(first.status), pick(last.status)];
  return samples.length > 1 && b >= a ? (b - a) / ((last.at - first.at) / 1000) : null;
}

export function showHealth(status) {
  const before = samples.at(-1)?.status;
  if (before && (before.position.epoch !== status.position.epoch || before.started_at !== status.started_at)) {
    samples.length = 0;
    rates.length = 0;
  }
  samples.push({ at: performance.now(), status });
  while (samples.length > 2 && samples[1].at < performance.now() - RATE_WINDOW_MS) samples.shift();

  setText($('gateway'), status.gateway_id);
  setText($('version'), `fieldlog ${status.version}`);
  showTiles(status);
  showList($('sources'), status.sources ?? [], fillSource);
}

function showTiles({ position, uptime_s, devices, log, snapshot, rebuild, process, sources = [], blocked = null }) {
  tile('Uptime', span(uptime_s), `CPU ${span(process?.cpu_s)}, ${count(process?.threads)} threads`);
  tile('Position applied', count(position.applied), rebuild?.running ? `replaying, ${count(rebuild.applied)} done` : `of ${count(position.head)}`, Boolean(rebuild?.running));
  tile('Lag', count(position.lag), position.lag === 1 ? 'event behind the head' : 'events behind the head', position.lag > LAG_WARN);
  const now = perSecond((s) => s.position.head);
  const made = tile('Events per second', rate(now), '');
  if (now !== null) rates.push(now);
  if (rates.length > SPARK_POINTS) rates.shift();
  if (!made.spark) {
    made.spark = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    made.spark.setAttribute('viewBox', '0 0 100 24');
    made.spark.setAttribute('preserveAspectRatio', 'none');
    made.spark.setAttribute('aria-hidden', 'true');
    made.detail.replaceWith(el('dd.detail', made.spark));
  }
  spark(made.spark, rates);
  tile('Flash per event', bytes(log?.bytes_per_event), `commit ${rate(log?.commit_ms_mean)} ms, max ${rate(log?.commit_ms_max)}`);
  tile('Flash per day', bytes(log?.bytes_written_per_day), `${rate(log?.endurance_years)} years until the storage is worn out`);
  tile('Log size', bytes(log?.file_bytes), `from position ${count(log?.first_seq)}`);
  const age = snapshot?.at ? gatewayNow() - Date.parse(snapshot.at) : NaN;
  tile('Snapshot age', span(age / 1000), snapshot?.errors > 0 ? `${count(snapshot.errors)} failed, see the journal` : snapshot?.at ? `${bytes(snapshot.bytes)} at ${count(snapshot.seq)}` : 'none yet', snapshot?.errors > 0);
  tile('Memory', bytes(process?.resident_bytes), 'resident');
  tile('Devices online', count(devices?.online), `${count(devices?.offline)} offline, ${count(devices?.unknown)} unknown`);
  const up = sources.filter((source) => source.connected).length;
  tile('Sources', `${up} of ${sources.length}`, blocked === null ? 'connected' : 'blocked', up < sources.length || blocked !== null);
}

/** A source in one word for its colour, and in a sentence. */
export function stateOf(source) {
  const state = source.state_text ?? String(source.state ?? '').replaceAll('_', ' ');
  if (source.connected) return ['online', source.session_present ? 'connected, session resumed' : 'connected, new session'];
  const why = source.last_error && !state.includes(source.last_error) ? `: ${source.last_error}` : '';
  return [source.state === 'connecting' ? 'unknown' : 'offline', `${state || 'not connected'}${why}`];
}

const COUNTERS = [
  ['messages', 'messages'],
  ['events', 'events'],
  ['unchanged', 'unchanged'],
  ['suppressed', 'suppressed'],
  ['ignored', 'ignored'],
  ['quarantined', 'quarantined'],
  ['unacked', 'not yet acked'],
  ['qos0', 'at QoS 0'],
  ['reconnects', 'reconnects'],
];

/** One item for each thing by its name; `fill` puts it into words. */
export function showList(list, things, fill) {
  const old = new Map([...list.children].map((item) => [item.dataset.name, item]));
  things.forEach((thing, index) => {
    const item = old.get(thing.name) ?? el('li', { 'data-name': thing.name });
    old.delete(thing.name);
    if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
    fill(item, thing);
  });
  old.forEach((item) => item.remove());
}

function fillSource(item, source) {
  // Rebuilt only when something is different, so that text stays selectable.
  const now = perSecond((s) => s.sources?.find((it) => it.name === source.name)?.messages ?? 0);
  const key = JSON.stringify([source, now]);
  if (item.dataset.key === key) return;
  item.dataset.key = key;
  const [mood, words] = stateOf(source);
  const counters = COUNTERS.filter(([name]) => source[name] > 0 || name === 'messages' || name === 'events').map(
    ([name, label]) => el(name === 'quarantined' ? 'div.warn' : 'div', el('dt', label), el('dd', count(source[name]))),
  );
  const troubles = [
    ...(source.advice ? [source.advice] : []),
    ...(source.warnings ?? []),
    ...(source.refused_filters ?? []).map((it) => `The broker refused ${it.filter ?? it}${it.reason ? `: ${it.reason}` : ''}`),
  ];
  item.replaceChildren(
    el('p', el('b', source.name), ' ', el('span.muted', source.address ?? '')),
    el(`p.${mood}`, el('i.dot'), words, now > 0 ? `, ${rate(now)} messages/s` : ''),
    ...troubles.map((trouble) => el('p.warn', trouble)),
    el('dl', ...counters),
  );
}
