"""Score single photographs with thing-shaped holes against Telea and the network alone; draw strips.

    python -m benchmarks.stills --data DIR [--teacher FILE.tflite] [--strips DIR]

The pictures are stills that were never trained on (see `read_sources`); holes of 3 to 25 % are outlines of
cut-out things, drawn from a fixed seed. PSNR and SSIM count hole pixels only; sharpness is the squared
Laplacian over that of the truth (median; 1 is as sharp). The feature distance compares a teacher network's
inner maps at strides 4, 8 and 16 under the hole, in units of each channel's spread; without a teacher it is
left out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.inpainter import label
from configs.schema import load_config
from engines.hardware import cpu_name
from models.training.holes import Mask, read_shapes
from models.training.inpainter import read_rgb
from stream.crops import Inpaint, invent, sketch
from stream.inpaint import open_inpaint

Picture = NDArray[np.uint8]
Teacher = Callable[[Picture], list[NDArray[np.float32]]]
SEED = 20180619


def held_pictures(stills: Path, count: int) -> dict[str, Picture]:
    """The first `count` stills under a non-commercial licence, which training leaves out, by name."""
    import csv

    with (stills / "index.csv").open(encoding="utf-8", newline="") as rows:
        files = [row["file"] for row in csv.DictReader(rows) if "non-commercial" in row["licence"]]
    step = max(1, len(files) // count)
    return {Path(file).stem: read_rgb(stills / file) for file in files[::step][:count]}


def draw_hole(shapes: list[Mask], height: int, width: int, random: np.random.Generator) -> Mask:
    """One outline over 3 to 25 % of the picture, wholly inside of it or cut by its lower border."""
    while True:
        shape = shapes[int(random.integers(len(shapes)))]
        share = float(np.exp(random.uniform(np.log(0.03), np.log(0.25))))
        scale = np.sqrt(share * height * width / np.count_nonzero(shape))
        across, down = (max(8, round(length * scale)) for length in shape.shape[1::-1])
        if across > 0.8 * width or down > 0.9 * height:
            continue
        thing = cv2.resize(shape, (across, down), interpolation=cv2.INTER_LINEAR)
        left = int(random.integers(0, width - across + 1))
        top = int(random.integers(0, height - down + 1 + down // 8))
        hole = np.zeros((height, width), np.uint8)
        hole[top : top + down, left : left + across] = thing[: height - top]
        grown = np.asarray(cv2.dilate(hole, np.ones((5, 5), np.uint8)), np.uint8)
        if 0.03 <= grown.mean() <= 0.25:
            return grown


def open_teacher(file: Path) -> Teacher:
    """Inner maps of a segmentation network: the last one at each of the strides 4, 8 and 16."""
    import openvino as ov

    core = ov.Core()
    model = core.read_model(file)
    side = int(model.inputs[0].get_partial_shape()[1].get_length())
    last: dict[int, Any] = {}
    for op in model.get_ordered_ops():
        shape = op.output(0).get_partial_shape()
        if op.get_type_name() != "Add" or not shape.is_static or len(shape) != 4:
            continue
        stride = round(side / int(shape[3].get_length()))
        if stride in (4, 8, 16) and int(shape[1].get_length()) >= 32:
            last[stride] = op.output(0)
    model.add_outputs(list(last.values()))
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1})
    first = len(compiled.outputs) - len(last)

    def look(picture: Picture) -> list[NDArray[np.float32]]:
        seen = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
        found = compiled(seen[None])
        return [np.asarray(found[k], np.float32)[0] for k in range(first, first + len(last))]

    return look


def feature_distance(teacher: Teacher, found: Picture, truth: Picture, hole: Mask) -> float:
    """Mean difference of inner maps under the hole, in standard deviations of the truth's channels."""
    total = []
    for mine, its in zip(teacher(found), teacher(truth), strict=True):
        under = cv2.resize(hole.astype(np.float32), mine.shape[:0:-1], interpolation=cv2.INTER_AREA) > 0.5
        spread = its.std((1, 2), keepdims=True) + 1e-3
        total.append(float((np.abs(mine - its) / spread)[:, under].mean()))
    return float(np.mean(total))


def psnr(found: Picture, truth: Picture, hole: Mask) -> float:
    """PSNR over hole pixels, dB."""
    inside = hole > 0
    error = float(np.mean((found[inside].astype(np.float32) - truth[inside]) ** 2))
    return 10 * float(np.log10(255**2 / max(error, 0.1)))


