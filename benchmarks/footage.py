"""Pictures on disk: scenes with known truth, and the footage that scenes are made of.

A scene is a folder with input/, masks/, truth/ and, where a shadow is known, shadow/, all %05d.png, and
scene.json. A mask that is not zero means: remove. All pictures are uint8 H x W x 3 RGB in memory.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.source import open_source
from stream.types import Image, Mask

Size = tuple[int, int]
"""Width and height."""

_PICTURES = {".png", ".jpg", ".jpeg", ".webp"}


@dataclass(frozen=True)
class Scene:
    """Pictures and bool masks, one per frame; `info` is what scene.json says of how it was made."""

    name: str
    input: list[Image]
    masks: list[Mask]
    truth: list[Image]
    shadow: list[Mask] | None = None
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> Size:
        return self.input[0].shape[1], self.input[0].shape[0]

    @property
    def hole_share(self) -> float:
        """Mean share of the frame that is to be filled, over the frames that have a hole."""
        shares = [float(m.mean()) for m in self.masks if m.any()]
        return float(np.mean(shares)) if shares else 0.0


def load_scene(folder: Path, most: int | None = None) -> Scene:
    """Read a scene folder; `most` limits the frames."""
    names = sorted(p.name for p in (folder / "input").iterdir())[:most]
    info = folder / "scene.json"
    return Scene(
        folder.name,
        [read_rgb(folder / "input" / n) for n in names],
        [read_mask(folder / "masks" / n) for n in names],
        [read_rgb(folder / "truth" / n) for n in names],
        [read_mask(folder / "shadow" / n) for n in names] if (folder / "shadow").is_dir() else None,
        json.loads(info.read_text()) if info.exists() else {},
    )


def save_scene(scene: Scene, folder: Path) -> None:
    """Write a scene folder."""
    write_pictures(scene.input, folder / "input")
    write_pictures(scene.truth, folder / "truth")
    write_pictures([_grey(m) for m in scene.masks], folder / "masks")
    if scene.shadow is not None:
        write_pictures([_grey(m) for m in scene.shadow], folder / "shadow")
    (folder / "scene.json").write_text(json.dumps(scene.info) + "\n")


def write_pictures(pictures: Sequence[NDArray[np.uint8]], folder: Path) -> None:
    """Write RGB or grey pictures as %05d.png."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(pictures):
        turned = picture[..., ::-1] if picture.ndim == 3 else picture
        cv2.imwrite(str(folder / f"{index:05d}.png"), turned, [cv2.IMWRITE_PNG_COMPRESSION, 2])


def read_rgb(path: Path) -> Image:
    """Read a picture as RGB."""
    picture = cv2.imread(str(path))
    if picture is None:
        raise SystemExit(f"{path}: not a picture that OpenCV reads")
    return np.ascontiguousarray(picture[..., ::-1])


def read_mask(path: Path) -> Mask:
    """Read a grey picture as a mask: True where it is not zero."""
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder by name; none when there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in _PICTURES)


def sequences(data: Path) -> list[str]:
    """Names of the annotated sequences."""
    return sorted(p.name for p in (data / "davis").iterdir() if (p / "masks").is_dir())


def read_sequence(data: Path, name: str, frames: int, size: Size) -> tuple[list[Image], list[Mask]]:
    """The first frames of a sequence with the masks of its annotated object, at `size`."""
    pictures, masks = [], []
    for path in pictures_in(data / "davis" / name / "frames")[:frames]:
        pictures.append(_resized(read_rgb(path), size))
        mask = read_mask(data / "davis" / name / "masks" / f"{path.stem}.png").astype(np.uint8)
        masks.append(np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) > 0))
    return pictures, masks


def clips(data: Path) -> list[Path]:
    """The video files."""
    return sorted(p for p in (data / "video").iterdir() if p.suffix.lower() in {".mp4", ".mov", ".mkv"})


def read_clip(path: Path, frames: int, size: Size) -> list[Image]:
    """The first frames of a video at `size`."""
    out = []
    with open_source(path) as source:
        for frame in source:
            out.append(_resized(frame.rgb, size))
            if len(out) == frames:
                break
    return out


def read_still(data: Path, random: np.random.Generator, size: Size) -> tuple[NDArray[np.float32], str]:
    """A landscape photograph drawn at random that covers `size`, and its name."""
    for path in random.permutation([str(p) for p in pictures_in(data / "stills")]):
        picture = read_rgb(Path(path))
        if picture.shape[1] >= max(450, 1.2 * picture.shape[0]):
            return cover(picture, size).astype(np.float32), Path(path).name
    raise SystemExit(f"{data / 'stills'}: no landscape photograph of 450 or more pixels width")


def camera_path(pictures: Sequence[Image], masks: Sequence[Mask], step: int = 5) -> float:
    """Length in pixels of the way of the background through the frames; 0 for a camera that rests."""
    greys = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in pictures[::step]]
    length = 0.0
    for before, after, mask in zip(greys, greys[1:], masks[::step], strict=False):
        free = cv2.erode(np.uint8(1) - mask.astype(np.uint8), np.ones((9, 9), np.uint8))
        corners = cv2.goodFeaturesToTrack(before, 200, 0.01, 8, mask=free)
        if corners is None:
            continue
        moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None)
        good = found[:, 0] > 0
        if np.count_nonzero(good) > 10:
            length += float(np.median(np.linalg.norm((moved - corners)[good].reshape(-1, 2), axis=1)))
    return length


def cover(picture: Image, size: Size, most: float = 2.6) -> Image:
    """Scale to cover `size`, at most `most` times; what is missing then is mirrored on."""
    width, height = size
    scale = min(max(width / picture.shape[1], height / picture.shape[0]) + 1e-6, most)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    out = np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=way))
    more_y, more_x = max(0, height - out.shape[0]), max(0, width - out.shape[1])
    border = more_y // 2, more_y - more_y // 2, more_x // 2, more_x - more_x // 2
    out = np.asarray(cv2.copyMakeBorder(out, *border, cv2.BORDER_REFLECT), np.uint8)
    top, left = (out.shape[0] - height) // 2, (out.shape[1] - width) // 2
    return out[top : top + height, left : left + width]


def _resized(picture: Image, size: Size) -> Image:
    shrinks = picture.shape[1] > size[0]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size, interpolation=way), np.uint8)


def _grey(mask: Mask) -> NDArray[np.uint8]:
    return mask.astype(np.uint8) * np.uint8(255)
