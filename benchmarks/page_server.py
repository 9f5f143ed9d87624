"""The real page over a clip played in real time: python -m benchmarks.page_server CLIP [--port N]

The clip is a photograph at rest with sensor noise, into which somebody walks, stands, and leaves. When a
picture is captured the time is painted into it, so that a browser can read from what it has drawn how late it
is.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks.clock_bars import now, paint
from stream import demo

RATE, SECONDS = 30, 24
WALK, STAND = 3, 14


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
def server(source: Path, *, host: str = "127.0.0.1", port: int = 0, token: str = "") -> Iterator[Any]:
    """Start it; yields the process with its `address`."""
    command = [sys.executable, "-m", "benchmarks.page_server", str(source), "--host", host]
    command += ["--port", str(port)] + (["--token", token] if token else [])
    process: Any = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        process.address = process.stdout.readline().strip()
        yield process
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Be the server until killed; the address is the first line on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        serve(given.clip, given.host, given.port, given.token, Path(folder))


if __name__ == "__main__":
    main()
