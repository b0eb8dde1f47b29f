// The sinks, from /status: where events go, and what waits to go.

import { gatewayNow } from './devices.js';
import { showList, tile } from './health.js';
import { $, bytes, clock, count, el, moment, rate, setText, span } from './words.js';

const ageOf = (at) => (gatewayNow() - Date.parse(at)) / 1000;

export function showUpstream({ sinks = [], blocked = null, clock_advice = null }) {
  setText($('blocked'), blocked === null ? '' : `fieldlog accepts no messages: ${blocked}`);
  setText($('clock'), clock_advice ?? '');
  $('sinks-card').hidden = sinks.length === 0;
  showList($('sinks'), sinks, fillSink);
  const up = sinks.filter((sink) => sink.connected).length;
  const behind = Math.max(0, ...sinks.map((sink) => sink.backlog_events));
  const words = behind > 0 ? `sinks up, ${count(behind)} behind` : 'sinks up, nothing behind';
  tile('Upstream', sinks.length > 0 ? `${up} of ${sinks.length}` : '–', sinks.length > 0 ? words : 'no sinks', up < sinks.length);
}

/** A sink in one word for its colour, and in a sentence. */
export function sinkState({ state, state_text, connected_at, waiting_until, waiting_why }) {
  const until = () => `${clock(Date.parse(waiting_until))}: ${waiting_why}`;
  switch (state) {
    case 'connected':
      return ['online', `connected since ${moment(Date.parse(connected_at))}`];
    case 'held':
      return ['warn', `connected, but told to wait until ${until()}`];
    case 'forked':
      return ['offline', `forked: the receiver has another history, asked again at ${until()}`];
    case 'backing_off':
      return ['offline', `backing off until ${until()}`];
    default:
      return ['unknown', state_text];
  }
}

function fillSink(item, sink) {
  const key = JSON.stringify(sink) + (sink.backlog_oldest ? Math.floor(ageOf(sink.backlog_oldest)) : '');
  if (item.dataset.key === key) return;
  item.dataset.key = key;
  const [mood, words] = sinkState(sink);
  const told = sink.last_error === null || sink.last_error === sink.waiting_why;
  const numbers = [
    ['events behind', count(sink.backlog_events)],
    ['in the log', bytes(sink.backlog_bytes)],
    ['age of the oldest', span(sink.backlog_oldest ? ageOf(sink.backlog_oldest) : 0)],
    ['events/s', rate(sink.events_per_s)],
    ['events acked', count(sink.events_acked)],
    ...(sink.parcels_retried > 0 ? [['parcels sent again', count(sink.parcels_retried)]] : []),
    ...(sink.refused_events > 0 ? [['refused, kept', count(sink.refused_events), '.warn']] : []),
    ...(sink.dead_letters > 0 ? [['dead letters', count(sink.dead_letters), '.warn']] : []),
  ];
  item.replaceChildren(
    el('p', el('b', sink.name), ' ', el('span.muted', sink.address, sink.required ? '' : ', not required')),
    el(`p.words.${mood}`, el('i.dot'), words),
    ...(sink.warning === null ? [] : [el('p.words.warn', sink.warning)]),
    ...(told ? [] : [el('p.words.muted', `Last error, ${moment(Date.parse(sink.last_error_at))}: ${sink.last_error}`)]),
    el('dl', ...numbers.map(([label, value, kind = '']) => el(`div${kind}`, el('dt', label), el('dd', value)))),
  );
}
