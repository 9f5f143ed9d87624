"""The user's other pictures of the place: photographs and clips of a folder, read, reduced and described."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from configs.schema import Config
from stream import perceive
from stream.arrays import Bytes, u8
from stream.elsewhere import Use
from stream.errors import CleanplateError, InputError
from stream.opinions import ANIMATE
from stream.places import EVERYONE, Picture, keep
from stream.source import open_source
from stream.source_images import IMAGE_SUFFIXES, natural_key
from stream.source_info import SourceInfo
from stream.types import Frame, Image

VIDEO_SUFFIXES = frozenset(
    {
        ".mp4",
        ".mov",
        ".m4v",
        ".mkv",
        ".webm",
        ".avi",
        ".mts",
        ".m2ts",
        ".mpg",
        ".mpeg",
        ".3gp",
        ".wmv",
        ".gif",
    }
)
MOST_PICTURES = 96
"""Pictures kept at most, frames of clips included."""

MOST_BYTES = 192 << 20
"""Memory for them, compressed, after which no further file is read."""

_COME_AND_GO = ANIMATE | {
    *("bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("backpack", "umbrella", "handbag", "suitcase"),
}
_PER_CLIP = 12
_LOOKED_AT = 5
_LARGER = 2.25
_LINES = 320

Things = Callable[[Image], Bytes]
"""uint8 RGB -> uint8 0 or 1 at any size: where somebody or something is that does not belong to the place."""


@dataclass(frozen=True)
class References:
    """What was read: pictures, and for each file that could not be, why."""

    pictures: tuple[Picture, ...] = ()
    refused: tuple[Use, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line for each file that could not be read."""
        return tuple(f"the reference {each.file} was left out: {each.reason}" for each in self.refused)


def find_references(folder: Path, clip: SourceInfo) -> list[Path]:
    """The pictures and clips of a folder in natural order, the cleaned clip itself apart.

    Raises `InputError` when there is no such folder, or nothing of the kind in it.
    """
    if not folder.exists():
        raise InputError("there is no such folder of references", where=str(folder))
    if not folder.is_dir():
        hint = "give the folder that it is in"
        raise InputError("the references are no folder", where=str(folder), hint=hint)
    known = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    try:
        found = [each for each in folder.iterdir() if each.suffix.lower() in known]
    except OSError as error:
        raise InputError(f"the folder cannot be read: {error.strerror}", where=str(folder)) from None
    found = [each for each in found if not each.name.startswith(".") and each.is_file()]
    itself = Path(clip.path)
    found = [each for each in found if not (itself.exists() and each.samefile(itself))]
    if not found:
        hint = f"known are {' '.join(sorted(suffix[1:] for suffix in known))}"
        raise InputError("there are no pictures or clips in the references", where=str(folder), hint=hint)
    return sorted(found, key=lambda each: natural_key(each.name))


def read_references(files: Sequence[Path], clip: SourceInfo, things: Things | None = None) -> References:
    """Read pictures and clips of the place that `clip` shows.

    Pictures are turned as `clip` is and reduced to a little more than its size; of a clip the sharpest frames
    of places spread over it are taken. A file that cannot be read is named in the result; raises `InputError`
    when none can.
    """
    refused: list[Use] = []
    pictures: list[Picture] = []
    for number, file in enumerate(files):
        room = MOST_PICTURES - len(pictures) - (len(files) - number - 1)
        if len(pictures) >= MOST_PICTURES or sum(each.nbytes for each in pictures) > MOST_BYTES:
            refused.append(Use(file.name, 0, False, f"the first {len(pictures)} pictures are enough"))
            continue
        try:
            for frame in _frames(file, max(1, min(_PER_CLIP, room))):
                pictures.append(_picture(frame, file.name, clip, things))
        except CleanplateError as error:
            refused.append(Use(file.name, 0, False, error.what))
    if not pictures:
        raise InputError(f"no reference can be read: {refused[0].reason}", where=str(files[0]))
    return References(tuple(pictures), tuple(refused))


def things_of(networks: perceive.Networks, config: Config, clip: SourceInfo) -> Things:
    """Find who and what does not belong to a place with the clip's own segmentator.

    Pictures of another shape are fitted into one of the clip's size.
    """

    def things(rgb: Image) -> Bytes:
        height, width = rgb.shape[:2]
        factor = min(clip.width / width, clip.height / height)
        size = max(1, round(width * factor)), max(1, round(height * factor))
        fitted = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
        right, below = clip.width - size[0], clip.height - size[1]
        whole = u8(cv2.copyMakeBorder(fitted, 0, below, 0, right, cv2.BORDER_REPLICATE))
        frame = Frame(0, 0, Fraction(1), (whole,), "rgb24", clip.width, clip.height, rotation=clip.rotation)
        found = perceive.perceive(networks, frame, look_at_stuff=False, config=config).instances
        out = np.zeros((clip.height, clip.width), np.uint8)
        for each in found:
            if each.label in _COME_AND_GO:
                mask = each.mask.astype(np.uint8)
                out |= u8(cv2.resize(mask, (clip.width, clip.height), interpolation=cv2.INTER_NEAREST))
        # Feet and the shadow under them are often missed, and nothing is lost by taking less.
        r = max(1, round(8 * clip.height / 360))
        out = u8(cv2.dilate(out, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * r + 1, 2 * r + 1))))
        return np.ascontiguousarray(out[: size[1], : size[0]])

    return things


def _frames(file: Path, most: int) -> Iterator[Frame]:
    """A picture, or the sharpest of a few frames at each of `most` places spread over a clip."""
    with open_source(file) as source:
        info = source.info
        first = next(iter(source), None)
    if first is None:
        raise InputError("no picture in it could be decoded", where=str(file))
    if info.kind == "image" or not info.seconds or info.seconds < 0.5:
        yield first
        return
    places = min(most, max(1, int(info.seconds)))
    for k in range(places):
        start = Fraction(info.seconds).limit_denominator(1000) * (2 * k + 1) / (2 * places)
        try:
            with open_source(file, start=start) as source:
                found = [frame for frame, _ in zip(source, range(_LOOKED_AT), strict=False)]
        except CleanplateError:
            # damaged or shorter than it says: what can be reached serves
            continue
        if found:
            yield max(found, key=_sharpness)


def _sharpness(frame: Frame) -> float:
    grey = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(small, cv2.CV_32F).var())


def _picture(frame: Frame, file: str, clip: SourceInfo, things: Things | None) -> Picture:
    quarter = (frame.rotation - clip.rotation) // 90 % 4
    rgb = u8(np.ascontiguousarray(np.rot90(frame.rgb, -quarter)))
    factor = min(1.0, (_LARGER * clip.width * clip.height / (rgb.shape[0] * rgb.shape[1])) ** 0.5)
    if factor < 1:
        size = max(16, round(rgb.shape[1] * factor)), max(16, round(rgb.shape[0] * factor))
        rgb = u8(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))
    covered = np.zeros((max(1, rgb.shape[0] // 4), max(1, rgb.shape[1] // 4)), np.uint8)
    if things is not None:
        covered = things(rgb)
    lines = min(1.0, _LINES / rgb.shape[0])
    size = max(16, round(rgb.shape[1] * lines)), max(16, round(rgb.shape[0] * lines))
    grey = u8(cv2.cvtColor(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY))
    labels = covered.astype(np.uint16) * np.uint16(EVERYONE)
    return keep(rgb, labels, file=file, seconds=float(frame.time), grey=grey)
