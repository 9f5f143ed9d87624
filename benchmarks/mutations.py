"""Damage small files in every way and clean them: python -m benchmarks.mutations --work DIR --json FILE

Six clips (H.264 in mp4 and mov, HEVC in mkv, VP9 in webm, MPEG-4 in avi, gif) are mutated with fixed seeds:
bits flipped anywhere or in the headers, cut off, a range zeroed, two boxes swapped, a size field overwritten.
Each is cleaned by a process of its own, forked from one that has everything imported. A run must end with a
file that can be played, and where something was lost with the time in a warning, or with one clear error. A
traceback, a crash, more than 60 seconds or more than 2 GB are failures, and so is a part left behind.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

import stream.job
from benchmarks.fill import machine, write_json
from stream.commands import main as cleanplate
from stream.source import open_source

FRAMES, WIDTH, HEIGHT = 24, 160, 96
SECONDS, MEMORY = int(os.environ.get("HANG", "60")), 2 << 30
FILES = {
    "h264.mp4": ("libx264", "yuv420p", "aac", {"bf": "2", "g": "8"}),
    "h264.mov": ("libx264", "yuv422p", "pcm_s16le", {"g": "12"}),
    "hevc.mkv": ("libx265", "yuv420p", "libopus", {"g": "8", "x265-params": "log-level=none"}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", "libopus", {"g": "8", "deadline": "realtime", "cpu-used": "8"}),
    "mpeg4.avi": ("mpeg4", "yuv420p", "libmp3lame", {"g": "8"}),
    "colours.gif": ("gif", "rgb8", "", {}),
}
HEADER = {"h264.mp4": b"moov", "h264.mov": b"moov"}
BOXES = re.compile(
    rb"....(?:ftyp|moov|mdat|trak|mdia|minf|stbl|stsd|stts|stsc|stsz|stco|ctts|avcC|elst)", re.S
)


def make(path: Path) -> None:
    """Write one of `FILES`: a square that moves over a pattern, and a tone."""
    codec, form, sound, options = FILES[path.name]
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=25, options=options)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, form
        audio = out.add_stream(sound, rate=48000) if sound else None
        rng = np.random.default_rng(0)
        place = cv2.resize(rng.integers(0, 255, (8, 12, 3), np.uint8), (WIDTH, HEIGHT))
        for index in range(FRAMES):
            picture = place.copy()
            picture[30:60, 4 * index : 4 * index + 24] = (230, 240, 60)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=form)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if isinstance(audio, av.AudioStream):
            size = audio.codec_context.frame_size or 1024
            for start in range(0, 48000 * FRAMES // 25, size):
                tone = (9000 * np.sin(np.arange(start, start + size) / 20)).astype(np.int16)
                both = np.ascontiguousarray(np.stack([tone, tone]).T).reshape(1, -1)
                heard = av.AudioFrame.from_ndarray(both, format="s16", layout="stereo")
                heard.sample_rate, heard.pts, heard.time_base = 48000, start, Fraction(1, 48000)
                out.mux(audio.encode(heard))
            out.mux(audio.encode(None))


def flip(data: bytearray, dice: random.Random, low: int, high: int) -> None:
    for _ in range(dice.choice((1, 4, 20, 100))):
        data[dice.randrange(low, high)] ^= 1 << dice.randrange(8)


def header_of(name: str, data: bytes) -> tuple[int, int]:
    """Where a file says what is in it."""
    found = data.find(HEADER[name]) if name in HEADER else -1
    return (found, len(data)) if found > 0 else (0, min(len(data), 600))


def mutate(name: str, original: bytes, kind: str, dice: random.Random) -> bytes:
    """A damaged copy."""
    data = bytearray(original)
    size = len(data)
    if kind == "bits":
        flip(data, dice, 0, size)
    elif kind == "header bits":
        flip(data, dice, *header_of(name, original))
    elif kind == "cut":
        del data[dice.randrange(size) :]
    elif kind == "zeroed":
        begin = dice.randrange(size)
        end = min(size, begin + dice.choice((16, 256, 2048, 20000)))
        data[begin:end] = bytes(end - begin)
    elif kind == "swapped":
        places = [each.start() for each in BOXES.finditer(original)]
        if len(places) > 2:
            a, b, c = sorted(dice.sample([*places, size], 3))
        else:
            a, b, c = sorted(dice.sample(range(size), 3))
        data[a:c] = data[b:c] + data[a:b]
    else:
        places = [each.start() for each in BOXES.finditer(original)] or list(
            range(*header_of(name, original))
        )
        place = dice.choice(places)
        data[place : place + 4] = dice.choice(
            (b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4), b"\x00\x00\x00\x01")
        )
    return bytes(data)


KINDS = ("bits", "header bits", "cut", "zeroed", "swapped", "sizes")


def as_many_masks(damaged: Path, masks: Path) -> None:
    """As many masks as the header says or else can be read, so that the run is about the damage."""
    try:
        with open_source(damaged) as source:
            count = sum(1 for _ in source)
            if source.info.frames_exact and source.info.frames:
                count = min(source.info.frames, 1000)
    except Exception:
        return
    drawn = sorted(masks.iterdir())
    for mask in drawn[count:]:
        mask.unlink()
    for number in range(len(drawn), count):
        (masks / f"{number:02}.png").symlink_to(drawn[number % len(drawn)])


def child(arguments: list[str], told: Path) -> None:
    """What a forked process does: the command, with its words in a file."""
    handle = os.open(told, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    code: Any = 70
    try:
        as_many_masks(Path(arguments[1]), Path(arguments[arguments.index("--masks") + 1]))
        cleanplate(arguments)
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def clean(arguments: list[str], told: Path) -> tuple[int | None, int, float]:
    """Exit code (negative: signal, None: took too long), peak memory in bytes, seconds."""
    began = time.monotonic()
    number = os.fork()
    if number == 0:
        child(arguments, told)
    while True:
        done, status, usage = os.wait4(number, os.WNOHANG)
        seconds = time.monotonic() - began
        if done:
            return os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024, seconds
        if seconds > SECONDS:
            os.kill(number, signal.SIGKILL)
            os.waitpid(number, 0)
            return None, 0, seconds
        time.sleep(0.005)


def judge(code: int | None, memory: int, told: str, output: Path, folder: Path) -> str:
    """The outcome in a few words; those that begin with BAD are failures."""
    if code is None:
        return "BAD: hung"
    if code < 0:
        return f"BAD: crashed with signal {-code}"
    if memory > MEMORY:
        return "BAD: memory"
    if "Traceback" in told or code in (1, 70):
        return "BAD: traceback or unexpected error"
    left = [each.name for each in folder.iterdir() if each.name.startswith(".")]
    if left:
        return "BAD: left a part behind"
    if code in (0, 6):
        if not output.exists():
            return "BAD: no output"
        with open_source(output) as source:
            count = sum(1 for _ in source)
            whole = not source.damaged
        if not count or not whole:
            return "BAD: the output is damaged"
        if code == 0:
            return "whole output"
        return "output up to the damage, time told" if re.search(r"\d\.\d\d s", told) else "BAD: no time told"
    if output.exists():
        return "BAD: an output in spite of an error"
    lines = told.strip().splitlines()
    if code in (2, 3, 4) and lines and lines[0].startswith("error: ") and len(lines) <= 2:
        return f"clear error (exit {code})"
    return f"BAD: exit {code}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    parser.add_argument("--show", action="store_true", help="print what was said in every run")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    shutil.rmtree(given.work, ignore_errors=True)
    (given.work / "masks").mkdir(parents=True)
    for index in range(FRAMES):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[27:63, max(0, 4 * index - 3) : 4 * index + 27] = 255
        cv2.imwrite(str(given.work / "masks" / f"{index:02}.png"), mask)
    originals = {}
    for name in FILES:
        make(given.work / name)
        originals[name] = (given.work / name).read_bytes()
    assert stream.job.clean  # imported once, before the forks
    rows: list[dict[str, Any]] = []
    folder = given.work / "run"
    for number in range(given.first, given.first + given.count):
        name, kind = list(FILES)[number % len(FILES)], KINDS[number // len(FILES) % len(KINDS)]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        damaged = folder / f"in{Path(name).suffix}"
        data = mutate(name, originals[name], kind, random.Random(number))
        damaged.write_bytes(data)
        output = folder / f"out{Path(name).suffix}"
        masks = shutil.copytree(given.work / "masks", folder / "masks")
        options = ["--masks", str(masks), "--engine", "none", "--look-ahead", "0.1"]
        code, memory, seconds = clean(
            ["clean", str(damaged), "-o", str(output), *options], given.work / "told.txt"
        )
        told = (given.work / "told.txt").read_text(errors="replace")
        outcome = judge(code, memory, told, output, folder)
        if damaged.read_bytes() != data:
            outcome = "BAD: the input was changed"
        rows.append(
            {
                "number": number,
                "file": name,
                "kind": kind,
                "outcome": outcome,
                "seconds": round(seconds, 2),
                "megabytes": memory >> 20,
            }
        )
        if outcome.startswith("BAD") or given.show:
            print(f"{number} {name} {kind}: {outcome} ({seconds:.1f} s)\n    {told.strip()}", flush=True)
    counts = Counter(row["outcome"] for row in rows)
    by_file = {name: Counter(row["outcome"] for row in rows if row["file"] == name) for name in FILES}
    for outcome, count in counts.most_common():
        print(f"{count:4}  {outcome}")
    slowest, largest = max(row["seconds"] for row in rows), max(row["megabytes"] for row in rows)
    print(f"slowest {slowest} s, most memory {largest} MB")
    if given.json:
        write_json(
            given.json,
            {
                "machine": machine(),
                "mutations": len(rows),
                "outcomes": dict(counts),
                "by_file": {name: dict(found) for name, found in by_file.items()},
                "slowest_seconds": slowest,
                "most_megabytes": largest,
                "rows": rows,
            },
        )


if __name__ == "__main__":
    main()
