// Work that goes on, live: statuses and progress of every video over one WebSocket, shown beside its name.

const AGAIN = [1000, 2000, 5000, 10000];

const words = { "video-enhancement": "making it playable", "metadata-extraction": "reading it", previews: "taking pictures" };
const going = new Map(); // file_id → Map(task → { percent })

export function showWork() {
  for (const place of document.querySelectorAll("[data-work]")) {
    const tasks = [...(going.get(place.dataset.work) ?? [])];
    place.textContent = tasks.map(([task, { percent }]) => `${words[task] ?? task}${percent ? ` ${Math.floor(percent)} %` : "…"}`).join(", ");
  }
}

function take(told, changed) {
  if (!told || typeof told.file_id !== "string" || !(told.task in words)) return;
  const tasks = going.get(told.file_id) ?? new Map();
  if (told.status === "processing") {
    tasks.set(told.task, { percent: Number(told.progress) || 0 });
    going.set(told.file_id, tasks);
  } else {
    tasks.delete(told.task);
    if (!tasks.size) going.delete(told.file_id);
    if (told.type === "status") changed();
  }
  showWork();
}

// Many things end together, and all of them are told at first: the list is asked for once.
function gathered(changed, after = 300) {
  let timer = 0;
  return () => { timer ||= setTimeout(() => { timer = 0; changed(); }, after); };
}

// `changed` is called when something came to an end: the list then has more to show. `downloads` hears of
// downloads (`download`), and of each connection (`opened`), after which their state is told anew.
export function listen(changed, downloads) {
  follow(gathered(changed), downloads, 0);
}

function follow(changed, downloads, tries) {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const socket = new WebSocket(`${scheme}://${location.host}/ws/page-${crypto.getRandomValues(new Uint32Array(2)).join("-")}?all=1`);
  socket.addEventListener("open", () => { tries = 0; going.clear(); downloads.opened(); });
  socket.addEventListener("message", (message) => {
    try {
      const told = JSON.parse(message.data);
      if (told.type === "download") downloads.download(told);
      else take(told, changed);
    } catch { /* not one of ours */ }
  });
  socket.addEventListener("close", () => {
    setTimeout(() => follow(changed, downloads, tries + 1), AGAIN[Math.min(tries, AGAIN.length - 1)]);
  });
}
