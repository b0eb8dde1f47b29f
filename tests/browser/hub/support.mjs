// What tests of the hub's page need beside the rest: its token, and answers that are made up.

import { LIVE_MS, openPage, url } from '../support.mjs';

export const token = process.env.FIELDLOG_HUB_TOKEN;

export const deviceHash = (id, query = '') => `#/device/${encodeURIComponent(id)}${query}`;
export const openHub = (hash = '', options = {}) => openPage(hash, options, { token });
export const ask = async (path) => (await fetch(`${url}/api/v1/${path}`, { headers: { Authorization: `Bearer ${token}` } })).json();
export const shown = (page, selector, hasText) => page.locator(selector, hasText ? { hasText } : {}).first().waitFor({ timeout: LIVE_MS });
export const named = (page, words) => shown(page, '#gateways tr', words);

/** The hub's answers at `path`, changed. */
export const changed = (page, path, change) =>
  page.route(path, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: change(await response.json()) });
  });

/** A gateway that is well, unless `more` says otherwise. */
export const gateway = (id, more) => ({ gateway: id, state: 'complete', epoch: '00', position: 9, newest: 9, head: 9, lag_events: 0, newest_time: new Date().toISOString(), last_seen: new Date().toISOString(), missing: [], events: 9, duplicates: 0, faults: [], forked: null, holder: null, fence: 1, gaps: [], ...more });
