// The page: what came in, what happened to it, and a way to add more. Everything that comes from
// outside is put in as text (textContent), never as HTML.

import { begin, heard, showDownloads } from "./downloads.js";
import { posterCell, showPlayer } from "./player.js";
import { bytes, length, make } from "./words.js";
import { listen, showWork } from "./work.js";

const PAGE = 50;
const REFRESH = 3000;

const $ = (id) => document.getElementById(id);
// ---------------------------------------------------------------- words for what is known

const picture = (video) => {
  if (!video.width) return video.damaged || video.probe_error ? "unreadable" : "";
  return `${video.width} × ${video.height}${video.video_codec ? `, ${video.video_codec}` : ""}`;
};

// How each copy is, in a word, and what more is known of it.
const places = { s3: "S3", drive: "Drive" };
const conditions = {
  started: ["copying", "busy"], complete: ["copied", "good"], failed: ["failed", "bad"], damaged: ["damaged", "bad"],
  abandoned: ["given up", "bad"], outdated: ["outdated", "busy"],
};
const condition = (copy) => {
  if (copy.state === "started") return [`copying ${copy.progress} %`, "busy"];
  if (copy.state === "complete" && copy.verified) return ["verified", "good"];
  return conditions[copy.state] ?? [copy.state, ""];
};
const aboutCopy = (copy) => [
  copy.state !== "started" && copy.progress > 0 && copy.progress < 100 && `${copy.progress} % are there`,
  copy.completed && `complete ${moment(copy.completed)}`,
  copy.verified && `found whole ${moment(copy.verified)}${copy.verified_deep ? ", every byte read" : ""}`,
  copy.state === "outdated" && "of content that was replaced since",
  copy.fault, copy.replica === "s3" ? copy.store : null,
].filter(Boolean).join("; ");

function mark(copy) {
  const [words, kind] = condition(copy);
  const node = make("span", `${places[copy.replica] ?? copy.replica} ${words}`, `mark ${kind}`);
  node.title = aboutCopy(copy);
  return node;
}

const moment = (text) => (text ? text.replace("T", " ") : "");
const doors = { upload: "upload", watch: "watched folder", download: "download" };

// ---------------------------------------------------------------- asking the API

async function ask(url) {
  let answer;
  try {
    answer = await fetch(url, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(20000) });
  } catch {
    throw new Error("Spoolhouse does not answer. Is it running?");
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok && body.error) throw new Error(body.error);
  return body;
}

// ---------------------------------------------------------------- the list

let shown = PAGE;
let lastSeen = "";

async function refreshVideos() {
  const query = new URLSearchParams({ limit: String(Math.min(shown, 500)) });
  if ($("door").value) query.set("door", $("door").value);
  if ($("search").value.trim()) query.set("q", $("search").value.trim());
  try {
    const found = await ask(`/api/videos?${query}`);
    $("trouble").hidden = true;
    const seen = JSON.stringify([found.videos, found.next]);
    if (seen === lastSeen) return; // nothing new: leave focus and selection alone
    lastSeen = seen;
    const focused = document.activeElement?.dataset?.id;
    $("rows").replaceChildren(...found.videos.map(row));
    // Where nothing is copied anywhere, a column for that says nothing.
    $("videos").classList.toggle("uncopied", !found.videos.some((video) => video.replicas.length));
    showWork();
    if (focused) document.querySelector(`button[data-id="${CSS.escape(focused)}"]`)?.focus();
    $("empty").hidden = found.videos.length > 0;
    $("more").hidden = !found.next || shown >= 500;
  } catch (error) {
    $("trouble").textContent = error.message;
    $("trouble").hidden = false;
  }
}

