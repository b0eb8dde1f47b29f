// Telling a device something: a form made from what is declared for it, and what becomes of the command.

import { adminToken, get, keepAdminToken, post } from './api.js';
import { $, el, setText, span, value } from './words.js';

const RETRIES_MAX = 4;
const LOOK_MS = 1_000;
const TYPES_WITH_NUMBERS = new Set(['number', 'integer']);

let open = null; // { id, set, reported(name) }
let watched = null; // id of the command whose outcome is shown
let shown = ''; // the set that the form was made from
let input = null;
let switchedOn = true;
let looking = null;

/** Whether the agent takes commands over TCP at all. */
export function commandsSwitchedOn(on) {
  if (on !== switchedOn) {
    switchedOn = on;
    showForm();
  }
}

/** The panel shows this device now; `reported` returns the value that it reports of an attribute. */
export function openCommand(id, reported) {
  open = { id, set: [], reported };
  watched = null;
  shown = '';
  setText($('command-outcome'), '');
  $('command-outcome').className = '';
  $('admin').hidden = true;
  $('command').reset();
  showForm();
}

export function closeCommand() {
  open = null;
  watched = null;
}

/** Reads what the device can be told. */
export async function loadCommand() {
  const mine = open;
  const { commands } = await get(`/api/v1/devices/${encodeURIComponent(mine.id)}/command-set`);
  if (open !== mine) return;
  mine.set = commands;
  showForm();
}

const chosen = () => open?.set[$('command-name').selectedIndex];

function showForm() {
  const able = Boolean(open?.set.length);
  $('command-card').hidden = !able;
  $('command-off').hidden = switchedOn;
  $('command').hidden = !switchedOn;
  if (!able) return;
  // A form that somebody fills in is left alone.
  const made = JSON.stringify(open.set);
  if (made === shown) return;
  shown = made;
  const before = $('command-name').value;
  const names = open.set.map(({ name, operation }) => el('option', { value: name }, operation ? `${name} (operation)` : name));
  $('command-name').replaceChildren(...names);
  if (open.set.some(({ name }) => name === before)) $('command-name').value = before;
  showValue();
}

const takesValue = ({ operation, type, values }) => !operation || Boolean(type) || Boolean(values?.length);

/** The field for the value, of the kind that the declaration asks for. */
function showValue() {
  const declared = chosen();
  const { type, values = [], min, max, step, unit } = declared;
  const now = declared.operation ? undefined : open.reported(declared.name);
  input = null;
  $('command-value').replaceChildren();
  setText($('command-hint'), hint(declared));
  if (!takesValue(declared)) return;
  if (values.length > 0 || type === 'boolean') {
    const words = values.length > 0 ? values : ['true', 'false'];
    input = el('select', ...words.map((word) => el('option', { value: word }, word)));
    if (words.includes(String(now))) input.value = String(now);
  } else if (TYPES_WITH_NUMBERS.has(type)) {
    input = el('input', { type: 'number', inputmode: 'decimal', step: step ?? (type === 'integer' ? 1 : 'any') });
    if (min !== undefined) input.min = min;
    if (max !== undefined) input.max = max;
    if (typeof now === 'number') input.value = now;
  } else if (type === 'json') {
    input = el('textarea', { rows: 3, spellcheck: 'false' });
    if (now !== undefined) input.value = value(now);
  } else {
    input = el('input', { type: 'text', autocomplete: 'off', spellcheck: 'false' });
    if (now !== undefined) input.value = String(now);
  }
  input.id = 'command-input';
  input.setAttribute('aria-describedby', 'command-hint');
  $('command-value').append(el('label', { for: 'command-input' }, `Value${unit ? ` in ${unit}` : ''}`), input);
}

function hint({ type, values = [], min, max, unit, on_offline, evidence, idempotent, operation }) {
  const numbers = [min === undefined ? '' : `at least ${min}`, max === undefined ? '' : `at most ${max}`].filter(Boolean);
  const range = min !== undefined && max !== undefined ? `${min} to ${max}` : numbers.join(', ');
  const allowed = values.length > 0 || !range ? '' : `${range}${unit ? ` ${unit}` : ''}. `;
  const free = type || values.length > 0 || operation ? '' : 'A number, true, false or a text. ';
  const offline = {
    reject: 'Not accepted while the device is offline.',
    hold: 'Waits while the device is offline.',
    latest_wins: 'Waits while the device is offline; a newer one takes its place.',
  }[on_offline];
  const shows = {
    reported: 'Done when the device reports the value.',
    reply: 'Done when the device answers.',
    none: 'The device does not say whether it was done.',
  }[evidence];
  return `${allowed}${free}${offline ?? ''} ${shows ?? ''}${idempotent ? '' : ' Sent once at most.'}`.trim();
}

