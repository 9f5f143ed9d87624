"""How late a live run is: numbered frames in, read back at the output.

    python -m benchmarks.latency CLIP [--minutes 10] [--sizes 640x360 1280x720] [--sources file url]

CLIP is looped (forwards and backwards, so that nothing jumps), scaled and played at 30 frames a second with
its frames' numbers painted in: as a file in real time, and as a stream served over HTTP from 127.0.0.1. The
latency of a picture is the time from when it was due (file) or sent (stream) to when it could be shown,
decoding and what the network holds included. After the steady phase one process burns a core for a while;
then it must recover. Prints a table and writes benchmarks/latency.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.speed_tables import latency_table

RATE = 30
_BITS, _CELL = 20, 8
_SETTLE = 10.0
"""Seconds at the beginning that do not count as steady: everything is loaded and nothing behind is known."""


@dataclass(frozen=True)
class Sample:
    """One picture at the output: its number, when it was shown, its latency in seconds, the degrade step."""

    number: int
    at: float
    latency: float
    step: str


def paint_number(picture: NDArray[np.uint8], number: int) -> None:
    """Paint a number into the upper left corner, in place: two rows of cells, the second inverted."""
    for bit in range(_BITS):
        light = 235 if number >> bit & 1 else 20
        x = bit * _CELL
        picture[:_CELL, x : x + _CELL] = light
        picture[_CELL : 2 * _CELL, x : x + _CELL] = 255 - light


def read_number(picture: NDArray[np.uint8]) -> int | None:
    """The number painted into a picture, None where the two rows disagree."""
    half = _CELL // 2
    columns = np.arange(_BITS) * _CELL + half
    upper, lower = (picture[row, columns].mean(1) for row in (half, half + _CELL))
    if (np.abs(upper - lower) < 60).any():
        return None
    return int(((upper > lower).astype(np.int64) << np.arange(_BITS)).sum())


def make_clip(clip: Path, target: Path, size: tuple[int, int], frames: int) -> None:
    """Write `frames` numbered frames of a clip that goes to and fro, at 30 a second."""
    with av.open(str(clip)) as container:
        pictures = [
            cv2.resize(each.to_ndarray(format="rgb24"), size, interpolation=cv2.INTER_CUBIC)
            for each in container.decode(video=0)
        ]
    period = max(1, 2 * len(pictures) - 2)
    options = {"preset": "superfast", "crf": "18", "bf": "0", "g": "30"}
    with av.open(str(target), "w") as output:
        stream = output.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            at = number % period
            picture = pictures[min(at, period - at)].copy()
            paint_number(picture, number)
            video = av.VideoFrame.from_ndarray(picture, format="rgb24")
            video.pts, video.time_base = number, Fraction(1, RATE)
            output.mux(stream.encode(video))
        output.mux(stream.encode(None))


def serve(path: str, port: int, sent: Any) -> None:
    """Serve a clip over HTTP in real time (FLV); `sent[number]` gets the moment at which a frame was sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/x-flv")
            self.end_headers()
            with suppress(OSError, av.FFmpegError):
                _send(path, self.wfile, sent)

        def log_message(self, *_: object) -> None:
            return

    HTTPServer(("127.0.0.1", port), Handler).serve_forever()


def _send(path: str, file: Any, sent: Any) -> None:
    options = {"flush_packets": "1", "flvflags": "no_duration_filesize"}
    with av.open(path) as source, av.open(file, "w", format="flv", options=options) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        begun = time.monotonic()
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is None:
                return
            time.sleep(max(0.0, begun + number / RATE - time.monotonic()))
            sent[number] = time.monotonic()
            packet.stream = stream
            output.mux_one(packet)


