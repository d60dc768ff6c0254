// Pictures of a video, and the video itself where a rendition of it plays in browsers.

import { make } from "./words.js";

const url = (video, what) => `/api/videos/${encodeURIComponent(video.id)}/${what}`;

export function posterCell(video) {
  const cell = make("td", "", "poster");
  if (video.poster) cell.append(poster(video));
  return cell;
}

function poster(video) {
  const image = document.createElement("img");
  image.src = url(video, "poster");
  image.alt = "";
  image.loading = "lazy";
  image.decoding = "async";
  return image;
}

export function showPlayer(video) {
  const place = document.getElementById("player");
  place.replaceChildren();
  if (video.playable) {
    place.append(film(video));
    if (video.poster) strip(video, place);
    return;
  }
  if (video.poster) place.append(poster(video));
  if (video.state === "present" && !video.probe_error) place.append(wish(video));
}

function film(video) {
  const player = document.createElement("video");
  player.controls = true;
  player.preload = "metadata";
  player.playsInline = true;
  player.src = `/processed_videos/${encodeURIComponent(video.id)}`;
  if (video.poster) player.poster = url(video, "poster");
  player.addEventListener("error", async () => {
    const answer = await fetch(player.src, { headers: { Range: "bytes=0-0" } }).catch(() => null);
    const body = answer && !answer.ok ? await answer.json().catch(() => null) : null;
    player.replaceWith(make("p", body?.error ?? "This browser cannot play it.", "bad"));
  });
  return player;
}

// A button where nothing plays yet: the worker makes a rendition, and the page shows it once it is there.
function wish(video) {
  const line = make("p", "", "wish");
  const button = make("button", "Make it play here");
  button.type = "button";
  const words = make("span", "", "hint");
  button.addEventListener("click", async () => {
    button.disabled = true;
    const answer = await fetch(url(video, "enhance"), { method: "POST" }).catch(() => null);
    const body = answer ? await answer.json().catch(() => ({})) : {};
    words.textContent = answer?.ok ? "in the queue; the list shows how far it is" : body.error ?? "Spoolhouse does not answer.";
    button.disabled = Boolean(answer?.ok);
  });
  line.append(button, " ", words);
  return line;
}

// ---------------------------------------------------------------- small pictures to jump by

async function strip(video, place) {
  const answer = await fetch(url(video, "thumbnails.vtt")).catch(() => null);
  if (!answer?.ok) return;
  const tiles = cues(await answer.text());
  const player = place.querySelector("video");
  if (!tiles.length || !player) return;
  const list = make("div", "", "strip");
  list.setAttribute("role", "group");
  list.setAttribute("aria-label", "Jump to");
  const step = Math.max(1, Math.ceil(tiles.length / 24)); // a row, not a wall
  for (const tile of tiles.filter((_, number) => number % step === 0)) {
    const button = document.createElement("button");
    button.type = "button";
    button.title = clock(tile.from);
    button.setAttribute("aria-label", clock(tile.from));
    button.style.width = `${tile.w}px`;
    button.style.height = `${tile.h}px`;
    button.style.backgroundImage = `url("${url(video, tile.file)}")`;
    button.style.backgroundPosition = `-${tile.x}px -${tile.y}px`;
    button.addEventListener("click", () => { player.currentTime = tile.from; player.play().catch(() => {}); });
    list.append(button);
  }
  place.append(list);
}

// WebVTT: a time line, then `sprite.jpg#xywh=x,y,w,h`. What does not look so is passed over.
function cues(text) {
  const found = [];
  const lines = text.split(/\r?\n/);
  for (let at = 0; at + 1 < lines.length; at += 1) {
    const from = /^(?:(\d+):)?(\d\d):(\d\d\.\d{3}) --> /.exec(lines[at]);
    const tile = /^([\w.-]+)#xywh=(\d+),(\d+),(\d+),(\d+)$/.exec(lines[at + 1]);
    if (!from || !tile) continue;
    const [x, y, w, h] = tile.slice(2).map(Number);
    found.push({ from: Number(from[1] ?? 0) * 3600 + Number(from[2]) * 60 + Number(from[3]), file: tile[1], x, y, w, h });
  }
  return found;
}

const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
