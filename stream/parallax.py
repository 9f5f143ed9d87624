"""What a homography leaves over in a deep scene: dense motion beside it, carried on behind whatever hides it.

What is hidden moved before it was hidden, and its depth goes on being what it was. So each pixel keeps the
residual motion it was last seen with; how the residuals of all pixels change from one frame to the next is
fitted where they are seen (parallax is proportional to the camera's step, so a linear map does) and applied
where they are not. In plane-plus-parallax terms (Irani and Anandan, "Parallax geometry of pairs of points for
3D scene analysis", ECCV 1996) the residual is the parallax, and what is carried is the depth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from stream import geometry
from stream.arrays import Bytes, Float, f32, repeated, u8
from stream.geometry import Homography

_UNIT = 64.0
"""Residuals are kept as int16 in this part of a pixel."""

_DOUBT = 32.0
_LIKE = 14.0
_TRUST_NEW = 0.4
_SURPRISE = 1.0
_FIT = 0.4
_BENDS = 6
_PULLS = (2.0, 2.0, 0.002, 0.002, 0.002, 0.02, 0.02, 0.02)
"""How strongly the fit is drawn to "goes on as it went": a residual's two parts, then what `_bends` holds."""

_NEAR = 3
_ANYWHERE = 0.04
"""A pixel counts in the fit by the share of hidden ones around it, in this part of the picture's width, and
this much anyway."""

_LOCAL = 0.4
"""Part of what the map misses beside hidden pixels that is held to be missed there as well."""

_SMALLEST = 16
"""Pixels on the longer side below which there is nothing to match."""


@dataclass(frozen=True, slots=True)
class Parallax:
    """Dense motion from the frame before, at the reduced size: pixel p was at `step^-1 (p + residual(p))`.

    `step`: homography from the frame before to this one, reduced pixels. `residual`: int16 (h, w, 2), 1/64
    pixel. `doubt`: uint8 (h, w), 1/32 pixel: how far a pixel's motion was from what was foretold, lately.
    `hidden`: uint8 0 or 1, what is not background in this frame.
    """

    step: Homography
    residual: NDArray[np.int16]
    doubt: Bytes
    hidden: Bytes


@dataclass(frozen=True, slots=True)
class ParallaxState:
    """The last frame: grey with its hidden parts carried along, what was hidden (0 or 1), residual, doubt."""

    grey: Bytes
    hidden: Bytes
    residual: Float
    doubt: Float
    fitted: bool


def begin(grey: Bytes, hidden: Bytes) -> tuple[Parallax, ParallaxState]:
    """Start at a frame of which nothing before is known."""
    state = end(hidden)
    still = Parallax(np.eye(3), state.residual.astype(np.int16), hidden * np.uint8(255), hidden)
    return still, replace(state, grey=_smooth(grey, hidden))


def step(last: ParallaxState, grey: Bytes, hidden: Bytes, move: Homography) -> tuple[Parallax, ParallaxState]:
    """Measure the motion beside `move` (homography from the last frame, reduced pixels) and carry it on.

    `grey` uint8 h x w; `hidden` uint8 0 or 1, what is not background.
    """
    height, width = grey.shape
    before = u8(cv2.warpPerspective(last.grey, move, (width, height), borderMode=cv2.BORDER_REPLICATE))
    old = _aligned(last, move)
    grid = _grid(width, height)
    foretold = _continued(old.residual, grid)
    picture = cv2.copyTo(_read(before, grid + foretold), hidden, grey.copy())
    flow = _flow(u8(picture), before, foretold)
    error = cv2.blur(cv2.absdiff(picture, _read(before, grid + flow)), (5, 5))
    good = u8((error < _LIKE).astype(np.uint8) & (1 - hidden))
    moved, state = _carry(old, flow, good, hidden, move, foretold)
    residual = moved.residual.astype(np.float32) * np.float32(1 / _UNIT)
    background = cv2.copyTo(_read(before, grid + residual), hidden, grey.copy())
    return moved, replace(state, grey=u8(background))


def end(hidden: Bytes) -> ParallaxState:
    """Start `step_back` at a frame of which nothing later is known."""
    nothing = np.zeros((*hidden.shape, 2), np.float32)
    return ParallaxState(hidden, hidden, nothing, np.full(hidden.shape, 0.3, np.float32), False)


def step_back(later: ParallaxState, hidden: Bytes, motion: Parallax) -> tuple[Parallax, ParallaxState]:
    """Carry from a later frame to the one before it what only later frames know.

    `motion`: the later frame's own, which tells how the pixels seen in both moved; `hidden`: what is not
    background in the earlier frame. The result leads from the earlier frame to the later one.
    """
    height, width = hidden.shape
    move = geometry.inverse(motion.step)
    grid = _grid(width, height)
    now = _inverted(motion, grid)
    # Beside the inverse homography: p of the earlier frame is at move^-1 (p + flow) in the later one.
    flow = _mapped(move, now) - grid
    unseen = cv2.remap(later.hidden, now, None, cv2.INTER_LINEAR, borderValue=1)  # type: ignore[call-overload]
    there = _read(motion.residual, now).astype(np.float32) * np.float32(1 / _UNIT)
    round_trip = _mapped(move, f32(now + there)) - grid
    near = cv2.inRange(round_trip, (-0.3, -0.3, 0.0, 0.0), (0.3, 0.3, 0.0, 0.0))
    good = u8((1 - hidden) & (1 - unseen) & near)
    old = _aligned(later, move)
    return _carry(old, flow, good, hidden, move, _continued(old.residual, grid))


