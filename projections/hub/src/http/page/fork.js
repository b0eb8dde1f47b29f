// A gateway whose log was stopped: the button that lets it go on.

import { CANCELLED, change } from './api.js';
import { gatewayPath } from './name.js';
import { todoWords } from './standing.js';
import { $, el, setText } from './words.js';

/** Asks before something that cannot be taken back. */
function isSure(words) {
  return new Promise((resolve) => {
    let sure = false;
    setText($('sure-words'), words);
    $('sure-form').onsubmit = () => {
      sure = true;
    };
    $('sure-cancel').onclick = () => $('sure').close();
    $('sure').onclose = () => resolve(sure);
    $('sure').showModal();
  });
}

/** Shows it for a gateway while that is stopped; `changed` is called when it goes on. */
export function forkCard(root, id, changed) {
  const button = el('button.main', { type: 'button', id: 'resume' }, 'Let it go on');
  const said = el('p.outcome', { role: 'status', 'aria-live': 'polite' });
  const card = el('section.card.part.bad', { id: 'fork', hidden: '' }, el('h2', 'Its log is stopped'), el('p', todoWords({ state: 'forked' })), el('div.bar', button), said);
  root.append(card);
  button.addEventListener('click', async () => {
    if (!(await isSure(`The history that is here already counts, and what “${id}” sends from now on is added to it. If two gateways still have this id, it is stopped again.`))) return;
    button.disabled = true;
    setText(said, 'Sending …');
    try {
      await change(`${gatewayPath(id)}/resume`);
      setText(said, 'Its parcels are taken again.');
      changed();
    } catch (error) {
      setText(said, error === CANCELLED ? '' : error.status ? `Refused: ${error.message}.` : `No answer from the hub: ${error.message}. Try again.`);
    } finally {
      button.disabled = false;
    }
  });
  return {
    show(gateway) {
      card.hidden = gateway.state !== 'forked';
    },
  };
}
