"""A picture laid over a frame: checked around the hole, carried along, brought into the hole."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from models.words import Features
from stream import align, geometry
from stream.arrays import Bytes, Float, f32, u8
from stream.boxes import Box
from stream.geometry import Homography, Points
from stream.places import Picture, describe_place
from stream.plate import Memory, scale_to
from stream.pose import View, relate
from stream.types import Frame, Hole, Image

_STRANGE = 0.3
_ERROR = 16.0
_ALIKE = 0.6
_LEAST = 0.03
_SAMPLES = 200
_SETTLED = 0.35
_COARSE = 16

Refused = Literal["place", "view", "changed", "useless"]
"""Why a picture does not serve: another place, seen from too far aside, something else stands around the
hole, or it does not show what is missing."""


@dataclass(frozen=True)
class Question:
    """What is missing in a frame: the `unseen` pixels (uint8 0 or 1) of `box`.

    `patch`: the box's pixels with what is known of the hole laid in. `forbidden`: ids of tracks that are
    never background.
    """

    frame: Frame
    view: View
    memory: Memory
    hole: Hole
    box: Box
    patch: Image
    unseen: Bytes
    forbidden: frozenset[int]
    _moved: dict[int, Homography] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """The frame's time."""
        return float(self.frame.time)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frame."""
        return self.frame.width, self.frame.height

    @cached_property
    def samples(self) -> Points:
        """Up to 200 of the missing pixels, (x, y) in the frame."""
        ys, xs = np.nonzero(self.unseen)
        take = np.linspace(0, len(xs) - 1, min(len(xs), _SAMPLES)).astype(int)
        return np.stack([xs[take] + self.box[0], ys[take] + self.box[1]], 1).astype(np.float32)

    @cached_property
    def look(self) -> align.Look:
        """The frame with what is known of the hole laid in; clear outside all things and what is missing."""
        x0, y0, x1, y1 = self.box
        rgb = self.frame.rgb.copy()
        rgb[y0:y1, x0:x1] = self.patch
        labels = (self.memory.labels == 0).astype(np.uint8)
        clear = u8(cv2.resize(labels, self.size, interpolation=cv2.INTER_NEAREST))
        clear[self.hole.alpha > 0] = 0
        clear[y0:y1, x0:x1][(self.hole.alpha[y0:y1, x0:x1] > 0) & (self.unseen == 0)] = 1
        return align.look(rgb, u8(cv2.erode(clear, np.ones((3, 3), np.uint8))))

    @cached_property
    def corners(self) -> Points:
        """Corners of the frame for sharpening fits."""
        return align.corners_of(self.look)

    def moved(self, view: View) -> Homography:
        """From pixels of an earlier view of the shot to those of this frame."""
        if view.index not in self._moved:
            self._moved[view.index] = relate(view, self.view)
        return self._moved[view.index]

    @cached_property
    def gap(self) -> Bytes:
        """What is missing, 0 or 1 at the look's size."""
        x0, y0, x1, y1 = self.box
        whole = np.zeros(self.size[::-1], np.uint8)
        whole[y0:y1, x0:x1] = self.unseen * np.uint8(255)
        small = cv2.resize(whole, self.look.grey.shape[::-1], interpolation=cv2.INTER_AREA)
        return u8((np.asarray(small) > 60).astype(np.uint8))

    @cached_property
    def features(self) -> Features:
        """The frame's own features outside its things and its hole."""
        labels = self.memory.labels
        hole = cv2.resize(self.hole.alpha, labels.shape[::-1], interpolation=cv2.INTER_AREA)
        blocked = np.where(np.asarray(hole) > 0, np.uint16(1), labels).astype(np.uint16)
        return describe_place(self.memory.grey, blocked, self.size)


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """A picture laid over the frame of `view` by `forward`, which maps its pixels to the frame's.

    `rgb` and `small`: the picture and a reduced copy; `own`: 1 where it is covered for those who forbid
    `ids`, `cover`: where it may not be used; `gain`: float32 RGB factors, coarse, over the picture. `error`:
    how far it was off around the hole, grey levels; `checked`: when, seconds. `steady`: that check found it
    where the camera's motion had carried it.
    """

    picture: Picture
    rgb: Image
    small: Image
    own: Bytes
    cover: Bytes
    ids: frozenset[int]
    forward: Homography
    view: View
    gain: Float
    error: float
    checked: float
    points: int
    steady: bool = False


