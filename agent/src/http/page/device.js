// One device: what it is, its values and why, charts, commands and events.

import { devicePath, gatewayNow, get } from './api.js';
import { label, ranked, say } from './classes.js';
import { commandForm } from './command.js';
import { deviceCommands } from './commands.js';
import { chartsOf, derivedOf, formulaOf } from './derived.js';
import { eventSection } from './events.js';
import { history } from './history.js';
import { at, link, setQuery } from './route.js';
import { live, nowAt, readDevice } from './store.js';
import { count, el, flash, moment, refill, setText, span, tame, value, when } from './words.js';

const AGAIN_MS = 1_000;

function facts(d) {
  const parent = d.parent ? el('a', { href: link('device', d.parent) }, live.get(d.parent)?.name ?? d.parent) : null;
  const own = d.description ?? {};
  return [
    ['Area', own.area],
    ['Model', [own.manufacturer, own.model].filter(Boolean).join(' ')],
    ['Id', el('bdi', d.id)],
    ['Address', own.stable_id],
    ['Source', d.source],
    ['Behind', parent],
    ['First seen', moment(Date.parse(d.discovered_at))],
    ['Its own clock', d.device_time ? moment(Date.parse(d.device_time)) : ''],
    ['Events', count(d.events)],
    ['Was called', d.former_ids.join(', ')],
  ].filter(([, said]) => said);
}

function stateWords(d, asOf) {
  const now = nowAt(asOf);
  const heard = Math.max(Date.parse(d.changed_at), d.heard_at ? Date.parse(d.heard_at) : 0);
  const ago = `${asOf ? 'last change' : 'heard'} ${span((now - heard) / 1000)} ${asOf ? 'before' : 'ago'}`;
  const since = `since ${moment(Date.parse(d.availability_at))}`;
  if (d.retired) return `retired: removed at its source, ${ago}`;
  if (d.availability !== 'offline') return `${d.availability === 'unknown' ? 'It does not say whether it is online' : d.availability}, ${ago}`;
  if (d.offline_because) return `offline because of ${d.offline_because}`;
  return d.availability_cause === 'silence' ? `silent: offline ${since}, ${ago}. Check its power and its link` : `offline ${since}, ${ago}. Check its power and its link`;
}

/** Why an attribute has its value, as nodes. */
function whyNodes({ event, source, command, before, complete_from_seq }, name, unit) {
  const at_ = (time, seq) => el('a', { href: link('device', event.device, { at: time, attr: name }) }, when(time, seq));
  const lines = [el('p', 'Set at ', at_(event.time, event.seq), ` by record ${count(event.seq)}, from ${source}`, event.device_time ? `; the device’s own clock said ${moment(Date.parse(event.device_time))}` : '', '.')];
  if (command) {
    const asked = command.request;
    const who = asked ? `, asked for by ${asked.actor} at ${moment(Date.parse(asked.requested_at))}${asked.reason ? `: ${asked.reason}` : ''}; sent to ${asked.topic}` : '';
    lines.push(el('p', `The device carried out command ${count(command.id)}${who}.`));
  } else lines.push(el('p.muted', 'No command is known that asked for it.'));
  const earlier = before.map((it) => el('li', at_(it.at, it.seq), ' ', it.value === null ? 'removed' : say(name, it.value, unit)));
  lines.push(earlier.length > 0 ? el('ol.before', { 'aria-label': 'Values before' }, earlier) : el('p.muted', complete_from_seq > 1 ? 'No earlier value is found in what is kept.' : 'It is the first value.'));
  return lines;
}

