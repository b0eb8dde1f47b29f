// Requests to the hub, with the token of this tab.

import { noteClock, parse, problemOf } from './answer.js';
import { $, setText } from './words.js';

export { serverNow as hubNow } from './answer.js';

const TIMEOUT_MS = 20_000;
const KEPT = 'token';

let token = sessionStorage.getItem(KEPT) ?? '';
let other = null; // a token that allows more, once it was asked for; it is not kept
let logins = 0;
let asking = null;

/** Whether the page waits for the operator to log in. */
export const isAsking = () => asking !== null;

/** An answer that is not the one asked for. */
export class Refusal extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? problem?.title ?? `the hub answers with HTTP ${status}`);
    this.status = status;
    this.code = problem?.code;
  }
}

/** Thrown when the operator does not want to give another token. */
export const CANCELLED = new Error('cancelled');

const bearer = (text) => (text === '' ? {} : { Authorization: `Bearer ${text}` });
const within = (signal) => AbortSignal.any([AbortSignal.timeout(TIMEOUT_MS), ...(signal ? [signal] : [])]);

const refusal = async (response) => new Refusal(response.status, await problemOf(response));

/** Shows the form for the token, and resolves when the hub takes one; everybody who is refused waits for the same one. */
function askToken(words) {
  asking ??= new Promise((resolve) => {
    const form = $('token');
    const input = $('token-text');
    setText($('token-error'), words);
    form.hidden = false;
    $('main').hidden = true;
    input.focus();
    form.onsubmit = async (submit) => {
      submit.preventDefault();
      const text = input.value.trim();
      setText($('token-error'), '');
      try {
        const response = await fetch('/api/v1/stores', { headers: bearer(text), signal: within(), cache: 'no-store' });
        if (!response.ok) throw await refusal(response);
      } catch (error) {
        setText($('token-error'), error.status === 401 ? 'That token was refused.' : error.message);
        return;
      }
      token = text;
      sessionStorage.setItem(KEPT, token);
      logins += 1;
      input.value = '';
      form.hidden = true;
      $('main').hidden = false;
      $('logout').hidden = false;
      asking = null;
      resolve();
    };
  });
  return asking;
}

/** GET, parsed. Throws [`Refusal`] for an error answer, TypeError when there is none, TimeoutError after a while. */
export async function get(path, signal) {
  for (;;) {
    if (asking) await asking;
    const sent = logins;
    const response = await fetch(path, { headers: bearer(token), signal: within(signal), cache: 'no-store' });
    if (response.status === 401 || response.status === 403) {
      const { message } = await refusal(response);
      // Another request may have been answered with the form while this one was under way.
      if (sent === logins) await askToken(token === '' ? '' : `The token of this tab does not do: ${message}.`);
      continue;
    }
    noteClock(response);
    if (!response.ok) throw await refusal(response);
    return parse(await response.text());
  }
}

/** `items` of a list; `query` may have members that are null or empty, which are left out. */
export async function list(path, query, signal) {
  const given = Object.entries(query).filter(([, v]) => v !== null && v !== undefined && v !== '');
  const { items } = await get(`/api/v1/${path}?${new URLSearchParams(given)}`, signal);
  return items;
}

/** Asks for a token that allows more; null: the operator does not want to. */
function askOther(words) {
  return new Promise((resolve) => {
    setText($('other-words'), words);
    $('other-text').value = '';
    let given = null;
    $('other-form').onsubmit = () => {
      given = $('other-text').value.trim();
    };
    $('other-cancel').onclick = () => $('other').close();
    $('other').onclose = () => resolve(given);
    $('other').showModal();
  });
}

/** POST of JSON, parsed. Where the token does not allow it, another one is asked for; throws [`CANCELLED`] if there is none. */
export async function change(path, body) {
  const options = { method: 'POST', cache: 'no-store', ...(body === undefined ? {} : { body }) };
  for (;;) {
    const headers = { ...bearer(other ?? token), ...(body === undefined ? {} : { 'Content-Type': 'application/json' }) };
    const response = await fetch(path, { ...options, headers, signal: within() });
    const text = await response.clone().text();
    if (response.ok) return text === '' ? null : parse(text);
    const refused = await refusal(response);
    const isOfToken = response.status === 401 || (response.status === 403 && /scope/.test(refused.message) && !/\[\[token\]\]/.test(refused.message));
    if (!isOfToken) throw refused;
    const found = await askOther(response.status === 401 ? 'That token was refused. Give another one.' : `It is refused with this one: ${refused.message}.`);
    if (found === null) throw CANCELLED;
    other = found;
  }
}

/** Forgets the token, and shows the page as to somebody who comes for the first time. */
export function logout() {
  sessionStorage.removeItem(KEPT);
  location.reload();
}

$('logout').hidden = token === '';
