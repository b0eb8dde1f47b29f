// Telling a device something: a form made from what is declared for it, and what becomes of the command.

import { CANCELLED, change } from './admin.js';
import { devicePath, get } from './api.js';
import { outcome } from './describe.js';
import { at } from './route.js';
import { el, json, setText, value } from './words.js';

const LOOK_MS = 1_000;
const NUMBERS = new Set(['number', 'integer']);

const takesValue = ({ operation, type, values }) => !operation || Boolean(type) || Boolean(values?.length);

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

/** The field for a value, of the kind that the declaration asks for, with what the device reports now. */
function fieldFor({ type, values = [], min, max, step }, now) {
  if (values.length > 0 || type === 'boolean') {
    const words = values.length > 0 ? values : ['true', 'false'];
    const field = el('select', words.map((word) => el('option', { value: word }, word)));
    if (words.includes(String(now))) field.value = String(now);
    return field;
  }
  if (NUMBERS.has(type)) {
    const field = el('input', { type: 'number', inputmode: 'decimal', step: step ?? (type === 'integer' ? 1 : 'any'), min, max });
    if (typeof now === 'number') field.value = now;
    return field;
  }
  const field = type === 'json' ? el('textarea', { rows: 3, spellcheck: 'false' }) : el('input', { type: 'text', autocomplete: 'off', spellcheck: 'false' });
  if (now !== undefined && now !== null) field.value = type === 'json' ? json(now) : value(now);
  return field;
}

/** The value as the API takes it. Throws a SyntaxError for text that is no JSON where JSON is needed. */
function given({ type, values = [] }, text) {
  if (values.length > 0) return NUMBERS.has(type) ? Number(text) : text;
  if (type === 'boolean') return text === 'true';
  if (NUMBERS.has(type)) return text.trim() === '' ? null : Number(text);
  if (type === 'json') return JSON.parse(text);
  if (type === 'text' || type === 'enum') return text;
  return /^(true|false|-?\d+(\.\d+)?)$/.test(text) ? JSON.parse(text) : text;
}

/** Names a press, so that sending it twice does not make two commands of it. Pages over plain HTTP have no randomUUID. */
function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** The form of a device; `reported` returns the value that it reports of an attribute. */
export function commandForm(root, id, reported) {
  const name = el('select', { id: 'command-name' });
  const place = el('div.field');
  const ttl = el('input', { id: 'command-ttl', type: 'number', min: 1, max: 604_800, step: 1, value: 30, inputmode: 'numeric' });
  const reason = el('input', { id: 'command-reason', maxlength: 500, autocomplete: 'off' });
  const hints = el('p.muted.wide', { id: 'command-hint' });
  const button = el('button.main', { id: 'command-send' }, 'Send');
  const said = el('p.outcome', { id: 'command-outcome', role: 'status', 'aria-live': 'polite' });
  const form = el(
    'form.command',
    { novalidate: '' },
    el('div.field', el('label', { for: 'command-name' }, 'What'), name),
    place,
    el('div.field.ttl', el('label', { for: 'command-ttl' }, 'Valid for (s)'), ttl),
    el('div.field.reason', el('label', { for: 'command-reason' }, 'Reason (recorded with it)'), reason),
    hints,
    button,
  );
  const off = el('p.note');
  const card = el('section.card', { id: 'command-card' }, el('h2', 'Send a command'), off, form, said);
  card.hidden = true;
  root.append(card);

  let set = [];
  let made = '';
  let field = null;
  let watched = null; // id of the command whose outcome is shown
  let looking = null;
  let open = true;
  let switchedOn = true; // whether the agent takes commands over TCP at all

  const say = (words, kind = '') => {
    setText(said, words);
    said.className = `outcome ${kind}`;
  };
  const chosen = () => set[name.selectedIndex];

  function showField() {
    const declared = chosen();
    setText(hints, hint(declared));
    place.replaceChildren();
    field = takesValue(declared) ? fieldFor(declared, declared.operation ? undefined : reported(declared.name)) : null;
    if (field === null) return;
    field.id = 'command-input';
    field.setAttribute('aria-describedby', 'command-hint');
    place.append(el('label', { for: 'command-input' }, `Value${declared.unit ? ` in ${declared.unit}` : ''}`), field);
  }

  function showOutcome(command) {
    const [words, kind] = outcome(command);
    say(`Command ${command.id} ${command.state}: ${words}.`, kind);
  }

  /** Looks after the command whose outcome is shown, until it is closed. */
  async function look() {
    clearTimeout(looking);
    const mine = watched;
    if (mine === null || !open) return;
    try {
      const { command } = await get(`/api/v1/commands/${mine}`);
      if (watched !== mine) return;
      showOutcome(command);
      if (command.closed) return;
    } catch (error) {
      if (watched === mine && error.status) return;
    }
    looking = setTimeout(look, LOOK_MS);
  }

  async function send() {
    const declared = chosen();
    const body = { [declared.operation ? 'operation' : 'attribute']: declared.name, idempotency_key: newKey(), ttl_s: Number(ttl.value) };
    field?.removeAttribute('aria-invalid');
    try {
      if (field) body.value = given(declared, field.value);
    } catch (error) {
      field.setAttribute('aria-invalid', 'true');
      say(`The value is not JSON: ${error.message}`, 'bad');
      return;
    }
    const why = reason.value.trim();
    if (why) body.reason = why;
    watched = null;
    say('Sending …');
    button.disabled = true;
    try {
      const { command } = await change(`${devicePath(id)}/commands`, body, true);
      watched = command.id;
      showOutcome(command);
      look();
    } catch (error) {
      if (error.code === 'no-admin-token') switchedOn = false;
      if (error.code === 'invalid-value') field?.setAttribute('aria-invalid', 'true');
      if (error === CANCELLED) say('');
      else say(error.status ? `Not accepted: ${error.message}` : `No answer from fieldlog, so it may have been accepted: ${error.message}. See the list of commands below.`, 'bad');
      draw();
    } finally {
      button.disabled = false;
    }
  }

  function draw() {
    const past = at() !== null;
    card.hidden = set.length === 0;
    form.hidden = past || !switchedOn;
    off.replaceChildren();
    if (past) setText(off, 'Commands are sent in the present: go back to now.');
    else if (!switchedOn) {
      off.append(
        'Commands from this page are switched off. To switch them on, write a token to a file (', el('code', 'head -c 24 /dev/urandom | base64'),
        ') that only fieldlog can read, name the file in the configuration as ', el('code', 'http.admin_token_file'), ', and restart fieldlog.',
      );
    }
  }

  form.addEventListener('submit', (submit) => {
    submit.preventDefault();
    send();
  });
  name.addEventListener('change', showField);
  return {
    /** Reads what the device can be told. A form that somebody fills in is left alone. */
    async show(signal) {
      const { commands } = await get(`${devicePath(id)}/command-set`, signal);
      set = commands;
      draw();
      if (json(set) === made || set.length === 0) return;
      made = json(set);
      const before = name.value;
      name.replaceChildren(...set.map((it) => el('option', { value: it.name }, it.operation ? `${it.name} (operation)` : it.name)));
      if (set.some((it) => it.name === before)) name.value = before;
      showField();
    },
    status({ commands }) {
      if (commands.admin_token === switchedOn) return;
      switchedOn = commands.admin_token;
      draw();
    },
    /** A step of a command has come with the stream. */
    step(event) {
      if (watched !== null && event.data.command === watched) look();
    },
    close() {
      open = false;
      clearTimeout(looking);
    },
  };
}
