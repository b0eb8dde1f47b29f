// The status page: reads the state, follows the events, and says so when it cannot.

import { follow, get, isAsking, parse } from './api.js';
import { commandStep, commandsSwitchedOn } from './command.js';
import { commandsMoved, loadCommands, showOpenCommands } from './commands.js';
import { applyEvent, deviceCount, flushDevices, loadDevices, tickDevices } from './devices.js';
import { flushTail, loadQuarantine, loadTail, quarantineEvent, showQuarantineCount, tailEvent } from './feed.js';
import { showHealth } from './health.js';
import { followAddress, panelEvent, reloadPanel } from './panel.js';
import { showUpstream } from './sinks.js';
import { $, clock, setText } from './words.js';

const STATUS_MS = 2_000;
const REFRESH_MS = 15_000; // messages that change nothing move ages, and are not in the stream
const DRAW_MS = 200;
const BEHIND_MAX = 5_000; // further behind the head, reading the devices again is cheaper than their events

let position = null; // of the newest event taken: { epoch, seq }
let stream = null;
let streamError = null;
let statusError = null;
let lastAnswer = Date.now();
let reading = null;

function showBanner() {
  const error = isAsking() ? null : (statusError ?? streamError);
  const words =
    error?.status === undefined
      ? `offline: cannot reach fieldlog, retrying (last answer at ${clock(lastAnswer)})`
      : `fieldlog answered with an error, retrying: ${error.message}`;
  setText($('banner'), error === null ? '' : words);
}

async function pollStatus() {
  const status = await get('/status').catch((error) => {
    statusError = error;
  });
  setTimeout(pollStatus, STATUS_MS);
  if (status) {
    lastAnswer = Date.now();
    statusError = null;
    showHealth(status);
    showUpstream(status);
    showOpenCommands(status.commands);
    commandsSwitchedOn(status.commands?.admin_token ?? false);
    showQuarantineCount(status.sources ?? []);
    document.title = `${status.gateway_id} · fieldlog`;
    const { epoch, applied } = status.position;
    const behind = position && (epoch !== position.epoch || applied - position.seq > BEHIND_MAX);
    if (behind && streamError === null && !document.hidden) start();
  }
  showBanner();
}

/** Reads everything, then follows the stream from where that was read. One at a time. */
function start() {
  reading ??= (async () => {
    try {
      const from = await loadDevices();
      position = { epoch: from.epoch, seq: from.applied };
      await Promise.all([loadTail(from), loadQuarantine(), loadCommands().catch(commandsMoved), reloadPanel()]);
      stream?.abort();
      stream = new AbortController();
      follow({ position: () => `${position.epoch}-${position.seq}`, onUp, onDown, onFrame, signal: stream.signal });
    } catch (error) {
      onDown(error);
      setTimeout(start, STATUS_MS);
    } finally {
      reading = null;
    }
  })();
  return reading;
}

function onUp() {
  streamError = null;
  lastAnswer = Date.now();
  showBanner();
}

function onDown(error) {
  streamError = error;
  showBanner();
}

function onFrame({ event, data }) {
  if (event === 'reset') {
    start(); // another log, or one trimmed past our position
    return;
  }
  const record = parse(data);
  if (record.seq <= position.seq) return;
  position.seq = record.seq;
  tailEvent(record);
  panelEvent(record);
  if (record.type.startsWith('command_')) {
    commandStep(record);
    commandsMoved();
  }
  if (record.type === 'input_quarantined' || record.type === 'quarantine_summarised') quarantineEvent(record);
  if (applyEvent(record)) refreshSoon();
}

let refreshing = false;

async function refresh() {
  // An agent that answers, but has no stream to spare, is read by turns all the same.
  const unreachable = streamError !== null && streamError.status === undefined;
  if (refreshing || document.hidden || unreachable || isAsking()) return;
  refreshing = true;
  try {
    await loadDevices();
  } catch {
    // the status poll says what is wrong
  }
  refreshing = false;
}

let soon = null;

/** Together for all events of a burst, such as a bridge that goes with its devices. */
function refreshSoon() {
  soon ??= setTimeout(() => {
    soon = null;
    refresh();
  }, 400);
}

function refreshInTurn() {
  const pages = Math.max(1, Math.ceil(deviceCount() / 1000));
  setTimeout(() => refresh().finally(refreshInTurn), REFRESH_MS * pages);
}

setInterval(() => {
  if (document.hidden) return;
  flushDevices();
  flushTail();
}, DRAW_MS);
setInterval(tickDevices, 1_000);
document.addEventListener('visibilitychange', refresh);

pollStatus();
start().then(followAddress);
refreshInTurn();
