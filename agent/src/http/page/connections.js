// Where messages come from and where records go: brokers and sinks.

import { CANCELLED, change } from './admin.js';
import { gatewayNow } from './api.js';
import { sinkState, sourceState, sourceTroubles } from './health.js';
import { at } from './route.js';
import { bytes, count, el, moment, rate, refill, span } from './words.js';

const RATE_WINDOW_MS = 10_000;

const number = ([label, words, kind = '']) => el(`div${kind}`, el('dt', label), el('dd', words));

function sourceNodes(source, perSecond) {
  const [mood, words] = sourceState(source);
  const counters = [
    ['messages', count(source.messages)],
    ['messages a second', perSecond === null ? '–' : rate(perSecond)],
    ['events', count(source.events)],
    ['repeated values', count(source.unchanged)],
    ...(source.suppressed > 0 ? [['held back', count(source.suppressed)]] : []),
    ...(source.ignored > 0 ? [['not taken by any rule', count(source.ignored)]] : []),
    ...(source.quarantined > 0 ? [['not understood', count(source.quarantined), '.warn']] : []),
    ...(source.reconnects > 0 ? [['reconnects', count(source.reconnects)]] : []),
  ];
  const host = source.sparkplug ? el('p', `Sparkplug host ${source.sparkplug.host_id}: ${count(source.sparkplug.nodes_online)} edge nodes online, ${count(source.sparkplug.nodes_stale)} stale, ${count(source.sparkplug.nodes_offline)} offline`) : null;
  return [
    el('h3', source.name, ' ', el('span.muted', source.address)),
    el(`p.words.${mood}`, el('i.dot'), words),
    ...sourceTroubles(source).map((trouble) => el('p.words.warn', trouble)),
    host,
    el('dl.numbers', counters.map(number)),
  ].filter(Boolean);
}

/** Ends the wait of a sink, and says why that is not possible. */
function retryButton(sink) {
  const said = el('span.warn', { role: 'status' });
  const button = el('button', { type: 'button' }, 'Retry now');
  button.onclick = async () => {
    button.disabled = true;
    try {
      await change(`/api/v1/sinks/${encodeURIComponent(sink.name)}/retry`, {}, true);
    } catch (error) {
      if (error !== CANCELLED) said.textContent = ` ${error.message}`;
    } finally {
      button.disabled = false;
    }
  };
  return el('p', button, said);
}

function sinkNodes(sink) {
  const [mood, words] = sinkState(sink);
  const told = sink.last_error === null || sink.last_error === sink.waiting_why;
  const age = sink.backlog_oldest ? (gatewayNow() - Date.parse(sink.backlog_oldest)) / 1000 : 0;
  const numbers = [
    ['records wait', count(sink.backlog_events)],
    ['in the log', bytes(sink.backlog_bytes)],
    ['the oldest waits', span(age)],
    ['records a second', rate(sink.events_per_s)],
    ['records delivered', count(sink.events_acked)],
    ...(sink.parcels_retried > 0 ? [['parcels sent again', count(sink.parcels_retried)]] : []),
    ...(sink.resend_requests > 0 ? [['sent again as asked', count(sink.events_resent)]] : []),
    ...(sink.resend_events > 0 ? [['asked for again, to come', count(sink.resend_events)]] : []),
    ...(sink.refused_events > 0 ? [['refused, kept', count(sink.refused_events), '.warn']] : []),
    ...(sink.dead_letters > 0 ? [['refused, skipped', count(sink.dead_letters), '.warn']] : []),
  ];
  return [
    el('h3', sink.name, ' ', el('span.muted', sink.address, sink.required ? '' : ', may lose records')),
    el(`p.words.${mood}`, el('i.dot'), words),
    ...(sink.warning === null ? [] : [el('p.words.warn', sink.warning)]),
    ...(told ? [] : [el('p.words.muted', `Last error, ${moment(Date.parse(sink.last_error_at))}: ${sink.last_error}`)]),
    el('dl.numbers', numbers.map(number)),
    ...(sink.waiting_until !== null || sink.refused_events > 0 ? [retryButton(sink)] : []),
  ];
}

function notifyState({ told, refused, last_error: why }) {
  if (why !== null) return ['bad', `not told: ${why}`];
  if (refused > 0) return ['warn', 'told, except of what it has refused'];
  return told > 0 ? ['good', 'told of all alerts'] : ['unknown', 'nothing to tell yet'];
}

function notifyNodes(notify) {
  const { name, target, told, failures, refused } = notify;
  const [mood, words] = notifyState(notify);
  const numbers = [
    ['alerts told', count(told)],
    ...(failures > 0 ? [['attempts that failed', count(failures)]] : []),
    ...(refused > 0 ? [['refused, not told', count(refused), '.warn']] : []),
  ];
  return [
    el('h3', name, ' ', el('span.muted', target)),
    el(`p.words.${mood}`, el('i.dot'), words),
    el('dl.numbers', numbers.map(number)),
  ];
}

/** One item for each thing by its name. */
function showList(list, things, nodes) {
  const old = new Map([...list.children].map((item) => [item.dataset.name, item]));
  things.forEach((thing, index) => {
    const item = old.get(thing.name) ?? el('li', { 'data-name': thing.name });
    old.delete(thing.name);
    if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
    const made = nodes(thing);
    // Made anew only where something is different, so that text stays selectable.
    refill(item, made.map((node) => node.textContent + node.className).join('\n'), () => made);
  });
  old.forEach((item) => item.remove());
}

export function openConnections(root) {
  const past = el('p.note', { hidden: '' }, 'How the connections were is not recorded: this is how they are now.');
  const sources = el('ul.things', { id: 'sources' });
  const sinks = el('ul.things', { id: 'sinks' });
  const none = el('p.note', 'No sink is configured: nothing is sent anywhere.');
  const notify = el('ul.things', { id: 'notify' });
  const told = el('section.card', { hidden: '' }, el('h2', 'Told of alerts'), notify);
  root.append(past, el('section.card', el('h2', 'Brokers'), sources), el('section.card', el('h2', 'Upstream'), sinks, none), told);
  const samples = [];

  /** What a source's messages grew by in a second; null until it is known. */
  function perSecond(name) {
    const [first, last] = [samples[0], samples.at(-1)];
    const messages = ({ status }) => status.sources.find((source) => source.name === name)?.messages ?? 0;
    return samples.length > 1 && messages(last) >= messages(first) ? (messages(last) - messages(first)) / ((last.at - first.at) / 1000) : null;
  }

  return {
    show() {
      past.hidden = at() === null;
    },
    status(status) {
      if (samples.length > 0 && samples.at(-1).status.started_at !== status.started_at) samples.length = 0;
      samples.push({ at: performance.now(), status });
      while (samples.length > 2 && samples[1].at < performance.now() - RATE_WINDOW_MS) samples.shift();
      showList(sources, status.sources, (source) => sourceNodes(source, perSecond(source.name)));
      showList(sinks, status.sinks, sinkNodes);
      none.hidden = status.sinks.length > 0;
      showList(notify, status.notify, notifyNodes);
      told.hidden = status.notify.length === 0;
    },
  };
}
