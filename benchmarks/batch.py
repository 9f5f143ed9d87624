"""Many clips at once: python -m benchmarks.batch CLIPS... --work DIR --json FILE

Excerpts of two seconds, taken in turn from CLIPS, are cleaned by a shell loop and by `cleanplate batch` with
one, two and four workers, all with the tourist preset and networks in the cache. Then a worker is killed a
third of the way, on a scheduler and two workers that are processes of their own; and the driver, after which
the same command is run again. A clip of half an hour, that of `benchmarks.long_run`, is cleaned whole and in
segments.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import long_run
from benchmarks.fill import machine, write_json
from stream.source import open_source

SECONDS = 2
PROGRAM = "from stream.commands import main\nif __name__ == '__main__':\n    main()\n"
PORT = 18786


def usage() -> dict[int, tuple[float, float]]:
    """Processor seconds and resident megabytes of each process that descends from this one."""
    parents, found = {}, {}
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                words = (each / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(each.name)] = int(words[1])
            found[int(each.name)] = (
                (int(words[11]) + int(words[12])) / ticks,
                int(words[21]) * page / 2**20,
            )
    ours = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return {number: found[number] for number in ours - {os.getpid()} if number in found}


def watched(
    commands: Sequence[list[str]], during: Callable[[subprocess.Popen[bytes]], None] | None = None
) -> dict[str, Any]:
    """Run commands one after the other; wall time, processor time and the most memory of all together."""
    began, spent, most = time.monotonic(), {}, 0.0
    codes = []
    for command in commands:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            now = usage()
            spent.update({number: cpu for number, (cpu, _) in now.items()})
            most = max(most, sum(memory for _, memory in now.values()))
            if during is not None:
                during(process)
            time.sleep(0.1)
        codes.append(process.returncode)
    wall = time.monotonic() - began
    return {
        "wall_s": round(wall, 1),
        "cpu_s": round(sum(spent.values()), 1),
        "peak_mb": round(most),
        "codes": sorted(set(codes)),
    }


def make_manifest(clips: Sequence[Path], folder: Path, count: int) -> list[dict[str, str]]:
    """Excerpts in turn from the clips, as lines of a manifest; the clips are linked into `folder`."""
    rows: list[dict[str, str]] = []
    lengths = {}
    for clip in clips:
        with open_source(clip) as source:
            lengths[clip] = source.info.seconds or 0.0
    number = 0
    while len(rows) < count:
        clip, turn = clips[number % len(clips)], number // len(clips)
        start = turn * SECONDS % max(SECONDS, int(lengths[clip]) - SECONDS)
        name = f"{number:02}-{clip.stem}.mp4"
        rows.append(
            {"input": str(clip.absolute()), "output": name, "start": str(start), "end": str(start + SECONDS)}
        )
        number += 1
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return rows


def good(folder: Path, rows: Sequence[dict[str, str]]) -> int:
    """How many outputs are whole: as many frames as their excerpt."""
    found = 0
    for row in rows:
        path = folder / row["output"]
        if path.exists():
            with open_source(path) as source, open_source(row["input"]) as whole:
                frames = sum(1 for _ in source)
                found += abs(frames - SECONDS * float(whole.info.rate)) <= 1
    return found


def attempts(folder: Path) -> tuple[int, int]:
    """Clips that were begun once, and more often, as their outcomes say."""
    once = more = 0
    for each in (folder / ".cleanplate" / "clips").glob("*.json"):
        counts = [len(part) for part in json.loads(each.read_text())["attempts"]]
        once += max(counts, default=0) == 1
        more += max(counts, default=0) > 1
    return once, more


class Bench:
    """Where it happens and how the program is called."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.entry = work / "entry.py"
        self.entry.write_text(PROGRAM)

    def call(self, *arguments: object) -> list[str]:
        return [sys.executable, str(self.entry), *map(str, arguments)]

    def fresh(self, name: str) -> Path:
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def loop(self, rows: Sequence[dict[str, str]]) -> dict[str, Any]:
        """A shell loop over `clean`."""
        folder = self.fresh("loop")
        folder.mkdir()
        commands = [
            self.call(
                *("clean", row["input"], "-o", folder / row["output"], "--quiet"),
                *("--start", row["start"], "--end", row["end"]),
            )
            for row in rows
        ]
        return {"how": "a loop over clean", **watched(commands), "whole": good(folder, rows)}

    def batch(self, rows: Sequence[dict[str, str]], workers: int) -> dict[str, Any]:
        """`batch` with workers of its own."""
        folder = self.fresh(f"batch-{workers}")
        command = self.call(
            "batch", self.work / "list.jsonl", "-o", folder, "--on", f"local:{workers}", "--quiet"
        )
        return {"how": f"batch, {workers} workers", **watched([command]), "whole": good(folder, rows)}

    def kill_worker(self, rows: Sequence[dict[str, str]]) -> dict[str, Any]:
        """A scheduler and two workers; one is killed when a third is done, and nobody starts it again."""
        folder = self.fresh("killed-worker")
        address = f"tcp://127.0.0.1:{PORT}"
        dask = str(Path(sys.executable).with_name("dask"))
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        scheduler = subprocess.Popen(
            [dask, "scheduler", "--host", "127.0.0.1", "--port", str(PORT), "--no-dashboard"],
            **quiet,  # type: ignore[call-overload]
        )
        time.sleep(5)
        options = ["--nthreads", "1", "--resources", "CPU=1", "--no-dashboard", "--no-nanny"]
        workers = [
            subprocess.Popen(
                [dask, "worker", address, *options, "--local-directory", str(self.work / f"worker-{number}")],
                **quiet,  # type: ignore[call-overload]
            )
            for number in range(2)
        ]
        killed = []

        def during(_: subprocess.Popen[bytes]) -> None:
            if not killed and len(list(folder.glob("*.mp4"))) >= len(rows) // 3:
                workers[0].send_signal(signal.SIGKILL)
                killed.append(0)

        command = self.call("batch", self.work / "list.jsonl", "-o", folder, "--on", address, "--quiet")
        try:
            told = watched([command], during)
        finally:
            for each in (*workers, scheduler):
                each.kill()
        once, more = attempts(folder)
        return {
            "how": "two workers of a cluster, one killed",
            **told,
            "whole": good(folder, rows),
            "begun once": once,
            "begun again": more,
        }

    def kill_driver(self, rows: Sequence[dict[str, str]]) -> dict[str, Any]:
        """The driver is killed when a third is done; the same command does the rest."""
        folder = self.fresh("killed-driver")
        command = self.call("batch", self.work / "list.jsonl", "-o", folder, "--on", "local:2", "--quiet")

        def during(process: subprocess.Popen[bytes]) -> None:
            if len(list(folder.glob("*.mp4"))) >= len(rows) // 3:
                process.kill()

        watched([command], during)
        time.sleep(3)
        before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.mp4")}
        told = watched([command])
        kept = sum((folder / name).stat().st_mtime_ns == stamp for name, stamp in before.items())
        return {
            "how": "driver killed, same command again",
            **told,
            "whole": good(folder, rows),
            "done before": len(before),
            "of these not done again": kept,
        }

    def long(self, minutes: int) -> list[dict[str, Any]]:
        """A long clip whole, and in segments by two workers; how far they differ."""
        clip, masks = long_run.make(self.work, minutes)
        row = {"input": str(clip), "output": "long.mp4", "masks": str(masks), "engine": "none"}
        (self.work / "long.jsonl").write_text(json.dumps(row))
        found = []
        for name, split in (("whole", 0), ("in segments of 5 min", 5)):
            folder = self.fresh(f"long-{split}")
            command = self.call(
                *("batch", self.work / "long.jsonl", "-o", folder, "--on", "local:2"),
                *("--split", split, "--quiet"),
            )
            found.append({"how": name, **watched([command])})
        found[1] |= compare(self.work / "long-0" / "long.mp4", self.work / "long-5" / "long.mp4")
        return found


