// What is shown, as the address says: `#/device/kitchen%2Flamp?attr=power&at=2026-11-23T10:00:00.000Z`. So everything can be
// linked to, and the browser's back button goes back.

/** The view's name, what it shows, and how. */
export function here() {
  const hash = location.hash.replace(/^#device=/, '#/device/');
  const [path, query = ''] = hash.replace(/^#\/?/, '').split('?');
  const [view, ...rest] = path.split('/');
  let id = '';
  try {
    id = decodeURIComponent(rest.join('/'));
  } catch {
    // not encoded: no such thing
  }
  return { view: view || 'overview', id, query: new URLSearchParams(query) };
}

/** The moment that is looked at, as the API takes it; null: now. */
export const at = () => here().query.get('at');

/** The time of a moment, in ms; NaN for a record's number, and for what is no moment. */
export const timeOf = (moment) => (/^\d+$/.test(moment) ? NaN : Date.parse(moment));

/** An address. The moment that is looked at stays, unless `params` says otherwise. */
export function link(view, id = '', params = {}) {
  const query = new URLSearchParams();
  for (const [name, v] of Object.entries({ at: at(), ...params })) if (v !== null && v !== undefined && v !== '') query.set(name, v);
  const path = id === '' ? view : `${view}/${encodeURIComponent(id)}`;
  return `#/${path}${query.size > 0 ? `?${query}` : ''}`;
}

/** Changes how the same thing is shown; `replace` leaves no trace for the back button. */
export function setQuery(params, replace = true) {
  const { view, id, query } = here();
  const href = link(view, id, { ...Object.fromEntries(query), ...params });
  if (href === location.hash) return;
  if (replace) history.replaceState(null, '', href);
  else history.pushState(null, '', href);
  dispatchEvent(new HashChangeEvent('hashchange'));
}