/** The value as the API takes it. Throws a SyntaxError for text that is no JSON where JSON is needed. */
function given({ type, values = [] }) {
  const text = input.value;
  if (values.length > 0) return TYPES_WITH_NUMBERS.has(type) ? Number(text) : text;
  if (type === 'boolean') return text === 'true';
  if (TYPES_WITH_NUMBERS.has(type)) return text.trim() === '' ? null : Number(text);
  if (type === 'json') return JSON.parse(text);
  if (type === 'text' || type === 'enum') return text;
  return /^(true|false|-?\d+(\.\d+)?)$/.test(text) ? JSON.parse(text) : text;
}

function say(words, kind = '') {
  setText($('command-outcome'), words);
  $('command-outcome').className = kind;
}

/** Names a press, so that sending it twice does not make two commands of it. Pages over plain HTTP have no randomUUID. */
function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

async function send() {
  const mine = open;
  const declared = chosen();
  const body = { [declared.operation ? 'operation' : 'attribute']: declared.name, idempotency_key: newKey(), ttl_s: Number($('command-ttl').value) };
  input?.removeAttribute('aria-invalid');
  try {
    if (input) body.value = given(declared);
  } catch (error) {
    input.setAttribute('aria-invalid', 'true');
    say(`The value is not JSON: ${error.message}`, 'offline');
    return;
  }
  const reason = $('command-reason').value.trim();
  if (reason) body.reason = reason;
  watched = null;
  say('Sending …');
  $('command-send').disabled = true;
  try {
    const { command } = await sendUntilAnswered(mine.id, body);
    if (open !== mine) return;
    watched = command.id;
    showOutcome(command);
    look();
  } catch (error) {
    if (open !== mine || error === CANCELLED) {
      say('');
      return;
    }
    if (error.code === 'no-admin-token') commandsSwitchedOn(false);
    if (error.code === 'invalid-value') input?.setAttribute('aria-invalid', 'true');
    say(error.status ? `Not accepted: ${error.message}` : `No answer from fieldlog, so it may have been accepted: ${error.message}. See the list of commands below.`, 'offline');
  } finally {
    $('command-send').disabled = false;
  }
}

const CANCELLED = new Error('cancelled');

/** The same key each time: whatever got lost on the way, it stays one command. */
async function sendUntilAnswered(id, body) {
  const path = `/api/v1/devices/${encodeURIComponent(id)}/commands`;
  let refused = false;
  for (let attempt = 1; ; attempt += 1) {
    if (!adminToken() || refused) await askAdminToken(refused);
    try {
      return await post(path, body);
    } catch (error) {
      refused = error.code === 'unauthorized' || error.code === 'forbidden';
      if (!refused && (error.status !== undefined || attempt >= RETRIES_MAX)) throw error;
      if (!refused) await new Promise((resolve) => setTimeout(resolve, 500 * attempt));
    }
  }
}

/** Shows the form for the admin token and resolves when one was entered. */
function askAdminToken(refused) {
  return new Promise((resolve, reject) => {
    const form = $('admin');
    const text = $('admin-text');
    say('');
    setText($('admin-error'), refused ? 'That token was refused.' : '');
    form.hidden = false;
    text.focus();
    const done = () => {
      form.hidden = true;
      text.value = '';
    };
    form.onsubmit = (submit) => {
      submit.preventDefault();
      if (!keepAdminToken(text.value.trim())) {
        setText($('admin-error'), 'A token has no spaces and only ASCII characters.');
        return;
      }
      done();
      say('Sending …');
      $('command-send').focus();
      resolve();
    };
    $('admin-cancel').onclick = () => {
      done();
      reject(CANCELLED);
    };
  });
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
      if (closed || evidence === 'none') return ['the broker has it; the device does not say whether it was done', 'online'];
      return [evidence === 'reply' ? 'the device has not answered yet' : 'the device has not reported the value yet', ''];
    case 'applied':
      return [evidence === 'reply' ? 'the device says that it is done' : 'the device reports the value', 'online'];
    case 'failed':
      return [command.failure ?? 'no reason is known', 'offline'];
    case 'expired':
      return [`it was not sent within ${span(command.ttl_s)}, and will not be`, 'offline'];
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

function showOutcome(command) {
  const [words, kind] = outcome(command);
  say(`Command ${command.id} ${command.state}: ${words}.`, kind);
}

/** Looks after the command whose outcome is shown, until it is closed. At once where the stream says that it moved. */
async function look() {
  clearTimeout(looking);
  const id = watched;
  if (id === null) return;
  try {
    const { command } = await get(`/api/v1/commands/${id}`);
    if (watched !== id) return;
    showOutcome(command);
    if (command.closed) return;
  } catch (error) {
    if (watched === id && error.status) return;
  }
  looking = setTimeout(look, LOOK_MS);
}

/** A step of a command has come with the stream. */
export function commandStep(event) {
  if (watched !== null && event.data.command === watched) look();
}

$('command').addEventListener('submit', (submit) => {
  submit.preventDefault();
  send();
});
$('command-name').addEventListener('change', showValue);
