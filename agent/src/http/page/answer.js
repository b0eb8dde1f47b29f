// What answers say beside their content: the time by the server's clock, and why something was refused. The pages of agent and
// hub both read them so.

/** Parses without rounding integers beyond 2^53, where the browser tells the source text. */
export function parse(text) {
  return JSON.parse(text, (_, v, context) => {
    const rounded = typeof v === 'number' && Number.isInteger(v) && !Number.isSafeInteger(v);
    return rounded && /^-?\d+$/.test(context?.source ?? '') ? BigInt(context.source) : v;
  });
}

/** The problem document of an answer; null: it has none, and the status has to do. */
export async function problemOf(response) {
  try {
    return await response.json();
  } catch {
    return null;
  }
}

/** How far the server's clock is ahead of this device's, in ms, as its answers tell. */
let ahead = 0;
export const clockAhead = () => ahead;
/** The time by the server's clock, in ms. */
export const serverNow = () => Date.now() + ahead;

export function noteClock(response) {
  const said = Date.parse(response.headers.get('date') ?? '');
  // The header has no fraction of a second.
  if (Number.isFinite(said) && Math.abs(said + 500 - serverNow()) > 1_000) ahead = said + 500 - Date.now();
}
