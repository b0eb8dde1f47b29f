// One device of a gateway: what it is, its values, a chart, commands and events.

import { Refusal, list } from './api.js';
import { label, ranked, say } from './classes.js';
import { commandForm } from './command.js';
import { commandList } from './commands.js';
import { reachable } from './devices.js';
import { eventSection } from './events.js';
import { history } from './history.js';
import { ago, deviceLink, gatewayLink, partsOf, time } from './name.js';
import { setQuery } from './route.js';
import { count, el, flash, json, refill, setText, tame, value } from './words.js';

const ATTRIBUTES_MAX = 1_000;
const MATTERS = 50; // ranks below that

function facts(device) {
  const own = device.description ?? {};
  return [
    ['Gateway', gatewayLink(device.gateway)],
    ['Area', own.area],
    ['Model', [own.manufacturer, own.model].filter(Boolean).join(' ')],
    ['Id', el('bdi', device.device)],
    ['Address', own.stable_id],
    ['Source', device.source],
    ['Behind', device.parent ? deviceLink(device.gateway, device.parent) : ''],
    ['Newest event', `position ${count(Number(device.seq))}`],
  ].filter(([, said]) => said);
}

function stateNodes(device) {
  const [words, kind] = reachable(device);
  const since = device.availability && device.availability_since ? [' since ', time(device.availability_since)] : [];
  const todo = kind === 'offline' ? '. Check its power and its link' : '';
  if (kind === 'unknown') return [el('span.unknown', 'It does not say whether it is online'), ', last change ', ago(device.changed)];
  return [el(`b.${kind}`, words), ...(device.retired ? [' at its source'] : since), todo, ', last change ', ago(device.changed)];
}

export function openDevice(root, id) {
  const [gateway, device] = partsOf(id);
  const title = el('bdi', device);
  const state = el('p.stateline');
  const about = el('dl.facts');
  const head = el('thead', el('tr', ['Value of', 'Now', 'Set'].map((words) => el('th', { scope: 'col' }, words))));
  const values = el('table.values', el('caption.unseen', 'Values'), head, el('tbody'));
  const technical = el('table.values', el('caption.unseen', 'More values'), el('tbody'));
  const more = el('details', el('summary'), technical);
  const none = el('p.note', 'It has reported no values yet.');
  root.append(el('section.card', el('h2', title), state, about), el('section.card', el('h2', 'Values'), values, more, none));
  const chart = history(root, gateway, device);
  const form = commandForm(root, gateway, device, () => commands.show().catch(() => {}));
  const commands = commandList(root, { gateway, device });
  const events = eventSection(root, { gateway, device });
  const rows = new Map(); // by attribute

  function row(name, { value: v, changed, description }, all) {
    let made = rows.get(name);
    if (!made) {
      const shows = el('button.link', { type: 'button' });
      made = { shows, value: el('span'), at: el('td'), ago: el('td.muted'), tr: el('tr') };
      made.tr.append(el('th', { scope: 'row' }, shows), el('td.v', made.value), made.at);
      shows.addEventListener('click', () => setQuery({ attr: name }, false));
      rows.set(name, made);
    }
    setText(made.shows, label(name, all, description?.name));
    made.shows.title = tame(name);
    const words = say(name, v, description?.unit);
    const isNew = made.value.textContent !== '' && made.value.textContent !== tame(words);
    setText(made.value, words);
    made.value.title = tame(value(v));
    if (isNew) flash(made.value);
    const set = ago(changed);
    refill(made.at, `${changed} ${set.textContent}`, () => [set]);
    return made.tr;
  }

  function drawValues(attributes) {
    const all = [...attributes.keys()];
    for (const [name, old] of rows) {
      if (attributes.has(name)) continue;
      old.tr.remove();
      rows.delete(name);
    }
    const raw = new Map([...attributes].map(([name, { value: v }]) => [name, v]));
    const classes = new Map([...attributes].map(([name, { description }]) => [name, description?.device_class]));
    const order = ranked(raw, classes);
    const few = order.filter(([rank]) => rank < MATTERS).map(([, , name]) => name);
    const rest = order.map(([, , name]) => name).filter((name) => !few.includes(name));
    for (const [names, table] of [[few, values], [rest, technical]]) {
      const made = names.map((name) => row(name, attributes.get(name), all));
      // Rows that are there keep their place, so that a focus stays.
      if (made.some((tr, index) => table.tBodies[0].rows[index] !== tr)) table.tBodies[0].replaceChildren(...made);
    }
    none.hidden = all.length > 0;
    values.hidden = few.length === 0;
    more.hidden = rest.length === 0;
    setText(more.firstChild, `${count(rest.length)} more: radio, firmware, settings`);
    return few.length > 0 ? few : rest;
  }

  return {
    async show(_, signal) {
      const [[found], state_] = await Promise.all([
        list('devices', { gateway, device, limit: 1 }, signal),
        list('state', { gateway, device, limit: ATTRIBUTES_MAX }, signal),
      ]);
      if (found === undefined) throw new Refusal(404, { detail: `The hub knows no device “${device}” of a gateway “${gateway}”.` });
      setText(title, found.description?.name || device);
      const words = stateNodes(found);
      refill(state, words.map((it) => it.textContent ?? it).join(''), () => words);
      refill(about, json(facts(found).map(([name, said]) => [name, said.textContent ?? said])), () => facts(found).map(([name, said]) => el('div', el('dt', name), el('dd', said))));
      const attributes = new Map(state_.map((it) => [it.attribute, it]));
      const names = drawValues(attributes);
      form.show(attributes, found.retired);
      await Promise.all([chart.show(attributes, names, signal), commands.show(signal), events.show(signal)]);
    },
    close() {
      chart.close();
      form.close();
    },
  };
}
