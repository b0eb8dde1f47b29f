// Whether the gateway is well, from /status: each part in a word, and what to do when it is not.

import { clockAhead } from './api.js';
import { bytes, clock, count, many, moment, rate, span } from './words.js';

const LAG_WARN = 1_000;
const AHEAD_WARN_MS = 60_000;
/** Before this, what is written per day is a guess from a few minutes. */
const UPTIME_S_MIN = 3_600;
const YEARS_BAD = 2;
const YEARS_WARN = 5;

const good = (main, detail) => ({ mood: 'good', main, detail, todo: '' });
const warn = (main, todo, detail = '') => ({ mood: 'warn', main, detail, todo });
const bad = (main, todo, detail = '') => ({ mood: 'bad', main, detail, todo });

/** A source's state in a word for its colour, and in a sentence. */
export function sourceState(source) {
  if (source.connected) return ['good', source.session_present ? 'connected, session resumed' : 'connected, new session'];
  const state = source.state_text ?? String(source.state ?? '').replaceAll('_', ' ');
  const why = source.last_error && !state.includes(source.last_error) ? `: ${source.last_error}` : '';
  return [source.state === 'connecting' ? 'unknown' : 'bad', `${state || 'not connected'}${why}`];
}

/** What an operator has to know of a source, beside its state. */
export const sourceTroubles = (source) => [
  ...(source.advice && !sourceState(source)[1].includes(source.advice) ? [source.advice] : []),
  ...(source.warnings ?? []),
  ...(source.refused_filters ?? []).map(({ filter, reason }) => `The broker refused ${filter}: ${reason}. Check the access rules of its user.`),
];

/** A sink's state in a word for its colour, and in a sentence. */
export function sinkState({ state, state_text, connected_at, waiting_until, waiting_why }) {
  const until = () => `${clock(Date.parse(waiting_until))}: ${waiting_why}`;
  switch (state) {
    case 'connected':
      return ['good', `connected since ${moment(Date.parse(connected_at))}`];
    case 'held':
      return ['warn', `connected, but told to wait until ${until()}`];
    case 'forked':
      return ['bad', `forked: the receiver has another history, asked again at ${until()}`];
    case 'backing_off':
      return ['bad', `backing off until ${until()}`];
    default:
      return ['unknown', state_text];
  }
}

const sentence = (words) => `${words.charAt(0).toUpperCase()}${words.slice(1)}${/[.!?]$/.test(words) ? '' : '.'}`;

function brokers({ sources = [] }) {
  if (sources.length === 0) return warn('None', 'Name a broker in the configuration ([[source]]); fieldlog probe shows what it has.');
  const away = sources.filter((source) => !source.connected);
  const troubles = sources.flatMap(sourceTroubles);
  if (away.length > 0) {
    const [first] = away;
    const others = away.length > 1 ? ` ${many(away.length - 1, 'more broker')} also.` : '';
    const todo = sourceTroubles(first)[0] ?? (first.advice ? '' : 'Check that the broker runs, its address, and the network. fieldlog tries again by itself.');
    return bad(`${first.name} is not connected`, `${sentence(sourceState(first)[1])} ${todo}${others}`);
  }
  if (troubles.length > 0) return warn('Connected, but', troubles[0]);
  return good(sources.length === 1 ? 'Connected' : `All ${sources.length} connected`, sources.map((source) => source.name).join(', '));
}

function log({ position, log: { first_seq, events }, blocked, rebuild, snapshot, state }) {
  if (blocked !== null) return bad('Accepts no messages', blocked);
  if (state.refused > 0) return warn('Full memory', 'New devices or values were refused: raise limits.state_bytes_max, or let retired devices go (fieldlog device forget).');
  if (snapshot.errors > 0) return warn('Snapshots fail', 'See why: journalctl -u fieldlog. Starting takes longer without them; nothing is lost.');
  if (rebuild.running) return warn('Being read again', 'Nothing: it ends by itself. Until then some answers are missing.', `${count(rebuild.applied)} of ${count(position.head)} records`);
  if (position.lag > LAG_WARN) return warn('Behind', 'Nothing, if it passes. Else the gateway is too slow for what arrives.', `${many(position.lag, 'record')} to go`);
  return good('Recording', `${many(position.applied - (first_seq ?? 1) + 1, 'record')} kept, ${count(events)} new since the start`);
}

