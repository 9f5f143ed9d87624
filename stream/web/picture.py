"""One shown frame as the page gets it: JPEG before and after, the outlines of things, their thumbnails.

A picture on the wire: the length of a head as uint32 (little-endian), the head as JSON, the JPEG of the
cleaned picture, and where it is wanted the JPEG of the picture as it came. The head:
`n` number of the frame, `w`, `h` size in pixels, `a` length of the first JPEG in bytes,
`t` things, the largest first: [id, 1 if it goes else 0, rings], a ring being a flat list x, y, x, y ... in
1/10000 of width and height.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.arrays import u8
from stream.types import Image, Mask, Track

if TYPE_CHECKING:
    from stream.live_run import Shown

LONGEST_SIDE = 1280
"""Larger pictures are made smaller for the page; the recording has them whole."""

UNITS = 10_000
_QUALITY = 82
_MOST_THINGS = 40
_MOST_RINGS = 4
_THUMB = 112


@dataclass(frozen=True)
class Picture:
    """A frame on the wire, encoded once for all viewers; `both` only when somebody compares.

    `captured`: when its light was caught, on this process's monotonic clock in seconds.
    """

    number: int
    captured: float
    after: bytes
    both: bytes | None


def make_picture(shown: Shown, *, compare: bool) -> Picture:
    """Encode a frame; takes a few milliseconds and belongs in a thread."""
    captured = monotonic() - shown.latency_seconds
    after = _smaller(shown.image)
    cleaned = jpeg(after)
    removed = {verdict.track for verdict in shown.verdicts if verdict.action == "remove"}
    things = [
        [track.id, int(track.id in removed), rings(track, shown.image.shape)]
        for track in sorted(shown.tracks, key=lambda each: -each.area)[:_MOST_THINGS]
        if track.confirmed
    ]
    head = {"n": shown.number, "w": after.shape[1], "h": after.shape[0], "a": len(cleaned), "t": things}
    alone = _packed(head, cleaned)
    both = _packed(head, cleaned, jpeg(_smaller(shown.before))) if compare else None
    return Picture(shown.number, captured, alone, both)


def jpeg(image: Image, quality: int = _QUALITY) -> bytes:
    """Encode RGB as JPEG."""
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise ValueError(f"a picture of {image.shape} cannot be encoded")
    return data.tobytes()


def rings(track: Track, shape: tuple[int, ...]) -> list[list[int]]:
    """Outlines of a thing in 1/10000 of the picture's width and height; its box where the mask is empty."""
    found = _contours(track.instance.mask)
    if not found:
        x0, y0, x1, y1 = track.instance.box
        across, down = shape[1], shape[0]
        found = [np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]) / (across, down)]
    return [_whole_numbers(each) for each in found]


def thumbnail(shown: Shown, track: Track) -> bytes:
    """A square JPEG of a thing as it came, with a little around it."""
    before = shown.before
    height, width = before.shape[:2]
    x0, y0, x1, y1 = track.instance.box
    side = min(max(x1 - x0, y1 - y0, 16) * 1.15, width, height)
    # of tall things the upper part says more
    middle = (y0 + y1) / 2 if y1 - y0 <= side else y0 - 0.05 * side + side / 2
    left = round(min(max((x0 + x1 - side) / 2, 0), width - side))
    top = round(min(max(middle - side / 2, 0), height - side))
    part = before[top : top + max(1, int(side)), left : left + max(1, int(side))]
    small = u8(cv2.resize(part, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA))
    return jpeg(small, 80)


def _contours(mask: Mask) -> list[NDArray[np.float64]]:
    height, width = mask.shape
    x, y, wide, high = cv2.boundingRect(mask.view(np.uint8))
    if wide == 0 or high == 0:
        return []
    part = np.ascontiguousarray(mask[y : y + high, x : x + wide]).view(np.uint8)
    lines, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    largest = sorted(lines, key=cv2.contourArea, reverse=True)[:_MOST_RINGS]
    smooth = (cv2.approxPolyDP(line, 0.8, True)[:, 0] for line in largest)
    # outer sides of the pixels would be half a pixel farther; nobody sees it
    return [(line + np.array([x + 0.5, y + 0.5])) / (width, height) for line in smooth if len(line) >= 3]


def _whole_numbers(points: NDArray[np.float64]) -> list[int]:
    found: list[int] = np.clip(np.rint(points * UNITS), 0, UNITS).astype(int).ravel().tolist()
    return found


def _smaller(image: Image) -> Image:
    height, width = image.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return u8(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _packed(head: dict[str, object], *pictures: bytes) -> bytes:
    text = json.dumps(head, separators=(",", ":")).encode()
    return b"".join((struct.pack("<I", len(text)), text, *pictures))
