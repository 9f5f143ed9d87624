"""A camera at rest: what is hidden stays as it is, and is what was there."""

from __future__ import annotations

import numpy as np
import pytest
from films import core, film, handheld, photograph, resting
from shots import frame, psnr, run

from configs.schema import load_config
from stream import fill, hole, motion, plate
from stream.types import SEEN

pytest.importorskip("skimage")

NO_SHADOW = load_config("tourist", overrides={"hole.shadow": False})


def filled(shot, ahead=0):
    return [each.frame.planes[0] for each in run(shot, ahead, config=NO_SHADOW)]


@pytest.mark.parametrize("ahead", [0, 15])
def test_hidden_pixels_do_not_flicker(ahead):
    shot = film(photograph(), resting(32), noise=2.0)
    outs = filled(shot, ahead)
    for t in range(13, 32):
        both = core(shot.masks[t]) & core(shot.masks[t - 1])
        changed = (outs[t][both] != outs[t - 1][both]).any(1)
        assert changed.mean() < 0.01


@pytest.mark.parametrize("preset", ["tourist", "webcam"])
def test_a_clean_clip_is_filled_with_the_very_pixels(preset):
    shot = film(photograph(), resting(32))
    done = list(run(shot, config=load_config(preset, overrides={"hole.shadow": False})))
    for t in range(13, 32):
        x0, y0, x1, y1 = done[t].box
        known = np.zeros(shot.masks[t].shape, bool)
        known[y0:y1, x0:x1] = done[t].origin == SEEN
        known &= core(shot.masks[t])
        assert np.count_nonzero(known) > 500
        assert np.array_equal(done[t].frame.planes[0][known], shot.truth[t][known])


def test_light_that_changes_while_pixels_are_hidden_is_followed():
    fade = [(1 - 0.004 * t,) * 3 for t in range(40)]
    shot = film(photograph(), resting(40), noise=1.0, light=fade)
    outs = filled(shot)
    for t in range(12, 40):
        inside = core(shot.masks[t])
        assert np.abs((outs[t].astype(float) - shot.truth[t])[inside].mean(0)).max() < 2.0


def test_a_camera_that_begins_to_move_leaves_the_resting_plate():
    moves = resting(40)
    moves[20:] = handheld(20, 3.0)
    shot = film(photograph(), moves, noise=1.0)
    outs = filled(shot)
    for t in range(24, 40):
        inside = core(shot.masks[t])
        error = outs[t].astype(float) - shot.truth[t]
        assert 10 * np.log10(255**2 / np.square(error[inside]).mean()) > 36


def test_feet_that_masks_leave_out_are_no_background_for_a_camera_that_drifts():
    frames, ahead = 90, 30
    drift = np.arange(frames)[:, None] * np.array([0.09, 0.05, 0.0])
    shot = film(photograph(), drift, noise=1.0, speed=1.0, start=20, width=26)
    feet = []
    for mask in shot.masks:
        last = np.flatnonzero(mask.any(1))[-1]
        feet.append(mask & (np.arange(len(mask))[:, None] > last - 8))
    state, known, motions = motion.initial(), plate.initial(NO_SHADOW.plate, look_ahead=ahead / 25), []
    scores = []
    for t in range(frames + ahead):
        if t < frames:
            picture = frame(shot.seen[t], t)
            moved, state = motion.step(state, picture, shot.masks[t], NO_SHADOW.plate)
            motions.append(moved)
            things = (shot.masks[t] & ~feet[t]).astype(np.uint16)
            known = plate.observe(known, picture, moved, things)
        if 30 <= (at := t - ahead) < frames - 20:
            whole = hole.from_mask(shot.masks[at])
            done, known = fill.fill(frame(shot.seen[at], at), whole, known, motions[at], {1}, None, NO_SHADOW)
            scores.append(psnr(done.frame.planes[0], shot.truth[at], core(feet[at], 1)))
    assert np.mean(scores) > 39.5
