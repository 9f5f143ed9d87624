"""What a whole run costs, decode to encode: python -m benchmarks.throughput --data DIR --json FILE

Clips of eight seconds are drawn at three sizes: a resting and a hand-held camera, one person who is removed
and six. Each is cleaned with the default preset by a process of its own, with networks in the cache, and so
is the floor: decoding and encoding alone, with the same encoder and the same settings. Told are processor
seconds (user and system, starting included) a frame, frames a second, the most memory, and milliseconds a
frame of each stage.

    python -m benchmarks.throughput --once CLIP OUT     one run, as JSON on stdout
    python -m benchmarks.throughput --floor CLIP OUT
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from typing import Any

import av
import numpy as np

from benchmarks.cameras import doubled, hold
from benchmarks.fill import machine, write_json
from benchmarks.footage import cover, read_rgb
from benchmarks.sprites import Walker
from benchmarks.walks import PLACES, Cast, Thing, Walk

SIZES = ((640, 360), (1280, 720), (1920, 1080))
FRAMES, RATE = 240, 30
_COUNTS = (1, 6)


def make_clip(
    data: Path, path: Path, size: tuple[int, int], moving: bool, count: int, tall: float | None = None
) -> None:
    """Draw a clip: `count` people, `tall` of the height, walk through a place and turn at its sides."""
    random = np.random.default_rng([len(PLACES), count])
    width, height = size
    picture = next((data / "stills").glob(f"{PLACES[count % len(PLACES)]}.*"))
    scenery = cover(read_rgb(picture), doubled(size, 1.3 if moving else 1.0)).astype(np.float32)
    still = [np.eye(3)] * FRAMES
    cameras = hold(random, FRAMES, size, 4.0 * width / 640) if moving else still
    cast, things = Cast(data, random), []
    share = tall or (0.5 if count == 1 else 0.32)
    for number in range(count):
        sprite = cast.person()
        speed = width * (0.15 + 0.03 * number) / RATE * (-1 if number % 2 else 1)
        way = np.arange(FRAMES) * speed + (number - (count - 1) / 2) * width / (count + 1)
        x = (np.abs((way - 0.4 * width) % (1.6 * width) - 0.8 * width) - 0.4 * width).astype(float)
        foot = np.full(FRAMES, (0.9 - 0.05 * number - 0.5) * height)
        things.append(Thing("person", Walker(sprite, x, foot, share * height / sprite.height, number, 0.4)))
    walk = Walk("throughput", scenery, tuple(cameras), tuple(things), size=size)
    with av.open(str(path), "w") as container:
        video = container.add_stream(
            "libx264", rate=Fraction(RATE), options={"crf": "16", "preset": "veryfast"}
        )
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        for shot in walk.shots():
            container.mux(video.encode(av.VideoFrame.from_ndarray(shot.picture, format="rgb24")))
        container.mux(video.encode())


def once(clip: Path, output: Path, settings: list[str]) -> None:
    """Clean, and print what it took."""
    import stream
    from configs.schema import load_config

    first: list[float] = []
    began = perf_counter()

    def on_progress(_: object) -> None:
        if not first:
            first.append(perf_counter() - began)

    overrides = {name: json.loads(value) for name, _, value in (each.partition("=") for each in settings)}
    config = load_config(overrides=overrides)
    report = stream.clean(clip, output, config, job=stream.Job(overwrite=True), on_progress=on_progress)
    told = {
        "frames": report.frames,
        "seconds": report.seconds,
        "first_frame_s": first[0],
        "hole": report.hole.mean_share,
        "removed": sum(each.action == "remove" for each in report.tracks),
    }
    print(json.dumps(told))


def floor(clip: Path, output: Path) -> None:
    """Decode and encode as `clean` does, and nothing else."""
    from stream.pipeline import run_ahead
    from stream.sink import open_sink
    from stream.source import open_source

    began = perf_counter()
    with open_source(clip) as source, open_sink(output, source.info, overwrite=True) as sink:
        frames = 0
        for frame in run_ahead(iter(source), 4):
            sink.write(frame)
            frames += 1
        sink.close()
    print(json.dumps({"frames": frames, "seconds": {"wall": perf_counter() - began}}))


def measured(how: str, clip: Path, output: Path, *settings: str) -> dict[str, Any]:
    """One run in a process of its own, with processor time and memory as the system counts them."""
    began = perf_counter()
    command = [sys.executable, "-m", "benchmarks.throughput", how, str(clip), str(output)]
    command += [part for each in settings for part in ("--set", each)]
    # With its code compiled on disk, as any program has that is installed.
    surroundings = {**os.environ, "PYTHONPYCACHEPREFIX": str(output.parent / "bytecode")}
    surroundings.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=surroundings)
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{clip}: {how} failed")
    told = json.loads(text)
    wall = told["seconds"].pop("wall")
    frames = told["frames"]
    return {
        "cpu_ms": round(1000 * (used.ru_utime + used.ru_stime) / frames, 1),
        "fps": round(frames / wall, 1),
        "peak_mb": round(used.ru_maxrss / 1024),
        "start_s": round(perf_counter() - began - wall, 2),
        "first_frame_s": round(told.get("first_frame_s", 0.0), 2),
        "stages_ms": {name: round(1000 * value / frames, 1) for name, value in told["seconds"].items()},
        **{name: told[name] for name in ("hole", "removed") if name in told},
    }


def rows(data: Path, sizes: list[tuple[int, int]], repeat: int) -> list[dict[str, Any]]:
    """All rows, each the median run by processor time."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        clip, out = Path(name) / "clip.mp4", Path(name) / "out.mp4"
        for size in sizes:
            make_clip(data, clip, size, moving=False, count=1)
            measured("--once", clip, out)  # networks are compiled
            for moving in (False, True):
                for count in _COUNTS:
                    make_clip(data, clip, size, moving, count)
                    runs = [
                        (measured("--once", clip, out), measured("--floor", clip, out)) for _ in range(repeat)
                    ]
                    runs.sort(key=lambda pair: pair[0]["cpu_ms"])
                    ours, least = runs[len(runs) // 2]
                    found.append(
                        {
                            "size": f"{size[0]}x{size[1]}",
                            "camera": "hand-held" if moving else "resting",
                            "things": count,
                            "ours": ours,
                            "floor": least,
                            "times_floor": round(ours["cpu_ms"] / least["cpu_ms"], 2),
                        }
                    )
                    print(found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--lines", type=int, nargs="+", default=[360, 720, 1080])
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], help="for --once, value as JSON"
    )
    parser.add_argument("--once", type=Path, nargs=2)
    parser.add_argument("--floor", type=Path, nargs=2)
    given = parser.parse_args()
    if given.once:
        once(*given.once, given.settings)
    elif given.floor:
        floor(*given.floor)
    else:
        found = rows(given.data, [each for each in SIZES if each[1] in given.lines], given.repeat)
        if given.json:
            write_json(given.json, {"machine": machine(), "frames": FRAMES, "rows": found})


if __name__ == "__main__":
    main()
