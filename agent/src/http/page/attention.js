// Which devices need attention, and why: the worst first.

import { get } from './api.js';
import { outcome, wrong as wrongIn } from './describe.js';
import { trouble } from './store.js';
import { many, moment, span } from './words.js';

const DAY_MS = 86_400_000;
const COMMANDS_MAX = 200;
const INPUTS_MAX = 200;
const ALERTS_MAX = 200;
const TOPICS_MAX = 3;
const FAILED = new Set(['failed', 'expired', 'unconfirmed', 'unknown']);
const ORDER = ['alert', 'notify', 'offline', 'silent', 'command', 'quarantine', 'battery'];

/** From devices: those that are away by themselves, with how many are away because of them, and low batteries. */
function fromDevices(devices, now) {
  const behind = new Map();
  for (const d of devices.values()) if (d.because) behind.set(d.because, (behind.get(d.because) ?? 0) + 1);
  const found = [];
  for (const d of devices.values()) {
    const wrong = trouble(d);
    if (wrong === null || wrong.kind === 'behind') continue;
    const others = behind.get(d.id);
    const since = `since ${moment(d.availabilityAt)}`;
    const words = { offline: since, silent: `nothing heard for ${span((now - d.heard) / 1000)}`, battery: 'change it soon' }[wrong.kind];
    found.push({ kind: wrong.kind, mood: wrong.mood, badge: wrong.word, device: d.id, words: `${words}${others ? `, and ${many(others, 'device')} behind it` : ''}` });
  }
  return found;
}

/** What the rules of the configuration find wrong. */
const fromAlerts = (alerts) =>
  alerts.map((alert) => ({
    kind: 'alert',
    mood: alert.severity === 'critical' ? 'bad' : 'warn',
    badge: alert.rule,
    device: alert.device,
    sink: alert.sink,
    words: `${wrongIn(alert)}, since ${moment(Date.parse(alert.raised_at))}`,
  }));

/** Whom alerts do not reach: nobody may know of them. */
const fromNotify = (notify) =>
  notify
    .filter(({ last_error: why }) => why !== null)
    .map(({ name, target, last_error: why }) => ({ kind: 'notify', mood: 'bad', badge: 'alerts not told', notify: name, words: `${why}${/[.!?]$/.test(why) ? '' : '.'} Check ${target} and [[notify]]; it is tried again by itself.` }));

/** The newest command for something, if that came to nothing. */
function fromCommands(commands, now) {
  const newest = new Map();
  for (const command of commands) {
    const what = `${command.device}\n${command.name}`;
    if (!newest.has(what)) newest.set(what, command);
  }
  return [...newest.values()]
    .filter((command) => FAILED.has(command.state) && now - Date.parse(command.changed_at) < DAY_MS)
    .map((command) => ({ kind: 'command', mood: /failed|expired/.test(command.state) ? 'bad' : 'warn', badge: `command ${command.state}`, device: command.device, words: `${command.name}: ${outcome(command)[0]}` }));
}

function fromQuarantine(inputs, now) {
  const topics = new Map();
  for (const { topic, at, reason, count: number = 1 } of inputs) {
    if (now - Date.parse(at) > DAY_MS) continue;
    const known = topics.get(topic) ?? { sum: 0, reason };
    known.sum += number;
    topics.set(topic, known);
  }
  const item = (topic, sum, words) => ({ kind: 'quarantine', mood: 'warn', badge: 'not understood', topic, words: `${many(sum, 'message')}${words}` });
  const all = [...topics];
  const rest = all.slice(TOPICS_MAX);
  const others = rest.reduce((sum, [, topic]) => sum + topic.sum, 0);
  return [...all.slice(0, TOPICS_MAX).map(([topic, it]) => item(topic, it.sum, `: ${it.reason}`)), ...(rest.length > 0 ? [item(undefined, others, ` on ${many(rest.length, 'more topic')}`)] : [])];
}

/** What commands, alerts and quarantine have to say; in the past, no quarantine. */
export async function readOthers(at, signal) {
  const past = at ? `&at=${encodeURIComponent(at)}` : '';
  const [{ commands }, { alerts }, { quarantine }] = await Promise.all([
    get(`/api/v1/commands?limit=${COMMANDS_MAX}${past}`, signal),
    get(`/api/v1/alerts?limit=${ALERTS_MAX}${past}`, signal),
    at ? { quarantine: [] } : get(`/api/v1/quarantine?limit=${INPUTS_MAX}`, signal),
  ]);
  return { commands, alerts, quarantine };
}

/** Everything that needs attention; `notify` is that of `/status`. */
export function attention(devices, { commands, alerts, quarantine }, now, notify = []) {
  const all = [...fromAlerts(alerts), ...fromNotify(notify), ...fromDevices(devices, now), ...fromCommands(commands, now), ...fromQuarantine(quarantine, now)];
  return all.sort((a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind) || (b.mood === 'bad') - (a.mood === 'bad') || ((a.device ?? a.topic ?? '\uffff') < (b.device ?? b.topic ?? '\uffff') ? -1 : 1));
}
