"""Memory, threads, files of a long run: python -m benchmarks.long_run --work DIR --json FILE --picture PNG

A resting camera of 640 x 360 at 10 frames per second looks at a place with sensor noise, which somebody
crosses for three of every fifteen seconds; the user's masks say where. One minute and sixty minutes of it are
cleaned by the command line with `--engine none`: the same way as always, without the networks' constant cost.
While a run goes on its resident memory, threads, open files and files in the work folder are looked at twice
a second.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.fill import machine, write_json

WIDTH, HEIGHT, RATE = 640, 360, 10
MINUTES = (1, 60)
EVERY, CROSSING = 15, 3
"""Somebody comes by every so many seconds, and takes so many to cross."""

POINTS = 240
"""Samples kept of each curve."""


def place() -> NDArray[np.uint8]:
    """What the camera looks at: soft shapes and fine texture."""
    dice = np.random.default_rng(1)
    out = np.zeros((HEIGHT, WIDTH, 3))
    for cells, weight in ((6, 0.6), (40, 0.3), (180, 0.1)):
        rough = dice.random((max(2, cells * HEIGHT // WIDTH), cells, 3)).astype(np.float32)
        out += weight * cv2.resize(rough, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.clip(40 + 170 * out, 0, 255).astype(np.uint8)


def make(folder: Path, minutes: int) -> tuple[Path, Path]:
    """The clip and the video of its masks."""
    clip, masks = folder / f"{minutes}.mp4", folder / f"{minutes}.masks.mkv"
    if clip.exists() and masks.exists():
        return clip, masks
    still = place()
    dice = np.random.default_rng(2)
    grain = [dice.integers(-3, 4, still.shape, np.int8) for _ in range(16)]
    fast = {"preset": "ultrafast", "crf": "20"}
    half = folder / "unfinished.mp4"
    with av.open(str(half), "w") as out, av.open(str(masks), "w") as drawn:
        video = out.add_stream("libx264", rate=RATE, options=fast)
        mask = drawn.add_stream("ffv1", rate=RATE)
        assert isinstance(video, av.VideoStream) and isinstance(mask, av.VideoStream)
        for each, form in ((video, "yuv420p"), (mask, "gray")):
            each.width, each.height, each.pix_fmt = WIDTH, HEIGHT, form
        for index in range(minutes * 60 * RATE):
            picture = np.clip(still.astype(np.int16) + grain[dice.integers(16)], 0, 255).astype(np.uint8)
            hole = np.zeros((HEIGHT, WIDTH), np.uint8)
            seconds = index / RATE % EVERY - 6
            if 0 <= seconds < CROSSING:
                x = int(seconds / CROSSING * (WIDTH + 60)) - 60
                picture[140:300, max(0, x) : max(0, x + 60)] = (60, 40, 120)
                hole[134:306, max(0, x - 6) : max(0, x + 66)] = 255
            for stream, container, array, form in (
                (video, out, picture, "rgb24"),
                (mask, drawn, hole, "gray"),
            ):
                frame = av.VideoFrame.from_ndarray(array, format=form)
                frame.pts, frame.time_base = index, Fraction(1, RATE)
                container.mux(stream.encode(frame))
        out.mux(video.encode(None))
        drawn.mux(mask.encode(None))
    half.rename(clip)
    return clip, masks


def sample(number: int, part: Path) -> dict[str, Any] | None:
    """What a process holds now; None when it is gone."""
    try:
        told = Path(f"/proc/{number}/status").read_text()
        handles = len(list(Path(f"/proc/{number}/fd").iterdir()))
    except OSError:
        return None
    lines = dict(line.split(":", 1) for line in told.splitlines() if ":" in line)
    if "VmRSS" not in lines:
        return None
    files = [each.name for each in part.iterdir()] if part.is_dir() else []
    return {
        "resident": int(lines["VmRSS"].split()[0]) * 1024,
        "peak": int(lines["VmHWM"].split()[0]) * 1024,
        "threads": int(lines["Threads"]),
        "handles": handles,
        "files": len(files),
    }


def run(clip: Path, masks: Path, minutes: int) -> dict[str, Any]:
    """Clean one clip and watch it."""
    output, report = clip.with_name(f"{minutes}.out.mp4"), clip.with_name(f"{minutes}.json")
    arguments = ["clean", str(clip), "-o", str(output), "--overwrite", "--quiet", "--report", str(report)]
    arguments += ["--masks", str(masks), "--engine", "none"]
    program = "from stream.commands import main; main()"
    process = subprocess.Popen([sys.executable, "-c", program, *arguments])
    began = time.monotonic()
    samples: list[dict[str, Any]] = []
    part = output.with_name(f".{output.name}.part")
    while process.poll() is None:
        found = sample(process.pid, part)
        if found is not None:
            samples.append({"seconds": round(time.monotonic() - began, 1), **found})
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"the run of {minutes} minutes ended with {process.returncode}")
    told = json.loads(report.read_text())
    steady = samples[len(samples) // 3 : -2] or samples
    return {
        "minutes": minutes,
        "frames": told["frames"],
        "seconds": round(time.monotonic() - began, 1),
        "peak_megabytes": round(max(each["peak"] for each in samples) / 2**20, 1),
        "threads": max(each["threads"] for each in steady),
        "handles": max(each["handles"] for each in steady),
        "files": max(each["files"] for each in steady),
        "curve": samples[:: max(1, len(samples) // POINTS)],
    }


INK, PALE, BLUE, ORANGE = (60, 60, 60), (225, 225, 225), (180, 105, 31), (14, 127, 255)
"""Blue, green, red."""


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Both curves of resident memory over the share of the clip that is done, drawn four times as large."""
    times = 4
    width, height = 900 * times, 420 * times
    left, right, top, bottom = 80 * times, 30 * times, 50 * times, 60 * times
    picture = np.full((height, width, 3), 255, np.uint8)
    most = 100 * (1 + int(max(row["peak_megabytes"] for row in rows) * 1.08 // 100))

    def write(text: str, x: float, y: float, size: float = 0.5, colour: tuple[int, int, int] = INK) -> None:
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(picture, text, (int(x), int(y)), font, size * times, colour, times, cv2.LINE_AA)

    def at(share: float, megabytes: float) -> tuple[int, int]:
        across, down = width - left - right, height - top - bottom
        return int(left + share * across), int(height - bottom - megabytes / most * down)

    for level in range(0, most + 1, 100):
        cv2.line(picture, at(0, level), at(1, level), PALE, times)
        write(f"{level}", left - 45 * times, at(0, level)[1] + 5 * times)
    for quarter in range(5):
        x, y = at(quarter / 4, 0)
        write(f"{25 * quarter} %", x - 15 * times, y + 22 * times)
    write("resident memory, MB", left - 45 * times, 25 * times)
    write("share of the clip that is done", width / 2 - 110 * times, height - 10 * times)
    for number, (row, colour) in enumerate(zip(rows, (ORANGE, BLUE), strict=False)):
        curve = row["curve"]
        end = max(row["seconds"], 1e-6)
        points = [at(each["seconds"] / end, each["resident"] / 2**20) for each in curve]
        line = np.array(points, np.int32).reshape(-1, 1, 2)
        cv2.polylines(picture, [line], False, colour, 2 * times, cv2.LINE_AA)
        x, y = width - right - 330 * times, at(0, most * (0.28 - 0.12 * number))[1]
        cv2.line(picture, (int(x), y - 5 * times), (int(x) + 30 * times, y - 5 * times), colour, 3 * times)
        minutes = f"{row['minutes']} minute" + ("s" if row["minutes"] > 1 else "")
        write(f"{minutes}, {row['frames']} frames: peak {row['peak_megabytes']:.0f} MB", x + 40 * times, y)
    small = cv2.resize(picture, (width // times, height // times), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), small)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--minutes", type=int, nargs="+", default=MINUTES)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for minutes in given.minutes:
        rows.append(run(*make(given.work, minutes), minutes))
        row = rows[-1]
        print(
            f"{minutes:3} min: {row['frames']} frames, {row['seconds']} s, peak {row['peak_megabytes']} MB, "
            f"{row['threads']} threads, {row['handles']} handles, {row['files']} files",
            flush=True,
        )
    growth = rows[-1]["peak_megabytes"] / rows[0]["peak_megabytes"] - 1
    print(f"growth {growth:+.1%}")
    if given.json:
        write_json(given.json, {"machine": machine(), "growth": round(growth, 4), "runs": rows})
    if given.picture:
        draw(rows, given.picture)


if __name__ == "__main__":
    main()