def burn(seconds: float) -> None:
    """Keep one core busy."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(10_000))


def measure(path: Path, kind: str, seconds: float, overload: float, recovery: float) -> dict[str, object]:
    """Run one clip live, and burn a core after `seconds`; the numbers of the phases."""
    import stream

    frames = int((seconds + overload + recovery + 30) * RATE)
    sent = multiprocessing.RawArray("d", frames + 1000)
    server, source = None, str(path)
    if kind == "url":
        port = _free_port()
        server = multiprocessing.Process(target=serve, args=(str(path), port, sent), daemon=True)
        server.start()
        time.sleep(0.5)
        source = f"http://127.0.0.1:{port}/live.flv"
    samples: list[Sample] = []
    wrong = 0
    drops: list[tuple[float, int]] = []
    cpu: list[tuple[float, float]] = []
    burner = None
    with stream.live(source) as run:
        begun = None
        for shown in run:
            now = time.monotonic()
            begun = now if begun is None else begun
            number = read_number(shown.image)
            if number is None or (kind == "file" and abs(number - round(shown.time * RATE)) > 0):
                wrong += 1
                continue
            latency = now - sent[number] if kind == "url" else shown.latency_seconds
            status = run.status
            samples.append(Sample(number, now - begun, latency, status.step))
            drops.append((now - begun, status.dropped))
            cpu.append((now - begun, time.process_time()))
            if now - begun > seconds and burner is None:
                burner = multiprocessing.Process(target=burn, args=(overload,), daemon=True)
                burner.start()
            if now - begun > seconds + overload + recovery:
                break
    for process in (server, burner):
        if process is not None:
            process.kill()
    first = min(_SETTLE, seconds / 3)
    return {
        "frames_misread": wrong,
        "start": _phase(samples, drops, cpu, 0, first),
        "steady": _phase(samples, drops, cpu, first, seconds),
        "overload": _phase(samples, drops, cpu, seconds, seconds + overload),
        "recovery": _phase(samples, drops, cpu, seconds + overload, seconds + overload + recovery),
        "full_again_seconds": _full_again(samples, seconds + overload),
        "steps": _steps(samples),
    }


def _phase(
    samples: list[Sample], drops: list[tuple[float, int]], cpu: list[tuple[float, float]], a: float, b: float
) -> dict[str, float]:
    mine = [each for each in samples if a <= each.at < b]
    if len(mine) < 2:
        return {}
    latency = np.array([each.latency for each in mine]) * 1000
    lost = [count for at, count in drops if a <= at < b]
    used = [(at, spent) for at, spent in cpu if a <= at < b]
    p50, p95, p99 = np.percentile(latency, [50, 95, 99])
    return {
        "p50_ms": round(float(p50), 1),
        "p95_ms": round(float(p95), 1),
        "p99_ms": round(float(p99), 1),
        "max_ms": round(float(latency.max()), 1),
        "shown": len(mine),
        "dropped": lost[-1] - lost[0],
        "frames_per_second": round(len(mine) / (mine[-1].at - mine[0].at), 2),
        "cores": round((used[-1][1] - used[0][1]) / max(used[-1][0] - used[0][0], 1e-6), 2),
        "full_share": round(sum(each.step == "full" for each in mine) / len(mine), 3),
    }


def _steps(samples: list[Sample]) -> list[list[object]]:
    """When which step was taken: [seconds, name]."""
    out: list[list[object]] = []
    for each in samples:
        if not out or out[-1][1] != each.step:
            out.append([round(each.at, 1), each.step])
    return out


def _full_again(samples: list[Sample], since: float) -> float | None:
    """Seconds after the overload from which nothing is given up any more; None if that never came."""
    after = [each for each in samples if each.at >= since]
    if not after or after[-1].step != "full":
        return None
    last = max((each.at for each in after if each.step != "full"), default=since)
    return round(last - since, 1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Measure every size and source, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--sizes", nargs="+", default=["640x360", "1280x720"])
    parser.add_argument("--sources", nargs="+", default=["file", "url"], choices=["file", "url"])
    parser.add_argument("--overload", type=float, default=20.0, help="seconds during which a core is burnt")
    parser.add_argument("--recovery", type=float, default=30.0, help="seconds that are watched afterwards")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    seconds = 60 * asked.minutes
    context = multiprocessing.get_context("spawn")
    results = []
    busy = round(os.getloadavg()[0], 1)
    with tempfile.TemporaryDirectory() as folder:
        for size in asked.sizes:
            width, _, height = size.partition("x")
            path = Path(folder) / f"{size}.mp4"
            frames = int((seconds + asked.overload + asked.recovery + 30) * RATE)
            make_clip(asked.clip, path, (int(width), int(height)), frames)
            for kind in asked.sources:
                # a process of its own: what one run leaves behind must not help or hinder the next
                with ProcessPoolExecutor(1, mp_context=context) as pool:
                    told = pool.submit(measure, path, kind, seconds, asked.overload, asked.recovery).result()
                results.append({"size": size, "source": kind, "minutes": asked.minutes, **told})
                print(json.dumps(results[-1]), flush=True)
    said = {"clip": asked.clip.name, "rate": RATE, "cores": os.cpu_count()}
    said["load_before"] = busy
    data = {**said, "results": results}
    print(latency_table(data))
    asked.output.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
