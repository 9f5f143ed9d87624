"""Whole views of things from when nobody stood before them, and how one is laid over what is seen now.

The earlier unoccluded mask of a track is the best prior for its hidden part. A view is chosen by how its
outline and colours fit the visible part (somebody who walks is best seen in the same step), laid over by a
similarity, and bent by the dense flow of the visible part, spread into what is hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.arrays import Bytes, Float, f32, u8
from stream.boxes import Box
from stream.types import Image

_ROUGH = 40
_CANDIDATES = 12
_FEWEST = 6
_ZOOM = 0.15
_TURN = 0.2
_SPREAD = 0.12
_LEVELS = 24.0
_BESIDE = 0.15
_ODD = 28.0
_CLEARLY = 8.0
_ALIEN = 60.0
_ARM = 0.4
_SEARCH = 7
_HOPELESS = 0.27
_TINT = 0.04
_MEAN = np.full((1, 3), 1 / 3, np.float32)


@dataclass(frozen=True)
class View:
    """A thing seen whole in frame `index`: the box of the frame around it, its pixels, mask uint8 0 or 1."""

    index: int
    box: Box
    rgb: Image
    mask: Bytes


@dataclass(frozen=True)
class Look:
    """What is seen of a thing now, in one box of the frame.

    `rgb` (h, w, 3); `visible` and `front`, uint8 0 or 1: the thing's own pixels, and what may hide others;
    `bare`: the masks of what hides it, without the margin that `front` has.
    """

    box: Box
    rgb: Image
    visible: Bytes
    front: Bytes
    bare: Bytes


@dataclass(frozen=True)
class Laid:
    """A view laid over a look: `rgb`, `mask` (uint8 0 or 1), and from which frame it is.

    `place`: 2 x 3 float64 that maps the view's frame to this frame.
    """

    index: int
    rgb: Image
    mask: Bytes
    place: NDArray[np.float64]


def choose(
    look: Look, views: Sequence[View], index: int, used: int | None
) -> tuple[View, float, float] | None:
    """The view whose outline and colours fit best, and by how much it is to be moved, pixels.

    Of two that fit alike the one that was `used` in the last frame is taken, so that nothing boils, then the
    nearer in time. None when there is no view or nothing visible.
    """
    if not views or not look.visible.any():
        return None
    near = sorted(views, key=lambda view: (view.index != used, abs(view.index - index)))[:_CANDIDATES]
    scale = min(1.0, _ROUGH / max(8, max(view.box[3] - view.box[1] for view in near)))
    size = max(4, round(look.visible.shape[1] * scale)), max(4, round(look.visible.shape[0] * scale))
    visible = f32(cv2.resize(look.visible.astype(np.float32), size, interpolation=cv2.INTER_AREA))
    front = f32(cv2.resize(look.front.astype(np.float32), size, interpolation=cv2.INTER_AREA))
    # What is visible must be the thing's, what is neither visible nor hidden must not.
    wanted = visible - np.clip(1 - visible - front, 0, 1)
    colours = f32(cv2.resize(look.rgb, size, interpolation=cv2.INTER_AREA).astype(np.float32))
    total = float(visible.sum())
    best: tuple[float, View, float, float] | None = None
    for view in near:
        small = max(2, round(view.mask.shape[1] * scale)), max(2, round(view.mask.shape[0] * scale))
        shape = f32(cv2.resize(view.mask.astype(np.float32), small, interpolation=cv2.INTER_AREA))
        # Views may reach beyond the look: a thing may be hidden at its side.
        pad_x, pad_y = small[0], small[1]
        padded = cv2.copyMakeBorder(wanted, pad_y, pad_y, pad_x, pad_x, cv2.BORDER_CONSTANT, value=-0.3)
        score = f32(cv2.matchTemplate(padded, shape, cv2.TM_CCORR))
        _, most, _, (column, row) = cv2.minMaxLoc(score)
        x, y = column - pad_x, row - pad_y
        value = most / max(total, 1e-6) + 0.03 * (view.index == used) - 0.0005 * abs(view.index - index)
        if best is not None and value <= best[0]:
            continue  # colours only take away
        ours = f32(cv2.resize(view.rgb, small, interpolation=cv2.INTER_AREA).astype(np.float32))
        apart = _apart(colours, visible, ours, shape, x, y)
        value -= min(1.0, apart / 80) * 0.5
        if best is None or value > best[0]:
            shift_x = look.box[0] + (x + 0.5) / scale - 0.5 / scale - view.box[0]
            shift_y = look.box[1] + (y + 0.5) / scale - 0.5 / scale - view.box[1]
            best = value, view, shift_x, shift_y
    assert best is not None
    return best[1], best[2], best[3]


def lay(look: Look, view: View, shift: tuple[float, float]) -> Laid | None:
    """Lay a view over a look: similarity by corners of the visible part, then its dense flow.

    None where it fits so badly before it is bent that bending will not mend it.
    """
    place = _similarity(look, view, _nearer(look, view, shift))
    rgb, mask = placed(look, view, place, rough=True)
    if fit(look, rgb, mask) < _HOPELESS:
        return None
    flow = _flow(look, rgb, mask)
    rgb, mask = placed(look, view, place, flow)
    return Laid(view.index, _exposed(look, rgb, mask), mask, place)


def fit(look: Look, rgb: Image, mask: Bytes) -> float:
    """How well a laid view agrees with what is visible, [0, 1]: outline where nothing hides it; colours."""
    free = 1 - look.front
    mine, its = look.visible & free, mask & free
    both = mine & its
    common = cv2.countNonZero(both)
    if not common:
        return 0.0
    outline = common / cv2.countNonZero(mine | its)
    return outline * float(np.exp(-((_differs(look.rgb, rgb, both) / (2 * _LEVELS)) ** 2)))


def _differs(first: Image, second: Image, where: Bytes) -> float:
    """Mean difference of two pictures inside a mask, grey levels."""
    return float(np.mean(cv2.mean(cv2.absdiff(first, second), where)[:3]))


def contrary(look: Look, rgb: Image, mask: Bytes, least: float) -> float:
    """How far what shows is from a laid view where nothing hides it, mean grey levels.

    0 where less than `least` of the view should show: then nothing speaks against it.
    """
    shows = u8(cv2.erode(mask, np.ones((3, 3), np.uint8))) & (1 - look.front)
    if cv2.countNonZero(shows) < max(24, least * cv2.countNonZero(mask)):
        return 0.0
    return _differs(look.rgb, rgb, shows)


def foreign(look: Look, rgb: Image, mask: Bytes) -> Bytes:
    """Visible pixels that look more like what is in front than like the thing, uint8 0 or 1.

    Where two things touch, a mask often takes pixels of the other: a bag, a hand. They are near it, and
    nearer to its colours around there than to what a laid view (`rgb`, `mask`) shows.
    """
    height = max(8, cv2.boundingRect(mask)[3])
    far = cv2.distanceTransform(1 - look.bare, cv2.DIST_L2, 3)
    asked = (look.visible > 0) & (far < _ARM * height)
    if not asked.any():
        return np.zeros_like(look.visible)
    x, y, w, h = cv2.boundingRect(asked.astype(np.uint8))
    margin = int(0.1 * height) + 4
    part = np.s_[max(0, y - margin) : y + h + margin, max(0, x - margin) : x + w + margin]
    now, view = (u8(cv2.GaussianBlur(each[part], (3, 3), 0)) for each in (look.rgb, rgb))
    near = max(3, round(0.05 * height))
    mask = mask[part]
    its, own = _local(now, look.bare[part], near), _local(view, mask, near)
    own = np.where(mask[..., None] > 0, view, own)
    to_front, to_thing = (cv2.transform(cv2.absdiff(now, each), _MEAN) for each in (its, own))
    odd = (far[part] < _BESIDE * height) & (to_thing > _ODD) & (to_front + _CLEARLY < to_thing)
    odd |= to_thing > _ALIEN
    opened = cv2.morphologyEx((odd & asked[part]).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    out = np.zeros_like(look.visible)
    out[part] = _joined(u8(opened), look.bare[part])
    # A rim that the eye would see is left otherwise.
    return u8(cv2.dilate(out, np.ones((3, 3), np.uint8))) & look.visible


def _joined(pieces: Bytes, to: Bytes) -> Bytes:
    """Those pieces of a mask that reach another mask, or nearly so."""
    count, labels = cv2.connectedComponents(pieces)
    if count < 2:
        return pieces
    near = u8(cv2.dilate(to, np.ones((7, 7), np.uint8))) > 0
    keep = np.zeros(count, np.uint8)
    keep[np.unique(labels[near])] = 1
    keep[0] = 0
    return np.asarray(keep[labels], np.uint8)


def _local(picture: Image, mask: Bytes, near: int) -> Image:
    """Mean colour, within `near` pixels of each, of what lies in a mask."""
    # Half the size is enough for a mean.
    small = max(1, picture.shape[1] // 2), max(1, picture.shape[0] // 2)
    inside = cv2.bitwise_and(picture, picture, mask=mask)
    parts = (cv2.resize(each, small, interpolation=cv2.INTER_AREA) for each in (inside, mask * np.uint8(255)))
    size = near | 1, near | 1
    total, share = (f32(cv2.blur(each.astype(np.float32), size)) for each in parts)
    share = share * np.float32(1 / 255) + np.float32(1e-3)
    mean = cv2.divide(total, cv2.merge([share, share, share]))
    return u8(cv2.resize(np.clip(mean, 0, 255).astype(np.uint8), picture.shape[1::-1]))


def reach(view: View, place: NDArray[np.float64]) -> Box:
    """The box of the frame that a placed view covers, with a margin."""
    x0, y0, x1, y1 = view.box
    corners = np.array([[x0, y0, 1], [x1, y0, 1], [x0, y1, 1], [x1, y1, 1]], np.float64) @ place.T
    low, high = corners.min(0), corners.max(0)
    return int(low[0]) - 4, int(low[1]) - 4, int(high[0]) + 5, int(high[1]) + 5


def _apart(colours: Float, visible: Float, ours: Float, shape: Float, x: int, y: int) -> float:
    """Mean difference of colours where both are the thing, grey levels."""
    left, top = max(0, x), max(0, y)
    right, bottom = min(colours.shape[1], x + ours.shape[1]), min(colours.shape[0], y + ours.shape[0])
    if left >= right or top >= bottom:
        return 255.0
    there = np.s_[top - y : bottom - y, left - x : right - x]
    weight = visible[top:bottom, left:right] * shape[there]
    difference = np.abs(colours[top:bottom, left:right] - ours[there]).mean(2)
    return float((difference * weight).sum() / max(float(weight.sum()), 1e-6))


def _nearer(look: Look, view: View, shift: tuple[float, float]) -> tuple[float, float]:
    """A rough shift made good to a pixel or two by the colours of what is visible."""
    x, y, w, h = cv2.boundingRect(look.visible)
    if w < 4 or h < 4:
        return shift
    reach, half = _SEARCH * 2, (slice(None, None, 2), slice(None, None, 2))
    # A larger look, so that the search may reach beyond this one.
    box = (
        look.box[0] + x - reach,
        look.box[1] + y - reach,
        look.box[0] + x + w + reach,
        look.box[1] + y + h + reach,
    )
    blank = np.zeros((box[3] - box[1], box[2] - box[0]), np.uint8)
    wide = Look(box, look.rgb, blank, blank, blank)
    rgb, _ = placed(wide, view, np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64), rough=True)
    template = np.ascontiguousarray(look.rgb[y : y + h, x : x + w][half])
    weight = np.ascontiguousarray(look.visible[y : y + h, x : x + w][half])
    if not weight.any():
        return shift
    image = np.ascontiguousarray(rgb[half][: template.shape[0] + reach, : template.shape[1] + reach])
    error = cv2.matchTemplate(image, template, cv2.TM_SQDIFF, mask=weight)
    _, _, (column, row), _ = cv2.minMaxLoc(f32(error))
    return shift[0] + 2 * (_SEARCH - column), shift[1] + 2 * (_SEARCH - row)


def _similarity(look: Look, view: View, shift: tuple[float, float]) -> NDArray[np.float64]:
    """View frame pixels to this frame's, 2 x 3; the shift alone where too few corners are found again."""
    moved = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64)
    rgb, mask = placed(look, view, moved, rough=True)
    before, now = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (rgb, look.rgb))
    corners = cv2.goodFeaturesToTrack(before, 80, 0.01, 4, mask=(mask & look.visible) * np.uint8(255))
    if corners is None or len(corners) < _FEWEST:
        return moved
    points = f32(corners)
    after, ok, _ = cv2.calcOpticalFlowPyrLK(
        before,
        now,
        points,
        points.copy(),
        winSize=(11, 11),
        maxLevel=2,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    points, after = points.reshape(-1, 2), f32(after).reshape(-1, 2)
    good = (ok.reshape(-1) > 0) & _at(look.visible, after)
    if np.count_nonzero(good) < _FEWEST:
        return moved
    # In pixels of the frame, where the view's own pixels are once they are shifted.
    source, target = (each[good] + np.array(look.box[:2], np.float32) for each in (points, after))
    found, inliers = cv2.estimateAffinePartial2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=2.0, maxIters=200
    )
    if found is None or np.count_nonzero(inliers) < max(_FEWEST, 0.4 * len(source)):
        return moved
    zoom, turn = np.hypot(found[0, 0], found[1, 0]), np.arctan2(found[1, 0], found[0, 0])
    if abs(zoom - 1) > _ZOOM or abs(turn) > _TURN:
        return moved
    held = source[inliers.reshape(-1) > 0]
    if held.std(0).max() < _SPREAD * view.mask.shape[0]:
        # Corners of a small part say where it is, not how large or turned the whole is.
        step = np.median(target - source, 0)
        found = np.array([[1, 0, step[0]], [0, 1, step[1]]], np.float64)
    return np.asarray(found @ np.vstack([moved, [0, 0, 1]]), np.float64)


