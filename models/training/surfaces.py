"""A ready-made ADE20K network as the stuff classifier's teacher: what each cell of a picture is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

SURFACE_NAMES: tuple[str, ...] = (
    "other", "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "window", "grass",
    "cabinet", "pavement", "person", "earth", "door", "table", "mountain", "plant", "curtain", "chair",
    "car", "water", "painting", "sofa", "shelf", "house", "sea", "mirror", "rug", "field", "armchair",
)  # fmt: skip
"""The teacher's classes: anything else, then the 31 most frequent of ADE20K."""

GRID = 32
"""A picture's surfaces are kept on a grid of 32 x 32 cells, the picture squeezed to it."""

_SIDE = 512
_GREY = 128
_SCORES = "decoder/ResizeBilinear_1"
_CHANNELS = 4  # as many as OpenCV resizes by area at once


class SurfaceTeacher:
    """MOSAIC (MLCommons mobile, Apache-2.0), its .tflite graph run by OpenVINO up to the scores."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(str(path))
        found = [out for op in model.get_ops() for out in op.outputs() if _SCORES in out.get_names()]
        if not found or found[0].get_partial_shape()[3].get_length() != len(SURFACE_NAMES):
            raise ValueError(f"{path} is not the MOSAIC network of 32 classes: no {_SCORES!r} in it")
        cut = openvino.Model(found[:1], model.get_parameters(), "surfaces")
        self._run: Any = core.compile_model(cut, "CPU", {"INFERENCE_NUM_THREADS": threads})

    def surfaces(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Probabilities in 1/255 of an RGB picture (H, W, 3): (32, 32, 32), rows, columns, surfaces."""
        scale = _SIDE / max(image.shape[:2])
        height, width = (max(1, min(_SIDE, round(side * scale))) for side in image.shape[:2])
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        padded = np.full((_SIDE, _SIDE, 3), _GREY, np.uint8)
        padded[:height, :width] = cv2.resize(image, (width, height), interpolation=way)
        scores = np.asarray(self._run([padded[None]])[0][0], np.float32)
        scores = scores[: max(1, round(height / 4)), : max(1, round(width / 4))]
        odds = np.exp(scores - scores.max(-1, keepdims=True))
        odds /= odds.sum(-1, keepdims=True)
        parts = [
            cv2.resize(np.ascontiguousarray(part), (GRID, GRID), interpolation=cv2.INTER_AREA)
            for part in np.split(odds, len(SURFACE_NAMES) // _CHANNELS, -1)
        ]
        found: npt.NDArray[np.uint8] = np.clip(np.concatenate(parts, -1) * 255 + 0.5, 0, 255).astype(np.uint8)
        return found


def surfaces_of(
    teacher: SurfaceTeacher, files: Sequence[Path], kept: Path, log: Callable[[str], None]
) -> npt.NDArray[np.uint8]:
    """Surfaces of every picture, (N, 32, 32, 32) uint8, kept in the file `kept` and gone on with there."""
    names = kept.with_suffix(".txt")
    listed = "\n".join(file.name for file in files)
    shape = (len(files), GRID, GRID, len(SURFACE_NAMES))
    if kept.is_file() and names.is_file() and names.read_text(encoding="utf-8") == listed:
        found = np.lib.format.open_memmap(kept, mode="r+")
    else:
        found = np.lib.format.open_memmap(kept, mode="w+", dtype=np.uint8, shape=shape)
        names.write_text(listed, encoding="utf-8")
    left = [number for number in range(len(files)) if not found[number].any()]
    for done, number in enumerate(left):
        bgr = cv2.imread(str(files[number]), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError(f"cannot be read as a picture: {files[number]}")
        found[number] = teacher.surfaces(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8))
        if done % 250 == 0:
            log(f"teacher: {len(files) - len(left) + done} of {len(files)} pictures")
    found.flush()
    return np.asarray(found, np.uint8)