def _aligned(last: ParallaxState, move: Homography) -> ParallaxState:
    """A state (without its picture) brought over by a homography."""
    size = last.hidden.shape[1], last.hidden.shape[0]
    return ParallaxState(
        last.grey,
        u8(cv2.warpPerspective(last.hidden, move, size, flags=cv2.INTER_LINEAR, borderValue=1)),
        f32(cv2.warpPerspective(last.residual, move, size, borderMode=cv2.BORDER_REPLICATE)),
        f32(cv2.warpPerspective(last.doubt, move, size, borderMode=cv2.BORDER_REPLICATE)),
        last.fitted,
    )


def _continued(carried: Float, grid: Float) -> Float:
    """Each pixel's residual if all went on as they went."""
    foretold = carried
    for _ in range(2):
        foretold = _read(carried, grid + foretold)
    return foretold


def _carry(
    old: ParallaxState, flow: Float, good: Bytes, hidden: Bytes, move: Homography, foretold: Float
) -> tuple[Parallax, ParallaxState]:
    """Take the measured `flow` where it is `good`, elsewhere what the last frame (aligned) says of it."""
    grid = _grid(hidden.shape[1], hidden.shape[0])
    came_hidden = cv2.remap(old.hidden, grid + flow, None, cv2.INTER_LINEAR, borderValue=1)  # type: ignore[call-overload]
    fresh = u8(good & (1 - came_hidden))
    foretold = _foretell(old.residual, flow, fresh, grid, foretold) if old.fitted else np.zeros_like(flow)
    surprise = flow - foretold
    wrong = cv2.magnitude(surprise[..., 0], surprise[..., 1])
    known = u8(good & (wrong < 2.0).astype(np.uint8)) if old.fitted else fresh
    # At first there is no map, and all that is known is what is seen around.
    guess = foretold + np.float32(_LOCAL if old.fitted else 1) * spread(surprise, known)
    residual = f32(cv2.copyTo(flow, good, guess.copy()))
    # Noise of one measurement would grow with every frame that a pixel is hidden.
    share = np.where(wrong > _SURPRISE, np.float32(1), np.float32(_TRUST_NEW if old.fitted else 1))
    kept = f32(cv2.copyTo(f32(foretold + repeated(share, 2) * surprise), fresh, guess))
    before = _read(old.doubt, grid + residual)
    late = cv2.blur(np.minimum(wrong, np.float32(4)), (5, 5))
    doubt = np.where(fresh > 0, 0.7 * before + 0.3 * late, before)
    doubt = np.where((fresh == 0) & (hidden == 0), np.maximum(doubt, 0.5), doubt).astype(np.float32)
    moved = Parallax(
        move,
        np.clip(np.rint(residual * _UNIT), -32768, 32767).astype(np.int16),
        np.clip(doubt * _DOUBT + 0.5, 0, 255).astype(np.uint8),
        hidden,
    )
    return moved, ParallaxState(old.grey, hidden, kept, doubt, True)


def back(parallax: Parallax, at: Float) -> tuple[Float, Float]:
    """Where pixels `at` ((h, w, 2), reduced) of a frame were in the frame before, and the doubt of it."""
    residual = _read(parallax.residual, at)
    moved = at + residual.astype(np.float32) * np.float32(1 / _UNIT)
    return _mapped(geometry.inverse(parallax.step), moved), _doubt(parallax, at)


def ahead(parallax: Parallax, at: Float) -> tuple[Float, Float]:
    """Where pixels `at` of the frame before are in a frame: `back` inverted by fixed-point iteration."""
    now = _inverted(parallax, at)
    return now, _doubt(parallax, now)


def _inverted(parallax: Parallax, at: Float) -> Float:
    aligned = _mapped(parallax.step, at)
    now = aligned
    for _ in range(3):
        residual = _read(parallax.residual, f32(now))
        now = f32(aligned - residual.astype(np.float32) * np.float32(1 / _UNIT))
    return now


