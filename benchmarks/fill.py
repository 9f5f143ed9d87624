"""Score the fill on scenes with known truth: python -m benchmarks.fill SCENES --out OUT --json results.json

SCENES holds folders with input/ masks/ truth/ (and shadow/) of %05d.png; non-zero mask = remove. Each scene
is filled with its plain masks at each look-ahead; the filled frames go to OUT/SCENE-L<seconds>/%05d.png.

psnr, ssim: inside the hole, mean over frames with 64 or more hole pixels (psnr capped at 60 dB a frame).
flicker: mean |change of (output - truth) between frames| over pixels in both holes, grey levels.
sharpness: squared Laplacian of the output over that of the truth, inside the hole.
psnr_shadow: inside shadow/, where there is one. outside_max: largest change outside hole and shadow.
worst: the lowest frame psnr. ms: processor time a frame of motion, plate, hole and fill together, median.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.schema import Config, load_config
from engines import available_threads
from engines.hardware import cpu_name
from stream import fill, hole, motion, plate
from stream.types import INVENTED, Filled, Frame, Motion

RATE = 25


@dataclass(frozen=True)
class Scene:
    """A scene in memory: RGB pictures and bool masks, one per frame."""

    name: str
    input: list[NDArray[np.uint8]]
    masks: list[NDArray[np.bool_]]
    truth: list[NDArray[np.uint8]]
    shadow: list[NDArray[np.bool_]] | None


def load_scene(folder: Path, most: int | None = None) -> Scene:
    """Read a scene folder; `most` limits the frames."""
    names = sorted(p.name for p in (folder / "input").iterdir())[:most]
    has_shadow = (folder / "shadow").is_dir()
    return Scene(
        folder.name,
        [_rgb(folder / "input" / n) for n in names],
        [_mask(folder / "masks" / n) for n in names],
        [_rgb(folder / "truth" / n) for n in names],
        [_mask(folder / "shadow" / n) for n in names] if has_shadow else None,
    )


def frame_of(rgb: NDArray[np.uint8], index: int) -> Frame:
    """A packed RGB frame at 25 frames a second."""
    return Frame(index, index, Fraction(1, RATE), (rgb,), "rgb24", rgb.shape[1], rgb.shape[0], duration=1)


def run(
    scene: Scene, seconds: float, config: Config, inpaint: fill.Inpaint | None = None
) -> Iterator[tuple[Filled, Motion, float]]:
    """Fill a scene with its masks, observing `seconds` ahead; yields (filled, motion, processor seconds)."""
    ahead = round(seconds * RATE)
    state, known = motion.initial(), plate.initial(config.plate, look_ahead=seconds)
    motions: list[Motion] = []
    spent = 0.0
    for index in range(len(scene.input) + ahead):
        begin = time.process_time()
        if index < len(scene.input):
            frame, mask = frame_of(scene.input[index], index), scene.masks[index]
            moved, state = motion.step(state, frame, mask, config.plate)
            motions.append(moved)
            known = plate.observe(known, frame, moved, np.zeros(mask.shape, np.uint16), mask)
        at = index - ahead
        if 0 <= at < len(scene.input):
            wanted = hole.from_mask(scene.masks[at])
            filled, known = fill.fill(
                frame_of(scene.input[at], at), wanted, known, motions[at], (), inpaint, config
            )
            spent += time.process_time() - begin
            yield filled, motions[at], spent
            spent = 0.0
        else:
            spent += time.process_time() - begin


def score(scene: Scene, outputs: list[NDArray[np.uint8]]) -> dict[str, Any]:
    """The measures named above for one filled scene."""
    psnr, ssim, flicker, shadow = [], [], [], []
    sharp_out = sharp_true = 0.0
    outside = 0
    last: tuple[NDArray[np.float32], NDArray[np.bool_]] | None = None
    for k, (out, true, mask) in enumerate(zip(outputs, scene.truth, scene.masks, strict=True)):
        d = out.astype(np.float32) - true.astype(np.float32)
        dark = scene.shadow[k] if scene.shadow else np.zeros_like(mask)
        away = ~(mask | dark)
        if away.any():
            outside = max(outside, int(cv2.absdiff(out, scene.input[k])[away].max()))
        if np.count_nonzero(dark) >= 64:
            shadow.append(_psnr(d[dark]))
        if np.count_nonzero(mask) >= 64:
            psnr.append(_psnr(d[mask]))
            grey_out, grey_true = (cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (out, true))
            ssim.append(float(_ssim(grey_out, grey_true)[mask].mean()))
            sharp_out += float(np.square(cv2.Laplacian(grey_out, cv2.CV_32F)[mask]).sum())
            sharp_true += float(np.square(cv2.Laplacian(grey_true, cv2.CV_32F)[mask]).sum())
            if last is not None and np.count_nonzero(both := mask & last[1]) >= 64:
                flicker.append(float(np.abs(d - last[0])[both].mean()))
        last = d, mask
    return {
        "psnr": _mean(psnr),
        "ssim": _mean(ssim, 4),
        "flicker": _mean(flicker),
        "sharpness": round(sharp_out / max(sharp_true, 1e-9), 3),
        "psnr_shadow": _mean(shadow),
        "outside_max": outside,
        "worst": round(min(psnr), 2) if psnr else None,
    }


def _psnr(difference: NDArray[np.float32]) -> float:
    return float(min(60.0, 10 * np.log10(255.0**2 / max(float(np.square(difference).mean()), 1e-9))))


def _ssim(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float32]:
    def blur(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.GaussianBlur(x, (11, 11), 1.5), np.float32)

    x, y = a.astype(np.float32), b.astype(np.float32)
    mx, my = blur(x), blur(y)
    vx, vy, xy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = 6.5025, 58.5225
    return (2 * mx * my + c1) * (2 * xy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))


def _mean(values: list[float], digits: int = 2) -> float | None:
    return round(float(np.mean(values)), digits) if values else None


def _rgb(path: Path) -> NDArray[np.uint8]:
    return np.ascontiguousarray(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))


def _mask(path: Path) -> NDArray[np.bool_]:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenes", type=Path)
    parser.add_argument("--only", nargs="*", help="scene names")
    parser.add_argument("--look-ahead", nargs="*", type=float, default=[0.0, 1.48], help="seconds")
    parser.add_argument("--frames", type=int, help="at most so many of each scene")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    config = load_config("tourist")
    rows = []
    for folder in sorted(p for p in options.scenes.iterdir() if (p / "truth").is_dir()):
        if options.only and folder.name not in options.only:
            continue
        scene = load_scene(folder, options.frames)
        for seconds in options.look_ahead:
            outputs, spent, invented = [], [], []
            for filled, _, used in run(scene, seconds, config):
                outputs.append(filled.frame.rgb)
                spent.append(used)
                if filled.origin.size:
                    hole_pixels = max(1, np.count_nonzero(filled.origin))
                    invented.append(np.count_nonzero(filled.origin == INVENTED) / hole_pixels)
                if options.out:
                    target = options.out / f"{scene.name}-L{seconds:g}"
                    target.mkdir(parents=True, exist_ok=True)
                    picture = cv2.cvtColor(outputs[-1], cv2.COLOR_RGB2BGR)
                    cv2.imwrite(str(target / f"{len(outputs) - 1:05d}.png"), picture)
            row = {"scene": scene.name, "look_ahead": seconds, **score(scene, outputs)}
            row["invented"] = round(float(np.mean(invented)), 4) if invented else 0.0
            row["ms"] = round(1000 * float(np.median(spent)), 1)
            rows.append(row)
            print(json.dumps(row), flush=True)
    if options.json:
        told = {"machine": f"{cpu_name()}, {available_threads()} cores", "scenes": rows}
        options.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
