// Requests to the agent, logging in, and a reader of its event stream.
//
// The stream is read with fetch, because EventSource does not tell a refusal from a lost connection.

import { noteClock, parse, problemOf } from './answer.js';
import { $ } from './words.js';

export { clockAhead, serverNow as gatewayNow } from './answer.js';

const SESSION = '/api/v1/session';
const TIMEOUT_MS = 15_000;
const QUIET_MS_MAX = 40_000; // the agent sends a comment every 15 s
const RETRY_MS_MAX = 10_000;

// What the session of this browser allows: 'read', 'command', 'admin', or null without one. The session itself is a cookie
// that scripts cannot read.
let scope = null;
let logins = 0;
let asking = null;

/** Whether the page waits for the operator to log in. */
export const isAsking = () => asking !== null;

/** Whether it makes sense to ask for a change before logging in for it. */
export const mayChange = () => scope !== null && scope !== 'read';

function noteSession(answer) {
  scope = answer.scope;
  $('logout').hidden = scope === null;
}

/** An answer that is not the one asked for. */
class Refusal extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? problem?.title ?? `HTTP ${status}`);
    this.status = status;
    this.code = problem?.code;
  }
}

/** Learns what the session that this browser may have already allows. */
export const resume = () => get(SESSION).then(noteSession);

/** Logs in. Returns what is wrong in words, or an empty text. */
export async function login(text) {
  try {
    noteSession(await post(SESSION, { token: text }));
    logins += 1;
    return '';
  } catch (error) {
    return error.status === 401 ? 'That token was refused.' : error.message;
  }
}

/** Ends the session, and shows the page as to somebody who comes for the first time. */
export async function logout() {
  await send('DELETE', SESSION);
  location.reload();
}

/** Shows the form for logging in and resolves when that is done; everybody who meets a 401 waits for the same one. */
function askToken() {
  asking ??= new Promise((resolve) => {
    const form = $('token');
    const input = $('token-text');
    const error = $('token-error');
    error.textContent = '';
    form.hidden = false;
    $('main').hidden = true;
    input.focus();
    form.onsubmit = async (submit) => {
      submit.preventDefault();
      error.textContent = await login(input.value.trim());
      if (error.textContent !== '') return;
      input.value = '';
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
    const sent = logins;
    // Made here: waiting for the operator to find the token does not count as waiting for the agent.
    const signal = options.signal();
    const response = await fetch(path, { headers: options.headers, signal, cache: 'no-store' });
    if (response.status !== 401) return response;
    // Another request may have been answered with the form while this one was under way.
    if (sent === logins) await askToken();
  }
}

const refusal = async (response) => new Refusal(response.status, await problemOf(response));

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

async function send(method, path, body) {
  const headers = { 'Content-Type': 'application/json' };
  const options = { method, headers, body: JSON.stringify(body), cache: 'no-store' };
  const response = await fetch(path, { ...options, signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!response.ok) throw await refusal(response);
  return parse(await response.text());
}

/** POST of JSON, parsed. Throws as [`get`] does, also where the session does not allow it. */
export const post = (path, body) => send('POST', path, body);

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
