// The chart or timeline of one attribute of a device, over a chosen time, and its values as a table and as a file.

import { hubNow } from './api.js';
import { historyCard, isNumber, valuesWords } from './card.js';
import { here } from './route.js';
import { RANGES, readSeries } from './series.js';

const REREAD_MS = 10_000;
const PER_SECOND = 1 / 1_000; // of a longer time: it moves slower

export function history(root, gateway, device) {
  const card = historyCard(root, RANGES, `${gateway}-${device}`);
  let shown = '';
  let due = 0;

  return {
    /** `attributes` are those of the device, by name; `names` has those that matter most, first. */
    async show(attributes, names, signal) {
      const { query } = here();
      const options = [...names, ...[...attributes.keys()].filter((name) => !names.includes(name))];
      if (!card.offer(options)) return;
      const wanted = query.get('attr');
      const attribute = options.includes(wanted) ? wanted : (names.find((name) => isNumber(attributes.get(name).value)) ?? options[0]);
      const range = query.get('range') in RANGES ? query.get('range') : 'hour';
      card.choose(attribute, range);
      const { value: now, changed, description } = attributes.get(attribute);
      const key = `${attribute}\n${range}\n${isNumber(now)}`;
      // A chart that is looked at closely is left as it is.
      if (key === shown && (performance.now() < due || card.isRead())) return;
      let found = null;
      try {
        const held = { t: Date.parse(changed), v: now };
        found = await readSeries({ gateway, device, attribute }, held, isNumber(now), RANGES[range][1], hubNow(), signal);
      } catch (error) {
        if (error.status === undefined && error.name !== 'TimeoutError') throw error;
        // The rest of the device is there all the same.
        card.say(`The history cannot be read: ${error.status ? error.message : 'it takes too long. Choose a shorter time.'}`);
        return;
      }
      due = performance.now() + Math.max(REREAD_MS, RANGES[range][1] * PER_SECOND * 1000);
      shown = key;
      card.draw({ ...found, attribute }, { attribute, range, isNumeric: isNumber(now), unit: description?.unit ?? '' }, valuesWords(found, 'newest'));
    },
    close: card.close,
  };
}
