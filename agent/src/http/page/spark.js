// The small lines in the list of devices: the last hour of one value, for the rows that are on the screen.

import { devicePath, gatewayNow, get } from './api.js';
import { svg } from './words.js';

const WINDOW_S = 60; // which the agent has in memory
const LENGTH_MS = 3_600_000;
const FRESH_MS = 60_000;
const AT_ONCE = 3;
const SETTLE_MS = 250;
const KEPT_MAX = 500;

/** A step for each minute, held until the next. */
function draw(buckets) {
  const now = gatewayNow();
  const list = buckets.map((b) => [Math.max(0, Date.parse(b.start) - (now - LENGTH_MS)), b.last]).filter(([, v]) => Number.isFinite(v));
  if (list.length < 2) return null;
  const low = Math.min(...list.map(([, v]) => v));
  const high = Math.max(...list.map(([, v]) => v));
  const y = (v) => (high === low ? 12 : 22 - ((v - low) / (high - low)) * 20).toFixed(1);
  const path = list.map(([t, v], i) => `${i === 0 ? 'M' : 'H'}${((t / LENGTH_MS) * 100).toFixed(1)}${i === 0 ? `,${y(v)}` : `V${y(v)}`}`).join('');
  return svg('svg', { viewBox: '0 0 100 24', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, svg('path', { class: 'line', d: `${path}H100` }));
}

/** Reads the lines of the rows that are shown, a few at a time. */
export class Sparks {
  #known = new Map(); // device and attribute → { at, buckets }
  #rows = [];
  #running = 0;
  #settling = null;

  /** These rows are on the screen now. */
  want(rows) {
    this.#rows = rows;
    for (const row of rows) this.#show(row);
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => this.#next(), SETTLE_MS);
  }

  #key = (row) => `${row.d.id}\n${row.attribute}`;

  #show(row) {
    const known = this.#known.get(this.#key(row));
    if (row.attribute === null || !known || row.spark.dataset.at === `${this.#key(row)} ${known.at}`) return;
    row.spark.dataset.at = `${this.#key(row)} ${known.at}`;
    const line = draw(known.buckets);
    row.spark.replaceChildren(...(line ? [line] : []));
  }

  #next() {
    while (this.#running < AT_ONCE) {
      const due = (row) => row.attribute !== null && row.tr.isConnected && !(performance.now() - this.#known.get(this.#key(row))?.at < FRESH_MS);
      const row = this.#rows.find(due);
      if (!row) return;
      this.#read(row);
    }
  }

  async #read(row) {
    const key = this.#key(row);
    const old = this.#known.get(key);
    // Also where it fails: it is asked for again when it is due.
    this.#known.set(key, { at: performance.now(), buckets: old?.buckets ?? [] });
    if (this.#known.size > KEPT_MAX) this.#known.delete(this.#known.keys().next().value);
    this.#running += 1;
    try {
      const from = new Date(gatewayNow() - LENGTH_MS).toISOString();
      const query = new URLSearchParams({ attribute: row.attribute, window_s: WINDOW_S, from });
      const { buckets } = await get(`${devicePath(row.d.id)}/aggregates?${query}`);
      this.#known.set(key, { at: performance.now(), buckets });
      if (row.d && this.#key(row) === key) this.#show(row);
    } catch {
      // no line
    }
    this.#running -= 1;
    this.#next();
  }
}