def lay(picture: Picture, fit: align.Fit, question: Question) -> Aligned | Refused:
    """Lay a picture over the question's frame, starting from a fit to its features."""
    rgb, own = picture.rgb(), picture.covered(question.forbidden)
    start = Aligned(
        picture=picture,
        rgb=rgb,
        small=align.reduced(rgb),
        own=own,
        cover=own,
        ids=question.forbidden,
        forward=fit.forward,
        view=question.view,
        gain=np.ones((1, 1, 3), np.float32),
        error=0.0,
        checked=question.seconds,
        points=fit.points,
    )
    return check(start, question, sharpen=True)


def check(aligned: Aligned, question: Question, *, sharpen: bool) -> Aligned | Refused:
    """Hold a laid picture against the frame: does it still agree around the hole, and how do colours match?

    With `sharpen` the homography is fitted anew first.
    """
    seen, picture = question.look, aligned.picture
    forward, steady = now(aligned, question), aligned.steady
    if not align.possible(forward, picture.size, *question.size):
        return "view"
    if sharpen:
        grey = u8(cv2.cvtColor(aligned.small, cv2.COLOR_RGB2GRAY))
        middle = question.samples.mean(0)
        around = float(middle[0]), float(middle[1])
        fitted = align.sharpen(forward, grey, picture.size, seen, question.corners, around)
        if fitted is None:
            return "place"
        step = fitted.forward @ geometry.inverse(forward)
        steady = geometry.corner_motion(step, *question.size) < question.frame.height / 360
        forward = _settled(fitted.forward, picture, question)
        if not align.possible(forward, picture.size, *question.size):
            return "view"
    shape, size = seen.grey.shape, seen.grey.shape[::-1]
    own = aligned.own if aligned.ids == question.forbidden else picture.covered(question.forbidden)
    from_small = _between(aligned.small.shape, picture, forward, seen)
    from_cover = _between(own.shape, picture, forward, seen)
    laid = u8(cv2.warpPerspective(aligned.small, from_small, size, flags=cv2.INTER_LINEAR))
    hidden = u8(cv2.warpPerspective(own, from_cover, size, flags=cv2.INTER_NEAREST))
    valid = u8(align.inside(from_small, aligned.small.shape, shape) & (1 - hidden))
    field = align.balance(laid, seen, u8(valid & seen.clear))
    wide = f32(cv2.resize(field, size, interpolation=cv2.INTER_LINEAR))
    agreed = align.agreement(align.matched(laid, wide), valid, seen, question.gap)
    if agreed is None:
        return "useless"
    # In foliage all is apart a little, and yet alike; on plain ground it is the other way round.
    if agreed.strange > _STRANGE or (agreed.error > _ERROR and agreed.alike < _ALIKE):
        return "changed"
    gap = question.gap
    if cv2.countNonZero(gap & valid & agreed.trusted) < _LEAST * cv2.countNonZero(gap):
        return "useless"
    # What was learnt over the frame is kept over the picture, so that it moves with it.
    doubt = u8(
        cv2.warpPerspective(
            u8(1 - agreed.trusted), geometry.inverse(from_cover), own.shape[::-1], flags=cv2.INTER_NEAREST
        )
    )
    coarse = max(1, picture.size[1] // _COARSE), max(1, picture.size[0] // _COARSE)
    to_field = scale_to(field.shape, shape[1], shape[0]) @ _between(coarse, picture, forward, seen)
    gain = cv2.warpPerspective(
        field,
        geometry.inverse(to_field),
        coarse[::-1],
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return replace(
        aligned,
        own=own,
        cover=u8(own | doubt),
        ids=question.forbidden,
        forward=forward,
        view=question.view,
        gain=f32(gain),
        error=agreed.error,
        checked=question.seconds,
        steady=steady,
    )


def now(aligned: Aligned, question: Question) -> Homography:
    """The map from a laid picture's pixels to those of the question's frame."""
    if aligned.view.pose == question.view.pose:
        return aligned.forward
    moved = question.moved(aligned.view) @ aligned.forward
    return np.asarray(moved / moved[2, 2], np.float64)


def shows(aligned: Aligned, question: Question) -> NDArray[np.bool_]:
    """Which of the question's samples a laid picture shows."""
    at = geometry.apply(geometry.inverse(now(aligned, question)), question.samples)
    at = np.nan_to_num(at, nan=-1.0, posinf=-1.0, neginf=-1.0)
    w, h = aligned.picture.size
    inside = (at >= 2).all(1) & (at[:, 0] <= w - 3) & (at[:, 1] <= h - 3)
    shape = aligned.cover.shape
    place = geometry.apply(scale_to(shape, w, h), np.where(inside[:, None], at, 0).astype(np.float32))
    x = np.clip(np.rint(place[:, 0]), 0, shape[1] - 1).astype(int)
    y = np.clip(np.rint(place[:, 1]), 0, shape[0] - 1).astype(int)
    return np.asarray(inside & (aligned.cover[y, x] == 0), np.bool_)


def bring(aligned: Aligned, question: Question, box: Box, times: int = 1) -> tuple[Image, Bytes]:
    """A laid picture's pixels in a box of the frame, colours matched, and where they may be used (0 or 1).

    `times`: how many pixels of the frame become one; only 1 takes the picture at its full size.
    """
    x0, y0, x1, y1 = box
    size = max(1, (x1 - x0) // times), max(1, (y1 - y0) // times)
    forward = now(aligned, question)
    shrink = geometry.scaling(size[0] / (x1 - x0), size[1] / (y1 - y0))
    into = shrink @ geometry.shifting(-x0, -y0) @ forward
    picture = aligned.picture
    pixels = aligned.rgb if times == 1 else aligned.small
    if times == 1 and picture.size == question.size and np.array_equal(forward, np.eye(3)):
        rgb = pixels[y0:y1, x0:x1]
    else:
        how = cv2.INTER_CUBIC if times == 1 else cv2.INTER_LINEAR
        from_pixels = into @ geometry.inverse(scale_to(pixels.shape, *picture.size))
        rgb = u8(cv2.warpPerspective(pixels, from_pixels, size, flags=how, borderMode=cv2.BORDER_REPLICATE))
    from_cover = into @ geometry.inverse(scale_to(aligned.cover.shape, *picture.size))
    cover = cv2.warpPerspective(
        aligned.cover, from_cover, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
    )
    # The gain is smooth: it is laid over at a quarter of the size.
    few = max(1, size[0] // 4), max(1, size[1] // 4)
    quarter = geometry.scaling(few[0] / size[0], few[1] / size[1])
    from_gain = quarter @ into @ geometry.inverse(scale_to(aligned.gain.shape, *picture.size))
    gain = cv2.warpPerspective(
        aligned.gain, from_gain, few, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    wide = f32(cv2.resize(gain, size, interpolation=cv2.INTER_LINEAR))
    inside = align.inside(into, picture.size[::-1], size[::-1])
    return align.matched(rgb, wide), u8(inside & (1 - u8(cover)))


def _between(shape: tuple[int, ...], picture: Picture, forward: Homography, seen: align.Look) -> Homography:
    """From pixels of a copy of the picture, of another shape, to those of the look."""
    return np.asarray(seen.of_frame @ forward @ geometry.inverse(scale_to(shape, *picture.size)), np.float64)


def _settled(forward: Homography, picture: Picture, question: Question) -> Homography:
    """The identity where a picture of the frame's size lies over it to a third of a pixel: it is copied."""
    if picture.size != question.size:
        return forward
    return np.eye(3) if geometry.corner_motion(forward, *question.size) < _SETTLED else forward