def ssim(found: Picture, truth: Picture, hole: Mask) -> float:
    """SSIM (11 x 11, sigma 1.5, grey) over hole pixels."""
    x, y = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255 for p in (found, truth))

    def blur(p: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.GaussianBlur(p, (11, 11), 1.5), np.float32)

    mx, my = blur(x), blur(y)
    vx, vy, vxy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    score = (2 * mx * my + 1e-4) * (2 * vxy + 9e-4) / ((mx * mx + my * my + 1e-4) * (vx + vy + 9e-4))
    return float(score[hole > 0].mean())


def sharpness(found: Picture, truth: Picture, hole: Mask) -> float:
    """Squared Laplacian in the hole over that of the truth: 1 is as sharp, 0 is a smear."""
    inside = np.asarray(cv2.erode(hole, np.ones((3, 3), np.uint8))) > 0
    mine, its = (cv2.Laplacian(p.astype(np.float32), cv2.CV_32F)[inside] for p in (found, truth))
    return float((mine**2).mean() / max(float((its**2).mean()), 1e-9))


def methods(inpaint: Inpaint | None) -> dict[str, Callable[[Picture, Mask], Picture]]:
    """Name -> a fill of the hole in a picture."""

    def telea(picture: Picture, hole: Mask) -> Picture:
        return np.asarray(cv2.inpaint(picture, hole, 4, cv2.INPAINT_TELEA), np.uint8)

    return {
        "Telea": telea,
        "network alone": lambda picture, hole: sketch(picture, hole, inpaint),
        "ours": lambda picture, hole: invent(picture, hole, inpaint),
        "ours, no network": lambda picture, hole: invent(picture, hole, None),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with stills/ and cutouts/")
    parser.add_argument("--teacher", type=Path, default=None, help="a .tflite segmentation network")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--strips", type=Path, default=None, help="folder for one PNG a still")
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--engine", default="auto")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    inpaint = open_inpaint(load_config(overrides={"engine.name": arguments.engine, "engine.threads": 1}))
    teacher = open_teacher(arguments.teacher) if arguments.teacher else None
    shapes = read_shapes(arguments.data / "cutouts")
    fills = methods(inpaint)
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in fills}
    shares = []
    for number, (name, truth) in enumerate(held_pictures(arguments.data / "stills", arguments.count).items()):
        hole = draw_hole(shapes, *truth.shape[:2], np.random.default_rng((SEED, number)))
        shares.append(float(hole.mean()))
        blank = np.where(hole[..., None] > 0, np.uint8(127), truth)
        shown = {"hole": blank}
        for method, fill in fills.items():
            began = time.process_time()
            found = shown[method] = fill(blank, hole)
            row = {
                "ms": 1000 * (time.process_time() - began),
                "psnr": psnr(found, truth, hole),
                "ssim": ssim(found, truth, hole),
                "sharpness": sharpness(found, truth, hole),
            }
            if teacher is not None:
                row["features"] = feature_distance(teacher, found, truth, hole)
            scores[method].append(row)
        print(name, f"{hole.mean():.0%}", *(f"{m}: {r[-1]['psnr']:.1f}" for m, r in scores.items()))
        if arguments.strips is not None:
            arguments.strips.mkdir(parents=True, exist_ok=True)
            strip = np.concatenate(
                [label(p / np.float32(255), n) for n, p in {**shown, "truth": truth}.items()], 1
            )
            cv2.imwrite(
                str(arguments.strips / f"{number:02}-{name}.png"), cv2.cvtColor(strip, cv2.COLOR_RGB2BGR)
            )
    table: dict[str, dict[str, float]] = {}
    for method, found_rows in scores.items():
        columns = {key: np.array([row[key] for row in found_rows]) for key in found_rows[0]}
        table[method] = {
            key: round(float(np.median(column) if key in ("sharpness", "ms") else column.mean()), 3)
            for key, column in columns.items()
        }
        print(f"{method:18s}", *(f"{k} {v}" for k, v in table[method].items()))
    result = {
        "stills": len(shares),
        "hole shares": [round(min(shares), 3), round(max(shares), 3)],
        "teacher": arguments.teacher.stem if arguments.teacher else None,
        "machine": f"{cpu_name()}, one thread",
        "methods": table,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
