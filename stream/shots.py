"""Where one shot ends and the next begins, seen from one frame to the next.

It follows PySceneDetect's ContentDetector (mean change of a small picture) and AdaptiveDetector (against
what the last frames did), and differs where those take motion for a cut: change is measured after the best
shift and change of brightness, and counted by blocks, so that a pan explains itself, a flash keeps its
structure, and a passer-by before the lens leaves the rest of the picture alone. A frame that is like any
of the last few begins nothing new.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.pixel_format import layout
from stream.types import Frame

Thumb = NDArray[np.float32]
"""3 x 36 x 64: luma and two colour differences on the 0..255 scale."""

WIDTH, HEIGHT = 64, 36
_BLOCK = 4

_CHANGED = 10.0
"""A block has changed when luma and colour differ by this much together, in levels."""
_MOST = 0.8
"""A cut changes at least this share of the blocks; a passer-by who hides half of the picture does not."""
_UNLIKE = 0.65
"""A cut leaves less correlation than this; brightness alone leaves it near 1."""
_LEAST = 15.0
"""A cut changes the picture by at least this much on average, in levels."""
_RATIO = 2.5
"""... and by this many times what the last frames changed,"""
_OTHER_COLOURS = 0.85
"""... unless the colours are other ones altogether (common share of the histograms)."""
_SAME_PLACE = 0.86
"""Half of the picture found again with this correlation somewhere else is a fast pan."""
_EMPTY = 5.0
"""Luma that varies less than this shows nothing that could be compared: a flash, or black between shots."""
_GLARE = 0.25
"""So much more of the picture burnt out than before may be a flash ..."""
_FLASH_FRAMES = 3
"""... which is over before this many frames."""
_KEPT = 3


@dataclass(frozen=True)
class ShotState:
    """The last few frames that showed something, newest last, how much they changed, glaring ones since."""

    recent: tuple[Thumb, ...] = ()
    usual: float = 0.0
    glaring: int = 0


@dataclass(frozen=True)
class _Change:
    share: float
    amount: float
    likeness: float
    colours: float


def initial() -> ShotState:
    """Before the first frame."""
    return ShotState()


def step(state: ShotState, frame: Frame) -> tuple[bool, ShotState]:
    """Whether this frame begins a new shot; the first frame of all does not. Takes about 0.3 ms at 360p."""
    now = thumbnail(frame)
    if _shows_nothing(now):
        return False, state
    if not state.recent:
        return False, ShotState((now,), state.usual)
    change = _compare(state.recent[-1], now)
    cut = _is_cut(change, state.usual) and not any(
        _explained(old, now, state.usual) for old in reversed(state.recent)
    )
    if cut and state.glaring < _FLASH_FRAMES and _burnt(now) > _burnt(state.recent[-1]) + _GLARE:
        return False, replace(state, glaring=state.glaring + 1)
    if cut:
        return True, ShotState((now,), 0.0)
    usual = change.amount if not state.usual else 0.8 * state.usual + 0.2 * change.amount
    return False, ShotState((*state.recent, now)[-_KEPT:], usual)


def thumbnail(frame: Frame) -> Thumb:
    """A frame's luma and colour differences at 64 x 36; planes of YUV are read as they are, without RGB."""
    shape = layout(frame.format)
    if shape is not None and shape.kind in ("yuv", "gray"):
        planes = [_small(np.asarray(plane)) / (1 << (shape.bits - 8)) for plane in frame.planes[:3]]
        if len(planes) < 3:
            planes = [planes[0], np.full_like(planes[0], 128), np.full_like(planes[0], 128)]
        return np.stack(planes).astype(np.float32)
    small = np.asarray(_small(frame.rgb), np.float32)
    return np.ascontiguousarray(np.moveaxis(cv2.cvtColor(small / 255, cv2.COLOR_RGB2YCrCb), 2, 0) * 255)


