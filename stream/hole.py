"""From verdicts to what is replaced: masks at full size, grown, soft at the edge, never over what stays."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.schema import Hole as HoleConfig
from stream.boxes import Box
from stream.types import Frame, Hole, Instance, Mask, Motion, Track, Verdict


def from_mask(mask: Mask, soft: float = 1.0) -> Hole:
    """Build the hole that the user drew: exactly `mask` (H x W), its edge inside it and `soft` pixels wide.

    At one pixel the whole mask is replaced: a mask that fits tightly must leave no outline of the thing.
    """
    box = bounds(mask)
    alpha = np.zeros(mask.shape, np.uint8)
    if box is None:
        return Hole(alpha, None, ())
    x0, y0, x1, y1 = box
    # A border of zeros only where the frame goes on: at the frame's edge nothing needs to be blended.
    inside = np.pad(mask[y0:y1, x0:x1].astype(np.uint8), 1, mode="edge")
    height, width = mask.shape
    if y0 > 0:
        inside[0] = 0
    if y1 < height:
        inside[-1] = 0
    if x0 > 0:
        inside[:, 0] = 0
    if x1 < width:
        inside[:, -1] = 0
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)[1:-1, 1:-1]
    edge = np.clip(depth / max(soft, 1e-3), 0.0, 1.0) * 255
    alpha[y0:y1, x0:x1] = np.where(mask[y0:y1, x0:x1], np.maximum(np.rint(edge), 1), 0).astype(np.uint8)
    return Hole(alpha, box, ())


def make_hole(
    frame: Frame,
    tracks: Sequence[Track],
    verdicts: Sequence[Verdict],
    motion: Motion,
    config: HoleConfig,
) -> Hole:
    """Build the hole of all removed tracks of one frame.

    Masks are taken to full size smoothly, grown by `config.dilate`, along fast motion as well, and get a soft
    edge outside the grown mask, so that no rim of the thing remains. Their fringes, of which most is not the
    thing, grow by half of that. What is kept is not eaten beyond the bare masks of what goes.
    """
    shape = frame.height, frame.width
    removed = {v.track for v in verdicts if v.action == "remove"}
    gone = [t for t in tracks if t.id in removed]
    alpha = np.zeros(shape, np.uint8)
    if not gone:
        return Hole(alpha, None, ())
    reach = max(1.0, config.dilate * frame.height)
    soft = max(1.0, config.soft * frame.height)
    bare = np.zeros(shape, np.uint8)
    kept = [t for t in tracks if t.id not in removed and not t.missed]
    for each in gone:
        smear = _smear(each, motion, frame) if config.blur else (0.0, 0.0)
        margin = int(reach + soft + max(abs(smear[0]), abs(smear[1]))) + 3
        wide, grown = _with_fringe(each.instance, reach / 2, shape)
        box = _working_box(wide, shape, margin)
        if box is None:
            continue
        x0, y0, x1, y1 = box
        if kept:
            own = bare[y0:y1, x0:x1]
            cv2.max(own, enlarge(each.instance.mask, shape, box), dst=own)
        mask = enlarge(wide, shape, box)
        if max(abs(smear[0]), abs(smear[1])) >= 1.5:
            mask = _swept(mask, smear)
        outside = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5)
        fall, full = -255.0 / soft, 255.0 * (reach - grown + soft) / soft
        edge = cv2.addWeighted(outside, fall, outside, 0.0, full, dtype=cv2.CV_8U)
        part = alpha[y0:y1, x0:x1]
        cv2.max(part, edge, dst=part)
    _spare(alpha, bare, kept)
    return Hole(alpha, bounds(alpha), tuple(sorted(t.id for t in gone)))


def _with_fringe(instance: Instance, reach: float, shape: tuple[int, int]) -> tuple[Mask, float]:
    """The mask grown by about `reach` pixels of the frame, with its fringe; how far it was grown, pixels."""
    if instance.fringe is None:
        return instance.mask, 0.0
    mask = instance.mask.view(np.uint8)
    per_pixel = shape[0] / mask.shape[0]
    steps = round(reach / per_pixel)
    if steps:
        side = 2 * steps + 1
        disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        mask = np.asarray(cv2.dilate(mask, disk), np.uint8)
    return (mask | instance.fringe.view(np.uint8)).view(bool), steps * per_pixel


def enlarge(mask: Mask, shape: tuple[int, int], box: Box) -> NDArray[np.uint8]:
    """The part of a working-resolution mask inside a full-size box, its outline smooth; uint8 0 or 1."""
    x0, y0, x1, y1 = box
    fx, fy = mask.shape[1] / shape[1], mask.shape[0] / shape[0]
    to_working = np.array([[fx, 0.0, (x0 + 0.5) * fx - 0.5], [0.0, fy, (y0 + 0.5) * fy - 0.5]], np.float64)
    soft = cv2.warpAffine(
        mask.view(np.uint8) * np.uint8(255),
        to_working,
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if fx < 0.9:
        soft = cv2.GaussianBlur(soft, (0, 0), 0.5 / fx)
    return np.asarray(cv2.threshold(soft, 111, 1, cv2.THRESH_BINARY)[1], np.uint8)


def bounds(mask: Mask | NDArray[np.uint8]) -> Box | None:
    """Bounds of what is set, exclusive at the end; None when nothing is."""
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    return (x, y, x + w, y + h) if w and h else None


def _smear(track: Track, motion: Motion, frame: Frame) -> tuple[float, float]:
    """How far the thing moves across the picture while a usual shutter is open (half a frame), pixels."""
    x0, _, x1, _ = track.instance.box
    seconds = float(frame.duration * frame.time_base) if frame.duration else 1 / 30
    sideways = 0.5 * track.speed * frame.width * min(seconds, 0.1)
    # `speed` has no direction; things that go are mostly seen going sideways.
    return (min(sideways, 0.25 * (x1 - x0)), 0.0) if not motion.cut else (0.0, 0.0)


def _swept(mask: NDArray[np.uint8], smear: tuple[float, float]) -> NDArray[np.uint8]:
    reach = int(np.ceil(max(abs(smear[0]), abs(smear[1]))))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.uint8)
    end = round(smear[0]), round(smear[1])
    cv2.line(kernel, (reach - end[0], reach - end[1]), (reach + end[0], reach + end[1]), 1)
    return np.asarray(cv2.dilate(mask, kernel), np.uint8)


def _working_box(mask: Mask, shape: tuple[int, int], margin: int) -> Box | None:
    """The mask's bounds at full size with a margin, inside the frame."""
    box = bounds(mask)
    if box is None:
        return None
    fx, fy = shape[1] / mask.shape[1], shape[0] / mask.shape[0]
    x0, y0 = max(0, int(box[0] * fx) - margin), max(0, int(box[1] * fy) - margin)
    x1, y1 = min(shape[1], int(box[2] * fx) + margin + 1), min(shape[0], int(box[3] * fy) + margin + 1)
    return x0, y0, x1, y1


def _spare(alpha: NDArray[np.uint8], bare: NDArray[np.uint8], kept: Sequence[Track]) -> None:
    """Take back growth that reaches into what stays; the bare masks themselves are not touched."""
    shape = alpha.shape[0], alpha.shape[1]
    for each in kept:
        box = _working_box(each.instance.mask, shape, 1)
        if box is None:
            continue
        x0, y0, x1, y1 = box
        part = alpha[y0:y1, x0:x1]
        if not part.any():
            continue
        stays = (enlarge(each.instance.mask, shape, box) > 0) & (bare[y0:y1, x0:x1] == 0)
        part[stays] = 0
