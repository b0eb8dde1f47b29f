// Requests to the agent: one token for all that is read, one for commands, and a reader of its event stream.
//
// The stream is read with fetch, because EventSource cannot send an Authorization header.

import { $ } from './words.js';

const TOKEN_KEY = 'fieldlog-token';
const ADMIN_KEY = 'fieldlog-admin-token';
const TIMEOUT_MS = 15_000;
const QUIET_MS_MAX = 40_000; // the agent sends a comment every 15 s
const RETRY_MS_MAX = 10_000;

let token = stored(TOKEN_KEY);
let admin = stored(ADMIN_KEY);
let asking = null;

/** Whether the page waits for the operator to enter a token. */
export const isAsking = () => asking !== null;

function stored(key) {
  try {
    return sessionStorage.getItem(key);
  } catch {
    return null; // storage is switched off: the token lives as long as the page
  }
}

function keep(key, text) {
  try {
    sessionStorage.setItem(key, text);
  } catch {
    // as above
  }
}

const isToken = (text) => /^[\x21-\x7e]+$/.test(text);

/** The token for commands; the one for reading may be it. */
export const adminToken = () => admin ?? token;

/** Keeps a token for commands in this tab. Returns whether it is one. */
export function keepAdminToken(text) {
  if (!isToken(text)) return false;
  admin = text;
  keep(ADMIN_KEY, text);
  return true;
}

/** An answer that is not the one asked for. */
class Refusal extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? problem?.title ?? `HTTP ${status}`);
    this.status = status;
    this.code = problem?.code;
  }
}

/** Shows the token form and resolves when one has been entered; everybody who meets a 401 waits for the same one. */
function askToken(refused) {
  asking ??= new Promise((resolve) => {
    const form = $('token');
    const input = $('token-text');
    const error = $('token-error');
    error.textContent = refused ? 'That token was refused.' : '';
    form.hidden = false;
    $('main').hidden = true;
    input.focus();
    form.onsubmit = (submit) => {
      submit.preventDefault();
      const text = input.value.trim();
      if (!isToken(text)) {
        error.textContent = 'A token has no spaces and only ASCII characters.';
        return;
      }
      token = text;
      input.value = '';
      keep(TOKEN_KEY, token);
      form.hidden = true;
      $('main').hidden = false;
      asking = null;
      resolve();
    };
  });
  return asking;
}

async function request(path, options) {
  for (;;) {
    if (asking) await asking;
    const sent = token;
    const headers = { ...options.headers, ...(sent ? { Authorization: `Bearer ${sent}` } : {}) };
    // Made here: waiting for the operator to find the token does not count as waiting for the agent.
    const signal = options.signal();
    const response = await fetch(path, { headers, signal, cache: 'no-store', credentials: 'omit' });
    if (response.status !== 401) return response;
    // Another request may have brought a new token while this one was under way.
    if (sent === token) await askToken(sent !== null);
  }
}

async function refusal(response) {
  let problem = null;
  try {
    problem = await response.json();
  } catch {
    // not a problem document; the status has to do
  }
  return new Refusal(response.status, problem);
}

/** Parses without rounding integers beyond 2^53, where the browser tells the source text. */
export function parse(text) {
  return JSON.parse(text, (_, v, context) => {
    const rounded = typeof v === 'number' && Number.isInteger(v) && !Number.isSafeInteger(v);
    return rounded && /^-?\d+$/.test(context?.source ?? '') ? BigInt(context.source) : v;
  });
}

/** How far the gateway's clock is ahead of this device's, in ms, as its answers tell. */
let ahead = 0;
export const clockAhead = () => ahead;
export const gatewayNow = () => Date.now() + ahead;

function noteClock(response) {
  const said = Date.parse(response.headers.get('date') ?? '');
  // The header has no fraction of a second.
  if (Number.isFinite(said) && Math.abs(said + 500 - gatewayNow()) > 1_000) ahead = said + 500 - Date.now();
}

const within = (signal) => () => AbortSignal.any([AbortSignal.timeout(TIMEOUT_MS), ...(signal ? [signal] : [])]);

/** GET, parsed. Throws [`Refusal`] for an error answer, TypeError when there is none, TimeoutError after a while. */
export async function get(path, signal) {
  const response = await request(path, { signal: within(signal) });
  noteClock(response);
  if (!response.ok) throw await refusal(response);
  return parse(await response.text());
}

/** The path of a device in the API. */
export const devicePath = (id) => `/api/v1/devices/${encodeURIComponent(id)}`;

/** POST of JSON with the token for commands, parsed. Throws as [`get`] does, also for a token that is refused. */
export async function post(path, body) {
  const headers = { 'Content-Type': 'application/json', ...(adminToken() ? { Authorization: `Bearer ${adminToken()}` } : {}) };
  const options = { method: 'POST', headers, body: JSON.stringify(body), cache: 'no-store', credentials: 'omit' };
  const response = await fetch(path, { ...options, signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!response.ok) throw await refusal(response);
  return parse(await response.text());
}

/** GET of bytes. */
export async function getBlob(path) {
  const response = await request(path, { signal: within() });
  if (!response.ok) throw await refusal(response);
  return response.blob();
}

/** Splits a server-sent event stream into `{id, event, data}`. */
function frames(onFrame) {
  let rest = '';
  let frame = { id: '', event: 'message', data: [] };
  const line = (text) => {
    if (text === '') {
      if (frame.data.length > 0 || frame.event !== 'message') onFrame({ ...frame, data: frame.data.join('\n') });
      frame = { id: frame.id, event: 'message', data: [] };
      return;
    }
    const colon = text.indexOf(':');
    if (colon === 0) return;
    const field = colon < 0 ? text : text.slice(0, colon);
    const content = colon < 0 ? '' : text.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') frame.data.push(content);
    else if (field === 'event') frame.event = content;
    else if (field === 'id') frame.id = content;
  };
  return (chunk) => {
    // A CR at the end may be half of a CRLF.
    const lines = (rest + chunk).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    lines.forEach(line);
  };
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Follows the event stream for ever, from where `position()` says (`<epoch>-<seq>`), reconnecting by itself.
 * `onUp` is called after each connection, `onDown(error)` when it is lost.
 */
export async function follow({ position, onUp, onDown, onFrame, signal }) {
  for (let attempt = 0; !signal.aborted; attempt += 1) {
    const connection = new AbortController();
    const giveUp = () => connection.abort();
    signal.addEventListener('abort', giveUp);
    let watchdog;
    const listen = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(giveUp, QUIET_MS_MAX);
      return connection.signal;
    };
    try {
      const headers = { Accept: 'text/event-stream', 'Last-Event-ID': position() };
      const response = await request('/api/v1/events/stream', { headers, signal: listen });
      if (!response.ok) throw await refusal(response);
      attempt = 0;
      onUp();
      const push = frames(onFrame);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        listen();
        push(part.value);
      }
      throw new TypeError('the stream ended');
    } catch (error) {
      if (!signal.aborted) onDown(error);
    } finally {
      clearTimeout(watchdog);
      connection.abort();
      signal.removeEventListener('abort', giveUp);
    }
    const wait = Math.min(RETRY_MS_MAX, 500 * 2 ** attempt);
    if (!signal.aborted) await pause(wait * (0.5 + Math.random() / 2));
  }
}