def _small(plane: NDArray[np.generic]) -> NDArray[np.float32]:
    array = np.asarray(plane)
    # two steps: the area filter is dear on large pictures and needs only some of their samples
    factor = max(1, min(array.shape[0] // (4 * HEIGHT), array.shape[1] // (4 * WIDTH)))
    thinned = np.ascontiguousarray(array[::factor, ::factor])
    return np.asarray(cv2.resize(thinned, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.float32)


def _shows_nothing(thumb: Thumb) -> bool:
    luma = thumb[0]
    return bool(luma.std() < _EMPTY or (luma > 225).mean() > 0.9 or (luma < 20).mean() > 0.97)


def _burnt(thumb: Thumb) -> float:
    return float((thumb[0] > 225).mean())


def _is_cut(change: _Change, usual: float) -> bool:
    if change.share < _MOST or change.amount < _LEAST or change.likeness > _UNLIKE:
        return False
    return change.colours < _OTHER_COLOURS or change.amount > _RATIO * usual


def _explained(old: Thumb, now: Thumb, usual: float) -> bool:
    return not _is_cut(_compare(old, now), usual) or _found_again(old, now) > _SAME_PLACE


def _compare(old: Thumb, now: Thumb) -> _Change:
    """The change that remains after the shift, with or without, that explains more."""
    # phaseCorrelate writes into what it is given
    (x, y), _ = cv2.phaseCorrelate(old[0].copy(), now[0].copy(), _window())
    best: _Change | None = None
    for dx, dy in {(0, 0), (round(x), round(y))}:
        if abs(dx) > WIDTH // 2 or abs(dy) > HEIGHT // 2:
            continue
        first = old[:, max(0, -dy) : HEIGHT - max(0, dy), max(0, -dx) : WIDTH - max(0, dx)]
        second = now[:, max(0, dy) : HEIGHT - max(0, -dy), max(0, dx) : WIDTH - max(0, -dx)]
        change = _difference(first, second)
        if best is None or change.amount < best.amount:
            best = change
    assert best is not None
    return best


def _difference(first: Thumb, second: Thumb) -> _Change:
    a, b = first[0], second[0]
    plain = np.abs(first - second).sum(0)
    # brightness and contrast of the whole may change: a flash, an exposure that adapts
    gain = float(np.clip(b.std() / (a.std() + 1e-3), 1 / 3, 3))
    adapted = np.abs((a - a.mean()) * gain + b.mean() - b)
    for c, d in zip(first[1:], second[1:], strict=True):
        adapted += np.abs((c - c.mean()) - (d - d.mean()))
    rest = np.minimum(plain, adapted)
    blocks = cv2.resize(
        rest, (max(1, rest.shape[1] // _BLOCK), max(1, rest.shape[0] // _BLOCK)), interpolation=cv2.INTER_AREA
    )
    spread = float(a.std() * b.std())
    likeness = float(((a - a.mean()) * (b - b.mean())).mean()) / (spread + 1e-6)
    return _Change(float((blocks > _CHANGED).mean()), float(rest.mean()), likeness, _colours(first, second))


def _colours(first: Thumb, second: Thumb) -> float:
    common = 0.0
    for c, d in zip(first, second, strict=True):
        one = np.bincount((c.ravel() / 8).astype(np.int64).clip(0, 31), minlength=32)
        two = np.bincount((d.ravel() / 8).astype(np.int64).clip(0, 31), minlength=32)
        common += float(np.minimum(one, two).sum()) / c.size
    return common / 3


def _found_again(old: Thumb, now: Thumb) -> float:
    """Best correlation of the new picture's left or right part with any place of the old one."""
    half, margin = WIDTH // 2, 4
    parts = (now[0][margin:-margin, :half], now[0][margin:-margin, -half:])
    found = [
        float(cv2.matchTemplate(old[0], np.ascontiguousarray(part), cv2.TM_CCOEFF_NORMED).max())
        for part in parts
        if part.std() >= _EMPTY
    ]
    return max(found, default=0.0)


def _window() -> NDArray[np.float32]:
    return np.asarray(cv2.createHanningWindow((WIDTH, HEIGHT), cv2.CV_32F), np.float32)
