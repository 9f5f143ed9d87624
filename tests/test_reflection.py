"""The mirror image of what goes, on a wet or polished floor, goes with it; what only looks near it stays."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from shots import frame, psnr, texture

from configs.schema import load_config
from stream import fill, hole, motion, plate
from stream.background import Background
from stream.reflection import reflection

H, W = 180, 320
TOP, FOOT, WIDE = 40, 96, 30


def figure(seed=3):
    """A thing with some pattern of its own, light above and dark below."""
    return cv2.resize(np.random.default_rng(seed).integers(30, 220, (7, 3, 3), np.uint8), (WIDE, FOOT - TOP))


def mirrored(picture, x, strength=0.4):
    """A thing standing at x on a floor that mirrors it, and its mask."""
    thing = figure()
    mask = np.zeros((H, W), bool)
    mask[TOP:FOOT, x : x + WIDE] = True
    image = cv2.GaussianBlur(thing[::-1], (0, 0), 1.2)
    fade = strength * np.linspace(1, 0.5, FOOT - TOP)[:, None, None]
    floor = picture[FOOT : 2 * FOOT - TOP, x : x + WIDE]
    floor[:] = (floor * (1 - fade) + image * fade).astype(np.uint8)
    picture[TOP:FOOT, x : x + WIDE] = thing
    return picture, mask


def clean(draw, user_mask, frames=44):
    """Let a thing walk over a still -> outputs, truth, masks, inputs."""
    config = load_config("tourist")
    ground = texture(W, H, 8)
    state, known = motion.initial(), plate.initial(config.plate, look_ahead=frames / 25)
    shots = []
    for t in range(frames):
        seen, mask = draw(ground.copy(), 20 + 6 * t)
        picture = frame(seen, t)
        moved, state = motion.step(state, picture, mask)
        known = plate.observe(known, picture, moved, np.where(mask, 3, 0).astype(np.uint16))
        shots.append((picture, moved, mask))
    outs = []
    for picture, moved, mask in shots:
        wanted = hole.from_mask(mask) if user_mask else replace(hole.from_mask(mask), tracks=(3,))
        filled, known = fill.fill(picture, wanted, known, moved, {3}, None, config)
        outs.append(filled.frame.planes[0])
    return outs, ground, [s[2] for s in shots], [s[0].rgb for s in shots]


def test_a_low_thing_at_the_upper_border_has_no_mirror_image():
    ground = texture(W, H, 8)
    scene = Background(ground, np.ones((H, W), np.uint8), calm=True, whole=True)
    thing = np.zeros((H, W), np.uint8)
    thing[:6, 100:160] = 1
    seen = ground.copy()
    seen[:12, 100:160] = 30
    assert not reflection(seen, scene, thing, np.zeros((H, W), np.uint8)).any()


@pytest.mark.parametrize("user_mask", [False, True], ids=["tracks", "masks"])
def test_a_mirror_image_goes_with_its_thing(user_mask):
    outs, ground, masks, seen = clean(mirrored, user_mask)
    for t in range(12, 32):
        image = np.zeros((H, W), bool)
        image[FOOT : 2 * FOOT - TOP] = masks[t][TOP:FOOT][::-1]
        assert psnr(seen[t], ground, image) < 26
        assert psnr(outs[t], ground, image) > 32
        # What is filled behind the thing holds nothing of the image of other moments.
        assert psnr(outs[t], ground, masks[t]) > 35


def test_something_else_below_a_thing_stays():
    """A wagon of other colours that the user did not mark goes along under the thing."""

    def draw(picture, x):
        mask = np.zeros((H, W), bool)
        mask[TOP:FOOT, x : x + WIDE] = True
        picture[TOP:FOOT, x : x + WIDE] = figure()
        wagon = cv2.resize(np.random.default_rng(9).integers(30, 220, (5, 4, 3), np.uint8), (WIDE, 40))
        picture[FOOT + 2 : FOOT + 42, x : x + WIDE] = wagon[:, : picture[0, x : x + WIDE].shape[0]]
        return picture, mask

    outs, _, masks, seen = clean(draw, user_mask=True)
    for t in range(12, 32):
        assert np.array_equal(outs[t][~masks[t]], seen[t][~masks[t]])


def test_a_matt_floor_stays_as_it_is():
    def draw(picture, x):
        mask = np.zeros((H, W), bool)
        mask[TOP:FOOT, x : x + WIDE] = True
        picture[TOP:FOOT, x : x + WIDE] = figure()
        return picture, mask

    outs, _, masks, seen = clean(draw, user_mask=False)
    for t in range(12, 32):
        assert np.array_equal(outs[t][~masks[t]], seen[t][~masks[t]])