def spread(values: Float, known: Bytes) -> Float:
    """Continue `values` (h, w, c) from where they are known (0 or 1) smoothly over everywhere else.

    Push-pull over a pyramid (Gortler et al., "The lumigraph", SIGGRAPH 1996, section 3.4).
    """
    channels = values.shape[2]
    weight = known.astype(np.float32)
    levels = [(f32(values * repeated(weight, channels)), weight)]
    while min(levels[-1][1].shape) > 3:
        sums, weights = levels[-1]
        smaller = cv2.pyrDown(weights)
        levels.append((f32(cv2.pyrDown(sums).reshape(*smaller.shape, -1)), f32(smaller)))
    sums, weights = levels[-1]
    out = f32(sums / repeated(f32(np.maximum(weights, np.float32(1e-6))), channels))
    for sums, weights in levels[-2::-1]:
        coarse = cv2.pyrUp(out, dstsize=weights.shape[::-1]).reshape(sums.shape)
        # What is known counts fully from a weight of one on, in part below.
        mean = sums * repeated(f32(np.float32(1) / np.maximum(weights, np.float32(1e-6))), channels)
        out = f32(coarse + repeated(f32(np.minimum(weights, np.float32(1))), channels) * (mean - coarse))
    return out


def _foretell(carried: Float, flow: Float, fresh: Bytes, grid: Float, start: Float) -> Float:
    """What the pixels' last residuals say of this frame's: a linear map, fitted where both are seen.

    It bends over the picture (terms of second order in the place): the plane that a homography follows may be
    another one from frame to frame, and a camera that goes forward or turns changes parallax by the place.
    """
    height, width = fresh.shape
    seen = np.flatnonzero(fresh)
    if len(seen) < 300:
        return start
    some = seen[:: max(1, len(seen) // 2000)]
    bends = _bends(width, height)
    x = np.hstack([start.reshape(-1, 2)[some], bends.reshape(-1, _BENDS)[some]])
    # What is to be foretold lies beside what is fresh: there the map must hold.
    reach = max(3, width // _NEAR)
    about = cv2.blur(np.float32(1) - fresh, (reach, reach)).ravel()[some] + np.float32(_ANYWHERE)
    fit = _robust_fit(x, flow.reshape(-1, 2)[some], f32(about / about.mean()))
    linear, bent = fit[:2].T, f32(cv2.transform(bends[..., :4], np.ascontiguousarray(fit[2:6].T)))
    bent = f32(bent + cv2.transform(bends[..., 4:], np.ascontiguousarray(fit[6:].T)))
    foretold = start
    for _ in range(2):
        foretold = f32(cv2.transform(foretold, linear) + bent)
        foretold = _read(carried, grid + foretold)
    return f32(cv2.transform(foretold, linear) + bent)


def _robust_fit(x: Float, y: Float, share: Float) -> Float:
    """Least squares (N x 8 to N x 2) with Geman-McClure weights, drawn to "goes on as it went".

    `share` (N,): what each counts besides.
    """
    stay = np.zeros((2 + _BENDS, 2))
    stay[0, 0] = stay[1, 1] = 1.0
    pull = np.diag(_PULLS)
    fit = stay
    for turn in range(4):
        error = np.linalg.norm(x @ fit - y, axis=1)
        scale = max(_FIT, float(np.median(error))) if turn < 2 else _FIT
        weighted = x * (share / np.square(1.0 + np.square(error / scale)))[:, None]
        fit = np.linalg.solve(weighted.T @ x + pull, weighted.T @ y + pull @ stay)
    return fit.astype(np.float32)


def _flow(picture: Bytes, before: Bytes, start: Float) -> Float:
    """Dense inverse search flow (Kroeger et al., ECCV 2016) from `picture` to `before`."""
    if max(picture.shape) < _SMALLEST:
        return start
    # One for each call: it keeps buffers, and two cleaners may run in two threads.
    dense = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return f32(dense.calc(picture, before, start.copy()))


def _smooth(grey: Bytes, hidden: Bytes) -> Bytes:
    filled = spread(grey[..., None].astype(np.float32), u8(1 - hidden))
    return np.where(hidden > 0, np.clip(filled.reshape(grey.shape), 0, 255), grey).astype(np.uint8)


@cache
def _grid(width: int, height: int) -> Float:
    grid = np.empty((height, width, 2), np.float32)
    grid[..., 0] = np.arange(width, dtype=np.float32)
    grid[..., 1] = np.arange(height, dtype=np.float32)[:, None]
    return grid


@cache
def _bends(width: int, height: int) -> Float:
    """1, x, y, x^2, xy, y^2 at every pixel, -0.5 to 0.5 across the picture: (h, w, 6)."""
    x, y = np.moveaxis(_grid(width, height) / np.array([width, height], np.float32) - np.float32(0.5), 2, 0)
    return f32(np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=2))


_T = TypeVar("_T", bound=NDArray[np.generic])


def _read(image: _T, at: Float) -> _T:
    out = cv2.remap(image, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    return cast(_T, out)


def _mapped(homography: Homography, at: Float) -> Float:
    return f32(cv2.perspectiveTransform(at.reshape(-1, 1, 2), homography).reshape(at.shape))


def _doubt(parallax: Parallax, at: Float) -> Float:
    return f32(_read(parallax.doubt, at).astype(np.float32) * np.float32(1 / _DOUBT))
