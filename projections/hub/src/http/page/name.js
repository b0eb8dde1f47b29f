// Gateways, devices and moments as elements, and their paths in the API.

import { hubNow } from './api.js';
import { link } from './route.js';
import { brief, clock, el, moment } from './words.js';

/** A device's name in an address: a gateway's id has no slash. */
export const idOf = (gateway, device) => `${gateway}/${device}`;

/** The gateway and the device of such a name. */
export function partsOf(id) {
  const slash = id.indexOf('/');
  return slash < 0 ? [id, ''] : [id.slice(0, slash), id.slice(slash + 1)];
}

export const gatewayPath = (gateway) => `/api/v1/gateways/${encodeURIComponent(gateway)}`;

export const gatewayLink = (gateway) => el('a.name', { href: link('gateway', gateway), title: gateway }, el('bdi', gateway));

/** A link to a device, by its name if it has one. */
export const deviceLink = (gateway, device, name) =>
  el('a.name', { href: link('device', idOf(gateway, device)), title: `${device} of ${gateway}` }, el('bdi', name || device));

const two = (n) => String(n).padStart(2, '0');

/** A moment with everything that is known of it, in the reader's time zone. */
function exact(ms) {
  const t = new Date(ms);
  const offset = -t.getTimezoneOffset();
  const zone = `${offset < 0 ? '-' : '+'}${two(Math.floor(Math.abs(offset) / 60))}:${two(Math.abs(offset) % 60)}`;
  return `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${clock(ms, true)} ${zone}`;
}

const timed = (at, words) => {
  const ms = Date.parse(at);
  return Number.isNaN(ms) ? '–' : el('time', { datetime: at, title: exact(ms) }, words(ms));
};

/** A moment: the time of day, with the date if that is not today. */
export const time = (at) => timed(at, moment);

/** How long ago a moment was. */
export const ago = (at) => timed(at, (ms) => `${brief((hubNow() - ms) / 1000)} ago`);
