// Commands of a gateway or of one of its devices, each with every step of it.

import { get, list } from './api.js';
import { chip, outcome } from './describe.js';
import { deviceLink, gatewayPath, time } from './name.js';
import { el, json, refill, setText, span } from './words.js';

const SHOWN = 10;
const NEWEST = '9223372036854775807';
const FINAL = new Set(['applied', 'failed', 'expired', 'superseded']);

/** Whether nothing more can come of a command. */
export const isClosed = ({ state, request }) => FINAL.has(state) || (state === 'acknowledged' && request?.evidence === 'none');

/** What has become of a command, in a sentence, and the class of its colour. */
export function outcomeOf(command) {
  const { state, request, step } = command;
  return outcome({ state, evidence: request?.evidence, closed: isClosed(command), failure: step?.reason, ttl_s: request?.ttl_s, superseded_by: step?.superseded_by });
}

const STEPS = {
  command_requested: ({ actor, ttl_s: ttl, reason }) => `asked for by ${actor}, to be sent within ${span(ttl)}${reason ? `: ${reason}` : ''}`,
  command_rejected: ({ reason }) => `not accepted: ${reason}`,
  command_dispatched: ({ attempt }) => `sent${attempt > 1 ? `, attempt ${attempt}` : ''}`,
  command_unsent: ({ reason }) => `not sent: ${reason ?? 'the source was not connected'}`,
  command_acknowledged: ({ by }) => `received by the ${by ?? 'device'}`,
  command_applied: (_, request) => `done: the device ${request?.evidence === 'reply' ? 'says so' : 'reports the value'}`,
  command_failed: ({ reason }) => `failed: ${reason ?? 'no reason is known'}`,
  command_expired: () => 'expired: it is not sent any more',
  command_superseded: ({ superseded_by: by }) => `command ${by} took its place`,
  command_unconfirmed: () => 'nothing shows that it was done',
  command_unknown: () => 'fieldlog stopped while it was being sent: it may have been carried out',
};

/** The steps of a command, oldest first. */
export const stepItems = ({ request, steps }) => steps.map(({ recorded, type, data }) => el('li', time(recorded), ' ', (STEPS[type] ?? (() => type.replaceAll('_', ' ')))(data ?? {}, request)));

/** A command with every step. */
export const readCommand = (gateway, command, signal) => get(`${gatewayPath(gateway)}/commands/${command}`, signal);

function item(gateway, command, withDevice, opened) {
  const { request, state, device } = command;
  const [words, kind] = outcomeOf(command);
  const what = !request ? 'its request has not arrived' : request.operation && request.value === null ? el('span.chip', request.name) : chip(request.name, request.value);
  const steps = el('ol.steps');
  const details = el('details', el('summary', 'Steps'), steps);
  const fill = async () => {
    if (!details.open) return;
    opened.add(command.command);
    try {
      steps.replaceChildren(...stepItems(await readCommand(gateway, command.command)));
    } catch (error) {
      steps.replaceChildren(el('li', `Cannot be read: ${error.message}`));
    }
  };
  details.addEventListener('toggle', () => {
    if (!details.open) opened.delete(command.command);
    fill();
  });
  details.open = opened.has(command.command);
  return el(
    'li',
    time(command.requested ?? command.changed),
    ' ',
    withDevice && device ? [deviceLink(gateway, device), ' '] : null,
    what,
    ' ',
    el(`b.${kind || 'plain'}`, state),
    `: ${words}`,
    el('span.muted', ` — command ${command.command}${request?.actor ? `, by ${request.actor}` : ''}`),
    details,
  );
}

/** The newest commands; `device` limits them to one. */
export function commandList(root, { gateway, device = null }) {
  const items = el('ol.commands', { 'aria-label': 'Commands, newest first' });
  const note = el('p.note');
  const more = el('button', { type: 'button', hidden: '' }, 'Show more');
  root.append(el('section.card', el('h2', 'Commands'), items, note, more));
  const opened = new Set();
  let limit = SHOWN;

  async function show(signal) {
    const found = await list('commands', { gateway, device, before: NEWEST, limit: limit + 1 }, signal);
    const shown = found.slice(0, limit);
    refill(items, json(shown), () => shown.map((command) => item(gateway, command, device === null, opened)));
    more.hidden = found.length <= limit;
    setText(note, found.length > 0 ? '' : device ? 'None has been sent to it.' : 'There are none. A device’s page has a form where it can be told something.');
  }
  more.addEventListener('click', () => {
    limit += 5 * SHOWN;
    show().catch((error) => setText(note, `Cannot be read: ${error.message}`));
  });
  return { show };
}