def compare(whole: Path, joined: Path) -> dict[str, Any]:
    """PSNR of all frames and of the worst one, and whether time stamps and sound are the same."""
    errors, times = [], True
    with open_source(whole) as one, open_source(joined) as other:
        for a, b in zip(one, other, strict=True):
            times = times and a.time == b.time
            errors.append(float(np.mean((a.rgb.astype(np.float32) - b.rgb) ** 2)))
    mean, worst = float(np.mean(errors)), float(np.max(errors))
    return {"psnr": _psnr(mean), "psnr of the worst frame": _psnr(worst), "same times": times}


def _psnr(error: float) -> float:
    return round(float(10 * np.log10(255**2 / max(error, 1e-6))), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--only", nargs="+", default=["loop", "batch", "kills", "long"])
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(given.work)
    rows = make_manifest(given.clips, given.work, given.count)
    runs: list[dict[str, Any]] = []

    def add(*told: dict[str, Any]) -> None:
        for each in told:
            runs.append(each)
            print(each, flush=True)
        if given.json:
            write_json(given.json, {"machine": machine(), "clips": given.count, "runs": runs})

    if "loop" in given.only:
        add(bench.loop(rows))
    if "batch" in given.only:
        for workers in (1, 2, 4):
            add(bench.batch(rows, workers))
    if "kills" in given.only:
        add(bench.kill_worker(rows), bench.kill_driver(rows))
    if "long" in given.only:
        add(*bench.long(given.minutes))


if __name__ == "__main__":
    main()