function row(video) {
  const tr = document.createElement("tr");
  if (video.state === "removed") tr.className = "gone";
  tr.append(posterCell(video));
  const copies = make("td", "", "copies");
  copies.append(...video.replicas.map(mark));
  const name = document.createElement("td");
  const open = make("button", video.filename, "link");
  open.type = "button";
  open.dataset.id = video.id;
  open.addEventListener("click", () => show(video));
  name.append(open);
  if (video.state === "removed") name.append(make("span", "removed", "tag"));
  if (video.state === "offloaded") name.append(make("span", "offloaded", "tag soft"));
  if (video.damaged || video.probe_error) name.append(make("span", "damaged", "tag"));
  if (video.duplicate_of) name.append(make("span", "duplicate", "tag"));
  const work = make("span", "", "work");
  work.dataset.work = video.id;
  name.append(work);
  tr.append(
    name,
    make("td", doors[video.door] ?? video.door, "tight"),
    make("td", picture(video), "tight"),
    make("td", length(video.duration), "tight number"),
    make("td", bytes(video.size_bytes), "tight number"),
    copies,
    make("td", moment(video.created), "tight"),
  );
  return tr;
}

async function refreshStats() {
  try {
    const stats = await ask("/api/videos/storage-stats");
    $("stat-videos").textContent = stats.video_count.toLocaleString();
    $("stat-size").textContent = bytes(stats.total_size_bytes);
    const all = await ask("/api/videos/storage-stats?door=all");
    $("stat-all").textContent = all.video_count.toLocaleString();
  } catch { /* the list says what is wrong */ }
}

// ---------------------------------------------------------------- the state of the system

async function refreshState() {
  const button = $("state");
  let problems = [];
  let warnings = [];
  let ready = false;
  try {
    const report = await ask("/readyz");
    ready = report.ready === true;
    problems = report.problems ?? [];
    warnings = report.warnings ?? [];
  } catch (error) {
    problems = [{ what: "api", message: error.message }];
  }
  button.className = `state ${ready ? (warnings.length ? "warn" : "good") : "bad"}`;
  const count = problems.length || warnings.length;
  const words = problems.length ? "problem" : "warning";
  $("state-words").textContent = count ? `${count} ${words}${count > 1 ? "s" : ""}` : "all is well";
  const list = $("problems");
  list.replaceChildren(
    ...problems.map((p) => make("li", p.message, "problem")),
    ...warnings.map((w) => make("li", w.message, "warning")),
  );
  if (!list.childElementCount) setProblems(false);
}

function setProblems(open) {
  $("problems").hidden = !open;
  $("state").setAttribute("aria-expanded", String(open));
}

$("state").addEventListener("click", () => {
  if ($("problems").childElementCount) setProblems($("problems").hidden);
});

// ---------------------------------------------------------------- one video

async function show(video) {
  $("details-title").textContent = video.filename;
  showPlayer(video);
  $("facts").replaceChildren();
  $("history").replaceChildren(make("li", "Asking the log…", "hint"));
  if (!$("details").open) $("details").showModal();
  history.replaceState(null, "", `#${video.id}`);
  const facts = [
    ["Id", video.id], ["Path", video.path], ["Came in", `${moment(video.created)} by ${doors[video.door] ?? video.door}`],
    ["Size", video.size_bytes == null ? "" : `${bytes(video.size_bytes)} (${video.size_bytes.toLocaleString()} bytes)`],
    ["Length", length(video.duration)], ["Picture", picture(video)], ["Sound", video.audio_codec], ["Label", video.label],
    ["Damaged", video.damaged || video.probe_error], ["Given up", video.parked], ["Same content as", video.duplicate_of], ["SHA-256", video.sha256],
  ];
  if (video.state === "offloaded") {
    facts.splice(2, 0, ["Offloaded", `its copies are whole; \`spoolhouse restore ${video.id}\` fetches it back`]);
  }
  for (const [name, value] of facts) {
    if (value) $("facts").append(make("dt", name), make("dd", value));
  }
  for (const copy of video.replicas) {
    const told = make("dd");
    told.append(mark(copy), aboutCopy(copy));
    if (/^https:\/\//.test(copy.link ?? "")) {
      const link = make("a", "open in Drive");
      link.href = copy.link;
      link.rel = "noopener noreferrer";
      link.target = "_blank";
      told.append(" ", link);
    }
    $("facts").append(make("dt", `Copy (${places[copy.replica] ?? copy.replica})`), told);
  }
  try {
    const { events } = await ask(`/api/videos/${encodeURIComponent(video.id)}/events`);
    $("history").replaceChildren(...events.map(happening));
  } catch (error) {
    $("history").replaceChildren(make("li", error.message, "bad"));
  }
}

