// Downloads: a form for a URL, and the list of what is fetched, live. Titles and errors come from other
// people's pages: they are put in as text (textContent), never as HTML.

import { bytes, length, make } from "./words.js";

const SHOWN = 20;
const PAGE = 100;
const OPEN = new Set(["Pending", "Processing"]);
const kinds = { Processing: "busy", Pending: "", Downloaded: "good", Error: "bad" };

const $ = (id) => document.getElementById(id);
const known = new Map(); // id → the download as it was last told
const rows = new Map(); // id → { li, parts, last }
let shown = SHOWN;
let more = false; // whether more of them wait than were asked for
let ended = () => {};

// ---------------------------------------------------------------- asking

async function ask(method, url, body) {
  let answer;
  try {
    answer = await fetch(url, {
      method,
      headers: { Accept: "application/json", ...(body && { "Content-Type": "application/json" }) },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(30000),
    });
  } catch {
    throw new Error("Spoolhouse does not answer. Is it running?");
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.error ?? `refused (${answer.status})`);
  return told;
}

// What is going on and what comes next; what ended lately is told over the WebSocket when it opens.
async function refresh() {
  const before = new Set(known.keys());
  try {
    const found = await Promise.all(["Processing", "Pending"].map((status) => ask("GET", `/videos?status=${status}&limit=${PAGE}`)));
    more = found[1].length === PAGE;
    const open = new Set(found.flat().map((one) => one.id));
    for (const id of before) if (OPEN.has(known.get(id)?.status) && !open.has(id)) known.delete(id);
    for (const one of found.flat()) {
      const told = known.get(one.id);
      if (!told || Date.parse(told.updated_at) <= Date.parse(one.updated_at)) known.set(one.id, asShown(one));
    }
    render();
  } catch { /* the head of the page says what is wrong */ }
}

async function act(button, work) {
  button.disabled = true;
  try {
    await work();
  } catch (error) {
    say(error.message);
  } finally {
    button.disabled = false;
  }
}

function say(words) {
  $("download-trouble").textContent = words;
  $("download-trouble").hidden = !words;
}

const asShown = (one) => ({ ...one, kind: one.type });
const put = (one) => { known.set(one.id, asShown(one)); render(); };

// ---------------------------------------------------------------- the form

$("download").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  act(form.querySelector("button"), async () => {
    say("");
    const wish = { url: form.elements.url.value.trim(), directory: form.elements.directory.value.trim() };
    if (form.elements.audio.checked) wish.audio_only = true;
    if (form.elements.height.value) wish.max_height = Number(form.elements.height.value);
    put(await ask("POST", "/videos", wish));
    form.elements.url.value = "";
    form.elements.url.focus();
  });
});

// ---------------------------------------------------------------- the list

// What is going on, then what waits in its order, then what ended, the newest first.
const ranks = { Processing: 0, Pending: 1, Error: 2, Downloaded: 2 };
const inOrder = (one, other) => ranks[one.status] - ranks[other.status]
  || (OPEN.has(one.status) ? one.id - other.id : Date.parse(other.updated_at) - Date.parse(one.updated_at) || other.id - one.id);

function render() {
  const wanted = $("download-status").value;
  const all = [...known.values()].filter((one) => !wanted || one.status === wanted).sort(inOrder);
  const visible = all.slice(0, shown);
  const keep = new Set(visible.map((one) => one.id));
  for (const [id, row] of rows) if (!keep.has(id)) { row.li.remove(); rows.delete(id); }
  let before = null;
  for (const one of visible) {
    const row = rows.get(one.id) ?? made(one.id);
    fill(row, one);
    const place = before ? before.nextSibling : $("downloads").firstChild;
    if (row.li !== place) $("downloads").insertBefore(row.li, place);
    before = row.li;
  }
  $("downloads-empty").hidden = all.length > 0;
  $("downloads-more").hidden = all.length <= shown;
}

function made(id) {
  const li = make("li");
  const parts = {
    name: make("span", "", "name"), state: make("span", "", "mark"), bar: document.createElement("progress"),
    words: make("span", "", "words"), actions: make("span", "", "actions"),
  };
  parts.bar.max = 100;
  li.append(parts.name, parts.state, parts.bar, parts.words, parts.actions);
  const row = { li, parts, last: "" };
  rows.set(id, row);
  return row;
}

