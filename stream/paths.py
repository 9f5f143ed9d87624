"""Where a thing has been: speed against the background, distance covered, place in the picture.

A path is float64 (K, 9): time in seconds, the thing's box as it was in the picture then, and the same box
carried along by the camera motion into the present frame, so that the difference between the newest box
and an old row is what the thing itself has moved. Boxes are (x0, y0, x1, y1) in frame pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream import geometry
from stream.arrays import median
from stream.regions import Box

Path = NDArray[np.float64]

_EVERY_SECONDS = 0.15
_LONG_SECONDS = 4.0
_BASELINE_SECONDS = 0.3
_STEP_SECONDS = 1.0
_BORDER = 0.006
_DWELLS, _WALKS = 0.06, 0.2


def initial(time: float, box: Box) -> Path:
    """The path of a thing just seen for the first time."""
    return np.array([[time, *box, *box]])


def carry(path: Path, homography: NDArray[np.float64]) -> Path:
    """Bring the carried boxes from the previous frame into this one."""
    x0, y0, x1, y1 = path[:, 5:].T
    corners = np.stack([np.stack([x0, y0], 1), np.stack([x1, y1], 1)]).reshape(-1, 2).astype(np.float32)
    moved = geometry.apply(homography, corners).reshape(2, -1, 2)
    out = path.copy()
    out[:, 5:7], out[:, 7:9] = moved[0], moved[1]
    return out


def in_picture(path: Path) -> Path:
    """The path as if the camera had not moved: places in the picture instead of carried ones."""
    return np.hstack([path[:, :5], path[:, 1:5]])


def displaced(path: Path, offset: NDArray[np.float64]) -> Path:
    """The path with its carried boxes moved by (dx, dy)."""
    out = path.copy()
    out[:, 5:] += np.tile(offset, 2)
    return out


def extend(path: Path, time: float, box: Box) -> Path:
    """Add the present place if the last one is old enough; places older than four seconds are dropped."""
    if time - path[-1, 0] < _EVERY_SECONDS:
        return path
    kept = path[time - path[:, 0] <= _LONG_SECONDS]
    return np.vstack([kept, [time, *box, *box]])


def displacements(
    path: Path, time: float, box: Box, width: int, height: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance from each old place to the present one, and the seconds between: (K,) pixels, (K,) seconds.

    A thing moves when both sides of its box move the same way; when only one does, something hides the
    rest of it or it stretches out an arm. A side at the picture's border says nothing. Coming nearer or going
    away counts through the box's size.
    """
    then, carried = path[:, 1:5], path[:, 5:9]
    now = np.asarray(box)
    inside_then = _inside(then, width, height)
    inside_now = _inside(now[None], width, height)
    valid = inside_then & inside_now
    change = now - carried
    dx, dy = _agreed(change[:, :2], change[:, 2:], valid[:, :2], valid[:, 2:]).T
    size_then = carried[:, 2:] - carried[:, :2]
    size_now = now[2:] - now[:2]
    ratio = np.log(np.maximum(size_now, 1) / np.maximum(size_then, 1))
    whole = valid.all(1)
    same = (np.sign(ratio[:, 0]) == np.sign(ratio[:, 1])) & whole
    growth = np.where(same, np.abs(ratio).min(1), 0.0) * size_now.max() / 2
    return np.maximum(np.hypot(dx, dy), growth), time - path[:, 0]


def _inside(boxes: NDArray[np.float64], width: int, height: int) -> NDArray[np.bool_]:
    edge = _BORDER * width + 1
    limit = np.array([edge, edge, width - edge, height - edge])
    inside = np.empty(boxes.shape, bool)
    inside[:, :2] = boxes[:, :2] > limit[:2]
    inside[:, 2:] = boxes[:, 2:] < limit[2:]
    return inside


def _agreed(
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    low_valid: NDArray[np.bool_],
    high_valid: NDArray[np.bool_],
) -> NDArray[np.float64]:
    smaller = np.where(np.abs(low) < np.abs(high), low, high)
    both = np.where(np.sign(low) == np.sign(high), smaller, 0.0)
    one = np.where(low_valid, low, high)
    return np.where(low_valid & high_valid, both, np.where(low_valid | high_valid, one, 0.0))


