"""What a file keeps, by container, read back by ffprobe: python -m benchmarks.containers --json FILE

Each clip of benchmarks.container_clips is cleaned by the command line with a mask and without networks.
Input and output are compared by the `ffprobe` command, which shares no code with the program. An outcome is
`kept` (everything is equal), `said` (what differs was named by a warning before the run started), or
FAILED with what differs. Needs the commands ffmpeg and ffprobe (Debian: `apt install ffmpeg`).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.container_clips import Case, cases, make
from benchmarks.ffprobe import Looked, differences, look

SAID = {
    "times": r"time stamps|grid|start times",
    "packets": r"left out|converted|grid|sound .* is moved",
    "streams": r"left out|converted|does not hold the (language|mark)",
    "chapters": r"chapters",
    "metadata": r"tags",
    "colour": r"colour|written as",
    "pixels": r"pixel format|stored as|transparency|256 colours|becomes RGB",
    "codec": r"is written as",
    "fields": r"as progressive",
    "rotation": r"turned",
    "aspect": r"aspect",
    "hdr": r"HDR",
    "sound": r"sound .* is moved",
}
SPECIAL: dict[str, Callable[[Looked], bool]] = {
    "one frame": lambda seen: seen.frames == 1,
    "odd size": lambda seen: seen.size[0] % 2 == seen.size[1] % 2 == 1,
    "sample aspect": lambda seen: seen.aspect == "4:3",
    "variable frame rate": lambda seen: (
        len(set(map(float, np.diff(list(map(float, seen.times))).round(4)))) > 1
    ),
    "rotation 90": lambda seen: seen.rotation in (90, 270),
    "rotation 180": lambda seen: seen.rotation == 180,
    "rotation 270": lambda seen: seen.rotation in (90, 270),
    "interlaced": lambda seen: all(each == 3 for each in seen.fields),
    "interlaced (MPEG-2, bottom first)": lambda seen: all(each == 2 for each in seen.fields),
    "start offset": lambda seen: seen.times[0] > 0.3,
    "10-bit HEVC": lambda seen: "10" in seen.pixels,
    "10-bit VP9": lambda seen: "10" in seen.pixels,
    "HDR10 (HEVC)": lambda seen: len(seen.hdr) == 2,
    "HDR10 (AV1)": lambda seen: len(seen.hdr) == 2,
    "HLG": lambda seen: "arib-std-b67" in seen.colour,
    "BT.2020": lambda seen: "bt2020nc" in seen.colour,
    "BT.709": lambda seen: seen.colour.count("bt709") == 3,
    "BT.601": lambda seen: seen.colour.count("smpte170m") == 3,
    "full range": lambda seen: "pc" in seen.colour,
    "limited range": lambda seen: "tv" in seen.colour,
    "alpha": lambda seen: "a" in seen.pixels.removeprefix("gray").split("p")[0],
    "two audio tracks, languages": lambda seen: len(seen.streams) == 2,
    "subtitles": lambda seen: len(seen.streams) == 1 and len(seen.packets[0]) == 2,
    "chapters": lambda seen: len(seen.chapters) == 2,
    "cover art": lambda seen: any("cover" in each or "attachment" in each for each in seen.streams),
    "metadata": lambda seen: len(seen.metadata) >= 3,
}
"""What a clip must have to be a test of its property."""

RATE = 48000


def _anything(_: Looked) -> bool:
    return True


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="cases whose name or container has this in it")
    parser.add_argument("--keep", type=Path, help="leave the files here")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not shutil.which("ffmpeg") or not shutil.which("ffprobe"):
        raise SystemExit("the commands ffmpeg and ffprobe are not there")
    rows = []
    for case in cases():
        if not re.search(options.only, f"{case.name} {case.suffix}"):
            continue
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) if options.keep is None else _kept(options.keep, case)
            rows.append(outcome(case, folder))
        row = rows[-1]
        print(
            f"{row['container']:5} {row['property']:34} {row['outcome']:8}",
            *row["detail"],
            sep=" | ",
            flush=True,
        )
    if options.json:
        readers = subprocess.run(["ffprobe", "-version"], capture_output=True, text=True, check=True).stdout
        data = {"reader": " ".join(readers.split()[:3]), "rows": rows}
        options.json.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def _kept(folder: Path, case: Case) -> Path:
    place = folder / re.sub(r"\W+", "-", f"{case.name} {case.suffix}")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return place


def outcome(case: Case, folder: Path) -> dict[str, Any]:
    """Make a clip, clean it, and hold what came out against what went in."""
    row: dict[str, Any] = {"property": case.name, "container": case.suffix}
    try:
        source = make(case, folder)
    except RuntimeError as error:
        return {**row, "outcome": "skipped", "detail": [str(error)]}
    output = folder / ("out" if source.is_dir() else f"out.{case.suffix}")
    if case.output:
        output = folder / ("out" if case.output == "folder" else f"out.{case.output}")
    before = None if case.expect else _cut(look(source), case)
    if before is not None and not SPECIAL.get(case.name, _anything)(before):
        return {**row, "outcome": "skipped", "detail": ["ffmpeg did not make it"]}
    count = before.frames if before is not None else 1
    code, errors, warnings = clean(
        case, source, output, count, before.size if before is not None else (96, 64)
    )
    if code != case.expect:
        return {**row, "outcome": "FAILED", "detail": [f"exit code {code}", *errors]}
    if before is None:
        left = sorted(each.name for each in folder.iterdir() if each.name.startswith((".out", "out")))
        good = len(errors) >= 1 and errors[0].startswith("error:") and not left
        return {**row, "outcome": "refused" if good else "FAILED", "detail": errors + left}
    after = look(output)
    found = differences(before, after)
    if source.is_dir() and not output.is_dir():
        found = [each for each in found if each != "streams"]  # there it is the names of the images
    if case.sound and case.clean:
        found = [each for each in found if each != "packets"]
        lag, length = _sound(source, output, 0.32 if case.suffix == "avi" else 0.31)
        row["sound lag ms"], row["sound seconds"] = round(lag, 3), round(length, 4)
        row["packets late ms"] = _late(
            before, after, Fraction("0.32") if case.suffix == "avi" else Fraction("0.31")
        )
        if abs(lag) > 1 or abs(length - 0.82) > 0.03:
            found.append("sound")
    silent = [each for each in found if not re.search(SAID.get(each, "(?!)"), " / ".join(warnings))]
    detail = []
    for each in silent:
        detail.append(f"{each}: {_short(getattr(before, each, ''))} -> {_short(getattr(after, each, ''))}")
    state = "FAILED" if silent else "said" if found else "kept"
    return {
        **row,
        "outcome": state,
        "differs": found,
        "detail": detail or list(warnings),
        "codec": after.codec,
    }


def clean(
    case: Case, source: Path, output: Path, count: int, size: tuple[int, int]
) -> tuple[int, list[str], list[str]]:
    """Run the command line; its exit code, its lines, and what it warned of before it began."""
    masks = output.parent / "masks"
    masks.mkdir()
    drawn = np.zeros((size[1], size[0]), np.uint8)
    drawn[20:36, 30:54] = 255
    for number in range(count):
        cv2.imwrite(str(masks / f"{number:04d}.png"), drawn)
    command = [sys.executable, "-c", "from stream.commands import main; main()", "clean", str(source)]
    command += ["-o", str(output), "--masks", str(masks), "--engine", "none"]
    command += case.clean.split()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # what is said before the first frame stands above the line that says what was done
    before = done.stderr.partition(f"{output}: ")[0]
    warnings = [
        line.removeprefix("warning: ") for line in before.splitlines() if line.startswith("warning: ")
    ]
    errors = [line.replace(f"{output.parent}/", "") for line in done.stderr.splitlines() if line.strip()]
    return done.returncode, errors, warnings


def _cut(seen: Looked, case: Case) -> Looked:
    """What is expected of the output: of a cut, the pictures in it, at their time after its start."""
    if not case.clean:
        return seen
    words = case.clean.split()
    start, end = Fraction(words[1]), Fraction(words[3])
    origin = seen.times[0]
    # AVI and GIF have no start times, so their first picture is at 0, and the sound with it
    zero = {"avi": Fraction("0.32"), "gif": Fraction("0.32"), "png": Fraction("0.32")}.get(case.suffix, start)
    inside = [i for i, time in enumerate(seen.times) if start <= time - origin < end]
    return replace(
        seen,
        frames=len(inside),
        times=tuple(seen.times[i] - zero for i in inside),
        fields=tuple(seen.fields[i] for i in inside),
        streams=tuple(seen.streams[i] for i in inside) if case.suffix == "png" else seen.streams,
    )


def _sound(source: Path, output: Path, start: float) -> tuple[float, float]:
    """By how many milliseconds the sound of a cut lies too late, and how long it is in seconds."""
    whole, part = _heard(source), _heard(output)
    middle = part[RATE // 5 : RATE * 3 // 5]
    lags = range(-RATE // 25, RATE // 25)
    begin = round(start * RATE) + RATE // 5
    wanted = [whole[begin - lag : begin - lag + len(middle)] for lag in lags]
    scores = [float(middle @ each) for each in wanted]
    return 1000 * lags[int(np.argmax(scores))] / RATE, len(part) / RATE


def _late(before: Looked, after: Looked, start: Fraction) -> float | None:
    """By how many milliseconds at most a copied packet is not where it was; None for packets cut anew."""
    places = {digest: time for time, digest in before.packets[0]}
    apart = [abs(time + start - places[digest]) for time, digest in after.packets[0] if digest in places]
    return round(float(1000 * max(apart)), 3) if len(apart) > 20 else None


def _heard(path: Path) -> NDArray[np.float32]:
    """The first channel of the sound, from time 0 of the picture's clock on."""
    command = ["ffmpeg", "-v", "error", "-copyts", "-i", str(path), "-map", "0:a:0", "-af"]
    command += [
        "aresample=async=1:first_pts=0",
        "-ac",
        "1",
        "-ar",
        str(RATE),
        "-f",
        "f32le",
        "-",
    ]
    done = subprocess.run(command, capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.float32)


def _short(value: Any) -> str:
    text = (
        str([float(v) if isinstance(v, Fraction) else v for v in value])
        if isinstance(value, tuple)
        else str(value)
    )
    return text if len(text) < 160 else f"{text[:160]}..."


if __name__ == "__main__":
    main()
