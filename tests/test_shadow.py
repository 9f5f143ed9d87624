"""What a thing drags along: its shadow and the parts its mask left out go with it, the scene's own stay."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from shots import Shot, frame, psnr, run, texture

from configs.schema import load_config
from stream import fill, hole, motion, plate, surround

H, W = 180, 320


def clean(draw, config, frames=40, at=20, user_mask=False):
    """Let a thing that `draw` puts into a picture walk over a still -> output, truth, mask, input."""
    ground = texture(W, H, 8)
    state, known = motion.initial(), plate.initial(config.plate, look_ahead=frames / 25)
    kept = None
    for t in range(frames):
        seen, mask = draw(ground.copy(), 20 + 6 * t)
        labels = np.where(mask, 3, 0).astype(np.uint16)
        picture = frame(seen, t)
        moved, state = motion.step(state, picture, mask)
        known = plate.observe(known, picture, moved, labels)
        if t == at:
            kept = picture, moved, mask
    picture, moved, mask = kept
    wanted = hole.from_mask(mask)
    if not user_mask:
        wanted = replace(wanted, tracks=(3,))
    filled, _ = fill.fill(picture, wanted, known, moved, {3}, None, config)
    return filled.frame.planes[0], ground, mask, picture.rgb


def box_with_shadow(picture, x):
    mask = np.zeros((H, W), bool)
    mask[50:110, x : x + 26] = True
    cast = np.zeros((H, W), np.float32)
    cast[108:124, max(0, x - 30) : x + 22] = 1
    cast = cv2.GaussianBlur(cast, (0, 0), 3)
    picture = (picture * (1 - 0.45 * cast[..., None])).astype(np.uint8)
    picture[mask] = (220, 200, 30)
    return picture, mask


def box_with_missed_foot(picture, x):
    picture[50:124, x : x + 26] = (220, 30, 200)
    mask = np.zeros((H, W), bool)
    mask[50:110, x : x + 26] = True
    return picture, mask


def where(picture, ground, least=12):
    return cv2.absdiff(picture, ground).max(2) > least


def test_a_shadow_goes_with_its_thing():
    out, ground, mask, seen = clean(box_with_shadow, load_config("tourist"))
    shadow = where(seen, ground) & ~mask
    assert psnr(seen, ground, shadow) < 22
    assert psnr(out, ground, shadow) > 30


def test_a_shadow_goes_with_the_users_mask_as_well():
    out, ground, mask, seen = clean(box_with_shadow, load_config("tourist"), user_mask=True)
    assert psnr(out, ground, where(seen, ground) & ~mask) > 30


def test_a_shadow_of_the_first_frames_does_not_come_back_where_its_thing_goes_next():
    # The shadow falls ahead of who walks, and nothing of what follows is known yet.
    shot = Shot([], [], [])
    for t in range(15):
        x = 30 + 8 * t
        mask = np.zeros((H, W), bool)
        mask[50:124, x : x + 26] = True
        cast = np.zeros((H, W), np.float32)
        cast[112:126, x + 22 : x + 58] = 1
        ground = texture(W, H, 8)
        seen = (ground * (1 - 0.45 * cv2.GaussianBlur(cast, (0, 0), 3)[..., None])).astype(np.uint8)
        seen[mask] = (220, 200, 30)
        shot.seen.append(seen)
        shot.truth.append(ground)
        shot.masks.append(mask)
    outs = [filled.frame.planes[0] for filled in run(shot)]
    for t in range(11, 15):
        foot = shot.masks[t].copy()
        foot[:112] = False
        assert psnr(outs[t], shot.truth[t], foot) > 35


def test_shadows_stay_when_told_so():
    config = load_config("tourist", overrides={"hole.shadow": False})
    out, _, mask, seen = clean(box_with_shadow, config)
    assert np.array_equal(out[~mask], seen[~mask])


def test_what_the_mask_left_out_goes_too():
    out, ground, mask, seen = clean(box_with_missed_foot, load_config("tourist"))
    foot = where(seen, ground, 40) & ~mask
    assert foot.sum() > 100
    assert psnr(out, ground, foot) > 30


def test_the_users_mask_is_not_grown_by_parts():
    out, _, mask, seen = clean(box_with_missed_foot, load_config("tourist"), user_mask=True)
    assert np.array_equal(out[~mask], seen[~mask])


def test_a_shadow_of_the_scene_stays():
    def draw(picture, x):
        picture[100:140, 150:260] //= 2
        mask = np.zeros((H, W), bool)
        mask[50:110, x : x + 26] = True
        picture[mask] = (220, 200, 30)
        return picture, mask

    out, _, mask, seen = clean(draw, load_config("tourist"))
    assert np.array_equal(out[~mask], seen[~mask])


def test_a_part_must_touch_its_thing():
    core = np.zeros((H // 2, W // 2), np.uint8)
    core[20:50, 40:60] = 1
    strange = core.copy()
    strange[50:60, 42:58] = 1
    strange[20:40, 120:140] = 1
    nothing = np.zeros_like(core)
    found = surround.attached(surround.Difference(strange, nothing, nothing), core, nothing)
    assert found.parts[54:58, 44:56].all()
    assert not found.parts[:, 100:].any()


def test_what_stays_is_not_a_part():
    core = np.zeros((H // 2, W // 2), np.uint8)
    core[20:50, 40:60] = 1
    neighbour = np.zeros_like(core)
    neighbour[20:50, 61:80] = 1
    nothing = np.zeros_like(core)
    found = surround.attached(surround.Difference(core | neighbour, nothing, nothing), core, neighbour)
    assert not found.parts[neighbour > 0].any()


def test_a_change_larger_than_the_thing_is_the_scenes():
    core = np.zeros((H // 2, W // 2), np.uint8)
    core[40:50, 40:50] = 1
    strange = np.ones_like(core)
    nothing = np.zeros_like(core)
    found = surround.attached(surround.Difference(strange, nothing, nothing), core, nothing)
    assert not found.parts.any()