def range_of(path: Path, box: Box) -> float:
    """How far a thing has got about against the background lately, in its own sizes.

    By how much all its places together are longer than the longest of them. Of what stands and is hidden in
    part, now here and now there, the box is pushed to and fro, but never beyond the place of the whole. How
    far it reached only once does not count: the box may be wrong.
    """
    boxes = np.vstack([path[:, 5:9], box])
    if len(boxes) < 4:
        return 0.0
    size = (boxes[:, 2:] - boxes[:, :2]).max(0)
    along = np.sort(boxes[:, 2:], 0)[-2] - np.sort(boxes[:, :2], 0)[1]
    return max(0.0, float((along - size).max() / max(size.max(), 1.0)))


def speed(distance: NDArray[np.float64], seconds: NDArray[np.float64]) -> float:
    """Median speed over all baselines long enough to be more than noise, pixels per second."""
    long = seconds >= _BASELINE_SECONDS
    if not long.any():
        return 0.0
    return float(median(distance[long] / seconds[long]))


def drift(distance: NDArray[np.float64], seconds: NDArray[np.float64]) -> float:
    """How fast a thing gets on, pixels per second: to and fro does not count, as it does in `speed`.

    The median over the longer half of all baselines, each taken for a second long at least: in less than
    that who only shifts his weight gets on too.
    """
    long = seconds >= max(_BASELINE_SECONDS, 0.5 * float(seconds.max()))
    if not long.any():
        return 0.0
    return float(median(distance[long] / np.maximum(seconds[long], _STEP_SECONDS)))


def wander(path: Path, time: float, box: Box, width: int) -> float:
    """How far apart the thing's places in the picture lie, as a share of the picture's width.

    Those of the last four seconds, or twice the spread of the last two where that is less: what has come to
    rest is not held to its way there.
    """
    boxes = np.vstack([path[:, 1:5], box])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    spread = float(np.hypot(*np.ptp(centres, axis=0)))
    lately = centres[np.append(time - path[:, 0] <= _LONG_SECONDS / 2, True)]
    if time - path[0, 0] > _LONG_SECONDS / 2:
        spread = min(spread, 2 * float(np.hypot(*np.ptp(lately, axis=0))))
    return spread / width


def picture_speed(path: Path, time: float, box: Box) -> float:
    """Median speed in the picture, camera motion included, pixels per second."""
    boxes, seconds = path[:, 1:5], time - path[:, 0]
    long = seconds >= _BASELINE_SECONDS
    if not long.any():
        return 0.0
    centres = (boxes[long, :2] + boxes[long, 2:]) / 2
    now = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    return float(median(np.hypot(*(centres - now).T) / seconds[long]))


def subject_now(
    area: float,
    box: Box,
    width: int,
    height: int,
    *,
    wandered: float,
    drift: float,
    stirred: float,
    followed: float,
) -> float:
    """How much a thing looks like what the picture is about at this moment, in [0, 1].

    `area`: share of the frame. Large (3 % is enough), central (the middle third is as good as the very
    middle), and steady in the picture: it stays in its place, or the camera follows it.
    `wandered`: widths between its places; `drift`: how fast it gets on, both in the picture and against the
    background, own sizes per second; `stirred`: speed of its texture, widths per second.
    """
    size = _share(float(np.log(max(area, 1e-6) / 0.002) / np.log(0.03 / 0.002)))
    dx = abs((box[0] + box[2]) / 2 - width / 2) / (width / 2)
    dy = abs((box[1] + box[3]) / 2 - height / 2) / (height / 2)
    central = _share(1 - (float(np.hypot(dx, 0.5 * dy)) - 0.33) / 0.5)
    # Who walks gets on by a third of his height a second and more, who only shifts his weight does not; it
    # tells long before the place does.
    dwelling = min(_share(1 - (wandered - 0.12) / 0.3), _share((_WALKS - drift) / (_WALKS - _DWELLS)))
    steady = dwelling * _share(1 - (stirred - 0.12) / 0.2)
    return size * central * max(steady, followed)


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))
