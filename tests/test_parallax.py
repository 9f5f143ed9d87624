"""Dense motion in a deep scene: what is hidden goes on as it went, in both directions of time."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from shots import Shot, psnr, run

from stream import parallax

W, H = 240, 160
FAR, NEAR = 1.0, 4.0
HOLE = (slice(40, 120), slice(90, 150))


def rough(width, seed):
    """A texture with detail at every scale, uint8 grey."""
    chance = np.random.default_rng(seed)
    out = np.zeros((H, width), np.float32)
    for cell, share in ((24, 1.0), (8, 0.7), (4, 0.4)):
        small = chance.uniform(-1, 1, (H // cell + 2, width // cell + 2)).astype(np.float32)
        out += share * cv2.resize(small, (width, H), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 60 * out, 0, 255).astype(np.uint8)


FAR_PICTURE, NEAR_PICTURE = rough(W + 300, 1), rough(W + 300, 2)


def scene(t):
    """Two depths: the lower half passes four times as fast as the upper."""
    columns = np.arange(W, dtype=np.float32)[None].repeat(H, 0)
    rows = np.arange(H, dtype=np.float32)[:, None].repeat(W, 1)
    near = rows >= H // 2
    far = cv2.remap(FAR_PICTURE, columns + 20 + FAR * t, rows, cv2.INTER_CUBIC)
    close = cv2.remap(NEAR_PICTURE, columns + 20 + NEAR * t, rows, cv2.INTER_CUBIC)
    return np.where(near, close, far)


def pan(shift=FAR):
    return np.array([[1.0, 0, -shift], [0, 1, 0], [0, 0, 1]])


def followed(frames):
    hidden = np.zeros((H, W), np.uint8)
    hidden[HOLE] = 1
    found, state = parallax.begin(scene(0), hidden)
    motions = [found]
    for t in range(1, frames):
        found, state = parallax.step(state, scene(t), hidden, pan())
        motions.append(found)
    return motions, hidden


def residual(motion):
    return motion.residual.astype(np.float32) / 64


def test_hidden_pixels_of_the_near_layer_keep_moving_with_it():
    motions, _ = followed(24)
    flow = residual(motions[-1])
    lower = flow[90:115, 95:145]
    upper = flow[45:70, 95:145]
    assert np.median(lower[..., 0]) == pytest.approx(NEAR - FAR, abs=0.3)
    assert np.median(upper[..., 0]) == pytest.approx(0.0, abs=0.5)
    assert np.percentile(np.abs(flow[90:115, 95:145, 1]), 90) < 0.5


def test_pixels_are_where_they_were_seen_before_and_after():
    motions, hidden = followed(24)
    start = np.stack(np.meshgrid(np.arange(95, 145), np.arange(92, 112)), 2).astype(np.float32)
    at, doubt = start, np.zeros(start.shape[:2], np.float32)
    for motion in motions[23:13:-1]:
        at, more = parallax.back(motion, at)
        doubt = doubt + more
    assert np.median(at[..., 0] - start[..., 0]) == pytest.approx(10 * NEAR, abs=2.0)
    assert np.isfinite(doubt).all()
    there, _ = parallax.ahead(motions[14], parallax.back(motions[14], start)[0])
    assert np.abs(there - start).max() < 0.5
    state = parallax.end(hidden)
    for t in range(23, 8, -1):
        back, state = parallax.step_back(state, hidden, motions[t])
    later, _ = parallax.back(back, start)
    assert np.median(later[..., 0] - start[..., 0]) == pytest.approx(-NEAR, abs=0.4)


def test_a_flat_scene_has_no_parallax():
    hidden = np.zeros((H, W), np.uint8)
    hidden[HOLE] = 1
    rows = np.arange(H, dtype=np.float32)[:, None].repeat(W, 1)
    columns = np.arange(W, dtype=np.float32)[None].repeat(H, 0)
    views = [cv2.remap(FAR_PICTURE, columns + 20 + 2.5 * t, rows, cv2.INTER_CUBIC) for t in range(10)]
    _, state = parallax.begin(views[0], hidden)
    for view in views[1:]:
        found, state = parallax.step(state, view, hidden, pan(2.5))
    assert np.percentile(np.abs(residual(found)[:, :220]), 95) < 0.3


def bowl():
    """A motion that grows towards the borders of the picture, as where a camera goes forward, pixels."""
    rows, columns = np.mgrid[:H, :W].astype(np.float32)
    return np.square(columns / (W / 2) - 1) + 0.5 * np.square(rows / (H / 2) - 1)


def test_hidden_pixels_follow_a_motion_that_begins_while_they_are_hidden():
    # Nothing that they did before tells of it; it bends over the picture, and no plane explains it.
    hidden = np.zeros((H, W), np.uint8)
    hidden[HOLE] = 1
    rows, columns = np.mgrid[:H, :W].astype(np.float32)
    for t in range(24):
        forward = max(0, t - 8)
        view = cv2.remap(FAR_PICTURE, columns + 20 + FAR * t + forward * bowl(), rows, cv2.INTER_CUBIC)
        if t == 0:
            _, state = parallax.begin(view, hidden)
            continue
        found, state = parallax.step(state, view, hidden, pan())
        if t > 12:
            amid = np.s_[50:110, 100:140]
            assert np.median(np.abs(residual(found)[..., 0] - bowl())[amid]) < 0.1


def test_what_is_known_spreads_smoothly():
    values = np.zeros((40, 60, 2), np.float32)
    values[:, :30] = (1.0, -2.0)
    values[:, 30:] = (3.0, -2.0)
    known = np.zeros((40, 60), np.uint8)
    known[:, :10] = known[:, 50:] = 1
    out = parallax.spread(values, known)
    assert np.allclose(out[known > 0], values[known > 0], atol=1e-4)
    assert np.allclose(out[..., 1], -2.0, atol=1e-3)
    assert 1.2 < out[20, 30, 0] < 2.8


def sloped(t):
    """A slope seen from a moving car: the lower, the nearer; no homography of the whole frame is right."""
    rows, columns = np.mgrid[:H, :W].astype(np.float32)
    bend = 1.0 + 3.0 * (rows / H) + 1.2 * np.sin(rows / 9.0)
    grey = cv2.remap(FAR_PICTURE, columns + 20 + bend * t, rows, cv2.INTER_CUBIC)
    return np.ascontiguousarray(np.repeat(grey[..., None], 3, 2))


@pytest.mark.parametrize(("ahead", "gain"), [(0, 2.0), (12, 2.0)])
def test_in_a_deep_scene_the_hole_is_filled_in_place(ahead, gain):
    truth = [sloped(t) for t in range(30)]
    mask = np.zeros((H, W), bool)
    mask[HOLE] = True
    seen = [np.where(mask[..., None], np.uint8(200), picture).astype(np.uint8) for picture in truth]
    outs = [filled.frame.rgb for filled in run(Shot(seen, truth, [mask] * 30), ahead)]
    ours, plain = [], []
    for t in range(12, 24):
        smooth = cv2.inpaint(seen[t], mask.astype(np.uint8), 4, cv2.INPAINT_TELEA)
        ours.append(psnr(outs[t], truth[t], mask))
        plain.append(psnr(smooth, truth[t], mask))
    assert np.mean(ours) > np.mean(plain) + gain
