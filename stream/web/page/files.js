// Files that are cleaned on the side: sent with progress, watched while they are cleaned, and taken back.

export function makeFiles({ complain, limit }) {
  const drop = document.getElementById("drop");
  const input = document.getElementById("file");
  const dropping = document.getElementById("dropping");
  const list = document.getElementById("clips");
  const kept = document.getElementById("recordings");
  const names = new Map(Object.entries(JSON.parse(sessionStorage.getItem("clips") ?? "{}")));
  const rows = new Map();
  let sending = null, told = [];

  function send(file) {
    if (sending || told.some(active)) { complain("one file at a time: wait for the other one, or stop it"); return; }
    if (file.size > limit()) { complain(`at most ${size(limit())} are taken`); return; }
    const request = new XMLHttpRequest();
    sending = { name: file.name, part: 0, request };
    request.open("POST", "/clips");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = ({ loaded, total }) => { sending.part = loaded / total; paint(); };
    request.onloadend = () => {
      if (request.status === 201) {
        names.set(JSON.parse(request.responseText).id, file.name);
        sessionStorage.setItem("clips", JSON.stringify(Object.fromEntries([...names].slice(-20))));
      } else if (!sending.stopped) {
        complain(reason(request));
      }
      sending = null;
      paint();
    };
    request.send(file);
    paint();
  }

  input.onchange = () => { if (input.files[0]) send(input.files[0]); input.value = ""; };
  let depth = 0;
  const files = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragenter", (event) => { if (files(event)) { depth += 1; dropping.hidden = false; event.preventDefault(); } });
  addEventListener("dragleave", (event) => { if (files(event) && --depth <= 0) { depth = 0; dropping.hidden = true; } });
  addEventListener("dragover", (event) => { if (files(event)) event.preventDefault(); });
  addEventListener("drop", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    depth = 0;
    dropping.hidden = true;
    if (event.dataTransfer.files[0]) send(event.dataTransfer.files[0]);
  });

  function row(id) {
    const item = document.createElement("li");
    item.className = "clip";
    item.innerHTML = `<img class="pair" alt="before and after" hidden><div class="text"><div class="head"><b></b><button class="icon" aria-label="Stop or dismiss"><svg><use href="#i-close"/></svg></button></div>
      <progress max="1" hidden></progress><p class="said"></p><a class="primary" hidden><svg><use href="#i-down"/></svg>Download</a></div>`;
    const find = (selector) => item.querySelector(selector);
    find("button").onclick = () => {
      if (id === "sending") { sending.stopped = true; sending.request.abort(); } else fetch(`/clips/${id}`, { method: "DELETE" });
    };
    list.prepend(item);
    return { item, image: find("img"), name: find("b"), progress: find("progress"), said: find(".said"), link: find("a") };
  }

  function paint() {
    const shown = told.filter((clip) => clip.state !== "receiving" || !sending);
    const all = sending ? [{ id: "sending", state: "sending", part: sending.part }, ...shown] : shown;
    for (const [id, { item }] of rows) if (!all.some((clip) => clip.id === id)) { item.remove(); rows.delete(id); }
    for (const clip of all.toReversed()) {
      const fresh = !rows.has(clip.id);
      if (fresh) rows.set(clip.id, row(clip.id));
      fill(rows.get(clip.id), clip);
      if (fresh && clip.state === "sending") rows.get(clip.id).item.scrollIntoView({ block: "nearest", behavior: "smooth" });
    }
    drop.classList.toggle("busy", Boolean(sending) || told.some(active));
  }

  function fill(parts, clip) {
    parts.item.className = `clip ${clip.state}`;
    parts.name.textContent = clip.id === "sending" ? sending.name : names.get(clip.id) ?? "Clip";
    parts.said.textContent = say(clip);
    const part = clip.state === "sending" ? clip.part : clip.total ? clip.frames / clip.total : clip.of ? clip.bytes / clip.of : null;
    parts.progress.hidden = !(active(clip) || clip.state === "sending");
    if (part === null || part === undefined) parts.progress.removeAttribute("value"); else parts.progress.value = part;
    parts.image.hidden = !clip.picture;
    const picture = `/clips/${clip.id}/picture?${clip.picture}`;
    if (clip.picture && !parts.image.src.endsWith(picture)) parts.image.src = picture;
    parts.link.hidden = clip.state !== "done";
    if (clip.state === "done") {
      parts.link.href = `/clips/${clip.id}/result`;
      parts.link.download = `${(names.get(clip.id) ?? "clip").replace(/\.[^.]*$/, "")}.clean${clip.suffix}`;
    }
  }

  return {
    clips(next) { told = next; paint(); },
    recordings(next) {
      kept.replaceChildren(...next.map(({ name, bytes }) => {
        const item = document.createElement("li");
        item.innerHTML = `<b></b><small></small><a><svg><use href="#i-down"/></svg></a>`;
        item.querySelector("b").textContent = name;
        item.querySelector("small").textContent = size(bytes);
        const link = item.querySelector("a");
        link.href = `/recording/${encodeURIComponent(name)}`;
        link.download = name;
        link.setAttribute("aria-label", `Download ${name}`);
        return item;
      }));
    },
  };
}

const active = ({ state }) => ["receiving", "waiting", "cleaning"].includes(state);
const percent = (part) => `${Math.round(part * 100)} %`;

function say(clip) {
  switch (clip.state) {
    case "sending": return clip.part < 1 ? `sending, ${percent(clip.part)}` : "sent";
    case "receiving": return "another visitor sends a file";
    case "waiting": return "looking at it";
    case "cleaning": {
      if (!clip.frames) return "preparing";
      const left = clip.total && clip.rate ? `, ${time((clip.total - clip.frames) / clip.rate)} left` : "";
      return `${clip.frames}${clip.total ? ` of ${clip.total}` : ""} frames, ${clip.rate.toFixed(1)} fps${left}`;
    }
    case "done": return `${clip.frames} frame${clip.frames === 1 ? "" : "s"}, ${clip.removed} removed, ${clip.kept} kept, ${size(clip.bytes)}`;
    case "failed": return clip.hint ? `${clip.error}; ${clip.hint}` : clip.error;
    default: return clip.state;
  }
}

function reason(request) {
  try {
    const { error, hint } = JSON.parse(request.responseText);
    return hint ? `${error}: ${hint}` : error;
  } catch {
    return "the file could not be sent";
  }
}

export function size(bytes) {
  if (bytes >= 1 << 30) return `${(bytes / (1 << 30)).toFixed(1)} GB`;
  return bytes >= 1 << 20 ? `${(bytes / (1 << 20)).toFixed(1)} MB` : `${Math.ceil(bytes / 1024)} kB`;
}

export function time(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