$("details").addEventListener("close", () => $("player").replaceChildren());
$("details").addEventListener("close", () => history.replaceState(null, "", location.pathname));

// A link to a video: /#<id>
async function showLinked() {
  const id = decodeURIComponent(location.hash.slice(1));
  if (/^[0-9a-f-]{36}$/.test(id)) await ask(`/api/videos/${id}`).then(show, () => {});
}

function happening(event) {
  const li = make("li", "", /Failed|Parked|Damaged|Abandoned/.test(event.type) ? "bad" : "");
  const when = make("time", `${moment(event.last_time)} · ${event.source}${event.events > 1 ? ` · ${event.events} times since ${moment(event.time)}` : ""}`);
  when.dateTime = event.last_time;
  const more = document.createElement("details");
  more.append(make("summary", event.type), make("pre", JSON.stringify(event.data, null, 2)));
  li.append(make("span", event.what), when, more);
  return li;
}

// ---------------------------------------------------------------- uploads, one after another

const waiting = [];
let sending = false;

function add(files) {
  for (const file of files) {
    const line = make("li");
    const words = make("span", "waiting");
    const bar = document.createElement("progress");
    bar.max = 1;
    bar.value = 0;
    bar.setAttribute("aria-label", `Upload of ${file.name}`);
    line.append(make("span", file.name, "name"), words, bar);
    $("transfers").prepend(line);
    waiting.push({ file, label: $("label").value.trim(), words, bar });
  }
  send();
}

async function send() {
  if (sending) return;
  sending = true;
  while (waiting.length) await transfer(waiting.shift());
  sending = false;
}

function transfer({ file, label, words, bar }) {
  return new Promise((done) => {
    const form = new FormData();
    if (label) form.append("contentType", label);
    form.append("video", file);
    const request = new XMLHttpRequest(); // fetch tells no progress of what is sent
    request.open("POST", "/api/upload-video");
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => {
      bar.value = event.total ? event.loaded / event.total : 0;
      words.textContent = bar.value < 1 ? `${Math.floor(bar.value * 100)} % of ${bytes(file.size)}` : "being verified…";
    });
    const end = (text, className) => {
      words.textContent = text;
      words.className = className;
      bar.remove();
      done();
      refresh();
    };
    request.addEventListener("load", () => {
      const answer = request.response;
      if (request.status < 300 && answer?.success) end("stored", "good");
      else end(answer?.error ?? `refused (${request.status})`, "bad");
    });
    request.addEventListener("error", () => end("the connection broke; nothing was kept, send it again", "bad"));
    request.send(form);
  });
}

$("upload").addEventListener("submit", (event) => event.preventDefault());
$("files").addEventListener("change", (event) => {
  add([...event.target.files]);
  event.target.value = "";
});
for (const [name, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  $("drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", over);
    if (name === "drop") add([...event.dataTransfer.files]);
  });
}

// ---------------------------------------------------------------- again and again

let typing;
$("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => { shown = PAGE; refreshVideos(); }, 250);
});
$("door").addEventListener("change", () => { shown = PAGE; refreshVideos(); });
$("more").addEventListener("click", () => { shown += PAGE; refreshVideos(); });

async function refresh() {
  await Promise.all([refreshVideos(), refreshStats(), refreshState()]);
}

async function follow() {
  for (;;) {
    if (!document.hidden) await refresh();
    await new Promise((next) => setTimeout(next, REFRESH));
  }
}
addEventListener("hashchange", showLinked);
showLinked();
showDownloads(refreshVideos);
listen(refreshVideos, { download: heard, opened: begin });
follow();
