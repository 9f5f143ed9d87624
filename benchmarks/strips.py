"""Draw a filled scene beside its truth: python -m benchmarks.strips SCENE OUTPUT STRIP.png [--zoom]

One row a frame, five spread over those with a hole: input, hole, output, truth, four times their difference.
SCENE is a folder made by benchmarks.scenes, OUTPUT the filled frames as %05d.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from benchmarks.footage import Scene, load_scene, pictures_in, read_rgb
from stream.boxes import Box
from stream.types import Image

COLUMNS = ("input", "hole", "output", "truth", "difference x4")


def strip(scene: Scene, outputs: list[Image], frames: list[int], width: int, zoom: bool = False) -> Image:
    """The rows of the chosen frames, each picture `width` pixels wide; `zoom`: around the hole only."""
    rows = []
    for index in frames:
        x0, y0, x1, y1 = surroundings(scene, index) if zoom else (0, 0, *scene.size)
        hole = scene.input[index] // 2
        hole[scene.masks[index]] = (255, 60, 200)
        if scene.shadow is not None:
            hole[scene.shadow[index]] = (60, 160, 255)
        error = 4 * cv2.absdiff(outputs[index], scene.truth[index]).astype(np.int32)
        difference = np.clip(error, 0, 255).astype(np.uint8)
        pictures = (scene.input[index], hole, outputs[index], scene.truth[index], difference)
        cells = []
        for name, picture in zip(COLUMNS, pictures, strict=True):
            cell = picture[y0:y1, x0:x1]
            size = width, round(width * cell.shape[0] / cell.shape[1])
            way = cv2.INTER_AREA if width < cell.shape[1] else cv2.INTER_LINEAR
            shown = np.ascontiguousarray(cv2.resize(cell, size, interpolation=way))
            cells.append(_labelled(shown, f"{name} {index}" if name == COLUMNS[0] else name))
        rows.append(np.hstack(cells))
    return np.vstack(rows)


def surroundings(scene: Scene, index: int) -> Box:
    """The hole's bounds with as much again around them, in the shape of the frame."""
    width, height = scene.size
    x, y, w, h = cv2.boundingRect(scene.masks[index].astype(np.uint8))
    share = min(1.0, 1.6 * max(w / width, h / height, 0.1))
    wide, high = round(share * width), round(share * height)
    x0 = min(max(0, x + w // 2 - wide // 2), width - wide)
    y0 = min(max(0, y + h // 2 - high // 2), height - high)
    return x0, y0, x0 + wide, y0 + high


def spread(scene: Scene, count: int = 5) -> list[int]:
    """Frames spread evenly over those with a hole."""
    holes = [index for index, mask in enumerate(scene.masks) if mask.any()] or list(range(len(scene.masks)))
    return sorted({holes[k] for k in np.linspace(0, len(holes) - 1, count + 2).astype(int)[1:-1]})


def _labelled(picture: Image, text: str) -> Image:
    picture[:18, : 8 + 7 * len(text)] //= 4
    cv2.putText(picture, text, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return picture


def main() -> None:
    """Draw the strip from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scene", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("strip", type=Path)
    parser.add_argument("--frames", nargs="+", type=int)
    parser.add_argument("--width", type=int, default=320, help="of each picture, pixels")
    parser.add_argument("--zoom", action="store_true", help="show only the hole's surroundings")
    options = parser.parse_args()
    outputs = [read_rgb(path) for path in pictures_in(options.output)]
    if not outputs:
        raise SystemExit(f"{options.output}: no filled frames")
    scene = load_scene(options.scene, len(outputs))
    frames = options.frames or spread(scene)
    picture = strip(scene, outputs, frames, options.width, options.zoom)
    cv2.imwrite(str(options.strip), picture[..., ::-1])


if __name__ == "__main__":
    main()
