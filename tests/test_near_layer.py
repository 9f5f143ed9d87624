"""Two depths: which pixels are near, and what is put back where a near post stands before a far view."""

from __future__ import annotations

import numpy as np
import pytest
from shots import Shot, frame, psnr, run, texture

from configs.schema import load_config
from stream import geometry, motion, near_layer, plate, pose

CONFIG = load_config("tourist")

FAR, NEAR = 3, 9
"""Pixels by which the layers move a frame."""

WIDTH, HEIGHT, RIDGE = 480, 270, 156


def near_part(t):
    """Where the near layer is in frame `t`: the ground, and two posts."""
    out = np.zeros((HEIGHT, WIDTH), bool)
    out[RIDGE:] = True
    for x in (225, 495):
        left = x - NEAR * t
        out[:, max(0, left) : max(0, left + 33)] = True
    return out


def two_depths(frames, *, noise=1.0):
    """A camera passes two posts before a far view; somebody walks the other way in front of all."""
    far, near = texture(WIDTH + FAR * frames, HEIGHT, 5), texture(WIDTH + NEAR * frames, HEIGHT, 6)
    chance = np.random.default_rng(7)
    shot = Shot([], [], [])
    for t in range(frames):
        clean = far[:, FAR * t : FAR * t + WIDTH].astype(np.float32)
        here = near_part(t)
        clean[here] = near[:, NEAR * t : NEAR * t + WIDTH][here]
        truth = np.clip(clean + chance.normal(0, noise, clean.shape) + 0.5, 0, 255).astype(np.uint8)
        mask = np.zeros((HEIGHT, WIDTH), bool)
        x = 30 + 8 * t
        mask[45:255, x : x + 60] = True
        seen = truth.copy()
        seen[mask] = (200, 40, 40)
        shot.seen.append(seen)
        shot.truth.append(truth)
        shot.masks.append(mask)
    return shot


def observed(shot):
    state, known = motion.initial(), plate.initial(CONFIG.plate)
    for index, (picture, mask) in enumerate(zip(shot.seen, shot.masks, strict=True)):
        moved, state = motion.step(state, frame(picture, index), mask, CONFIG.plate)
        nothing = np.zeros(mask.shape, np.uint16)
        known = plate.observe(known, frame(picture, index), moved, nothing, mask)
    return known


@pytest.mark.parametrize(("ahead", "since", "least"), [(0, 10, 28.7), (20, 0, 31.0)])
def test_a_post_behind_a_walker_stands_where_it_is_beside_the_far_view(ahead, since, least):
    shot = two_depths(20)
    outs = [filled.frame.planes[0] for filled in run(shot, ahead)]
    quality = [psnr(outs[t], shot.truth[t], shot.masks[t]) for t in range(since, 20)]
    assert np.mean(quality) > least


def test_frames_from_before_the_second_layer_was_found_learn_of_it():
    known = observed(two_depths(18))
    first = known.views[0]
    assert first.near is not None
    wide = near_part(0)
    assert np.mean(first.near[wide[::2, ::2]] > near_layer.UNKNOWN) > 0.8
    followed = np.isin(first.motion.ids, known.views[5].motion.ids)
    at = np.rint(first.motion.corners).astype(int)
    there = wide[at[:, 1], at[:, 0]]
    assert first.motion.near[followed & there].mean() > 0.5
    assert first.motion.near[~there].mean() < 0.1
    # The near layer's way from the first frame to a late one, where the layers have long been known.
    shift = geometry.apply(
        pose.relate(first, known.views[16], near=True), np.array([[440.0, 225.0]], np.float32)
    )
    assert shift[0] == pytest.approx([440 - 16 * NEAR, 225], abs=1.0)


def test_what_is_near_is_told_from_what_is_far():
    known = observed(two_depths(18))
    for view in known.views[12:]:
        wide = near_part(view.index)[::2, ::2]
        clear = known.memory(view.index).things == 0
        assert view.near is not None
        assert np.mean(view.near[wide & clear] > near_layer.UNKNOWN) > 0.9
        assert np.mean(view.near[~wide & clear] < near_layer.UNKNOWN) > 0.85


def told_of_a_post(noise):
    """Evidence in the last of 16 frames in which a post (60 to 80) has passed before a plain view at rest."""
    chance = np.random.default_rng(3)
    pictures, hidden = [], np.zeros((120, 240), np.uint8)
    for t in range(16):
        picture = np.full((120, 240), 150, np.float32)
        picture[:, 120 - 4 * t : 140 - 4 * t] = texture(20, 120, 1)[..., 0]
        picture += chance.normal(0, noise, picture.shape)
        pictures.append(np.clip(picture + 0.5, 0, 255).astype(np.uint8))
    told, all_told = None, []
    for t, picture in enumerate(pictures):
        before = [
            (pictures[t - k], hidden, all_told[t - k], np.eye(3), geometry.shifting(-4 * k, 0))
            for k in near_layer.BACK
            if t >= k
        ]
        last = None if told is None else (told, np.eye(3), geometry.shifting(-4, 0))
        told = near_layer.measure(picture, hidden, before, last)
        all_told.append(told)
    return told


def test_a_plain_view_beside_a_post_is_not_carried_along_with_it():
    # Beside a post that has moved on, a plain view was hidden a moment ago: it is not missed, so not near.
    told = told_of_a_post(2.0)
    post = slice(60, 80)
    assert np.mean(told[:, post] > near_layer.UNKNOWN + 4) > 0.8
    assert np.mean(told[:, post.stop + 3 : post.stop + 14] > near_layer.UNKNOWN + 8) < 0.15
    assert np.mean(told[:, post.start - 14 : post.start - 3] > near_layer.UNKNOWN + 8) < 0.1


def test_the_edge_of_a_post_does_not_speak_for_what_is_plain_beside_it():
    # Three pixels beside posts went with them: there the edge's contrast counted as their own.
    told = told_of_a_post(2.0)
    assert told[:, 80:83].mean() < near_layer.UNKNOWN + 25
    assert told[:, 61:70].mean() > near_layer.UNKNOWN + 35
