// Derived attributes: what is declared of them, and their values, computed from those of a device as the agent does it.

import { get } from './api.js';
import { count } from './words.js';

const STEPS = {
  value: (result) => result,
  sum: (result, next) => result + next,
  difference: (result, next) => result - next,
  product: (result, next) => result * next,
  ratio: (result, next) => result / next,
};
const SIGNS = { sum: ' + ', difference: ' − ', product: ' × ', ratio: ' ÷ ' };

let declared = [];
let aggregates = [];

/** Reads what is declared; it changes only with the configuration. */
export async function loadDeclared(signal) {
  const answer = await get('/api/v1/aggregates', signal);
  declared = answer.derived_attributes;
  aggregates = answer.aggregates;
}

const isNumber = (v) => typeof v === 'number' || typeof v === 'bigint';

function compute({ formula, of, scale, offset, above = null, below = null }, attributes) {
  const values = of.map((name) => attributes.get(name));
  if (!(formula in STEPS) || !values.every(isNumber)) return null;
  const result = values.map(Number).reduce(STEPS[formula]) * scale + offset;
  if (!Number.isFinite(result)) return null;
  if (above !== null) return result > above;
  return below === null ? result : result < below;
}

/** The derived attributes of a device with these values: value, unit, and what each is computed from. */
export function derivedOf(attributes) {
  const all = declared.map((one) => [one.name, { value: compute(one, attributes), unit: one.unit, of: one.of }]);
  return new Map(all.filter(([, { value }]) => value !== null));
}

/** How a derived attribute is computed, in words; empty where that is not known any more. */
export function formulaOf(name) {
  const one = declared.find((it) => it.name === name);
  if (!one) return '';
  const { formula, of, scale, offset, above = null, below = null } = one;
  const scaled = scale === 1 ? '' : ` × ${scale}`;
  const inner = of.join(SIGNS[formula] ?? ' ');
  const base = of.length > 1 && scaled && !/product|ratio/.test(formula) ? `(${inner})` : inner;
  const moved = offset === 0 ? '' : ` ${offset < 0 ? '−' : '+'} ${Math.abs(offset)}`;
  const than = above !== null ? ` > ${above}` : below !== null ? ` < ${below}` : '';
  return `${base}${scaled}${moved}${than}`;
}

const matches = (pattern, name) => new RegExp(`^${pattern.split('*').map((part) => part.replace(/[\\^$.|?+()[\]{}]/g, '\\$&')).join('.*')}$`, 's').test(name);

/** The named aggregates that have a derived attribute, the shortest window first: a chart can be drawn of these. */
export function chartsOf(name) {
  const found = aggregates.filter(({ attributes }) => attributes.some((pattern) => matches(pattern, name)));
  return found.sort((a, b) => a.window_s - b.window_s).map((aggregate) => ({ key: `${aggregate.name}(${name})`, name, aggregate }));
}

const FUNCTIONS = { count: 'Number of values', min: 'Lowest', max: 'Highest', mean: 'Mean', sum: 'Sum', last: 'Last value', increase: 'Increase', change: 'Change' };

/** What a chart of a named aggregate shows. */
export const aggregateWords = ({ function: what, window_s: s, name }) => `${FUNCTIONS[what] ?? what} of every ${count(s)} s: the named aggregate ${name}.`;
