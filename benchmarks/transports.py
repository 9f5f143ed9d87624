"""How pictures get to the browser: python -m benchmarks.transports --json FILE

1280 x 720 pictures at 30 a second, a photograph that pans with sensor noise and the time painted in, go to
headless Chromium on the same machine: as JPEG over the page's own WebSocket, and by WebRTC (aiortc, VP8 and
H.264). Each way the browser reads the painted time back from what it has drawn. The cleaning is left
out: pictures come ready. Processor time is of all threads and processes of each side.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.clock_bars import READ, now, paint
from benchmarks.fill import machine, write_json
from stream import demo
from stream.live_run import Shown, Status
from stream.types import Filled, Frame

WIDTH, HEIGHT, RATE = 1280, 720, 30
WARM_SECONDS, SECONDS = 8, 20
WAYS = ("jpeg", "vp8", "h264")

_RTC_PAGE = """<!doctype html><video id=v autoplay muted playsinline></video><script>
addEventListener('load', async () => {
  const peer = new RTCPeerConnection();
  peer.addTransceiver('video', {direction: 'recvonly'});
  peer.ontrack = (event) => { event.receiver.jitterBufferTarget = 0; v.srcObject = event.streams[0]; };
  await peer.setLocalDescription(await peer.createOffer());
  await new Promise((done) => {
    if (peer.iceGatheringState === 'complete') done();
    peer.onicegatheringstatechange = () => peer.iceGatheringState === 'complete' && done();
    setTimeout(done, 2000);
  });
  const answer = await fetch('/offer', {method: 'POST', body: JSON.stringify(peer.localDescription)});
  await peer.setRemoteDescription(await answer.json());
});
</script>"""

_WATCH_JPEG = """
  const context = document.getElementById('picture').getContext('2d');
  document.addEventListener('drawn', () => take(readBars(context)));
"""
_WATCH_RTC = """
  const small = document.createElement('canvas');
  [small.width, small.height] = [512, 16];
  const context = small.getContext('2d', {willReadFrequently: true});
  const look = () => {
    context.drawImage(v, 0, 0, 512, 16, 0, 0, 512, 16);
    if (v.videoWidth === 1280) take(readBars(context)); else window.bad++;
    v.requestVideoFrameCallback(look);
  };
  v.requestVideoFrameCallback(look);
"""
_TAKE = """
  window.ages = []; window.bad = 0; window.last = null;
  const take = (value) => {
    if (value === null) { window.bad++; return; }
    if (value !== window.last) { window.last = value; window.ages.push(age(value)); }
  };
