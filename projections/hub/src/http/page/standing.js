// How a gateway is doing, in words, and what to do where it is not well.

import { hubNow } from './api.js';
import { count, many, span } from './words.js';

/** The states of the API, the worst first: what they are called, their colour, and whether somebody has to do something. */
export const STATES = {
  forked: { word: 'forked', mood: 'bad', todo: true },
  contradicted: { word: 'contradicted', mood: 'bad', todo: true },
  silent: { word: 'silent', mood: 'bad', todo: true },
  gaps: { word: 'with gaps', mood: 'warn', todo: true },
  behind: { word: 'behind', mood: 'warn', todo: false },
  lost: { word: 'events lost', mood: 'unknown', todo: false },
  complete: { word: 'complete', mood: 'good', todo: false },
};

/** The states that somebody has to do something about. */
export const TODO = Object.keys(STATES).filter((state) => STATES[state].todo);

/** How the list can be narrowed down: words and states. */
export const FILTERS = {
  all: ['All', []],
  attention: ['Need attention', TODO],
  complete: ['Complete', ['complete']],
  behind: ['Behind', ['behind']],
  gaps: ['With gaps', ['gaps']],
  lost: ['Events lost', ['lost']],
  silent: ['Silent', ['silent']],
  forked: ['Forked', ['forked', 'contradicted']],
};

export const stateOf = ({ state }) => STATES[state] ?? { word: state ?? '–', mood: 'unknown', todo: false };

export const rangeOf = ({ first, last }) => (first === last ? count(Number(first)) : `${count(Number(first))} to ${count(Number(last))}`);

const positions = (gaps) => many(gaps.reduce((sum, { first, last }) => sum + Number(last) - Number(first) + 1, 0), 'event');

/** By how much a gateway is behind. */
export function lagWords({ lag_events: events, lag_s: seconds }) {
  if (!events) return 'nothing';
  return `${many(events, 'event')}${Number.isFinite(seconds) && seconds >= 1 ? `, ${span(seconds)}` : ''}`;
}

const sentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);

/** A contradiction in words. */
export function faultWords({ fault, seq, first, last }) {
  if (fault === 'fork') return `Two histories part after position ${count(Number(seq))}.`;
  if (fault === 'content') return `Event ${count(Number(seq))} arrived again with other content.`;
  if (fault === 'altered') return `The events ${rangeOf({ first, last })} were changed after they were recorded.`;
  return fault;
}

/** What is wrong with a gateway: a sentence or two. */
export function wrongWords(gateway) {
  const { state, forked, faults, gaps = [], last_seen: seen } = gateway;
  switch (state) {
    case 'forked':
      return sentence(forked.charAt(0).toUpperCase() + forked.slice(1));
    case 'contradicted':
      return (faults ?? []).slice(0, 2).map(faultWords).join(' ');
    case 'silent':
      return seen ? `Nothing has arrived for ${span((hubNow() - Date.parse(seen)) / 1000)}.` : 'Nothing of it has arrived yet.';
    case 'gaps': {
      const asked = gaps.filter((gap) => gap.state === 'asked');
      const why = asked.find((gap) => gap.why)?.why;
      return `${positions(asked)} got lost on the way, and the gateway was asked for them.${why ? ` It says: ${sentence(why)}` : ''}`;
    }
    case 'behind':
      return `${lagWords(gateway)} are still to come.`;
    case 'lost':
      return `${positions(gaps.filter((gap) => gap.state === 'lost'))} are lost: the gateway does not have them any more.`;
    default:
      return 'Nothing is missing.';
  }
}

/** What to do about it. */
export function todoWords({ state }) {
  return {
    forked: 'Find out which gateways share the id, such as a cloned card or a restored backup, and give one of them another id or a new epoch. Then let the gateway go on.',
    contradicted: 'Find out whether two gateways share the id, or somebody has changed a log.',
    silent: 'Check power and link. On the gateway, “fieldlog status” says whether it can reach the hub. What it records meanwhile comes later.',
    gaps: 'If they do not come, “fieldlog status” on the gateway says whether its sink is connected.',
    behind: 'They come by themselves. If the number does not get smaller, check the link.',
    lost: 'Nothing can be done. Longer retention on the gateway keeps it from happening again.',
  }[state] ?? '';
}
