// One device: all its attributes, a chart and its recent events. The device is named by the address's fragment, so it
// can be linked to, and the browser's back button closes the panel.

import { get } from './api.js';
import { lineChart } from './chart.js';
import { closeCommand, loadCommand, openCommand } from './command.js';
import { loadCommandsOf, reportedMoved, showCommandsOf } from './commands.js';
import { gatewayNow } from './devices.js';
import { $, count, describe, el, flash, moment, setText, unitOf, value } from './words.js';

const WINDOW_S = 60;
const CHART_MS = 3_600_000;
const HISTORY_MAX = 30;
const HISTORY_SPANS_S = [60, 600, 7_200, 86_400];
const HISTORY_PAGES_MAX = 3;
const REFRESH_MS = 2_000;

let open = null; // { id, attributes: Map(name → row), seq }
let returnTo = null;
let showBucket = () => {};
let fraction = null;

const idInAddress = () => {
  const match = /^#device=(.*)$/.exec(location.hash);
  try {
    return match && decodeURIComponent(match[1]);
  } catch {
    return null;
  }
};

/** Opens or closes the panel as the address says. */
export async function followAddress() {
  const id = idInAddress();
  if (!id) {
    close();
    return;
  }
  if ($('panel').hidden) returnTo = document.activeElement;
  const mine = { id, attributes: new Map(), seq: 0, numeric: new Set() };
  open = mine;
  $('panel').hidden = false;
  setText($('panel-title'), id);
  setText($('panel-note'), 'Loading …');
  $('chart-card').hidden = true;
  $('panel-attributes').replaceChildren();
  $('history').replaceChildren();
  openCommand(id, (name) => mine.attributes.get(name)?.raw);
  showCommandsOf(id);
  $('panel').scrollTop = 0;
  $('panel').focus();
  await load(mine);
}

/** Reads everything about the open device again, after a reset or a lost stream. */
export function reloadPanel() {
  return open ? load(open) : undefined;
}

async function load(mine) {
  try {
    const answer = await get(`/api/v1/devices/${encodeURIComponent(mine.id)}`);
    const history = await recent(mine.id, Date.parse(answer.device.changed_at));
    if (open !== mine) return;
    mine.seq = answer.position.applied;
    mine.attributes.clear();
    $('panel-attributes').replaceChildren();
    for (const [name, a] of Object.entries(answer.device.attributes)) setAttribute(name, a.value, a.seq, a.at, false, a.unit);
    setText($('panel-note'), about(answer.device));
    $('history').replaceChildren(...history.reverse().map(historyEntry));
    chooseAttributes();
    // What commands there are may be unknown while they are being rebuilt; the rest is shown all the same.
    await Promise.allSettled([loadCommand(), loadCommandsOf(), drawChart()]);
  } catch (error) {
    if (open === mine) setText($('panel-note'), `Cannot be shown: ${error.message}`);
  }
}

function about(d) {
  const from = `on ${d.source}${d.parent ? `, behind ${d.parent}` : ''}`;
  const state = d.offline_because ? `offline because of ${d.offline_because}` : d.availability;
  const own = d.device_time ? `; its own clock said ${moment(Date.parse(d.device_time))}` : '';
  return `${state}, ${from}; first seen ${moment(Date.parse(d.discovered_at))}, ${count(d.events)} events${own}`;
}

/** The newest entries: a longer and longer look back from the last change, so that the agent reads little. */
async function recent(id, changed) {
  let entries = [];
  for (const back of HISTORY_SPANS_S) {
    const from = new Date(changed - back * 1000).toISOString();
    const path = `/api/v1/devices/${encodeURIComponent(id)}/history?limit=1000&from=${encodeURIComponent(from)}`;
    entries = [];
    let after = '';
    for (let page = 0; page < HISTORY_PAGES_MAX && after !== null; page += 1) {
      const answer = await get(path + after);
      entries = entries.concat(answer.history).slice(-HISTORY_MAX);
      after = answer.next === null || answer.next === undefined ? null : `&after=${answer.next}`;
    }
    if (entries.length >= HISTORY_MAX || after !== null) break;
  }
  return entries;
}

/** History entries hold the changes beside the type, events hold them in `data`. */
function historyEntry(entry) {
  const { seq, type, at } = entry;
  const data = entry.data ?? entry;
  return el('li', el('time', { datetime: at, title: `position ${seq}` }, moment(Date.parse(at))), ' ', ...describe({ type, data }));
}

