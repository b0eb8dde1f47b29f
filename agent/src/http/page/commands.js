// The newest commands, of all devices and of the one in the panel, and what is wanted of that one.

import { get } from './api.js';
import { outcome } from './command.js';
import { $, count, el, moment, setText, value } from './words.js';

const ALL_MAX = 30;
const OF_DEVICE_MAX = 10;
const RELOAD_MS = 1_000;
const RETRY_MS = 5_000;

let device = null;
let soon = null;
let reloaded = 0;

/** A command in a list: what, who, when and why, and what has become of it. */
function entry(command, withDevice) {
  const [words, kind] = outcome(command);
  const what = command.operation && command.value === null ? command.name : `${command.name} = ${value(command.value)}`;
  return el(
    'li',
    el('time', { datetime: command.requested_at, title: `position ${command.id}` }, moment(Date.parse(command.requested_at))),
    ' ',
    withDevice ? el('a', { href: `#device=${encodeURIComponent(command.device)}` }, command.device) : null,
    ' ',
    el('span.chip', what),
    el(kind ? `b.${kind}` : 'b', { title: words }, command.state),
    el('span.muted', ` by ${command.actor}${command.reason ? `: ${command.reason}` : ''}`),
    command.state === 'failed' ? el('span.muted', ` (${command.failure})`) : null,
  );
}

function fill(list, commands, withDevice) {
  list.replaceChildren(...commands.map((command) => entry(command, withDevice)));
}

export async function loadCommands() {
  const { commands } = await get(`/api/v1/commands?limit=${ALL_MAX}`);
  fill($('commands'), commands, true);
  $('commands-card').hidden = commands.length === 0;
}

/** The panel shows this device now; null: none. */
export function showCommandsOf(id) {
  device = id;
  for (const list of ['device-commands', 'wanted']) $(list).replaceChildren();
  $('device-commands-card').hidden = true;
  $('wanted-card').hidden = true;
}

export async function loadCommandsOf() {
  const id = device;
  const path = `/api/v1/devices/${encodeURIComponent(id)}`;
  const [{ commands }, twin] = await Promise.all([get(`${path}/commands?limit=${OF_DEVICE_MAX}`), get(`${path}/twin`)]);
  if (device !== id) return;
  fill($('device-commands'), commands, false);
  $('device-commands-card').hidden = commands.length === 0;
  const wanted = Object.entries(twin.delta).map(([name, v]) => {
    const reported = twin.reported[name];
    const { command, at } = twin.desired[name];
    return el(
      'tr',
      el('th', { scope: 'row' }, name),
      el('td.v', value(v)),
      el('td.v', reported === undefined ? '–' : value(reported.value)),
      el('td', `command ${command}, ${moment(Date.parse(at))}`),
    );
  });
  $('wanted').replaceChildren(...wanted);
  $('wanted-card').hidden = wanted.length === 0;
}

/** Reads the lists again soon; once for all events of a burst. */
export function commandsMoved() {
  soon ??= setTimeout(async () => {
    soon = null;
    reloaded = performance.now();
    try {
      await Promise.all([loadCommands(), device === null ? null : loadCommandsOf()]);
    } catch {
      setTimeout(commandsMoved, RETRY_MS); // the agent is away, or rebuilds its commands
    }
  }, Math.max(100, RELOAD_MS - (performance.now() - reloaded)));
}

/** What the device of the panel reports has changed: what is wanted may be so now. */
export function reportedMoved() {
  if (!$('wanted-card').hidden) commandsMoved();
}

/** From /status. */
export function showOpenCommands(commands) {
  setText($('commands-open'), commands?.open ? `${count(commands.open)} not closed` : '');
}
