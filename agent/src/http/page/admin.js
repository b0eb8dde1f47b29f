// Changes: they need a token that allows them, which is asked for where the session does not.

import { login, mayChange, post } from './api.js';
import { $, setText } from './words.js';

const RETRIES_MAX = 4;

/** Thrown where the operator does not log in. */
export const CANCELLED = new Error('cancelled');

/**
 * POST of a change. `again` sends the same once more where no answer came, which only a body that names itself may be.
 */
export async function change(path, body, again = false) {
  let refused = !mayChange();
  for (let attempt = 1; ; attempt += 1) {
    if (refused) await ask();
    try {
      return await post(path, body);
    } catch (error) {
      refused = error.code === 'unauthorized' || error.code === 'forbidden';
      if (!refused && (!again || error.status !== undefined || attempt >= RETRIES_MAX)) throw error;
      if (!refused) await new Promise((resolve) => setTimeout(resolve, 500 * attempt));
    }
  }
}

/** Shows the form for the token and resolves when it was taken. */
function ask() {
  return new Promise((resolve, reject) => {
    const dialog = $('admin');
    const text = $('admin-text');
    let given = false;
    setText($('admin-error'), '');
    text.value = '';
    dialog.showModal();
    text.focus();
    $('admin-form').onsubmit = async (submit) => {
      submit.preventDefault();
      const wrong = await login(text.value.trim());
      setText($('admin-error'), wrong);
      given = wrong === '';
      if (given) dialog.close();
    };
    $('admin-cancel').onclick = () => dialog.close();
    dialog.onclose = () => {
      text.value = '';
      if (given) resolve();
      else reject(CANCELLED);
    };
  });
}
