"""Who looks at the live page: a browser window that reads what it has drawn, and a line that can be cut."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

from benchmarks.clock_bars import READ

_WATCH = (
    "(() => {"
    + READ
    + """
  const canvas = document.getElementById('picture');
  const context = canvas.getContext('2d');
  window.ages = []; window.drawn = 0; window.things = []; window.last = null; window.wanted = null;
  document.addEventListener('drawn', ({ detail }) => {
    window.drawn++;
    window.number = detail.n;
    window.things = detail.t;
    const value = readBars(context);
    if (value !== null && value !== window.last) { window.last = value; window.ages.push(age(value)); }
    if (!window.wanted) return;
    const [x, y, w, h] = window.wanted.box;
    const pixels = context.getImageData(x, y, w, h).data;
    if (!window.wanted.first) { window.wanted.first = pixels; window.wanted.ready(); return; }
    let sum = 0;
    for (let i = 0; i < pixels.length; i += 4) {
      for (let c = 0; c < 3; c++) sum += Math.abs(pixels[i + c] - window.wanted.first[i + c]);
    }
    window.wanted.differs = sum / pixels.length * 4 / 3;
    if (window.wanted.asked && window.wanted.differs > window.wanted.much) {
      window.wanted.done(performance.now() - window.wanted.asked);
      window.wanted = null;
    }
  });
  // Milliseconds from `act` until what lies in the box has changed by `much` grey levels on average.
  window.changed = (box, much, act) => new Promise((done, fail) => {
    window.wanted = { box, much, done, ready: () => { window.wanted.asked = performance.now(); act(); } };
    setTimeout(() => fail(new Error(`differs by ${window.wanted?.differs}`)), 8000);
  });
})()"""
)


class Proxy:
    """A line between browser and server that can be cut, and may be slow: `rate` bytes a second."""

    def __init__(self, port: int, rate: float = float("inf")) -> None:
        self.target = port
        self.rate = rate
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.lines: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break every connection."""
        for line in self.lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()
        self.lines = []

    def _accept(self) -> None:
        while True:
            one, _ = self.listener.accept()
            try:
                other = socket.socket()
                if self.rate < float("inf"):
                    # what is under way is to be on the line, not in buffers of this program
                    other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
                other.connect(("127.0.0.1", self.target))
            except OSError:
                one.close()
                continue
            self.lines += [one, other]
            for ends in ((one, other), (other, one)):
                threading.Thread(target=self._copy, args=ends, daemon=True).start()

    def _copy(self, source: socket.socket, to: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 12):
                time.sleep(len(data) / self.rate)
                to.sendall(data)
        with contextlib.suppress(OSError):
            to.shutdown(socket.SHUT_RDWR)


class Visitor:
    """One browser window before the page."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1440, "height": 860}, **options)
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(address)
        self.page.evaluate(_WATCH)

    def until(self, condition: str, seconds: float) -> None:
        """Wait until some JavaScript is true (the page forbids what Playwright itself would use)."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(condition):
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s: {condition}")
            self.page.wait_for_timeout(20)

    def pictures(self, seconds: float) -> float:
        """Pictures drawn in a second."""
        before = self.page.evaluate("window.drawn")
        self.page.wait_for_timeout(seconds * 1000)
        return round((self.page.evaluate("window.drawn") - before) / seconds, 2)

    def share(self, seconds: float) -> float:
        """Share of the pictures shown by the program that are drawn here."""
        first = self.page.evaluate("[window.drawn, window.number]")
        self.page.wait_for_timeout(seconds * 1000)
        last = self.page.evaluate("[window.drawn, window.number]")
        return round((last[0] - first[0]) / max(1, last[1] - first[1]), 3)

    def standing(self) -> tuple[int, list[int], str]:
        """Wait until somebody stands still: the number, a box well inside in pixels, and what is decided."""
        last: list[float] = []
        for _ in range(600):
            found = [each for each in self.page.evaluate("window.things") if self.label(each[0]) == "person"]
            ys = [value for ring in found[0][2] for value in ring[1::2]] if found else []
            xs = [value for ring in found[0][2] for value in ring[0::2]] if found else []
            box = [min(xs), min(ys), max(xs), max(ys)] if found else []
            if (
                box
                and last
                and max(abs(a - b) for a, b in zip(box, last, strict=True)) < 150
                and box[2] > 4500
            ):
                size = self.page.evaluate(
                    "[document.getElementById('picture').width, document.getElementById('picture').height]"
                )
                x0, y0, x1, y1 = (value / 10_000 * size[place % 2] for place, value in enumerate(box))
                inside = [x0 + 0.35 * (x1 - x0), y0 + 0.35 * (y1 - y0), 0.3 * (x1 - x0), 0.4 * (y1 - y0)]
                return found[0][0], [round(value) for value in inside], "remove" if found[0][1] else "keep"
            last = box
            self.page.wait_for_timeout(150)
        raise AssertionError("nobody stands there")

    def label(self, number: int) -> str:
        """What a thing is called in the list."""
        found = self.page.query_selector(f"[data-id='{number}'] .title span")
        return found.inner_text().lower() if found else ""

    def flip(self) -> float:
        """Milliseconds from a click on a thing's switch until its picture has changed."""
        number, box, action = self.standing()
        other = "keep" if action == "remove" else "remove"
        act = f"() => document.querySelector(\"[data-id='{number}'] .to-{other}\").click()"
        return round(self.page.evaluate(f"window.changed({box}, 14, {act})"), 1)