export function openDevice(root, id) {
  const title = el('h2', el('bdi', live.get(id)?.name ?? id));
  const state = el('p.stateline');
  const about = el('dl.facts');
  const values = el('table.values', el('thead', el('tr', ['Value of', 'Now', 'Set', ''].map((words) => el('th', { scope: 'col' }, words || el('span.unseen', 'Why'))))), el('tbody'), el('tbody.computed'));
  const technical = el('table.values', el('tbody'));
  const more = el('details', el('summary'), technical);
  const none = el('p.note', 'It has reported no values yet.');
  root.append(el('section.card', title, state, about), el('section.card', el('h2', 'Values'), values, more, none));
  const chart = history(root, id);
  const form = commandForm(root, id, (name) => attributes.get(name)?.raw);
  const commands = deviceCommands(root, id);
  const events = eventSection(root, { device: id });

  const attributes = new Map(); // name → row
  const computed = new Map(); // name of a derived attribute → row
  let device = null;
  let asOf = null;
  let seq = 0;
  let why = null;
  let again = null;

  function row(name, a, all) {
    let made = attributes.get(name);
    if (!made) {
      const shows = el('button.link', { type: 'button' });
      const asks = el('button', { type: 'button', 'aria-expanded': 'false' }, 'Why');
      const said = el('td', { colspan: 4 });
      made = { value: el('span'), at: el('td.muted'), shows, asks, said, explained: el('tr.why', { hidden: '' }, said), tr: el('tr') };
      made.tr.append(el('th', { scope: 'row' }, shows), el('td.v', made.value), made.at, el('td.number', asks));
      shows.addEventListener('click', () => setQuery({ attr: name }, false));
      asks.addEventListener('click', () => setQuery({ why: why === name ? null : name }));
      attributes.set(name, made);
    }
    made.unit = a.unit ?? made.unit;
    setText(made.shows, label(name, all, a.name));
    made.shows.title = tame(name);
    made.asks.setAttribute('aria-label', tame(`Why ${name} has this value`));
    set(made, name, a.value, a.at, a.seq);
    return made;
  }

  function set(made, name, v, time, position) {
    made.raw = v;
    setText(made.value, v === null ? 'not reported' : say(name, v, made.unit));
    made.value.title = v === null ? '' : tame(value(v));
    made.asks.hidden = v === null;
    refill(made.at, String(time), () => (time ? [when(time, position)] : []));
  }

  function computedRow(name, all) {
    let made = computed.get(name);
    if (!made) {
      made = { name: el('span'), value: el('span'), at: el('td.muted'), how: el('small.muted'), tr: el('tr') };
      made.tr.append(el('th', { scope: 'row' }, made.name, made.how), el('td.v', made.value), made.at, el('td.number'));
      computed.set(name, made);
    }
    const [chart_] = chartsOf(name);
    const words = label(name, all);
    refill(made.name, `${words} ${chart_?.key}`, () => {
      if (!chart_) return [words];
      const shows = el('button.link', { type: 'button', title: name }, words);
      shows.addEventListener('click', () => setQuery({ attr: chart_.key }, false));
      return [shows];
    });
    setText(made.how, `computed: ${formulaOf(name)}`);
    return made;
  }

  /** Shows what is computed, and flashes what an event has changed. */
  function drawComputed(derived, isNew = false) {
    const all = [...Object.keys(device.attributes), ...Object.keys(derived)];
    for (const [name, old] of computed) {
      if (name in derived) continue;
      old.tr.remove();
      computed.delete(name);
    }
    for (const [name, { value: v, unit, at: time, seq: position }] of Object.entries(derived)) {
      const made = computedRow(name, all);
      const was = made.value.textContent;
      setText(made.value, say(name, v, unit));
      if (isNew && was !== made.value.textContent) flash(made.value);
      refill(made.at, String(time), () => [when(time, position)]);
    }
    const rows = Object.keys(derived).map((name) => computed.get(name).tr);
    const body = values.tBodies[1];
    if (rows.some((tr, index) => body.rows[index] !== tr)) body.replaceChildren(...rows);
  }

  /** Computes anew what an event has changed. */
  function computeAgain(event) {
    const now = derivedOf(new Map([...attributes].map(([name, made]) => [name, made.raw])));
    const isTouched = ({ of }) => of.some((name) => name in event.data.changes);
    if (![...now.values()].some(isTouched) && now.size === computed.size) return;
    const known = device.derived ?? {};
    const fresh = (name, it) => (name in known && !isTouched(it) ? known[name] : { ...it, at: event.time, seq: event.seq });
    device.derived = Object.fromEntries([...now].map(([name, it]) => [name, fresh(name, it)]));
    drawComputed(device.derived, true);
  }

  function drawValues(d) {
    const all = Object.keys(d.attributes);
    const raw = new Map(Object.entries(d.attributes).map(([name, a]) => [name, a.value]));
    const classes = new Map(Object.entries(d.attributes).map(([name, a]) => [name, a.device_class]));
    const order = ranked(raw, classes);
    for (const [name, old] of attributes) {
      if (name in d.attributes) continue;
      old.tr.remove();
      old.explained.remove();
      attributes.delete(name);
    }
    const matters = order.filter(([, , name]) => d.attributes[name].value !== null);
    const few = matters.filter(([rank]) => rank < 50).map(([, , name]) => name);
    const rest = order.map(([, , name]) => name).filter((name) => !few.includes(name));
    const place = (names, table) => table.tBodies[0].append(...names.flatMap((name) => {
      const made = row(name, d.attributes[name], all);
      return [made.tr, made.explained];
    }));
    // Rows that are there keep their place, so that a focus stays.
    const key = JSON.stringify([few, rest]);
    if (values.dataset.key === key) order.forEach(([, , name]) => row(name, d.attributes[name], all));
    else {
      values.dataset.key = key;
      place(few, values);
      place(rest, technical);
    }
    drawComputed(d.derived ?? {});
    none.hidden = few.length + rest.length > 0;
    values.hidden = few.length + computed.size === 0;
    more.hidden = rest.length === 0;
    setText(more.firstChild, `${count(rest.length)} more: radio, firmware, settings`);
    return few.length > 0 ? few : rest;
  }

  async function explain(name, signal) {
    if (why !== null && why !== name) {
      const old = attributes.get(why);
      if (old) old.explained.hidden = true;
      old?.asks.setAttribute('aria-expanded', 'false');
    }
    why = name;
    const made = attributes.get(name);
    if (!made) return;
    made.asks.setAttribute('aria-expanded', 'true');
    made.explained.hidden = false;
    if (technical.contains(made.tr)) more.open = true;
    const past = at() === null ? '' : `?at=${encodeURIComponent(at())}`;
    try {
      const answer = await get(`${devicePath(id)}/attributes/${encodeURIComponent(name)}/why${past}`, signal);
      made.said.replaceChildren(...whyNodes(answer, name, made.unit));
    } catch (error) {
      if (!error.status) throw error;
      made.said.replaceChildren(el('p.muted', error.message));
    }
  }

  async function show(route, signal) {
    const moment_ = at();
    const answer = await readDevice(id, moment_, signal);
    device = answer.device;
    asOf = answer.as_of ?? null;
    seq = answer.position.applied;
    setText(title.firstChild, device.description?.name || device.id);
    refill(about, JSON.stringify([moment_, facts(device).map(([name, said]) => [name, said.textContent ?? said])]), () => facts(device).map(([name, said]) => el('div', el('dt', name), el('dd', said))));
    setText(values.tHead.rows[0].cells[1], moment_ === null ? 'Now' : 'Then');
    const names = drawValues(device);
    tick();
    const asks = route.query.get('why');
    if (asks === null && why !== null) {
      attributes.get(why)?.explained.setAttribute('hidden', '');
      attributes.get(why)?.asks.setAttribute('aria-expanded', 'false');
      why = null;
    }
    // Commands may be unknown while they are being rebuilt; the rest is shown all the same.
    const others = await Promise.allSettled([
      asks === null ? null : explain(asks, signal),
      chart.show(device, names, asOf, signal),
      form.show(signal),
      commands.show(signal),
      events.show(signal, asOf),
    ]);
    const failed = others.find(({ status, reason }) => status === 'rejected' && !reason.status);
    if (failed) throw failed.reason;
    return asOf;
  }

  function tick() {
    if (device === null) return;
    setText(state, stateWords(device, asOf));
    state.className = `stateline ${device.availability === 'online' ? 'good' : device.availability === 'offline' ? 'bad' : 'unknown'}`;
  }

  /** Together for all events of a burst. */
  function readAgain() {
    again ??= setTimeout(async () => {
      again = null;
      if (at() !== null) return;
      const answer = await readDevice(id, null).catch(() => null);
      if (answer === null || at() !== null) return;
      device = answer.device;
      drawValues(device);
      tick();
    }, AGAIN_MS);
  }

  return {
    show,
    status: form.status,
    event(event) {
      events.event(event);
      if (event.type.startsWith('command_')) {
        form.step(event);
        commands.moved(event);
      }
      if (event.device !== id || device === null || event.seq <= seq) return;
      seq = event.seq;
      device.heard_at = event.time;
      device.events += 1;
      if (event.type === 'state_changed') {
        for (const [name, v] of Object.entries(event.data.changes ?? {})) {
          const made = attributes.get(name);
          if (!made || v === null) readAgain();
          else {
            set(made, name, v, event.time, event.seq);
            flash(made.value);
          }
          chart.value(name, v, Date.parse(event.time));
        }
        computeAgain(event);
        commands.reported();
      } else if (event.type !== 'attribute_named') readAgain();
    },
    frame() {
      events.frame();
      chart.frame(gatewayNow());
    },
    second() {
      const d = live.get(id);
      if (device && d && at() === null && d.heard > Date.parse(device.heard_at ?? 0)) device.heard_at = new Date(d.heard).toISOString();
      tick();
    },
    close() {
      clearTimeout(again);
      chart.close();
      form.close();
    },
  };
}
