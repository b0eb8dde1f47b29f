// What an event says, in words.

import { say } from './classes.js';
import { count, el, span, value } from './words.js';

/** The kinds of events that people look for, with the types that they are. */
export const KINDS = {
  values: ['Values', 'state_changed,history_reported'],
  availability: ['Availability', 'availability_changed'],
  actions: ['Buttons and actions', 'action_fired'],
  commands: [
    'Commands',
    'command_requested,command_rejected,command_dispatched,command_acknowledged,command_applied,command_failed,command_expired,command_superseded,command_unconfirmed,command_unknown,command_unsent',
  ],
  devices: [
    'Devices found, described, removed',
    'device_discovered,device_described,device_renamed,device_retired,device_forgotten,attribute_named,attribute_described,metrics_declared,session_noted',
  ],
  alerts: ['Alerts', 'alert_raised,alert_cleared'],
  quarantine: ['Quarantine', 'input_quarantined,quarantine_summarised,quarantine_resolved'],
  gateway: ['The gateway itself', 'booted,clock_stepped,clock_corrected,config_changed,administered,dead_lettered,trimmed,gap,epoch_begun,records_lost'],
};

/** A value that has changed, with its name. */
export const chip = (name, v, unit) => el('span.chip', el('span.muted', name), ' ', say(name, v, unit));

/** What is wrong, of an alert or of the event that raised it. */
export function wrong({ condition, value: v, threshold, attribute, sink }) {
  const name = attribute ?? (sink ? `sink ${sink}` : '');
  switch (condition) {
    case 'above':
      return `${name} is ${say(name, v)}, above ${say(name, threshold)}`;
    case 'below':
      return `${name} is ${say(name, v)}, below ${say(name, threshold)}`;
    case 'equals':
      return `${name} is ${say(name, v)}`;
    case 'silent':
      return `nothing heard for ${span(v)}`;
    case 'offline':
      return 'offline';
    case 'battery-low':
      return 'battery low';
    case 'backlog-events':
      return `${count(v)} events wait for ${name}`;
    case 'backlog-seconds':
      return `${name} is ${span(v)} behind`;
    default:
      return `${condition} ${name}`;
  }
}

const OVER = { ended: 'is over', 'rule-removed': 'has no rule any more', 'subject-gone': 'is about nothing that is left' };

const MOODS = { applied: 'good', failed: 'bad', expired: 'bad', unconfirmed: 'warn', unknown: 'warn' };

function step(word, data) {
  const more = [data.by ? ` by the ${data.by}` : '', data.superseded_by ? ` by ${data.superseded_by}` : '', data.reason ? `: ${data.reason}` : ''];
  return [`command ${data.command} `, el(`span.${MOODS[word] ?? 'plain'}`, word), ...more];
}

const changes = (data) =>
  Object.entries(data.changes ?? {}).map(([name, v]) => (v === null ? el('span.chip', `${name} removed`) : chip(name, v, data.described?.[name]?.unit)));

/** What an event says, as a sentence of nodes and texts. */
export function describe({ type, data }) {
  switch (type) {
    case 'state_changed':
      return changes(data);
    case 'history_reported':
      return ['reported later: ', ...changes(data)];
    case 'availability_changed':
      return [el(`span.${data.availability}`, data.availability), data.cause === 'silence' ? ' (nothing heard)' : ''];
    case 'device_discovered':
      return [`first seen on ${data.source}`, data.parent ? ` behind ${data.parent}` : ''];
    case 'device_renamed':
      return [`is called ${data.called ?? data.name ?? ''} now`];
    case 'device_retired':
      return ['removed at its source'];
    case 'device_forgotten':
      return ['forgotten to make room'];
    case 'device_described':
      return [`described by ${data.by}: ${Object.values(data.description ?? {}).join(', ') || 'nothing'}`];
    case 'attribute_described':
      return [`${data.attribute} described by ${data.by}: ${data.description?.unit || data.description?.name || ''}`];
    case 'attribute_named':
      return [`new attribute ${data.name ?? ''}`];
    case 'action_fired':
      return ['action ', chip(data.attribute, data.value)];
    case 'input_quarantined':
      return [el('span.bad', 'not understood'), ` ${data.topic}: ${data.reason}`];
    case 'quarantine_summarised':
      return [el('span.bad', 'not understood'), ` ${count(data.count)} more on ${data.topic || 'many topics'}: ${data.reason}`];
    case 'command_requested':
      return ['asked for ', data.operation && data.value === null ? el('span.chip', data.name) : chip(data.name, data.value), ` by ${data.actor}`];
    case 'command_rejected':
      return [el('span.bad', 'not accepted'), ` ${data.name} by ${data.actor}: ${data.reason}`];
    case 'administered':
      return [`${data.call} ${data.target ?? ''} by ${data.actor}`];
    case 'alert_raised':
      return [el(`span.${data.severity === 'critical' ? 'bad' : 'warn'}`, `alert ${data.rule}`), `: ${wrong(data)}`];
    case 'alert_cleared':
      return [el('span.good', `alert ${data.rule}`), ` ${OVER[data.because] ?? data.because}`];
    case 'booted':
      return [`fieldlog ${data.version} started`];
    default:
      return /^command_[a-z]+$/.test(type) ? step(type.slice(8), data) : [`${type.replaceAll('_', ' ')} ${value(data)}`];
  }
}

/** What has become of a command, in a sentence, and the class of its colour. */
export function outcome(command) {
  const { state, evidence, closed } = command;
  switch (state) {
    case 'requested':
      return ['it is recorded and waits to be sent', ''];
    case 'dispatched':
      return ['it is sent, and nothing is known of it yet', ''];
    case 'acknowledged':
      if (closed || evidence === 'none') return ['the broker has it; the device does not say whether it was done', 'good'];
      return [evidence === 'reply' ? 'the device has not answered yet' : 'the device has not reported the value yet', ''];
    case 'applied':
      return [evidence === 'reply' ? 'the device says that it is done' : 'the device reports the value', 'good'];
    case 'failed':
      return [command.failure ?? 'no reason is known', 'bad'];
    case 'expired':
      return [`it was not sent within ${span(command.ttl_s)}, and will not be`, 'bad'];
    case 'superseded':
      return [`command ${command.superseded_by} took its place before it was sent`, 'muted'];
    case 'unconfirmed':
      return ['it was sent, but nothing shows that it was done; late evidence still counts', 'warn'];
    case 'unknown':
      return ['fieldlog stopped while it was being sent; it may have been carried out, and is not sent again', 'warn'];
    default:
      return ['', ''];
  }
}