function fill(row, one) {
  const seen = JSON.stringify(one);
  if (seen === row.last) return; // leave focus and selection alone
  const before = row.last && JSON.parse(row.last);
  row.last = seen;
  const { name, state, bar, words, actions } = row.parts;
  if (!before || before.title !== one.title || before.status !== one.status || before.video_id !== one.video_id) {
    name.replaceChildren(...named(one));
  }
  state.textContent = one.kind === "list" && one.status === "Downloaded" ? `list of ${one.entries.length}` : one.status;
  state.className = `mark ${kinds[one.status] ?? ""}`;
  bar.hidden = one.status !== "Processing";
  if (one.progress.percent > 0) bar.value = one.progress.percent;
  else bar.removeAttribute("value");
  bar.setAttribute("aria-label", `Download of ${one.title || one.vid_url}`);
  words.textContent = told(one);
  words.className = one.status === "Error" ? "words bad" : "words";
  if (!before || before.status !== one.status || before.kind !== one.kind) actions.replaceChildren(...buttons(one));
}

function named(one) {
  const text = one.title || one.vid_url;
  if (one.video_id && one.status === "Downloaded") {
    const open = make("button", text, "link");
    open.type = "button";
    open.addEventListener("click", () => { location.hash = one.video_id; });
    return [open];
  }
  if (!/^https?:\/\//i.test(one.vid_url)) return [make("span", text)];
  const link = make("a", text);
  link.href = one.vid_url;
  link.rel = "noopener noreferrer nofollow";
  link.target = "_blank";
  return [link];
}

function told(one) {
  const { percent, bytes: come, total, speed, eta } = one.progress;
  const where = one.vid_dir === "/" ? "" : `into ${one.vid_dir}`;
  if (one.status === "Processing") {
    return [
      percent > 0 ? `${Math.floor(percent)} %` : one.status_message,
      come != null && (total != null ? `${bytes(come)} of ${bytes(total)}` : bytes(come)),
      speed != null && `${bytes(Math.round(speed))}/s`, eta != null && `${length(eta)} left`, where,
    ].filter(Boolean).join(" · ");
  }
  return [one.status_message, one.uploader, one.status === "Downloaded" && bytes(one.size), where].filter(Boolean).join(" · ");
}

function buttons(one) {
  const button = (words, work) => {
    const node = make("button", words, "small");
    node.type = "button";
    node.addEventListener("click", () => act(node, work));
    return node;
  };
  const patch = (status) => async () => put(await ask("PATCH", `/videos/${one.id}`, { status }));
  const list = one.kind === "list";
  return [
    (OPEN.has(one.status) || (list && one.status === "Downloaded")) && button(list ? "Cancel its entries" : "Cancel", patch("cancel")),
    !OPEN.has(one.status) && button(one.status === "Error" ? "Try again" : "Fetch again", patch("refresh")),
    button("Remove", () => remove(one)),
  ].filter(Boolean);
}

async function remove(one) {
  const current = known.get(one.id) ?? one;
  let keep = "0";
  if (current.file_path && current.duplicate_of == null) {
    $("removal-name").textContent = current.title || current.vid_url;
    $("removal").returnValue = "";
    $("removal").showModal();
    keep = await new Promise((chosen) => $("removal").addEventListener("close", () => chosen($("removal").returnValue), { once: true }));
    if (keep !== "0" && keep !== "1") return;
  }
  await ask("DELETE", `/videos/${one.id}?keep_file=${keep}`);
  known.delete(one.id);
  render();
  ended();
}

$("download-status").addEventListener("change", () => { shown = SHOWN; render(); });
$("downloads-more").addEventListener("click", () => { shown += 4 * SHOWN; render(); });

// ---------------------------------------------------------------- live

let drawing = 0;

export function heard(one) {
  if (!Number.isInteger(one.id)) return;
  const before = known.get(one.id);
  if (one.deleted) known.delete(one.id);
  else known.set(one.id, one);
  if (before && before.status !== one.status && one.status === "Downloaded") ended();
  drawing ||= requestAnimationFrame(() => { drawing = 0; render(); });
  if (more && [...known.values()].filter((other) => other.status === "Pending").length < SHOWN) {
    more = false;
    refresh();
  }
}

// The WebSocket has opened: it tells what changed lately, and here is what is open.
export function begin() {
  known.clear();
  refresh();
}

// `changed` is called when there may be more, or less, among the videos.
export function showDownloads(changed) {
  ended = changed;
  refresh();
}