function setAttribute(name, v, seq, at, changed, unit) {
  let row = open.attributes.get(name);
  if (v === null) {
    row?.tr.remove();
    open.attributes.delete(name);
    return;
  }
  if (!row) {
    row = { value: el('span'), at: el('td'), seq: el('td.number') };
    row.tr = el('tr', el('th', { scope: 'row' }, name), el('td.v', row.value), row.at, row.seq);
    open.attributes.set(name, row);
    $('panel-attributes').append(row.tr);
  }
  row.numeric = typeof v === 'number';
  row.raw = v;
  row.unit = unit ?? row.unit;
  setText(row.value, value(v) + unitOf(v, row.unit));
  setText(row.at, moment(Date.parse(at)));
  setText(row.seq, count(seq));
  if (changed) flash(row.value);
}

/** Applies an event of the stream to the open panel. */
export function panelEvent(event) {
  if (!open || event.device !== open.id || event.seq <= open.seq || open.seq === 0) return;
  open.seq = event.seq;
  if (event.type === 'state_changed') {
    for (const [name, v] of Object.entries(event.data.changes ?? {})) setAttribute(name, v, event.seq, event.time, true);
    chooseAttributes();
    reportedMoved();
  } else if (['availability_changed', 'device_retired', 'attribute_described'].includes(event.type)) {
    setTimeout(reloadPanel, 500);
  }
  $('history').prepend(historyEntry({ ...event, at: event.time }));
  while ($('history').children.length > HISTORY_MAX) $('history').lastChild.remove();
  open.stale = true;
}

function chooseAttributes() {
  const select = $('chart-attribute');
  const names = [...open.attributes].filter(([, row]) => row.numeric).map(([name]) => name);
  $('chart-card').hidden = names.length === 0;
  if (names.join('\n') === [...select.options].map((o) => o.value).join('\n')) return;
  const kept = select.value;
  select.replaceChildren(...names.map((name) => el('option', { value: name }, name)));
  // Signal strength is the least interesting number of a device that has others.
  const first = names.find((name) => !/linkquality|rssi|signal|uptime|last_seen/i.test(name)) ?? names[0];
  select.value = names.includes(kept) ? kept : (first ?? '');
}

async function drawChart() {
  const mine = open;
  const attribute = $('chart-attribute').value;
  if (!attribute || $('chart-card').hidden) return;
  mine.stale = false;
  const to = gatewayNow();
  const from = to - CHART_MS;
  const query = new URLSearchParams({ attribute, window_s: WINDOW_S, from: new Date(from).toISOString() });
  try {
    const { buckets } = await get(`/api/v1/devices/${encodeURIComponent(mine.id)}/aggregates?${query}`);
    if (open !== mine || $('chart-attribute').value !== attribute) return;
    showBucket = lineChart($('chart'), $('chart-readout'), { buckets, from, to, windowMs: WINDOW_S * 1000, name: attribute, unit: mine.attributes.get(attribute)?.unit });
    if (fraction !== null) showBucket(fraction);
  } catch (error) {
    setText($('chart-readout'), `No chart: ${error.message}`);
  }
}

function close() {
  if (!open) return;
  open = null;
  closeCommand();
  showCommandsOf(null);
  $('panel').hidden = true;
  if (returnTo?.isConnected) returnTo.focus();
}

function leave() {
  history.pushState(null, '', location.pathname);
  close();
}

function point(to) {
  fraction = to;
  showBucket(to);
}

$('panel-close').addEventListener('click', leave);
$('chart-attribute').addEventListener('change', drawChart);
$('chart').addEventListener('pointermove', (move) => {
  const box = $('chart').getBoundingClientRect();
  point((move.clientX - box.left) / box.width);
});
$('chart').addEventListener('pointerleave', () => point(null));
$('chart').addEventListener('blur', () => point(null));
$('chart').addEventListener('keydown', (press) => {
  const step = { ArrowLeft: -1 / 60, ArrowRight: 1 / 60 }[press.key];
  if (step) point(Math.min(1, Math.max(0, (fraction ?? 1) + step)));
});
addEventListener('keydown', (press) => {
  if (press.key === 'Escape' && open) leave();
});
addEventListener('hashchange', followAddress);
addEventListener('popstate', followAddress);
setInterval(() => {
  if (open?.stale && !document.hidden) drawChart();
}, REFRESH_MS);
