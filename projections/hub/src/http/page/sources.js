// The streams of parcels that this process reads, as cards.

import { icon } from './stores.js';
import { ago } from './name.js';
import { count, el, many } from './words.js';

/** Its colour, and what it does. */
function standing({ state, stopped }) {
  if (state === 'failing') return ['bad', 'failing'];
  if (stopped.length > 0) return ['bad', `${many(stopped.length, 'subject')} not taken`];
  if (state === 'reading') return ['good', 'reading'];
  return state === 'waiting' ? ['good', 'another hub reads it'] : ['warn', 'connecting'];
}

function details({ state, error, error_time: time, stopped, lag_records: lag }) {
  const wrong = state === 'failing' || state === 'connecting' ? error : null;
  return [
    wrong ? el('p.muted', `${wrong}. Nothing is lost; it is tried again by itself. `, time ? ago(time) : null) : null,
    ...stopped.slice(0, 3).map(({ subject, why }) => el('p.muted', `${subject}: ${why}`)),
    lag > 0 ? el('p.muted', `${count(lag)} records to go.`) : null,
  ];
}

/** One card for each source. */
export function sourceCards(sources) {
  return sources.map((source) => {
    const [mood, main] = standing(source);
    return el(`li.card.part.${mood}`, el('h3', icon(mood), source.source), el('p.main', main), details(source));
  });
}
