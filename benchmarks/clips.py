"""Clean every clip of a folder and measure what came out: quality, what is left over, speed, memory.

    python benchmarks/clips.py CLIP [CLIP ...] OUT [--extra "--remove car,truck,bus"]

A CLIP is a video or a folder of images; `NAME.plate.png` beside `NAME.mp4` is the empty scene. Each clip
is cleaned by the command line in a process of its own. OUT gets the cleaned clips, a contact sheet
each (before above, after below) and `clips.json`, a list of records:

    psnr_removed   dB against the plate over the pixels that were replaced by at least half
    left_over      share of the pixels that differ from the plate by more than 30 levels in the input
                   and still do in the output
    fps, wall_seconds, seconds, peak_memory_mb, hole shares, tracks removed and kept by label: as reported
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np

from engines import available_threads
from engines.hardware import cpu_name
from stream.source import open_source

FAR = 30
"""Levels in any channel from which a pixel counts as different from the plate."""


def clean_clip(clip: Path, out: Path, extra: list[str]) -> dict:
    """Clean one clip with the command line; the record of `--report` with wall seconds added."""
    target = out / (f"{clip.name}-clean" if clip.is_dir() else f"{clip.stem}.clean{clip.suffix}")
    report = out / f"{clip.stem}.json"
    masks = out / f"{clip.stem}.provenance.mkv"
    command = [
        sys.executable,
        "-c",
        "from stream.commands import main; main()",
        "clean",
        str(clip),
        "-o",
        str(target),
    ]
    command += ["--overwrite", "--quiet", "--report", str(report), "--provenance", str(masks), *extra]
    began = perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"clip": clip.name, "error": done.stderr.strip(), "exit_code": done.returncode}
    told = json.loads(report.read_text())
    kinds = {
        action: Counter(t["label"] for t in told["tracks"] if t["action"] == action)
        for action in ("remove", "keep")
    }
    return {
        "clip": clip.name,
        "options": extra,
        "frames": told["frames"],
        "fps": round(told["frames_per_second"], 1),
        "wall_seconds": round(perf_counter() - began, 1),
        "seconds": {stage: round(value, 1) for stage, value in told["seconds"].items()},
        "peak_memory_mb": round(told["peak_memory_bytes"] / 2**20),
        "hole": told["hole"],
        "removed": dict(kinds["remove"]),
        "kept": dict(kinds["keep"]),
        **compare(clip, target, masks, out),
    }


def compare(clip: Path, target: Path, provenance: Path, out: Path) -> dict:
    """Draw the contact sheet and score against the plate where there is one."""
    plate_file = clip.with_name(f"{clip.stem}.plate.png")
    plate = cv2.imread(str(plate_file))[..., ::-1].astype(np.int16) if plate_file.exists() else None
    errors, pixels, before_far, after_far = 0.0, 0, 0, 0
    pairs = []
    with open_source(clip) as one, open_source(target) as two, open_source(provenance) as three:
        for before, after, origin in zip(one, two, three, strict=True):
            if before.index % 5 == 0:
                pairs.append((before.rgb, after.rgb))
            if plate is None:
                continue
            hole = origin.rgb[..., 0] > 0
            difference = after.rgb.astype(np.int16) - plate
            errors += float((difference[hole].astype(np.float32) ** 2).sum())
            pixels += int(hole.sum()) * 3
            was_far = np.abs(before.rgb.astype(np.int16) - plate).max(2) > FAR
            before_far += int(was_far.sum())
            after_far += int((was_far & (np.abs(difference).max(2) > FAR)).sum())
    sheet(pairs, out / f"{clip.stem}.sheet.png")
    if plate is None:
        return {}
    return {
        "psnr_removed": round(10 * np.log10(255**2 / (errors / pixels)), 2) if pixels else None,
        "left_over": round(after_far / max(before_far, 1), 3),
    }


def sheet(pairs: list, path: Path, columns: int = 4, width: int = 400) -> None:
    """Write pairs spread over the clip, before above and after below."""
    chosen = [pairs[i] for i in np.linspace(0, len(pairs) - 1, 2 * columns).astype(int)]
    height = round(chosen[0][0].shape[0] * width / chosen[0][0].shape[1])

    def small(image: np.ndarray) -> np.ndarray:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)

    rows = []
    for start in range(0, len(chosen), columns):
        for which in (0, 1):
            rows.append(np.hstack([small(pair[which]) for pair in chosen[start : start + columns]]))
    cv2.imwrite(str(path), np.vstack(rows)[..., ::-1])


def main() -> None:
    """Run the benchmark and print a line per clip."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("out", type=Path)
    parser.add_argument("--extra", default="", help="options for every clip, as one string")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    records = []
    for clip in given.clips:
        records.append(clean_clip(clip, given.out, given.extra.split()))
        print(json.dumps(records[-1]), flush=True)
    told = {"machine": f"{cpu_name()}, {available_threads()} cores", "clips": records}
    (given.out / "clips.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
