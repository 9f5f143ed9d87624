// The page: what comes from the server goes to the part that shows it, and what is clicked goes back.

import { makeFiles, time } from "./files.js";
import { connect, wish as tell } from "./link.js";
import { makeRules } from "./rules.js";
import { makeStage } from "./stage.js";
import { makeThings } from "./things.js";

const $ = (id) => document.getElementById(id);
let limit = Infinity, status = null, connected = false;

function toast(text, { wrong = false, undo = null } = {}) {
  const item = document.createElement("div");
  item.className = wrong ? "toast wrong" : "toast";
  item.append(text);
  if (undo) {
    const button = document.createElement("button");
    button.textContent = "Undo";
    button.onclick = () => { undo(); item.remove(); };
    item.append(button);
  }
  $("toasts").replaceChildren(item);
  setTimeout(() => item.remove(), wrong ? 6000 : 3500);
}
const complain = (text) => toast(text, { wrong: true });
const wish = (name, body) => tell(name, body, complain);

const things = makeThings({ decide: (track, action) => wish("decide", { track, action }), light: (id) => stage.light(id) });
const stage = makeStage({
  drawn(head) {
    link.drawn(head.n);
    document.dispatchEvent(new CustomEvent("drawn", { detail: head }));
  },
  async pick(track, action) {
    const label = things.label(track);
    const before = action === "keep" ? "remove" : "keep";
    if (await wish("decide", { track, action })) {
      toast(`${label} ${action === "keep" ? "stays" : "goes"}`, { undo: () => wish("decide", { track, action: before }) });
    }
  },
  asked: (id) => things.label(id),
});
const rules = makeRules({ wish });
const files = makeFiles({ complain, limit: () => limit });

const link = connect({
  picture: (head, after, before) => { connected = true; if (status) banner(); stage.show(head, after, before); },
  news(news) {
    if (news.hello) { limit = news.hello.upload_bytes; rules.hello(news.hello); }
    if (news.things) { things.update(news.things); rules.saw(news.things); }
    if (news.clips) files.clips(news.clips);
    if (news.status) { status = news.status; show(news.status); }
  },
  lost(why) {
    connected = false;
    say("Connection lost", why || "Trying again; the last picture is shown.");
    source("lost", "not connected");
  },
});

function show(now) {
  connected = true;
  $("m-rate").textContent = now.ended ? "–" : now.frames_per_second.toFixed(1);
  $("m-delay").textContent = now.screen_seconds === null || now.ended ? "–" : Math.round(now.screen_seconds * 1000);
  $("m-drops").textContent = now.dropped;
  $("m-step").textContent = now.step === "full" ? "full" : `saving: ${now.step}`;
  $("m-step").parentElement.classList.toggle("low", now.step !== "full");
  $("source-name").textContent = /^\d+$/.test(now.source) ? `camera ${now.source}` : now.source.split(/[\\/]/).pop() || now.source;
  $("source-name").title = now.source;
  banner();
  rules.update(now);
  files.recordings(now.recordings);
  const recording = now.recording;
  $("record").setAttribute("aria-pressed", String(Boolean(recording)));
  $("record").querySelector("span").textContent = recording ? (recording.seconds === null ? "Stop" : `Stop ${time(recording.seconds)}`) : "Record";
  $("record").disabled = now.ended;
}

function banner() {
  if (status.error) { say("The stream has stopped", status.error); source("lost", "stopped"); }
  else if (status.ended) { say("The end", "The source has no more pictures."); source("", "ended"); }
  else if (status.away) { say("The source is away", "The last clean picture is shown until it is back."); source("away", "away"); }
  else { $("banner").hidden = true; source("live", "live"); }
}
function say(title, text) {
  $("banner").hidden = false;
  $("banner").firstChild.textContent = title;
  $("banner").lastChild.textContent = text;
}
function source(kind, text) {
  $("source").className = `source ${kind}`;
  $("source-state").textContent = text;
}

function toggle(button, act) {
  button.onclick = () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    act(on);
  };
}
toggle($("compare"), (on) => { link.ask({ compare: on }); stage.compare(on); });
toggle($("outline"), (on) => stage.outlines(on));
$("reset").onclick = async () => { if (await wish("reset", {})) toast("What was seen behind things is forgotten"); };
$("record").onclick = async () => {
  const on = !status?.recording;
  if (await wish("record", { on })) toast(on ? "Recording" : "The recording is below, under Files");
};
addEventListener("keydown", (event) => {
  if (event.target.closest("input, button, a, summary") || event.ctrlKey || event.metaKey || event.altKey) return;
  const button = { " ": "compare", o: "outline", r: "reset", s: "shot" }[event.key];
  if (button) { $(button).click(); event.preventDefault(); }
});
document.addEventListener("visibilitychange", () => link.ask({ hidden: document.hidden }));

// On a phone the files should not be a long way down.
if (matchMedia("(max-width: 860px)").matches) document.querySelector(".rules").open = false;

// What the system prefers, until somebody says otherwise.
const root = document.documentElement;
const chosen = localStorage.getItem("theme");
if (chosen) root.classList.add(chosen);
$("theme").onclick = () => {
  const now = root.className || (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark");
  root.className = now === "light" ? "dark" : "light";
  localStorage.setItem("theme", root.className);
};
