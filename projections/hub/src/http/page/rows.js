// Rows of a table that is read again and again.

/** A row that stands for something, by its name. */
export function named(tr, name) {
  tr.dataset.name = name;
  return tr;
}

/** Shows these rows. Cells that are as they were stay, so that a focus, a selection and a reader's place in them do, too. */
export function placeRows(body, made) {
  const before = new Map([...body.rows].map((tr) => [tr.dataset.name, tr]));
  const rows = made.map((tr) => {
    const old = before.get(tr.dataset.name);
    if (old?.cells.length !== tr.cells.length) return tr;
    const fresh = [...tr.cells];
    [...old.cells].forEach((cell, index) => {
      if (!cell.isEqualNode(fresh[index])) cell.replaceWith(fresh[index]);
    });
    return old;
  });
  if (rows.length !== body.rows.length || rows.some((tr, index) => body.rows[index] !== tr)) body.replaceChildren(...rows);
}