"""


class Painted:
    """Stands where `Live` does: ready pictures at a steady rate, each with the time at which it came."""

    def __init__(self) -> None:
        self.status = Status(30.0, 0.0, 0, "full", None, "painted", "webcam", 0.0, (), (), False, False, None)
        self._still = stills()
        self._shown: Shown | None = None
        self._lock = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    def newer(self, than: int, timeout: float) -> Shown | None:
        """As `Live.newer`."""
        with self._lock:
            self._lock.wait_for(lambda: self._shown is not None and self._shown.number > than, timeout)
            return self._shown if self._shown is not None and self._shown.number > than else None

    def _run(self) -> None:
        start = time.monotonic()
        for number in range(10**9):
            time.sleep(max(0.0, start + number / RATE - time.monotonic()))
            picture = self._still[number % len(self._still)].copy()
            paint(picture, now())
            frame = Frame(number, number, Fraction(1, RATE), (picture,), "rgb24", WIDTH, HEIGHT)
            filled = Filled(frame, np.zeros((0, 0), np.uint8), None, (), (), frame)
            with self._lock:
                self._shown = Shown(number, filled, frame.time, 0.0)
                self._lock.notify_all()


def stills() -> list[NDArray[np.uint8]]:
    """Pictures of a pan over a photograph, with noise."""
    palace, _, _ = demo.photographs()
    large = cv2.resize(palace, (WIDTH + 160, (WIDTH + 160) * 2 // 3), interpolation=cv2.INTER_CUBIC)
    dice = np.random.default_rng(1)
    out = []
    for step in range(40):
        left = 2 * (step if step < 20 else 40 - step)
        part = large[100 : 100 + HEIGHT, left : left + WIDTH].astype(np.float32)
        noisy = part + 1.5 * dice.standard_normal(part.shape, dtype=np.float32)
        out.append(np.clip(noisy + 0.5, 0, 255).astype(np.uint8))
    return out


def serve(way: str, port: int) -> None:
    """One of the servers, until it is killed."""
    cv2.setNumThreads(1)
    source: Any = Painted()
    if way == "jpeg":
        from stream.web import serve as page

        page(source, port=port)
    else:
        _serve_rtc(source, way, port)


def _serve_rtc(source: Painted, way: str, port: int) -> None:
    import av
    import uvicorn
    from aiortc import RTCPeerConnection, RTCRtpSender, RTCSessionDescription, VideoStreamTrack
    from aiortc.codecs import h264, vpx
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route

    # aiortc begins at 0.5 Mbit/s and goes by what the browser reports; here the line is free
    vpx.DEFAULT_BITRATE, vpx.MAX_BITRATE = 4_000_000, 6_000_000
    h264.DEFAULT_BITRATE, h264.MAX_BITRATE = 4_000_000, 6_000_000

    class Newest(VideoStreamTrack):  # type: ignore[misc]
        """Gives the newest picture, each once."""

        number = -1

        async def recv(self) -> av.VideoFrame:
            """The next picture."""
            shown = None
            while shown is None:
                shown = await asyncio.to_thread(source.newer, self.number, 1.0)
            self.number = shown.number
            frame = await asyncio.to_thread(_as_yuv, shown.image)
            frame.pts, frame.time_base = shown.number * 3000, Fraction(1, 90_000)
            return frame

    peers = set()

    async def offer(request: Request) -> Response:
        said = await request.json()
        peer = RTCPeerConnection()
        peers.add(peer)
        await peer.setRemoteDescription(RTCSessionDescription(said["sdp"], said["type"]))
        sender = peer.addTrack(Newest())
        (line,) = [each for each in peer.getTransceivers() if each.sender is sender]
        kinds = RTCRtpSender.getCapabilities("video").codecs
        wanted = [each for each in kinds if each.mimeType.lower() == f"video/{way}"]
        line.setCodecPreferences(wanted)
        await peer.setLocalDescription(await peer.createAnswer())
        told = peer.localDescription
        return JSONResponse({"sdp": told.sdp, "type": told.type})

    async def page(_: Request) -> Response:
        return HTMLResponse(_RTC_PAGE)

    app = Starlette(routes=[Route("/", page), Route("/offer", offer, methods=["POST"])])
    uvicorn.run(app, port=port, log_level="error")


def _as_yuv(image: NDArray[np.uint8]) -> Any:
    import av

    return av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")


def measure(way: str, port: int) -> dict[str, Any]:
    """Run one server and a browser before it."""
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-m", "benchmarks.transports", "--serve", way, "--port", str(port)]
    server = subprocess.Popen(command)
    try:
        with sync_playwright() as tools:
            browser = tools.chromium.launch(
                executable_path=shutil.which("chromium"),
                args=["--no-sandbox", "--disable-features=WebRtcHideLocalIpsWithMdns"],
            )
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            for _ in range(60):
                try:
                    page.goto(f"http://127.0.0.1:{port}/")
                    break
                except Exception:
                    time.sleep(0.5)
            page.evaluate(f"(() => {{ {READ} {_TAKE} {_WATCH_JPEG if way == 'jpeg' else _WATCH_RTC} }})()")
            page.wait_for_timeout(WARM_SECONDS * 1000)
            page.evaluate("window.ages.length = 0; window.bad = 0")
            before = cpu(server.pid), cpu(os.getpid(), without=server.pid)
            page.wait_for_timeout(SECONDS * 1000)
            after = cpu(server.pid), cpu(os.getpid(), without=server.pid)
            ages, bad = page.evaluate("[window.ages, window.bad]")
            browser.close()
    finally:
        server.kill()
        server.wait()
    found = {
        "way": way,
        "pictures_per_second": round(len(ages) / SECONDS, 2),
        "unreadable": bad,
        "server_cpu_share": round((after[0] - before[0]) / SECONDS, 3),
        "browser_cpu_share": round((after[1] - before[1]) / SECONDS, 3),
    }
    for part in (50, 95, 99):
        found[f"p{part}_ms"] = round(float(np.percentile(ages, part)), 1) if ages else None
    print(json.dumps(found), flush=True)
    return found


def cpu(root: int, without: int = 0) -> float:
    """Processor seconds so far of a process and all its descendants."""
    parents, spent = {}, {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(place.name)] = int(fields[1])
        spent[int(place.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    total, waiting = 0.0, [root]
    while waiting:
        each = waiting.pop()
        if each != without:
            total += spent.get(each, 0.0)
            waiting += [child for child, parent in parents.items() if parent == each]
    return total


def main() -> None:
    """Compare the ways, or be one of the servers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", choices=WAYS)
    parser.add_argument("--port", type=int, default=8511)
    parser.add_argument("--ways", default=",".join(WAYS))
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.port)
        return
    rows = [measure(way, given.port + place) for place, way in enumerate(given.ways.split(","))]
    if given.json:
        write_json(given.json, {"machine": machine(), "size": [WIDTH, HEIGHT], "rate": RATE, "ways": rows})


if __name__ == "__main__":
    main()
