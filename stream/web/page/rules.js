// Preset, look-ahead and classes: what holds for things that nobody has clicked on.

const NOTES = {
  tourist: "Who passes by goes, and vehicles that do not belong; the subject stays.",
  paper: "The published rule: what is not related to its surroundings goes.",
  webcam: "Who sits before the camera stays; what passes behind or before goes.",
};
const USUAL = ["person", "dog", "car", "bicycle"];
const STATES = [["auto", "Auto"], ["keep", "Keep"], ["remove", "Remove"]];

export function makeRules({ wish }) {
  const preset = document.getElementById("preset");
  const note = document.getElementById("preset-note");
  const ahead = document.getElementById("ahead");
  const value = document.getElementById("ahead-value");
  const list = document.getElementById("classes");
  const form = document.getElementById("add");
  const name = document.getElementById("add-name");
  const rows = new Map();
  let chosen = new Map(), seen = new Set(), all = [], holding = 0;

  function choices(parent, options, pick) {
    for (const [key, text] of options) {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("role", "radio");
      button.dataset.key = key;
      button.className = `to-${key}`;
      button.textContent = text;
      button.onclick = () => pick(key);
      parent.append(button);
    }
  }
  function check(parent, key) {
    for (const button of parent.children) button.setAttribute("aria-checked", button.dataset.key === key);
  }

  function row(label) {
    if (rows.has(label)) return rows.get(label);
    const item = document.createElement("li");
    const text = document.createElement("span");
    text.textContent = label;
    const group = document.createElement("div");
    group.className = "switch";
    group.setAttribute("role", "radiogroup");
    group.setAttribute("aria-label", label);
    choices(group, STATES, (state) => {
      if (state === "auto") chosen.delete(label); else chosen.set(label, state);
      paint();
      send();
    });
    item.append(text, group);
    list.append(item);
    rows.set(label, { item, group });
    return rows.get(label);
  }
  function paint() {
    for (const [label, { item, group }] of rows) {
      check(group, chosen.get(label) ?? "auto");
      item.classList.toggle("seen", seen.has(label));
    }
  }
  const of = (state) => [...chosen].filter(([, each]) => each === state).map(([label]) => label);
  const send = () => { holding = Date.now() + 1200; wish("classes", { remove: of("remove"), keep: of("keep") }); };

  let timer = 0;
  ahead.oninput = () => {
    value.textContent = `${Number(ahead.value).toFixed(1)} s`;
    holding = Date.now() + 1200;
    clearTimeout(timer);
    timer = setTimeout(() => wish("look-ahead", { seconds: Number(ahead.value) }), 150);
  };
  form.onsubmit = (event) => {
    event.preventDefault();
    const label = name.value.trim().toLowerCase();
    if (!all.includes(label)) { name.setCustomValidity("no such class"); name.reportValidity(); return; }
    name.value = "";
    row(label);
    paint();
  };
  name.oninput = () => name.setCustomValidity("");

  return {
    hello({ classes, presets }) {
      all = classes;
      document.getElementById("names").replaceChildren(...classes.map((each) => Object.assign(document.createElement("option"), { value: each })));
      preset.replaceChildren();
      choices(preset, presets.map((each) => [each, each]), (key) => { holding = Date.now() + 1200; check(preset, key); note.textContent = NOTES[key] ?? ""; wish("preset", { name: key }); });
      USUAL.forEach(row);
      paint();
    },
    saw(things) {
      seen = new Set(things.map((thing) => thing.label));
      for (const label of seen) if (rows.size < 16 || rows.has(label)) row(label);
      paint();
    },
    update(status) {
      if (Date.now() < holding) return; // what was just chosen here is on its way
      check(preset, status.preset);
      note.textContent = NOTES[status.preset] ?? "";
      ahead.value = status.look_ahead;
      value.textContent = `${status.look_ahead.toFixed(1)} s`;
      const plain = (labels, state) => labels.filter((each) => !each.includes("@")).map((each) => [each, state]);
      chosen = new Map([...plain(status.remove, "remove"), ...plain(status.keep, "keep")]);
      for (const label of chosen.keys()) row(label);
      paint();
    },
  };
}
