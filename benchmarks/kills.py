"""Kill runs at random moments and go on with them: python -m benchmarks.kills --work DIR --json FILE

The clip of `cleanplate demo` is cleaned with all networks and without loss, once without a stop. Then each
run is killed (SIGKILL) at a random moment of that time, some before there is anything to go on from, and gone
on with. DIR should have room for some hundred megabytes. As root the same is done on a disk that fills up.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fill import machine, write_json
from stream import demo
from stream.source import open_source

OPTIONS = [
    "--lossless",
    "--quiet",
    "--look-ahead",
    "0.4",
    "--set",
    "resume.frames=8",
    "--set",
    "resume.seconds=0.5",
]
KILLS = 20
SMALL_DISK = 12


def start(clip: Path, folder: Path, *more: str) -> subprocess.Popen[str]:
    """Begin to clean `clip` into `folder`."""
    program = "from stream.commands import main; main()"
    outputs = ["-o", str(folder / "out.mp4"), "--log", str(folder / "log.jsonl")]
    outputs += ["--provenance", str(folder / "kinds.mkv")]
    return subprocess.Popen(
        [sys.executable, "-c", program, "clean", str(clip), *outputs, *OPTIONS, *more],
        stderr=subprocess.PIPE,
        text=True,
    )


def digest(path: Path) -> str:
    """Of every sample and time stamp of a video, decoded."""
    found = hashlib.sha256()
    with open_source(path) as source:
        for frame in source:
            found.update(str(frame.time).encode())
            for plane in frame.planes:
                found.update(np.ascontiguousarray(plane).tobytes())
    return found.hexdigest()


def results(folder: Path) -> dict[str, str]:
    """Digests of all that a run wrote."""
    videos = {name: digest(folder / name) for name in ("out.mp4", "kinds.mkv")}
    return {**videos, "log.jsonl": hashlib.sha256((folder / "log.jsonl").read_bytes()).hexdigest()}


def kill_once(clip: Path, folder: Path, after: float, expected: dict[str, str]) -> dict[str, Any]:
    """One row of the table."""
    folder.mkdir()
    before = hashlib.sha256(clip.read_bytes()).hexdigest()
    run = start(clip, folder)
    time.sleep(after)
    run.kill()
    run.communicate()
    manifest = folder / ".out.mp4.part" / "manifest.json"
    row: dict[str, Any] = {
        "killed_after_seconds": round(after, 2),
        "ended_before": run.returncode != -signal.SIGKILL,
        "input_untouched": hashlib.sha256(clip.read_bytes()).hexdigest() == before,
        "output_has_its_name": (folder / "out.mp4").exists(),
        "goes_on_at_frame": json.loads(manifest.read_text())["frames"] if manifest.exists() else 0,
    }
    if row["ended_before"]:
        return row
    began = time.monotonic()
    again = start(clip, folder, "--resume")
    _, told = again.communicate()
    row["resume_exit_code"] = again.returncode
    row["resume_seconds"] = round(time.monotonic() - began, 2)
    row["told"] = told.strip()
    row["equal"] = again.returncode == 0 and results(folder) == expected
    row["left_over"] = sorted(each.name for each in folder.iterdir() if each.name.startswith("."))
    shutil.rmtree(folder)
    return row


def full_disk(clip: Path, folder: Path, expected: dict[str, str]) -> dict[str, Any]:
    """The same on a disk of `SMALL_DISK` megabytes that is made larger for the second run."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        return {"skipped": "only root can make a small disk"}
    try:
        first = start(clip, folder)
        _, told = first.communicate()
        row: dict[str, Any] = {
            "megabytes": SMALL_DISK,
            "exit_code": first.returncode,
            "told": told.strip().replace(f"{folder}/", "").splitlines(),
            "output_has_its_name": (folder / "out.mp4").exists(),
        }
        subprocess.run(["mount", "-o", "remount,size=500m", str(folder)], check=True)
        again = start(clip, folder, "--resume")
        again.communicate()
        row["resume_exit_code"] = again.returncode
        row["equal"] = again.returncode == 0 and results(folder) == expected
        return row
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=12)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    clip = given.work / "photobomb.mp4"
    demo.write_clip(demo.compose().frames, clip)
    whole = given.work / "whole"
    whole.mkdir()
    began = time.monotonic()
    run = start(clip, whole)
    if run.wait():
        raise SystemExit(run.communicate()[1])
    seconds = time.monotonic() - began
    expected = results(whole)
    print(f"uninterrupted: {seconds:.1f} s")
    dice = random.Random(given.seed)
    rows = []
    for number in range(KILLS):
        after = dice.uniform(0.02, 0.97) * seconds
        row = kill_once(clip, given.work / f"run{number}", after, expected)
        while row["ended_before"]:  # the machine has become faster
            shutil.rmtree(given.work / f"run{number}")
            after *= 0.7
            row = kill_once(clip, given.work / f"run{number}", after, expected)
        rows.append(row)
        print(
            f"{number + 1:2}  killed after {after:5.1f} s  goes on at frame {row['goes_on_at_frame']:3}  "
            f"equal {row.get('equal', '-')}",
            flush=True,
        )
    disk = full_disk(clip, given.work / "disk", expected)
    print(disk)
    write_json(
        given.json,
        {
            "machine": machine(),
            "clip": f"{demo.FRAMES} frames of {demo.WIDTH} x {demo.HEIGHT}",
            "uninterrupted_seconds": round(seconds, 1),
            "kills": rows,
            "full_disk": disk,
        },
    )


if __name__ == "__main__":
    main()
