// The stores that follow the tables, as cards.

import { count, el, many, span } from './words.js';

const NAMES = { redis: 'Redis', opensearch: 'OpenSearch' };
const ICONS = { good: '✓', warn: '!', bad: '✕', unknown: '–' };

/** A mark that does not need colour. */
export const icon = (mood) => el(`i.icon.${mood}`, { 'aria-hidden': 'true' }, ICONS[mood]);

/** Its colour, what it does, and more about that. */
function standing({ state, why, lag_events: lag, events, behind_s: behind, eta_s: eta, reduced }) {
  const without = reduced > 0 ? ` ${many(reduced, 'document')} without content, which it would not take.` : '';
  switch (state) {
    case 'failing':
      return ['bad', `failing for ${span(behind)}`, `${why}. The tables are not affected; it is tried again by itself.`];
    case 'rebuilding':
      return ['warn', 'being filled', `${count(lag)} of ${many(events, 'event')} to go${eta ? `, about ${span(eta)}` : ''}.${without}`];
    default:
      return ['good', lag > 0 ? `${many(lag, 'event')} behind` : 'up to date', `${many(events, 'event')}.${without}`];
  }
}

/** One card for each store that is used. */
export function storeCards(stores) {
  return stores.filter(({ state }) => state !== 'off').map((store) => {
    const [mood, main, detail] = standing(store);
    return el(`li.card.part.${mood}`, el('h3', icon(mood), NAMES[store.store] ?? store.store), el('p.main', main), el('p.muted', detail));
  });
}
