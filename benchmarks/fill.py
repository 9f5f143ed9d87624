"""Score the fill and the simple ways to fill on scenes with known truth.

    python -m benchmarks.fill SCENES [--only D-1 E-1] [--methods ours aligned] [--json FILE] [--out OUT]

SCENES holds folders made by benchmarks.scenes. Each is filled with its plain masks: by the program at each
look-ahead, and by each of

    telea       Telea's method on each frame alone
    inpainter   the trained network on each frame alone, without a reference
    last-seen   each pixel as last seen at its place, the camera's motion ignored
    median      the median over the whole clip at its place
    aligned     the nearest earlier frame that sees the pixel, aligned by chained homographies
    aligned-1.5s   the nearest frame within 1.5 s before and after

A row holds what benchmarks.scores measures, and
    seen, referenced, inpainted   share of the replaced pixels that were got so
    margin        psnr above the aligned copy: `aligned` at look-ahead 0, else `aligned-1.5s`
    below_telea   number of frames that are worse than Telea's
    ms            processor time of motion, plate, hole and fill together, milliseconds a frame (sum of the
                  stages' medians; `stages` has each); of the whole method over the frames for the others
Filled frames go to OUT/SCENE-METHOD/%05d.png. `--known FILE` takes the rows of methods that are not measured
now from an earlier result; the aligned copies rest on the program's own camera motion and change with it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from benchmarks import baselines
from benchmarks.footage import Scene, load_scene, write_pictures
from benchmarks.scores import below, score
from configs.schema import Config, load_config
from engines import available_threads
from engines.hardware import cpu_name
from stream import fill, hole, motion, plate
from stream.perceive import working_size
from stream.types import INVENTED, REFERENCE, SEEN, Filled, Frame, Image, Motion

RATE = 25
WINDOW = 37
"""Frames before and after that the nearest copy of 1.5 s may take from."""

METHODS = ("ours", "telea", "inpainter", "last-seen", "median", "aligned", "aligned-1.5s")

LookAhead = float | Literal["shot"]


@dataclass(frozen=True)
class Clock:
    """Processor seconds of each call of each stage."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Note the processor time of the block under `stage`."""
        began = time.process_time()
        yield
        self.seconds.setdefault(stage, []).append(time.process_time() - began)

    def milliseconds(self) -> dict[str, float]:
        """The median of each stage, without its first call."""
        return {
            stage: round(1000 * float(np.median(calls[1:] or calls)), 1)
            for stage, calls in self.seconds.items()
        }


def frame_of(rgb: Image, index: int) -> Frame:
    """A packed RGB frame at 25 frames a second."""
    return Frame(index, index, Fraction(1, RATE), (rgb,), "rgb24", rgb.shape[1], rgb.shape[0], duration=1)


