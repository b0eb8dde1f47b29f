// Telling a device something through its gateway, and what becomes of that.

import { CANCELLED, change, list } from './api.js';
import { isClosed, outcomeOf, readCommand, stepItems } from './commands.js';
import { gatewayPath } from './name.js';
import { el, json, setText, span, value } from './words.js';

const LOOK_MS = 1_000;
const LONG_LOOK_MS = 5_000;
const LONG = 120; // looks

/** Names a press, so that sending it twice does not make two commands of it. Pages over plain HTTP have no randomUUID. */
function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** What a text means as a value: JSON if it is a number, truth value, null, list or object, else itself. */
function meant(text) {
  if (/^\s*(true|false|null|-?\d+(\.\d+)?([eE][+-]?\d+)?|[[{].*)\s*$/s.test(text)) return JSON.parse(text);
  return text;
}

function kindOf(v) {
  if (v === null) return 'as null';
  if (typeof v === 'string') return 'as a text';
  if (typeof v === 'boolean') return 'as a truth value';
  return typeof v === 'number' || typeof v === 'bigint' ? 'as a number' : 'as JSON';
}

/** Failures after which it is not known whether the gateway has the command. */
const isOpen = (error) => error.status === undefined || error.status === 504;

/** The form for a device; `changed` is called when there is news of a command. */
export function commandForm(root, gateway, device, changed) {
  const way = el('select', { id: 'command-way' }, el('option', { value: 'attribute' }, 'Set a value'), el('option', { value: 'operation' }, 'Carry out an operation'));
  const known = el('datalist', { id: 'command-names' });
  const name = el('input', { id: 'command-name', list: 'command-names', autocomplete: 'off', spellcheck: 'false', required: '' });
  const input = el('input', { id: 'command-value', autocomplete: 'off', spellcheck: 'false', 'aria-describedby': 'command-hint' });
  const ttl = el('input', { id: 'command-ttl', type: 'number', min: 1, max: 604_800, step: 1, value: 30, inputmode: 'numeric' });
  const reason = el('input', { id: 'command-reason', maxlength: 500, autocomplete: 'off' });
  const hint = el('p.muted.wide', { id: 'command-hint' });
  const button = el('button.main', { id: 'command-send' }, 'Send');
  const again = el('button', { type: 'button', hidden: '' }, 'Send the same again');
  const said = el('p.outcome', { id: 'command-outcome', role: 'status', 'aria-live': 'polite' });
  const steps = el('ol.steps', { id: 'command-steps', 'aria-label': 'Steps of the command' });
  const labelled = (field, words, kind = '') => el(`div.field${kind}`, el('label', { for: field.id }, words), field);
  const form = el('form.command', { novalidate: '' }, labelled(way, 'What'), labelled(name, 'Name'), labelled(input, 'Value'), labelled(ttl, 'Valid for (s)', '.ttl'), labelled(reason, 'Reason (recorded with it)', '.reason'), hint, button, again, known);
  const card = el('section.card', { id: 'command-card' }, el('h2', 'Send a command'), form, said, steps);
  root.append(card);

  let attributes = new Map(); // name → { value, description }
  let watched = null; // id of the command whose outcome is shown
  let looking = null;
  let looks = 0;
  let isHere = true;
  let sent = null; // the body that was sent last

  const say = (words, kind = '') => {
    setText(said, words);
    said.className = `outcome ${kind}`;
  };

  function showHint() {
    const own = way.value === 'attribute' ? attributes.get(name.value) : undefined;
    const { min, max, unit, writable } = own?.description ?? {};
    const range = min !== undefined && max !== undefined ? ` It takes ${min} to ${max}${unit ? ` ${unit}` : ''}.` : '';
    const now = own ? `Now ${value(own.value)}.${range}${writable === false ? ' The device says that it cannot be set.' : ''} ` : '';
    let sends = '';
    try {
      sends = input.value === '' ? '' : `The value is sent ${kindOf(meant(input.value))}. `;
    } catch {
      sends = 'The value is not complete JSON. ';
    }
    setText(hint, `${now}${sends}The gateway checks it against what is declared for the device.`);
  }

  async function look() {
    clearTimeout(looking);
    const mine = watched;
    if (mine === null || !isHere) return;
    try {
      const [isThere] = await list('commands', { gateway, device, after: mine - 1, before: mine + 1, limit: 1 });
      const command = isThere && (await readCommand(gateway, mine));
      if (watched !== mine || !isHere) return;
      if (command) {
        const [words, kind] = outcomeOf(command);
        say(`Command ${mine} ${command.state}: ${words}.`, kind);
        steps.replaceChildren(...stepItems(command));
      }
      if (command && (isClosed(command) || command.state === 'unconfirmed' || command.state === 'unknown')) {
        changed();
        return;
      }
    } catch {
      // The hub is away.
    }
    looks += 1;
    looking = setTimeout(look, looks > LONG ? LONG_LOOK_MS : LOOK_MS);
  }

  async function send(body) {
    sent = body;
    watched = null;
    steps.replaceChildren();
    again.hidden = true;
    button.disabled = true;
    say('Handing it to the gateway …');
    try {
      const answer = await change(`${gatewayPath(gateway)}/devices/${encodeURIComponent(device)}/commands`, json(body));
      watched = answer.command;
      looks = 0;
      say(`Command ${answer.command} ${answer.state}: the gateway has recorded it.${answer.repeated ? ' It had it before.' : ''}`);
      changed();
      look();
    } catch (error) {
      if (error === CANCELLED) say('');
      else if (isOpen(error)) {
        say(error.status ? error.message : `No answer from the hub, so the gateway may have it: ${error.message}. Sending the same again does not carry it out twice.`, 'warn');
        again.hidden = false;
      } else say(`Not accepted: ${error.message}`, 'bad');
    } finally {
      button.disabled = false;
    }
  }

  form.addEventListener('submit', (submit) => {
    submit.preventDefault();
    for (const field of [name, input, ttl]) field.removeAttribute('aria-invalid');
    const body = { [way.value]: name.value.trim(), idempotency_key: newKey(), ttl_s: Number(ttl.value) };
    const refuse = (field, words) => {
      field.setAttribute('aria-invalid', 'true');
      field.focus();
      say(words, 'bad');
    };
    if (body[way.value] === '') return refuse(name, way.value === 'attribute' ? 'Name the attribute to set.' : 'Name the operation to carry out.');
    if (way.value === 'attribute' && input.value === '') return refuse(input, 'Give the value to set.');
    if (!Number.isInteger(body.ttl_s) || body.ttl_s < 1 || body.ttl_s > 604_800) return refuse(ttl, `Valid for 1 s to ${span(604_800)}: after that, it is not sent any more.`);
    try {
      if (input.value !== '') body.value = meant(input.value);
    } catch (error) {
      return refuse(input, `The value is not JSON: ${error.message}`);
    }
    if (reason.value.trim()) body.reason = reason.value.trim();
    return send(body);
  });
  again.addEventListener('click', () => send(sent));
  for (const field of [way, name, input]) field.addEventListener('input', showHint);
  return {
    /** The attributes that the device has now, with what is said of each. */
    show(now, retired) {
      card.hidden = retired;
      const isNew = attributes.size !== now.size;
      attributes = now;
      if (isNew) known.replaceChildren(...[...now].filter(([, { description }]) => description?.writable !== false).map(([attribute]) => el('option', { value: attribute })));
      showHint();
    },
    close() {
      isHere = false;
      clearTimeout(looking);
    },
  };
}
