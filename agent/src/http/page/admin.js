// Changes: they need a token of their own, which is asked for once.

import { adminToken, keepAdminToken, post } from './api.js';
import { $, setText } from './words.js';

const RETRIES_MAX = 4;

/** Thrown where the operator does not give a token. */
export const CANCELLED = new Error('cancelled');

/**
 * POST with the admin token. `again` sends the same once more where no answer came, which only a body that names itself
 * may be.
 */
export async function change(path, body, again = false) {
  let refused = false;
  for (let attempt = 1; ; attempt += 1) {
    if (!adminToken() || refused) await ask(refused);
    try {
      return await post(path, body);
    } catch (error) {
      refused = error.code === 'unauthorized' || error.code === 'forbidden';
      if (!refused && (!again || error.status !== undefined || attempt >= RETRIES_MAX)) throw error;
      if (!refused) await new Promise((resolve) => setTimeout(resolve, 500 * attempt));
    }
  }
}

/** Shows the form for the admin token and resolves when one was entered. */
function ask(refused) {
  return new Promise((resolve, reject) => {
    const dialog = $('admin');
    const text = $('admin-text');
    let given = false;
    setText($('admin-error'), refused ? 'That token was refused.' : '');
    text.value = '';
    dialog.showModal();
    text.focus();
    $('admin-form').onsubmit = (submit) => {
      submit.preventDefault();
      given = keepAdminToken(text.value.trim());
      if (given) dialog.close();
      else setText($('admin-error'), 'A token has no spaces and only ASCII characters.');
    };
    $('admin-cancel').onclick = () => dialog.close();
    dialog.onclose = () => {
      text.value = '';
      if (given) resolve();
      else reject(CANCELLED);
    };
  });
}
