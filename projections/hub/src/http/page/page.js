// The page of the hub: gateways and devices, read again every few seconds.
const EVERY_MS = 5000;
const byId = (id) => document.getElementById(id);
const form = byId("token");
let token = sessionStorage.getItem("token") ?? "";

async function read(path) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const answer = await fetch(`/api/v1/${path}`, { headers, cache: "no-store" });
  if (answer.status === 401 || answer.status === 403) form.hidden = false;
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail ?? answer.statusText);
  form.hidden = true;
  return body;
}

// Every text goes through textContent, so nothing in it becomes markup.
function cell(text, kind) {
  const td = document.createElement("td");
  td.textContent = text;
  if (kind) td.className = kind;
  return td;
}

function show(id, rows, empty) {
  const body = byId(id);
  const lines = rows.map((cells) => {
    const tr = document.createElement("tr");
    tr.append(...cells);
    return tr;
  });
  if (lines.length === 0) {
    const td = cell(empty);
    td.colSpan = 7;
    const tr = document.createElement("tr");
    tr.append(td);
    lines.push(tr);
  }
  body.replaceChildren(...lines);
}

function ago(time) {
  if (!time) return "never";
  const s = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  if (s < 90) return `${Math.round(s)} s ago`;
  if (s < 5400) return `${Math.round(s / 60)} min ago`;
  if (s < 129600) return `${Math.round(s / 3600)} h ago`;
  return `${Math.round(s / 86400)} days ago`;
}

const count = (number) => (number ?? 0).toLocaleString("en");

function state(gateway) {
  if (gateway.forked) return cell(`stopped: ${gateway.forked}`, "bad");
  const gaps = gateway.gaps ?? [];
  if (gaps.length > 0) {
    const words = { expected: "", asked: " (asked for)", lost: " (lost)" };
    const ranges = gaps.slice(0, 3).map(({ first, last, state }) => `${first === last ? first : `${first}–${last}`}${words[state] ?? ""}`);
    const td = cell(`missing ${ranges.join(", ")}${gaps.length > 3 ? " and more" : ""}`, "bad");
    td.title = gaps.flatMap((gap) => (gap.why ? [`${gap.first}–${gap.last}: ${gap.why}`] : [])).join("\n");
    return td;
  }
  if ((gateway.faults ?? []).length > 0) return cell("contradictions", "bad");
  return cell("complete", "good");
}

function duration(s) {
  if (s < 90) return `${Math.ceil(s)} s`;
  return s < 5400 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
}

// The streams of parcels that this process is configured to read.
function sourceWords(source) {
  if (source.state === "failing") return `${source.source}: failing: ${source.error}`;
  const words = source.state === "waiting" ? "another hub reads it" : source.state;
  const lag = source.lag_records > 0 ? `, ${count(source.lag_records)} records to go` : "";
  const [first] = source.stopped;
  const stopped = first ? `; ${count(source.stopped.length)} subjects are not taken, such as ${first.subject}: ${first.why}` : "";
  return `${source.source}: ${words}${lag}${stopped}`;
}

function showSources(sources) {
  byId("sources").textContent = sources.map(sourceWords).join(" · ");
  byId("sources").className = sources.some((s) => s.state === "failing" || s.stopped.length > 0) ? "bad" : "";
}

// The stores that follow PostgreSQL, as far as this process's gateways go.
function storeWords(store) {
  const lag = `${count(store.lag_events)} of ${count(store.events)} events to go`;
  if (store.state === "failing") return `${store.store}: failing for ${duration(store.behind_s)}: ${store.why}`;
  if (store.state === "rebuilding") return `${store.store}: rebuilding, ${lag}${store.eta_s ? `, about ${duration(store.eta_s)}` : ""}`;
  return `${store.store}: live${store.lag_events > 0 ? `, ${lag}` : ""}`;
}

function showStores(stores) {
  const used = stores.filter((store) => store.state !== "off");
  byId("stores").textContent = used.map(storeWords).join(" · ");
  byId("stores").className = used.some((store) => store.state === "failing") ? "bad" : "";
}

async function refresh() {
  try {
    const gateways = (await read("gateways?limit=1000")).items;
    const wrong = gateways.filter((g) => g.forked || (g.missing ?? []).length > 0).length;
    byId("summary").textContent =
      `${count(gateways.length)} gateways, ${wrong === 0 ? "all complete" : `${count(wrong)} with gaps or forks`}`;
    byId("summary").className = wrong === 0 ? "good" : "bad";
    show("gateways", gateways.map((g) => [
      cell(g.gateway),
      state(g),
      cell(`${count(g.lag_events)} events`, "number"),
      cell(ago(g.newest_time), "number"),
      cell(ago(g.last_seen), "number"),
      cell(count(g.events), "number"),
      cell((g.holder ?? "none").replace(/-[0-9a-f]{16}$/, "")),
    ]), "No gateway has sent anything yet.");
    showSources((await read("sources")).items);
    showStores((await read("stores")).items);
    const q = new FormData(byId("search")).get("q");
    const devices = (await read(`devices?limit=200${q ? `&q=${encodeURIComponent(q)}` : ""}`)).items;
    show("devices", devices.map((d) => [
      cell(d.gateway),
      cell(d.description?.name ? `${d.description.name} (${d.device})` : d.device),
      cell(d.retired ? "removed" : d.availability ?? "not said", d.availability === "offline" ? "bad" : ""),
      cell(ago(d.changed), "number"),
      cell(Object.entries(d.state ?? {}).map(([name, value]) => `${name} ${JSON.stringify(value)}`).join(", "), "state"),
    ]), "No device.");
  } catch (error) {
    byId("summary").textContent = error.message;
    byId("summary").className = "bad";
  }
}

// Which question was asked last: an answer to an earlier one comes too late.
let asked = 0;

async function find() {
  const q = new FormData(byId("find")).get("q").trim();
  const question = ++asked;
  byId("hits").hidden = q === "";
  if (q === "") return;
  try {
    const { items, next } = await read(`search?limit=50&q=${encodeURIComponent(q)}`);
    if (question !== asked) return;
    const rows = items.map((hit) => [
      cell(hit.kind === "device" ? "device" : `not understood ${ago(hit.recorded)}`),
      cell(hit.gateway),
      cell(hit.device ?? `position ${hit.seq}`),
      cell(hit.text, "state"),
    ]);
    if (next) rows.push([cell(""), cell(""), cell(""), cell("There is more; add a word.")]);
    show("found", rows, "Nothing has all of these words.");
  } catch (error) {
    if (question === asked) show("found", [], error.message);
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  token = new FormData(form).get("token");
  sessionStorage.setItem("token", token);
  refresh();
});
byId("find").addEventListener("submit", (event) => event.preventDefault());
byId("find").addEventListener("input", find);
byId("search").addEventListener("submit", (event) => event.preventDefault());
byId("search").addEventListener("input", refresh);

async function forever() {
  await refresh();
  setTimeout(forever, EVERY_MS);
}
forever();
