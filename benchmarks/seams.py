"""What differs at the seams of a split clip: python -m benchmarks.seams CLIPS... --work DIR --json FILE

Each clip is played to and fro until it lasts a minute, without a cut, and cleaned whole and in segments of a
quarter of a minute, without loss. Told are the PSNR between the two (whole frames, and over the pixels that
one of the two replaced), frames that are equal, and verdicts that change at a seam.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.fill import machine, write_json
from configs.schema import load_config
from stream import segments
from stream.job import Job, clean
from stream.sink import open_sink
from stream.source import open_source
from stream.types import Frame

SECONDS, EVERY = 60, 15


def make(clip: Path, path: Path) -> None:
    """The clip to and fro, without loss."""
    with open_source(clip) as source:
        info, frames = source.info, list(source)
    turn = [*frames, *frames[-2:0:-1]]
    tick = round(1 / info.rate / info.time_base)
    count = round(SECONDS * info.rate)
    with open_sink(
        path, replace(info, frames=count), lossless=True, overwrite=True, copy_streams=False
    ) as sink:
        for number in range(count):
            frame: Frame = turn[number % len(turn)]
            sink.write(replace(frame, index=number, pts=number * tick, duration=tick))


def seams(clip: Path, folder: Path) -> dict[str, Any]:
    """One clip's row."""
    source, whole, joined = (folder / f"{name}.mkv" for name in ("clip", "whole", "joined"))
    make(clip, source)
    config, job = load_config("tourist"), Job(lossless=True, overwrite=True)
    one = clean(source, whole, config, job=job)
    began = perf_counter()
    parts = segments.plan(source, job, Fraction(EVERY))
    done = [
        segments.clean_segment(source, joined, job, config, each, folder / f"{each.number}.packets")
        for each in parts
    ]
    other = segments.join(source, joined, job, config, done, perf_counter() - began)
    told = [each for each in other.warnings if "segments meet" in each]
    return {
        "clip": clip.stem,
        "segments": len(parts),
        "frames": other.frames,
        **compare(source, whole, joined),
        "tracks": [len(one.tracks), len(other.tracks)],
        "removed": [sum(t.action == "remove" for t in each.tracks) for each in (one, other)],
        "verdicts that change at a seam": len(told),
        "things at a seam": sum(len(each.first) for each in done[1:]),
    }


def compare(source: Path, whole: Path, joined: Path) -> dict[str, Any]:
    """How far two outputs of one clip differ."""
    error = count = inside = replaced = equal = frames = 0.0
    worst = 0.0
    times = True
    with open_source(source) as before, open_source(whole) as one, open_source(joined) as other:
        for frame, a, b in zip(before, one, other, strict=True):
            times = times and a.time == b.time
            square = np.square(a.rgb.astype(np.float32) - b.rgb).mean(axis=2)
            hole = ((a.rgb != frame.rgb) | (b.rgb != frame.rgb)).any(axis=2)
            error, count = error + float(square.sum()), count + square.size
            inside, replaced = inside + float(square[hole].sum()), replaced + int(hole.sum())
            worst = max(worst, float(square.mean()))
            equal += not square.any()
            frames += 1
    return {
        "psnr": psnr(error / max(count, 1)),
        "psnr where replaced": psnr(inside / max(replaced, 1)),
        "psnr of the worst frame": psnr(worst),
        "equal frames": round(equal / max(frames, 1), 3),
        "same times": times,
    }


def psnr(error: float) -> float:
    """Decibels; 99 for what is equal."""
    return round(float(min(99.0, 10 * np.log10(255**2 / max(error, 1e-9)))), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    for clip in given.clips:
        with tempfile.TemporaryDirectory(dir=given.work) as folder:
            rows.append(seams(clip, Path(folder)))
        print(rows[-1], flush=True)
        if given.json:
            write_json(given.json, {"machine": machine(), "seconds": SECONDS, "every": EVERY, "rows": rows})


if __name__ == "__main__":
    main()