function upstream({ sinks = [] }) {
  if (sinks.length === 0) return { ...good('Nothing to send to', 'No sink is configured; everything stays here.'), mood: 'unknown' };
  const behind = sinks.reduce((sum, sink) => sum + sink.backlog_events, 0);
  const backlog = behind > 0 ? `${many(behind, 'record')} to send; nothing is lost` : 'Nothing waits';
  const away = sinks.find((sink) => !sink.connected);
  if (away) {
    const todo = `${sentence(sinkState(away)[1])} Check the link and the receiver. It is tried again by itself, and what waits is sent then.`;
    return (away.required ? bad : warn)(`${away.name} is not reached`, todo, backlog);
  }
  const warned = sinks.find((sink) => sink.warning !== null || sink.refused_events > 0 || sink.dead_letters > 0);
  if (warned) return warn(`${warned.name} needs a look`, warned.warning ?? 'It refused records: see why on the page Connections, and mend the receiver. They are offered again.', backlog);
  return good(sinks.length === 1 ? 'Connected' : `All ${sinks.length} connected`, backlog);
}

function disk({ log: { file_bytes, bytes_max, disk_free_bytes, disk_free_bytes_min } }) {
  const size = `log ${bytes(file_bytes)}${bytes_max ? ` of at most ${bytes(bytes_max)}` : ''}`;
  const main = `${bytes(disk_free_bytes)} free`;
  if (disk_free_bytes === null) return { ...good('Unknown', size), mood: 'unknown' };
  const todo = `Make room on the disk, or lower retention.bytes_max. At ${bytes(disk_free_bytes_min)} free, recording stops or the oldest records go (retention.when_full).`;
  if (disk_free_bytes < disk_free_bytes_min) return bad(main, todo, size);
  if (disk_free_bytes < 2 * disk_free_bytes_min) return warn(main, todo, size);
  return good(main, size);
}

function time({ clock_advice, clock_synchronised }) {
  const ahead = clockAhead();
  if (clock_advice) return bad('Log time is ahead', clock_advice);
  if (Math.abs(ahead) > AHEAD_WARN_MS) {
    return warn(`${span(Math.abs(ahead) / 1000)} ${ahead > 0 ? 'ahead of' : 'behind'} this device`, 'One of the two clocks is wrong. On the gateway: timedatectl, and a time server that it reaches.');
  }
  if (!clock_synchronised) return warn('Not synchronised', 'The system does not say that its clock is. Check on the gateway: timedatectl. It needs a time service, such as systemd-timesyncd or chrony, and a server that it reaches.');
  return good('Right', 'synchronised');
}

function flash({ uptime_s, log: { endurance_years, bytes_written_per_day } }) {
  const detail = `${bytes(bytes_written_per_day)} a day`;
  if (endurance_years === null) return { ...good('Unknown', detail), mood: 'unknown' };
  const main = endurance_years > 100 ? 'over 100 years left' : `about ${rate(endurance_years)} years left`;
  if (uptime_s < UPTIME_S_MIN) return { ...good(main, `${detail}, a first guess`), mood: 'unknown' };
  const todo = 'Raise log.commit_delay_ms, or record less: deadbands and intervals for values that change all the time. log.endurance_tb is what the card’s data sheet says.';
  if (endurance_years < YEARS_BAD) return bad(main, todo, detail);
  if (endurance_years < YEARS_WARN) return warn(main, todo, detail);
  return good(main, detail);
}

/** The parts: name, mood, a word, a detail, what to do, and where to read on. */
export const parts = (status) => [
  { name: 'Brokers', view: 'connections', ...brokers(status) },
  { name: 'Log', view: 'events', ...log(status) },
  { name: 'Upstream', view: 'connections', ...upstream(status) },
  { name: 'Disk', ...disk(status) },
  { name: 'Clock', ...time(status) },
  { name: 'Flash', ...flash(status) },
];
