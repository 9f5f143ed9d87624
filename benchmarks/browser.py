"""The live page in a browser: python -m benchmarks.browser --work DIR --json FILE

Headless Chromium (Playwright, and the Chromium that is installed) before the real server, which cleans a clip
in real time (`benchmarks.page_server`); all of it runs on one machine. What is checked is what a visitor
sees: pixels, not messages.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from benchmarks.fill import machine, write_json
from benchmarks.page_server import make_clip, server
from benchmarks.transports import cpu
from benchmarks.visitors import Proxy, Visitor
from stream import demo

SIZES = ((640, 360), (1280, 720))


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


def check_token(browser: Any, source: Path) -> dict[str, Any]:
    """At an address that others reach, only the token shows the picture."""
    with server(source, host="0.0.0.0") as running:
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


def check_restart(browser: Any, source: Path) -> dict[str, Any]:
    """The program is killed and started again at the same port."""
    with server(source) as running:
        address = running.address
        visitor = Visitor(browser, address)
        visitor.until("window.drawn > 3", 15)
    visitor.page.wait_for_selector("#banner:not([hidden])", timeout=5000)
    with server(source, port=int(address.rstrip("/").rpartition(":")[2])):
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


def latency(browser: Any, source: Path, seconds: float, size: tuple[int, int]) -> dict[str, Any]:
    """Capture to browser, with one visitor; processor time as share of one core."""
    with server(source) as running:
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
    """Check everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="", help="checks, latency, faults")
    parser.add_argument("--seconds", type=float, default=120)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    from playwright.sync_api import sync_playwright

    wanted = given.only.split(",") if given.only else ["checks", "latency", "faults"]
    clips = {size: make_clip(given.work / f"stands-{size[1]}.mp4", *size) for size in SIZES}
    told: dict[str, Any] = {"machine": machine()}
    if given.json and given.json.exists():
        told = json.loads(given.json.read_text())
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        if "latency" in wanted:
            rows = [latency(browser, clips[size], given.seconds, size) for size in SIZES]
            told["latency"] = rows
            print("\n".join(map(json.dumps, rows)), flush=True)
        small = clips[SIZES[0]]
        if "checks" in wanted or "faults" in wanted:
            with server(small) as running:
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
                told["checks"].append(late(browser, small))
                print(json.dumps(told["checks"][-1]), flush=True)
        browser.close()
    if given.json:
        write_json(given.json, told)


if __name__ == "__main__":
    main()
