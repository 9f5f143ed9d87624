// The list of what is in the picture, with a switch for each thing.

const NEVER = "no relation score";

export function makeThings({ decide, light }) {
  const list = document.getElementById("things");
  const empty = document.getElementById("things-empty");
  const count = document.getElementById("count");
  const rows = new Map();
  let known = new Map();

  function row(id) {
    const item = document.createElement("li");
    item.className = "thing";
    item.dataset.id = id;
    item.innerHTML = `<img alt="" width="54" height="54"><div class="title"><span></span><small></small></div>
      <div class="switch" role="radiogroup" aria-label="Keep or remove"><button role="radio" class="to-keep">Keep</button><button role="radio" class="to-remove">Remove</button></div>
      <p class="reason"><span class="relation">relation <i></i><b></b></span><span class="why"></span></p>`;
    const find = (selector) => item.querySelector(selector);
    const parts = { item, image: find("img"), label: find(".title span"), number: find(".title small"), relation: find(".relation"),
      bar: find(".relation i"), score: find(".relation b"), keep: find(".to-keep"), remove: find(".to-remove"), reason: find(".why") };
    parts.keep.onclick = () => decide(id, "keep");
    parts.remove.onclick = () => decide(id, "remove");
    item.onpointerenter = () => light(id);
    item.onpointerleave = () => light(null);
    return parts;
  }

  function fill(parts, thing) {
    const { item } = parts;
    item.className = `thing ${thing.action}${thing.here ? "" : " gone"}`;
    if (!parts.image.src.endsWith(thing.thumbnail)) parts.image.src = `/thing/${thing.thumbnail}`;
    parts.label.textContent = capital(thing.label);
    parts.number.textContent = thing.id;
    parts.relation.title = thing.relation === null ? NEVER : `relation to the scene ${thing.relation.toFixed(2)} of 1`;
    parts.relation.hidden = thing.relation === null;
    parts.bar.style.setProperty("--part", `${Math.round((thing.relation ?? 0) * 100)}%`);
    parts.score.textContent = thing.relation === null ? "" : thing.relation.toFixed(2);
    parts.keep.setAttribute("aria-checked", thing.action === "keep");
    parts.remove.setAttribute("aria-checked", thing.action === "remove");
    parts.reason.textContent = "";
    if (thing.word) {
      const free = document.createElement("button");
      free.className = "link";
      free.textContent = "let it decide";
      free.onclick = () => decide(thing.id, null);
      parts.reason.append("your choice · ", free);
    } else {
      parts.reason.textContent = thing.reason;
    }
  }

  return {
    label: (id) => {
      const thing = known.get(id);
      return thing ? `${capital(thing.label)} ${id}` : `Thing ${id}`;
    },
    update(things) {
      known = new Map(things.map((thing) => [thing.id, thing]));
      for (const [id, parts] of rows) if (!known.has(id)) { parts.item.remove(); rows.delete(id); }
      let last = null;
      for (const thing of things) {
        const parts = rows.get(thing.id) ?? row(thing.id);
        rows.set(thing.id, parts);
        fill(parts, thing);
        const place = last ? last.nextSibling : list.firstChild;
        if (place !== parts.item) list.insertBefore(parts.item, place);
        last = parts.item;
      }
      empty.hidden = things.length > 0;
      const here = things.filter((thing) => thing.here);
      const gone = here.filter((thing) => thing.action === "remove").length;
      count.textContent = here.length ? `${here.length - gone} kept, ${gone} removed` : "";
    },
  };
}

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
