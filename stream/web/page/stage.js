// The picture: drawn as it comes, with the divider between before and after, outlines, and what a click means.

const UNITS = 10000;

export function makeStage({ drawn, pick, asked }) {
  const frame = document.getElementById("frame");
  const picture = document.getElementById("picture");
  const lines = document.getElementById("lines");
  const divider = document.getElementById("split");
  const hint = document.getElementById("hint");
  const tags = [document.getElementById("tag-before"), document.getElementById("tag-after")];
  const paper = picture.getContext("2d", { alpha: false });
  const pen = lines.getContext("2d");
  let after = null, before = null, head = null;
  let comparing = false, split = 0.5, outlined = false, inside = false, lit = null, point = null, busy = false;
  let waiting = null, marked = false;

  async function show(...next) {
    if (busy) { waiting = next; return; }
    busy = true;
    try {
      await decode(...next);
    } finally {
      busy = false;
    }
    if (waiting) { const late = waiting; waiting = null; show(...late); }
  }

  async function decode(nextHead, afterBytes, beforeBytes) {
    let images;
    try {
      images = await Promise.all([afterBytes, beforeBytes].map((bytes) => bytes && createImageBitmap(new Blob([bytes], { type: "image/jpeg" }))));
    } catch { drawn(nextHead); return; }
    after?.close();
    if (images[1] || !comparing) before?.close();
    [head, after, before] = [nextHead, images[0], images[1] ?? (comparing ? before : null)];
    if (picture.width !== head.w || picture.height !== head.h) {
      [picture.width, picture.height] = [head.w, head.h];
      frame.style.setProperty("--ratio", head.w / head.h);
      place();
    }
    draw();
    drawn(head);
  }

  function draw() {
    if (!after) return;
    paper.drawImage(after, 0, 0);
    if (comparing && before) {
      const width = Math.round(split * picture.width);
      if (width > 0) paper.drawImage(before, 0, 0, width, before.height, 0, 0, width, before.height);
    }
    outline();
  }

  // Where the picture lies in its frame, which may be wider or higher.
  function area() {
    const { width, height } = frame.getBoundingClientRect();
    const scale = Math.min(width / picture.width, height / picture.height);
    const [wide, high] = [picture.width * scale, picture.height * scale];
    return { x: (width - wide) / 2, y: (height - high) / 2, wide, high, width, height };
  }

  function path(rings, at, ratio = 1) {
    const shape = new Path2D();
    for (const ring of rings) {
      for (let i = 0; i < ring.length; i += 2) {
        const x = (at.x + (ring[i] / UNITS) * at.wide) * ratio, y = (at.y + (ring[i + 1] / UNITS) * at.high) * ratio;
        if (i) shape.lineTo(x, y); else shape.moveTo(x, y);
      }
      shape.closePath();
    }
    return shape;
  }

  function outline() {
    // most of the time there is nothing to draw, and an untouched canvas costs nothing
    const needed = head && (outlined || inside || lit !== null);
    if (!needed && !marked) return;
    marked = needed;
    const at = area(), ratio = window.devicePixelRatio || 1;
    const [wide, high] = [Math.round(at.width * ratio), Math.round(at.height * ratio)];
    if (lines.width !== wide || lines.height !== high) [lines.width, lines.height] = [wide, high];
    else pen.clearRect(0, 0, wide, high);
    if (!needed) { frame.classList.remove("over-thing"); tell(null); return; }
    const over = point && under(point, at);
    frame.classList.toggle("over-thing", Boolean(over));
    const chosenId = over ? over[0] : lit;
    for (const [id, goes, rings] of head.t) {
      const chosen = id === chosenId;
      if (!chosen && !outlined && !inside) continue;
      const shape = path(rings, at, ratio);
      const colour = goes ? "#ff7d5c" : "#3fc1ae";
      if (chosen) { pen.fillStyle = `${colour}26`; pen.fill(shape); }
      pen.lineJoin = "round";
      pen.setLineDash([]);
      pen.strokeStyle = "#0009"; pen.lineWidth = (chosen ? 4.5 : 3.5) * ratio; pen.stroke(shape);
      pen.setLineDash(goes ? [7 * ratio, 5 * ratio] : []);
      pen.strokeStyle = colour; pen.lineWidth = (chosen ? 2.5 : 1.75) * ratio; pen.stroke(shape);
    }
    tell(over, at);
  }

  function tell(over, at) {
    hint.hidden = !over;
    if (!over) return;
    const [id, goes, rings] = over;
    const xs = rings[0].filter((_, i) => i % 2 === 0), ys = rings[0].filter((_, i) => i % 2);
    const x = at.x + ((Math.min(...xs) + Math.max(...xs)) / 2 / UNITS) * at.wide;
    const y = at.y + (Math.min(...ys) / UNITS) * at.high - 8;
    hint.replaceChildren(asked(id), Object.assign(document.createElement("em"), { textContent: goes ? "  click to keep" : "  click to remove" }));
    hint.style.left = `${Math.min(Math.max(x, 90), at.width - 90)}px`;
    hint.style.top = `${Math.max(y, 34)}px`;
  }

  // The smallest thing under a point.
  function under({ x, y }, at = area()) {
    if (!head) return null;
    const hits = head.t.filter(([, , rings]) => pen.isPointInPath(path(rings, at), x, y));
    return hits.at(-1) ?? null; // they come with the largest first
  }

  const where = (event) => {
    const box = frame.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  frame.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse") return;
    [inside, point] = [true, event.target === divider ? null : where(event)];
    outline();
  });
  frame.addEventListener("pointerleave", () => { [inside, point] = [false, null]; outline(); });
  frame.addEventListener("click", (event) => {
    if (divider.contains(event.target)) return;
    const thing = under(where(event));
    if (thing) pick(thing[0], thing[1] ? "keep" : "remove");
  });

  function place() {
    const at = area();
    divider.style.left = `${at.x + split * at.wide}px`;
    [divider.style.top, divider.style.height] = [`${at.y}px`, `${at.high}px`];
    divider.setAttribute("aria-valuenow", String(Math.round(split * 100)));
    for (const [tag, side] of [[tags[0], "left"], [tags[1], "right"]]) {
      tag.style[side] = `${at.x + 12}px`;
      tag.style.bottom = `${at.y + 12}px`;
    }
  }
  function move(to) {
    split = Math.min(1, Math.max(0, to));
    place();
    draw();
  }
  divider.addEventListener("pointerdown", (event) => {
    divider.setPointerCapture(event.pointerId);
    event.preventDefault();
    divider.focus({ preventScroll: true });
  });
  divider.addEventListener("pointermove", (event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    const at = area();
    move((where(event).x - at.x) / at.wide);
  });
  divider.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 }[event.key];
    if (step) { move(split + step); event.preventDefault(); }
  });
  new ResizeObserver(() => { place(); outline(); }).observe(frame);

  return {
    show,
    compare(on) {
      comparing = on;
      for (const each of [divider, ...tags]) each.hidden = !on;
      place();
      draw();
    },
    outlines(on) { outlined = on; outline(); },
    light(id) { lit = id; outline(); },
  };
}
