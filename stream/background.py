"""The scene without things, as frames show it that are far enough away in time for things to have gone on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from stream import geometry
from stream.arrays import Bytes, Float, f32, u8
from stream.plate import Memory, Plate, scale_to
from stream.pose import by_chain

_FAR = (14, 28, 50, 20, 36, 10, 64, 80, 100, 130, 160)
_NEAR = (7, 5, 3, 2, 1)
"""Frames that must do at the beginning of a shot, where there are none farther away."""

_SOURCES = 6
_FEWEST = 3
_FRESH = 8
"""Frames for which a background serves before it is made anew."""

_LIKE = np.exp(-np.square(np.arange(256)) / (2 * 12.0 * 12.0)).astype(np.float32)


@dataclass(frozen=True)
class Background:
    """The scene without things at one frame: uint8 RGB at the size at which sources are compared, and where
    enough other frames agree on it (uint8 0 or 1). `calm`: they agree nearly everywhere, so that what differs
    is a thing and not the way this scene is (a crowd, waves, leaves). `whole`: there were frames enough, so
    that it would not be found better a moment later. `settled`: they are so far apart that what passes has
    gone on."""

    rgb: Bytes
    sure: Bytes
    calm: bool
    whole: bool
    settled: bool = True

    @cached_property
    def range(self) -> tuple[Bytes, Bytes]:
        """The least and the most of each pixel and its neighbours."""
        near = np.ones((3, 3), np.uint8)
        return u8(cv2.erode(self.rgb, near)), u8(cv2.dilate(self.rgb, near))

    @cached_property
    def dimmed(self) -> Bytes:
        """Grey, a little darker: what is darker still is in shadow, or something else."""
        grey = cv2.medianBlur(u8(cv2.cvtColor(self.rgb, cv2.COLOR_RGB2GRAY)), 3)
        return u8(cv2.convertScaleAbs(grey, alpha=0.94))

    @cached_property
    def smooth(self) -> Bytes:
        """Without noise."""
        return u8(cv2.GaussianBlur(self.rgb, (0, 0), 1.5))


def brightness(smooth: Bytes) -> Float:
    """The sum of three channels, nowhere quite 0."""
    r, g, b = cv2.split(smooth)
    return f32(cv2.add(cv2.add(r, g, dtype=cv2.CV_16U), b, dtype=cv2.CV_32F)) + np.float32(9)


def background(plate: Plate, memory: Memory) -> Background | None:
    """The scene at a remembered frame; None when too few frames are known or it is too deep to align them.

    Made anew every few frames, or until there are frames enough, and otherwise moved with the camera.
    """
    last = min(plate.backgrounds, key=lambda index: abs(index - memory.index), default=None)
    there = None if last is None else plate.memory(last)
    if last is not None and there is not None and abs(last - memory.index) < _FRESH:
        moved = _moved(plate.backgrounds[last], there, memory, plate)
        if moved is not None:
            return moved
    found = _find(plate, memory)
    if found is not None and found.whole:
        plate.backgrounds[memory.index] = found
    return found


def _moved(known: Background, there: Memory, memory: Memory, plate: Plate) -> Background | None:
    """A background found at another frame, brought to this one."""
    if there.view.pose == memory.view.pose:
        picture, sure = known.rgb, known.sure
    elif plate.trust < 0.3 or (into := _into(there, memory)) is None:
        return None
    else:
        size = known.sure.shape[1], known.sure.shape[0]
        picture = u8(cv2.warpPerspective(known.rgb, into, size, flags=cv2.INTER_CUBIC))
        sure = u8(cv2.warpPerspective(known.sure, into, size, flags=cv2.INTER_NEAREST))
    if there is not memory:
        picture = _exposed(picture, sure, memory)
    if picture is known.rgb:
        return known
    return Background(picture, sure, known.calm, known.whole, known.settled)


def _into(other: Memory, memory: Memory) -> geometry.Homography | None:
    """The map from another frame to this one at the size at which sources are compared."""
    shape = memory.half.shape
    to_half = scale_to(shape, memory.frame.width, memory.frame.height)
    into = to_half @ by_chain(other.view, memory.view) @ geometry.inverse(to_half)
    return into if geometry.plausible(into, shape[1], shape[0], most=0.8) else None


def _find(plate: Plate, memory: Memory) -> Background | None:
    chosen = _distant(plate, memory)
    if len(chosen) < 3:
        return None
    shape = memory.half.shape[:2]
    size = shape[1], shape[0]
    pictures, weights = [], []
    for other in chosen:
        clear = u8(1 - grown(other.things, 2.0))
        if other.view.pose == memory.view.pose:
            picture = other.half
        elif (into := _into(other, memory)) is None:
            continue
        else:
            picture = u8(cv2.warpPerspective(other.half, into, size, flags=cv2.INTER_LINEAR))
            clear = u8(cv2.warpPerspective(clear, into, size, flags=cv2.INTER_NEAREST))
        pictures.append(_exposed(picture, clear, memory))
        weights.append(clear)
    if len(pictures) < 3:
        return None
    greys = [u8(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY)) for p in pictures]
    support: list[Float] = [w.astype(np.float32) for w in weights]
    for i in range(len(greys)):
        for j in range(i + 1, len(greys)):
            like = f32(cv2.LUT(cv2.absdiff(greys[i], greys[j]), _LIKE))
            support[i] += like * weights[j]
            support[j] += like * weights[i]
    best, answer = np.zeros(shape, np.float32), pictures[0].copy()
    count = np.zeros(shape, np.uint8)
    for picture, weight, backing in zip(pictures, weights, support, strict=True):
        backing *= weight
        better = cv2.compare(backing, best, cv2.CMP_GT)
        cv2.copyTo(backing, better, best)
        cv2.copyTo(picture, better, answer)
        count += weight
    sure = ((count >= 3) & (best > 0.6 * count)).astype(np.uint8)
    asked = np.count_nonzero(count >= 3)
    calm = bool(np.count_nonzero(sure) > 0.93 * asked and asked > 0.5 * count.size)
    settled = min(abs(other.index - memory.index) for other in chosen) >= min(_FAR) - 2
    return Background(answer, sure, calm, len(pictures) == _SOURCES, settled)


def _distant(plate: Plate, memory: Memory) -> list[Memory]:
    """Memories at least ten frames away on both sides; seen from the same place, where they are enough."""
    same = _among([m for m in plate.memories if m.view.pose == memory.view.pose], memory)
    if len(same) == _SOURCES or plate.trust < 0.3:
        return same
    return _among(list(plate.memories), memory)


def _among(pool: list[Memory], memory: Memory) -> list[Memory]:
    indices = np.array([m.index for m in pool])
    chosen: dict[int, Memory] = {}
    for offset in (*_FAR, *_NEAR):
        if offset in _NEAR and len(chosen) >= _FEWEST:
            break
        for sign in (-1, 1):
            apart = np.abs(indices - (memory.index + sign * offset))
            nearest = int(np.argmin(apart))
            if apart[nearest] <= max(2, offset // 5):
                chosen[nearest] = pool[nearest]
        if len(chosen) >= _SOURCES:
            break
    return list(chosen.values())[:_SOURCES]


def _exposed(picture: Bytes, clear: Bytes, memory: Memory) -> Bytes:
    """A picture at the exposure of `memory`, by the means of what both see of the background."""
    both = u8(clear & (1 - memory.things))
    if np.count_nonzero(both) < 200:
        return picture
    have, want = cv2.mean(picture, both)[:3], cv2.mean(memory.half, both)[:3]
    gains = [min(1.6, max(0.6, w / max(h, 1.0))) for h, w in zip(have, want, strict=True)]
    if max(abs(g - 1) for g in gains) < 0.01:
        return picture
    return u8(
        cv2.convertScaleAbs(cv2.transform(picture.astype(np.float32), np.diag(gains).astype(np.float32)))
    )


def fit(mask: Bytes, shape: tuple[int, ...]) -> Bytes:
    """A 0/1 mask at another size, 1 wherever a quarter of a pixel or more was."""
    if mask.shape == shape[:2]:
        return mask
    # Areas are only averaged where several pixels become one: it takes ten times as long.
    how = cv2.INTER_AREA if mask.shape[0] >= 2 * shape[0] else cv2.INTER_LINEAR
    sized = cv2.resize(mask * np.uint8(255), shape[1::-1], interpolation=how)
    return u8(cv2.threshold(sized, 60, 1, cv2.THRESH_BINARY)[1])


def grown(mask: Bytes, reach: float) -> Bytes:
    """A 0/1 mask grown by `reach` pixels; large reaches by a square, which costs little."""
    r = max(1, round(reach))
    if r <= 3:
        return u8(cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * r + 1, 2 * r + 1))))
    r = max(3, round(0.9 * reach))
    return u8(cv2.dilate(mask, np.ones((2 * r + 1, 2 * r + 1), np.uint8)))