def run(
    scene: Scene, look_ahead: LookAhead, config: Config, inpaint: fill.Inpaint | None, clock: Clock
) -> Iterator[Filled]:
    """Fill a scene with its masks as the program does, observing `look_ahead` seconds before filling."""
    seconds = config.look_ahead_cap if look_ahead == "shot" else look_ahead
    ahead = min(round(seconds * RATE), len(scene.input))
    state = motion.initial()
    known = plate.initial(config.plate, seconds, config.memory_mb // 2 << 20)
    frames: list[Frame] = []
    motions: list[Motion] = []
    for index in range(len(scene.input) + ahead):
        if index < len(scene.input):
            frame, mask = frame_of(scene.input[index], index), scene.masks[index]
            frames.append(frame)
            with clock.time("motion"):
                moved, state = motion.step(state, frame, mask, config.plate)
            motions.append(moved)
            with clock.time("plate"):
                things = np.zeros(working_size(config, frame), np.uint16)
                known = plate.observe(known, frame, moved, things, mask)
        at = index - ahead
        if at < 0:
            continue
        with clock.time("hole"):
            wanted = hole.from_mask(scene.masks[at])
        stage = "fill" if wanted.box else "no hole"
        with clock.time(stage):
            filled, known = fill.fill(frames[at], wanted, known, motions[at], (), inpaint, config)
        yield filled


def ours(
    scene: Scene, look_ahead: LookAhead, config: Config, inpaint: fill.Inpaint | None
) -> tuple[list[Image], dict[str, Any]]:
    """The program's frames, and how their pixels were got and what they cost."""
    outputs, clock = [], Clock()
    shares: dict[str, list[float]] = {"seen": [], "referenced": [], "inpainted": []}
    for filled in run(scene, look_ahead, config, inpaint, clock):
        outputs.append(filled.frame.rgb)
        replaced = np.count_nonzero(filled.origin)
        if replaced:
            for name, origin in zip(shares, (SEEN, REFERENCE, INVENTED), strict=True):
                shares[name].append(np.count_nonzero(filled.origin == origin) / replaced)
    told: dict[str, Any] = {k: round(float(np.mean(v)), 4) for k, v in shares.items() if v}
    stages = {stage: ms for stage, ms in clock.milliseconds().items() if stage != "no hole"}
    return outputs, told | {"ms": round(sum(stages.values()), 1), "stages": stages}


def others(scene: Scene, inpaint: fill.Inpaint, config: Config) -> dict[str, Callable[[], list[Image]]]:
    """The simple methods by name."""

    def copied(window: int | None) -> list[Image]:
        frames = [frame_of(picture, index) for index, picture in enumerate(scene.input)]
        return baselines.aligned(scene, baselines.camera_chain(scene, frames, config), window)

    return {
        "telea": lambda: baselines.telea(scene),
        "inpainter": lambda: baselines.inpainter(scene, inpaint),
        "last-seen": lambda: baselines.last_seen(scene),
        "median": lambda: baselines.median(scene),
        "aligned": lambda: copied(None),
        "aligned-1.5s": lambda: copied(WINDOW),
    }


def measure(
    scene: Scene,
    methods: list[str],
    look_aheads: list[LookAhead],
    config: Config,
    inpaint: fill.Inpaint,
    *,
    invent: bool = True,
    known: Iterable[dict[str, Any]] = (),
    out: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """A row a method; `invent`: our fill completes with the network what was never seen, else with Telea."""
    kind = scene.info.get("kind", scene.name.split("-")[0])
    about = {"scene": scene.name, "kind": kind, "size": list(scene.size)}
    about["hole_share"] = round(scene.hole_share, 4)
    telea = baselines.telea(scene)
    copies: dict[str, float] = {}
    for row in known:
        if row["scene"] == scene.name and row["method"] not in methods:
            copies[row["method"]] = row["psnr"]
            yield row
    for name, method in others(scene, inpaint, config).items():
        if name not in methods:
            continue
        began = time.process_time()
        outputs = method()
        spent = 1000 * (time.process_time() - began) / len(outputs)
        row = {**about, "method": name, **score(scene, outputs), "below_telea": below(scene, outputs, telea)}
        copies[name] = row["psnr"]
        _keep(outputs, out, f"{scene.name}-{name}")
        yield row | {"ms": round(spent, 1)}
    if "ours" not in methods:
        return
    for look_ahead in look_aheads:
        outputs, told = ours(scene, look_ahead, config, inpaint if invent else None)
        row = {**about, "method": "ours", "look_ahead": look_ahead, **score(scene, outputs)}
        copy = copies.get("aligned-1.5s" if look_ahead else "aligned")
        row["margin"] = None if copy is None else round(row["psnr"] - copy, 2)
        row["below_telea"] = below(scene, outputs, telea)
        _keep(outputs, out, f"{scene.name}-L{look_ahead}")
        yield row | told


def write_json(path: Path, told: dict[str, Any]) -> None:
    """Write results with one row a line."""
    parts = []
    for key, value in told.items():
        many = isinstance(value, list)
        text = (
            "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in value) + "\n]" if many else json.dumps(value)
        )
        parts.append(f'"{key}": {text}')
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def machine() -> str:
    """Processor and cores, as the tables name them."""
    return f"{cpu_name()}, {available_threads()} cores"


def _keep(outputs: list[Image], out: Path | None, name: str) -> None:
    if out is not None:
        write_pictures(outputs, out / name)


def _look_ahead(text: str) -> LookAhead:
    return "shot" if text == "shot" else float(text)


def main() -> None:
    """Run the benchmark from the command line."""
    from stream.inpaint import open_inpaint

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenes", type=Path)
    parser.add_argument("--only", nargs="*", help="scene names or kinds")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument(
        "--look-ahead", nargs="+", type=_look_ahead, default=[0.0, 1.48], help="seconds or shot"
    )
    parser.add_argument("--known", type=Path, help="JSON of an earlier run")
    parser.add_argument(
        "--no-inpaint", action="store_true", help="our rows paint with Telea, not the network"
    )
    parser.add_argument("--frames", type=int, help="at most so many of each scene")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    config = load_config("tourist")
    inpaint = open_inpaint(config)
    known = json.loads(options.known.read_text())["scenes"] if options.known else []
    rows = []
    for folder in sorted(p for p in options.scenes.iterdir() if (p / "truth").is_dir()):
        if options.only and not {folder.name, folder.name.split("-")[0]} & set(options.only):
            continue
        scene = load_scene(folder, options.frames)
        for row in measure(
            scene,
            options.methods,
            options.look_ahead,
            config,
            inpaint,
            invent=not options.no_inpaint,
            known=known,
            out=options.out,
        ):
            rows.append(row)
            print(json.dumps(row), flush=True)
    if options.json:
        write_json(options.json, {"machine": machine(), "scenes": rows})


if __name__ == "__main__":
    main()
