"""The live page in a browser: python -m benchmarks.browser --work DIR --json FILE

Headless Chromium (Playwright, and the Chromium that is installed) before the real server, which cleans a clip
in real time: a photograph at rest with sensor noise, into which somebody walks, stands, and leaves. When a
picture is captured the time is painted into it; the browser reads it back from what it has drawn. All of it
runs on one machine. What is checked is what a visitor sees: pixels, not messages.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.clock_bars import READ, now, paint
from benchmarks.fill import machine, write_json
from benchmarks.transports import cpu
from stream import demo

RATE, SECONDS = 30, 24
WALK, STAND = 3, 14
SIZES = ((640, 360), (1280, 720))

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


def make_clip(path: Path, width: int, height: int) -> Path:
    """The clip; somebody stands before the palace from `WALK` to `WALK + STAND` seconds."""
    if path.exists():
        return path
    palace, person, alpha = demo.photographs()
    # the whole palace: the photograph is 640 x 427
    place = cv2.resize(palace, (width, width * 427 // 640), interpolation=cv2.INTER_AREA)[-height:]
    scale = 0.55 * height / person.shape[0]
    size = (round(person.shape[1] * scale), round(person.shape[0] * scale))
    body = cv2.resize(person, size, interpolation=cv2.INTER_AREA)
    soft = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)[..., None]
    noise = [1.5 * np.random.default_rng(n).standard_normal(place.shape, np.float32) for n in range(8)]
    half = path.with_suffix(".part.mp4")
    with av.open(str(half), "w") as container:
        stream = container.add_stream(
            "libx264", rate=RATE, options={"crf": "18", "preset": "veryfast", "bf": "0"}
        )
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(SECONDS * RATE):
            picture = place.astype(np.float32)
            left = _left(index / RATE, width, size[0])
            if -size[0] < left < width:
                rows, a, b = slice(height - size[1], height), max(0, left), min(width, left + size[0])
                there, shown = soft[:, a - left : b - left], body[:, a - left : b - left]
                picture[rows, a:b] = picture[rows, a:b] * (1 - there) + shown * there
            image = np.clip(picture + noise[index % 8] + 0.5, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    half.rename(path)
    return path


def _left(seconds: float, width: int, wide: int) -> int:
    middle = (width - wide) // 2
    if seconds < WALK:
        return round(-wide + (middle + wide) * seconds / WALK)
    leaving = max(0.0, seconds - WALK - STAND)
    return round(middle + (width - middle + 1) * leaving / WALK)


# ---- the server, in a process of its own


def serve(source: str, host: str, port: int, token: str | None, folder: Path) -> None:
    """The real page over the real thing; the time of capture is painted into each picture."""
    from configs.schema import load_config
    from stream import camera
    from stream.live_run import live
    from stream.web import serve as page

    real = camera.captures

    def painted(*arguments: Any, **options: Any) -> Iterator[Any]:
        for each in real(*arguments, **options):
            if isinstance(each, camera.Captured):
                # into the picture as it is kept; what decoding took until here counts too
                paint(each.rgb, (now() - round(1000 * (time.monotonic() - each.at))) % (1 << 24))
            yield each

    camera.captures = painted  # type: ignore[assignment]
    config = load_config("tourist", overrides={"look_ahead": 0, "perceive.size": 384, "perceive.every": 2})
    with live(source, config, loop=True) as running:
        page(running, host, port, token, folder=folder, on_ready=lambda address: print(address, flush=True))


@contextmanager
def server(
    source: Path, work: Path, *, host: str = "127.0.0.1", port: int = 0, token: str = ""
) -> Iterator[Any]:
    """Start it; yields the process with its `address`."""
    command = [sys.executable, "-m", "benchmarks.browser", "--serve", str(source), "--host", host]
    command += ["--port", str(port), "--work", str(work)] + (["--token", token] if token else [])
    process: Any = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        process.address = process.stdout.readline().strip()
        yield process
    finally:
        process.kill()
        process.wait()


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


# ---- the checks


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


def check_moving(visitor: Visitor) -> dict[str, Any]:
    rate = visitor.pictures(5)
    return {"check": "the page shows moving pictures", "passed": rate > 5, "pictures_per_second": rate}


def check_switch(visitor: Visitor) -> dict[str, Any]:
    times = [visitor.flip() for _ in range(6)]
    return {"check": "a switch changes the picture", "passed": max(times) < 500, "milliseconds": times}


def check_click(visitor: Visitor) -> dict[str, Any]:
    """A click on the thing in the picture itself."""
    times = []
    for _ in range(4):
        _, (x, y, wide, high), _ = visitor.standing()
        act = f"""() => {{
            const frame = document.getElementById('frame'), box = frame.getBoundingClientRect();
            const canvas = document.getElementById('picture');
            const scale = Math.min(box.width / canvas.width, box.height / canvas.height);
            const at = [{x + wide / 2}, {y + high / 2}].map((v) => v * scale);
            const left = box.left + (box.width - canvas.width * scale) / 2 + at[0];
            const top = box.top + (box.height - canvas.height * scale) / 2 + at[1];
            document.elementFromPoint(left, top).dispatchEvent(
              new MouseEvent('click', {{ bubbles: true, clientX: left, clientY: top }}));
        }}"""
        times.append(round(visitor.page.evaluate(f"window.changed({[x, y, wide, high]}, 14, {act})"), 1))
    return {
        "check": "a click in the picture does the same",
        "passed": max(times) < 500,
        "milliseconds": times,
    }


def check_two(browser: Any, visitor: Visitor, address: str) -> dict[str, Any]:
    """Both see pictures, and what one decides the other sees."""
    other = Visitor(browser, address)
    other.page.wait_for_timeout(2000)
    number, box, action = other.standing()
    wish = "keep" if action == "remove" else "remove"
    other.page.evaluate(f"window.result = window.changed({box}, 14, () => {{ window.armed = true; }}); 0")
    other.until("window.armed === true", 10)
    began = time.monotonic()
    visitor.page.evaluate(f"document.querySelector(\"[data-id='{number}'] .to-{wish}\").click()")
    other.page.evaluate("window.result")
    took = round(1000 * (time.monotonic() - began), 1)
    rates = [each.pictures(3) for each in (visitor, other)]
    other.context.close()
    return {
        "check": "two visitors at once; what one decides the other sees",
        "passed": took < 500 and min(rates) > 5,
        "milliseconds": took,
        "pictures_per_second": rates,
    }


def check_upload(visitor: Visitor, work: Path) -> dict[str, Any]:
    """A file is dropped onto the page, cleaned and downloaded while the stream goes on."""
    clip = work / "holiday.mp4"
    if not clip.exists():
        demo.write_clip(demo.compose().frames[20:60], clip)
    page = visitor.page
    began = time.monotonic()
    page.evaluate(
        """async (bytes) => {
            const file = new File([new Uint8Array(bytes)], 'holiday.mp4', { type: 'video/mp4' });
            const data = new DataTransfer();
            data.items.add(file);
            for (const kind of ['dragenter', 'dragover', 'drop']) {
              const options = { bubbles: true, cancelable: true, dataTransfer: data };
              document.body.dispatchEvent(new DragEvent(kind, options));
            }
        }""",
        list(clip.read_bytes()),
    )
    page.wait_for_selector(".clip.cleaning .pair:not([hidden])", timeout=120_000)
    with_picture = time.monotonic() - began
    rate = visitor.pictures(5)
    page.wait_for_selector(".clip.done .primary", timeout=240_000)
    took = time.monotonic() - began
    with page.expect_download() as download:
        page.click(".clip.done .primary")
    target = work / "downloaded.mp4"
    download.value.save_as(target)
    with av.open(str(target)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    return {
        "check": "a dropped file is cleaned and can be downloaded",
        "passed": frames == 40 and rate > 2 and download.value.suggested_filename == "holiday.clean.mp4",
        "frames": frames,
        "seconds": round(took, 1),
        "seconds_to_first_picture": round(with_picture, 1),
        "pictures_per_second_meanwhile": rate,
    }


def check_cut(browser: Any, address: str) -> dict[str, Any]:
    """The line is cut, and pictures come again without a reload."""
    port = int(address.rstrip("/").rpartition(":")[2])
    line = Proxy(port)
    visitor = Visitor(browser, f"http://127.0.0.1:{line.port}/")
    visitor.page.wait_for_timeout(2000)
    times = []
    for _ in range(3):
        line.cut()
        began = time.monotonic()
        visitor.page.wait_for_selector("#banner:not([hidden])", timeout=5000)
        before = visitor.page.evaluate("window.drawn")
        visitor.until(f"window.drawn > {before} + 3", 10)
        times.append(round(time.monotonic() - began, 2))
        visitor.page.wait_for_timeout(1000)
    visitor.context.close()
    return {"check": "a dropped connection recovers", "passed": max(times) < 5, "seconds": times}


def check_slow(browser: Any, visitor: Visitor, address: str) -> dict[str, Any]:
    """A visitor with 2 Mbit/s gets fewer pictures, but no old ones, and the others all of theirs."""
    alone = visitor.pictures(4)
    line = Proxy(int(address.rstrip("/").rpartition(":")[2]), 250e3)
    slow = Visitor(browser, f"http://127.0.0.1:{line.port}/")
    slow.page.wait_for_timeout(4000)
    slow.page.evaluate("window.ages.length = 0")
    beside = visitor.pictures(10)
    ages = slow.page.evaluate("window.ages")
    slow.context.close()
    late = round(float(np.percentile(ages, 95)))
    return {
        "check": "a slow line gets fewer pictures, not older ones",
        "passed": late < 1500 and beside > 0.7 * alone,
        "slow_pictures_per_second": len(ages) / 10,
        "slow_p95_ms": late,
        "other_pictures_per_second_without_and_with": [alone, beside],
    }


def check_token(browser: Any, source: Path, work: Path) -> dict[str, Any]:
    """At an address that others reach, only the token shows the picture."""
    with server(source, work, host="0.0.0.0") as running:
        port = running.address.partition("?")[0].rstrip("/").rpartition(":")[2]
        token = running.address.partition("token=")[2]
        address = f"http://127.0.0.1:{port}/"
        context = browser.new_context()
        page = context.new_page()
        page.goto(address)
        asked = page.url.endswith("/enter") and page.query_selector("canvas") is None
        page.fill("#token", "not the token at all")
        page.click("button")
        refused = "/enter" in page.url and page.query_selector("canvas") is None
        page.fill("#token", token)
        page.click("button")
        page.wait_for_selector("#source.live", timeout=15_000)
        entered = page.url == address
        context.close()
        visitor = Visitor(browser, f"{address}?token={token}")
        hidden = "token" not in visitor.page.url
        rate = visitor.pictures(4)
        visitor.context.close()
    passed = bool(token and asked and refused and entered and hidden and rate > 1)
    return {"check": "the token is enforced", "passed": passed, "pictures_per_second": rate}


def check_restart(browser: Any, source: Path, work: Path) -> dict[str, Any]:
    """The program is killed and started again at the same port."""
    with server(source, work) as running:
        address = running.address
        visitor = Visitor(browser, address)
        visitor.until("window.drawn > 3", 15)
    visitor.page.wait_for_selector("#banner:not([hidden])", timeout=5000)
    with server(source, work, port=int(address.rstrip("/").rpartition(":")[2])):
        began = time.monotonic()
        before = visitor.page.evaluate("window.drawn")
        visitor.until(f"window.drawn > {before} + 3", 20)
        took = round(time.monotonic() - began, 2)
    visitor.context.close()
    return {"check": "a restarted program is found again", "passed": took < 8, "seconds": took}


def check_faults(visitor: Visitor, address: str, process: Any) -> list[dict[str, Any]]:
    """What others do wrong, and the share of all pictures that a good visitor gets meanwhile."""
    port = int(address.rstrip("/").rpartition(":")[2])
    head = f"Host: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n".encode()
    shake = (
        b"GET /feed HTTP/1.1\r\n" + head + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    upload = b"POST /clips HTTP/1.1\r\n" + head
    open_lines: list[socket.socket] = []

    def line(data: bytes) -> socket.socket:
        found = socket.create_connection(("127.0.0.1", port), timeout=5)
        with contextlib.suppress(OSError):
            found.sendall(data)
        open_lines.append(found)
        return found

    def never_reads() -> str:
        for _ in range(3):
            line(shake)
        return "three that take no picture"

    def leaves() -> str:
        for _ in range(30):
            each = line(shake)
            with contextlib.suppress(OSError):
                each.recv(4000)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            each.close()
        return "30 that go in the middle of a picture"

    def junk() -> str:
        dice = np.random.default_rng(1)
        for _ in range(200):
            line(dice.bytes(300) + b"\r\n\r\n").close()
        return "200 requests of noise"

    def claim() -> str:
        each = line(upload + b"Content-Length: 5368709120\r\n\r\n" + bytes(1 << 16))
        return "an upload that claims 5 GB: " + each.recv(64).split(b"\r\n")[0].decode()

    def endless() -> str:
        each = line(upload + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 3 << 30:
                each.sendall(chunk)
                sent += 1 << 20
        with contextlib.suppress(OSError):
            return (
                f"an endless upload, cut off after {sent >> 20} MB: "
                + each.recv(64).split(b"\r\n")[0].decode()
            )
        return f"an endless upload, cut off after {sent >> 20} MB"

    def silent() -> str:
        for _ in range(40):
            line(b"GET / HTTP/1.1\r\n")
        return "40 that never finish their request"

    def chatter() -> str:
        each = line(shake)
        frame = b"\x81\x8a\0\0\0\0" + b'{"ack": 1}'
        with contextlib.suppress(OSError):
            for _ in range(2000):
                each.sendall(frame)
        return "2000 messages in one go"

    tried: tuple[Callable[[], str], ...] = (never_reads, leaves, junk, claim, endless, silent, chatter)
    rows = []
    for fault in tried:
        before, memory = visitor.share(3), _memory(process.pid)
        began = time.monotonic()
        told = fault()
        took = time.monotonic() - began
        during = visitor.share(4)
        grown = _memory(process.pid) - memory
        rows.append(
            {
                "fault": fault.__name__.replace("_", " "),
                "what": told,
                "passed": process.poll() is None and during > 0.9 * before,
                "seconds": round(took, 1),
                "share_drawn_before_and_with": [before, during],
                "memory_grown_mb": round(grown / (1 << 20), 1),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    for each in open_lines:
        each.close()
    return rows


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def latency(browser: Any, source: Path, work: Path, seconds: float, size: tuple[int, int]) -> dict[str, Any]:
    """Capture to browser, with one visitor; processor time as share of one core."""
    with server(source, work) as running:
        visitor = Visitor(browser, running.address)
        visitor.page.wait_for_timeout(10_000)
        visitor.page.evaluate("window.ages.length = 0")
        spent, began = cpu(running.pid), time.monotonic()
        visitor.page.wait_for_timeout(seconds * 1000)
        ages: NDArray[np.float64] = np.array(visitor.page.evaluate("window.ages"))
        share = (cpu(running.pid) - spent) / (time.monotonic() - began)
        step = visitor.page.inner_text("#m-step")
        visitor.context.close()
    found = {
        "size": "x".join(map(str, size)),
        "seconds": seconds,
        "pictures_per_second": round(len(ages) / seconds, 2),
    }
    found |= {f"p{part}_ms": round(float(np.percentile(ages, part)), 1) for part in (50, 95, 99)}
    return found | {"server_cpu_share": round(share, 2), "step_at_the_end": step}


def main() -> None:
    """Check everything, or be the server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="", help="checks, latency, faults")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--serve")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.serve:
        with tempfile.TemporaryDirectory() as folder:
            serve(given.serve, given.host, given.port, given.token, Path(folder))
        return
    from playwright.sync_api import sync_playwright

    wanted = given.only.split(",") if given.only else ["checks", "latency", "faults"]
    clips = {size: make_clip(given.work / f"stands-{size[1]}.mp4", *size) for size in SIZES}
    told: dict[str, Any] = {"machine": machine()}
    if given.json and given.json.exists():
        told = json.loads(given.json.read_text())
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        if "latency" in wanted:
            rows = [latency(browser, clips[size], given.work, given.seconds, size) for size in SIZES]
            told["latency"] = rows
            print("\n".join(map(json.dumps, rows)), flush=True)
        small = clips[SIZES[0]]
        if "checks" in wanted or "faults" in wanted:
            with server(small, given.work) as running:
                visitor = Visitor(browser, running.address)
                visitor.page.wait_for_timeout(3000)
                if "checks" in wanted:
                    told["checks"] = []
                    for check in (
                        lambda: check_moving(visitor),
                        lambda: check_switch(visitor),
                        lambda: check_click(visitor),
                        lambda: check_two(browser, visitor, running.address),
                        lambda: check_upload(visitor, given.work),
                        lambda: check_cut(browser, running.address),
                        lambda: check_slow(browser, visitor, running.address),
                    ):
                        told["checks"].append(check())
                        print(json.dumps(told["checks"][-1]), flush=True)
                if "faults" in wanted:
                    told["faults"] = check_faults(visitor, running.address, running)
                assert not visitor.faults, visitor.faults
                visitor.context.close()
        if "checks" in wanted:
            for late in (check_token, check_restart):
                told["checks"].append(late(browser, small, given.work))
                print(json.dumps(told["checks"][-1]), flush=True)
        browser.close()
    if given.json:
        write_json(given.json, told)


if __name__ == "__main__":
    main()