def _at(mask: Bytes, points: Float) -> NDArray[np.bool_]:
    """Whether each of N points (x, y) lies on a mask."""
    x, y = np.rint(points[:, 0]).astype(int), np.rint(points[:, 1]).astype(int)
    inside = (x >= 0) & (y >= 0) & (x < mask.shape[1]) & (y < mask.shape[0])
    return np.asarray(inside & (mask[np.clip(y, 0, mask.shape[0] - 1), np.clip(x, 0, mask.shape[1] - 1)] > 0))


def placed(
    look: Look, view: View, place: NDArray[np.float64], flow: Float | None = None, *, rough: bool = False
) -> tuple[Image, Bytes]:
    """A view's pixels and mask in the look's box; `flow` (h, w, 2): where each pixel looks, added.

    A `rough` one is to be compared with, not to be shown.
    """
    height, width = look.visible.shape
    back = np.asarray(cv2.invertAffineTransform(place), np.float64)
    # From the look's pixels to the view's own, not the frame's.
    back[:, 2] += back[:, :2] @ np.array(look.box[:2], np.float64) - np.array(view.box[:2], np.float64)
    way = cv2.INTER_LINEAR if rough else cv2.INTER_CUBIC
    shown = view.mask * np.uint8(255)
    if flow is None:
        size, inverse = (width, height), cv2.WARP_INVERSE_MAP
        rgb = cv2.warpAffine(view.rgb, back, size, flags=way | inverse, borderMode=cv2.BORDER_REPLICATE)
        soft = cv2.warpAffine(shown, back, size, flags=cv2.INTER_LINEAR | inverse)
    else:
        x = flow[..., 0] + np.arange(width, dtype=np.float32)
        y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
        at_x, at_y = (np.float32(a) * x + np.float32(b) * y + np.float32(c) for a, b, c in back)
        rgb = cv2.remap(view.rgb, at_x, at_y, way, borderMode=cv2.BORDER_REPLICATE)
        soft = cv2.remap(shown, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return u8(rgb), (u8(soft) > 127).astype(np.uint8)


def _flow(look: Look, rgb: Image, mask: Bytes) -> Float | None:
    """Residual motion from the look to a laid view, known on what both show and spread from there."""
    both = look.visible & mask
    if cv2.countNonZero(both) < 64 or min(both.shape) < 16:
        return None
    x, y, w, h = cv2.boundingRect(look.visible | (mask & look.front))
    if w < 16 or h < 16:
        return None
    part = np.s_[y : y + h, x : x + w]
    now, before = (cv2.cvtColor(p[part], cv2.COLOR_RGB2GRAY) for p in (look.rgb, rgb))
    # Only the thing itself may pull: elsewhere both pictures are made the same.
    rest = both[part] == 0
    now = np.where(rest, before, now)
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    found = f32(estimator.calc(now, before, np.zeros((*now.shape, 2), np.float32)))
    sure = both[part].astype(np.float32)
    sure *= (np.hypot(found[..., 0], found[..., 1]) < 0.08 * max(h, w)).astype(np.float32)
    # Smooth, so a quarter of the size is enough.
    small = max(4, w // 4), max(4, h // 4)
    parts = cv2.resize(np.dstack([found * sure[..., None], sure]), small, interpolation=cv2.INTER_AREA)
    parts = f32(cv2.GaussianBlur(parts, (0, 0), max(0.8, 0.02 * h)))
    # It fades with the distance from what is visible.
    smooth = f32(cv2.resize(parts[..., :2] / (parts[..., 2:] + 0.02), (w, h)))
    flow = np.zeros((*both.shape, 2), np.float32)
    flow[part] = smooth
    return flow


def _exposed(look: Look, rgb: Image, mask: Bytes) -> Image:
    """The laid view in the light of now: one gain per channel from what both show."""
    both = look.visible & mask
    if cv2.countNonZero(both) < 64:
        return rgb
    now, before = (np.array(cv2.mean(picture, both)[:3]) + 4 for picture in (look.rgb, rgb))
    gain = now / before
    if np.abs(gain - 1).max() < 0.01:
        return rgb
    # Light changes all colours alike, or nearly: what makes white yellow is another thing before it.
    grey = float(np.clip(np.median(gain), 0.8, 1.25))
    gain = np.clip(gain, grey * (1 - _TINT), grey * (1 + _TINT))
    levels = np.arange(256, dtype=np.float64)[:, None] * gain + 0.5
    return u8(cv2.LUT(rgb, np.clip(levels, 0, 255).astype(np.uint8)[None]))
