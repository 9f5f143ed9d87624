"""A clip whose clean truth is known, composed from photographs that come inside other packages.

The palace is scikit-learn's `china.jpg` (danielbuechele, CC BY 2.0), the person scikit-image's
`astronaut.png` (NASA, public domain). The person, cut out along a polygon of ours, photobombs the handheld
view: in from the left, out to the right.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from stream.arrays import f32, u8
from stream.errors import EngineError
from stream.types import Image

FRAMES, RATE = 90, 25
WIDTH, HEIGHT = 592, 368
_BUST = (
    (27, 346), (33, 318), (38, 290), (44, 269), (54, 253), (70, 243), (86, 236), (104, 224), (119, 212),
    (117, 198), (120, 184), (130, 170), (146, 159), (166, 152), (184, 150), (183, 132), (172, 122),
    (161, 111), (155, 96), (153, 78), (156, 62), (164, 47), (178, 35), (192, 26), (208, 19), (228, 16),
    (248, 18), (266, 24), (282, 36), (293, 50), (299, 66), (300, 84), (297, 104), (288, 119), (276, 130),
    (266, 138), (261, 152), (257, 172), (272, 184), (286, 198), (297, 214), (302, 232), (314, 240),
    (326, 250), (338, 264), (346, 282), (352, 302), (357, 322), (360, 346),
)  # fmt: skip
"""Outline of head and shoulders in `astronaut.png`, pixels; the helmet on the table stays behind."""


@dataclass(frozen=True)
class Scene:
    """The composed clip: `frames` as a camera saw them, `truth` without the person, `person` its mask."""

    frames: tuple[Image, ...]
    truth: tuple[Image, ...]
    person: tuple[NDArray[np.bool_], ...]


def compose(seed: int = 1) -> Scene:
    """Render the clip: handheld camera, sensor noise (sigma 1.5), one person crossing.

    Raises `EngineError` when the packages with the photographs are not installed.
    """
    palace, bust, alpha = photographs()
    random = np.random.default_rng(seed)
    paths = [_shake(random) for _ in range(3)]
    frames, truth, person = [], [], []
    for index in range(FRAMES):
        shift_x, shift_y, turn = paths[0][index] * 7, paths[1][index] * 5, paths[2][index] * 0.5
        view = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), float(turn), 1.0)
        view[:, 2] += (shift_x - (palace.shape[1] - WIDTH) / 2, shift_y - (palace.shape[0] - HEIGHT) / 2)
        clean = _seen_through(view, palace)
        walked = (index - 8) / (FRAMES - 20)
        left = -bust.shape[1] + walked * (WIDTH + bust.shape[1]) + shift_x
        top = HEIGHT - bust.shape[0] + 6 * abs(np.sin(index * 0.35)) + 3
        place = np.array([[1, 0, left], [0, 1, top]], np.float32)
        there = f32(cv2.warpAffine(alpha, place, (WIDTH, HEIGHT)))[..., None]
        shown = f32(cv2.warpAffine(bust, place, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE))
        noise = random.standard_normal(clean.shape, dtype=np.float32) * 1.5
        both = clean * (1 - there) + shown * there
        truth.append(_bytes(clean + noise))
        frames.append(_bytes(both + noise))
        person.append(there[..., 0] > 0.02)
    return Scene(tuple(frames), tuple(truth), tuple(person))


def write_clip(frames: tuple[Image, ...], path: Path) -> None:
    """Encode RGB frames as H.264 at `RATE` frames per second, visually lossless."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "12", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def psnr(one: Image, other: Image, where: NDArray[np.bool_]) -> float:
    """Peak signal-to-noise ratio over the pixels of `where`, in dB."""
    error = (one[where].astype(np.float32) - other[where].astype(np.float32)) ** 2
    return float(10 * np.log10(255**2 / max(float(error.mean()), 1e-6)))


def side_by_side(before: Image, after: Image) -> Image:
    """Before on the left, after on the right, a white line between."""
    line = np.full((before.shape[0], 4, 3), 255, np.uint8)
    return np.hstack([before, line, after])


def _seen_through(view: NDArray[Any], scene: Image) -> NDArray[np.float32]:
    """The scene as a camera sees it: rendered at twice the size and averaged, as a sensor does."""
    finer = np.diag([2.0, 2.0]) @ view
    large = cv2.warpAffine(
        scene, finer, (2 * WIDTH, 2 * HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    return f32(cv2.resize(large, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32))


def photographs() -> tuple[Image, NDArray[np.float32], NDArray[np.float32]]:
    """The palace, the person (float32 RGB) and the person's soft alpha in [0, 1]."""
    person = _photograph("skimage", "data/astronaut.png")[:346].astype(np.float32)
    outline = np.zeros(person.shape[:2], np.uint8)
    cv2.fillPoly(outline, [np.array(_BUST, np.int32)], 255, lineType=cv2.LINE_AA)
    alpha = cv2.GaussianBlur(outline, (0, 0), 1.2).astype(np.float32) / 255
    size = (round(person.shape[1] * 0.62), round(person.shape[0] * 0.62))
    small = f32(cv2.resize(person, size, interpolation=cv2.INTER_AREA))
    soft = f32(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA))
    return _photograph("sklearn", "datasets/images/china.jpg"), small, soft


def _photograph(package: str, inside: str) -> Image:
    """Read a picture that lies in an installed package, which is not imported (that takes seconds)."""
    found = find_spec(package)
    places = found.submodule_search_locations if found is not None else None
    path = Path(places[0]) / inside if places else None
    if path is None or not path.is_file():
        raise EngineError("the demo's photographs are not installed", hint="pip install 'cleanplate[demo]'")
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise EngineError("a photograph of the demo cannot be read", where=str(path))
    return u8(picture)


def _shake(random: np.random.Generator) -> NDArray[np.float64]:
    """A smooth random path of `FRAMES` steps with peak 1, as a hand makes."""
    steps = random.normal(size=FRAMES + 40)
    smooth = np.convolve(steps, np.hanning(31), mode="same")[20 : 20 + FRAMES]
    smooth -= smooth.mean()
    return np.asarray(smooth / np.abs(smooth).max())


def _bytes(image: NDArray[np.floating[Any]]) -> Image:
    return u8(np.clip(image + 0.5, 0, 255).astype(np.uint8))
