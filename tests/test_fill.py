"""The fill: what was behind comes back, and nothing else is touched."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from shots import Shot, frame, psnr, run, texture, walker_shot

from configs.schema import load_config
from stream import fill, hole, motion, plate, vote
from stream.plate import vote_size
from stream.sources import Source
from stream.types import INVENTED, SEEN, UNTOUCHED, Motion


def outputs(shot, ahead=0, **options):
    return [filled.frame.planes[0] for filled in run(shot, ahead, **options)]


def nearest_copy(shot, motions):
    """The aligned copy from the nearest earlier frame that sees the pixel: hard to beat on deep scenes."""
    out = []
    for t, seen in enumerate(shot.seen):
        done, missing = seen.copy(), shot.masks[t].copy()
        to_now = np.eye(3)
        for s in range(t - 1, -1, -1):
            to_now = to_now @ motions[s + 1].homographies[0]
            size = seen.shape[1::-1]
            old = cv2.warpPerspective(shot.seen[s], to_now, size, flags=cv2.INTER_LINEAR)
            free = cv2.dilate(shot.masks[s].astype(np.uint8), np.ones((5, 5))) == 0
            seen_there = cv2.warpPerspective(free.astype(np.uint8), to_now, size, flags=cv2.INTER_NEAREST) > 0
            take = missing & seen_there
            done[take] = old[take]
            missing &= ~take
        if missing.any():
            done = cv2.inpaint(done, missing.astype(np.uint8), 4, cv2.INPAINT_TELEA)
        out.append(done)
    return out


def motions_of(shot):
    state, out = motion.initial(), []
    for index, seen in enumerate(shot.seen):
        moved, state = motion.step(state, frame(seen, index), shot.masks[index])
        out.append(moved)
    return out


def test_a_noise_free_still_comes_back_exactly():
    shot = walker_shot(16, speed=8.0)
    for t, filled in enumerate(run(shot, 8)):
        x0, y0, x1, y1 = filled.box
        known = np.zeros((180, 320), bool)
        known[y0:y1, x0:x1] = filled.origin == SEEN
        known &= cv2.erode(shot.masks[t].astype(np.uint8), np.ones((7, 7))) > 0
        apart = np.abs(filled.frame.planes[0][known].astype(int) - shot.truth[t][known])
        assert apart.max(initial=0) <= 1


def test_a_walker_over_a_noisy_still_is_gone():
    shot = walker_shot(24, noise=2.0)
    out = outputs(shot)
    core = [cv2.erode(m.astype(np.uint8), np.ones((7, 7))) > 0 for m in shot.masks]
    values = [psnr(out[t], shot.truth[t], core[t]) for t in range(12, 24)]
    assert min(values) > 35


@pytest.mark.parametrize("pan", [0.0, 1.3])
def test_outside_the_hole_every_sample_stays(pan):
    shot = walker_shot(14, pan=pan, noise=1.0)
    config = load_config("tourist", overrides={"hole.shadow": False})
    for out, seen, mask in zip(outputs(shot, 4, config=config), shot.seen, shot.masks, strict=True):
        assert np.array_equal(out[~mask], seen[~mask])


def test_without_a_hole_the_frame_is_handed_on():
    config = load_config("tourist")
    picture = frame(texture(160, 90), 0)
    moved, _ = motion.step(motion.initial(), picture, np.zeros((90, 160), bool))
    known = plate.initial(config.plate)
    wanted = hole.from_mask(np.zeros((90, 160), bool))
    filled, _ = fill.fill(picture, wanted, known, moved, (), None, config)
    assert filled.frame is picture
    assert filled.box is None


def test_a_pan_beats_the_aligned_nearest_copy():
    shot = walker_shot(20, pan=1.37, noise=1.5, speed=8.0)
    config = load_config("tourist", overrides={"hole.shadow": False})
    ours, copied = outputs(shot, config=config), nearest_copy(shot, motions_of(shot))
    times = range(12, 20)
    core = [cv2.erode(m.astype(np.uint8), np.ones((5, 5))) > 0 for m in shot.masks]
    mine = np.mean([psnr(ours[t], shot.truth[t], core[t]) for t in times])
    theirs = np.mean([psnr(copied[t], shot.truth[t], core[t]) for t in times])
    assert mine > theirs + 1.0


def test_exposure_drift_is_matched():
    shot = walker_shot(16, gain=0.12, noise=1.0, pan=0.8, speed=9.0)
    out = outputs(shot)
    core = cv2.erode(shot.masks[-1].astype(np.uint8), np.ones((7, 7))) > 0
    bias = (out[-1].astype(int) - shot.truth[-1])[core].mean()
    assert abs(bias) < 1.5


def test_looking_ahead_shows_what_only_later_frames_saw():
    shot = walker_shot(24, speed=5.0, width=60)
    first_blind = next(iter(run(shot)))
    first_knowing = next(iter(run(shot, 20)))
    assert (first_blind.origin == INVENTED).any()
    seen = np.count_nonzero(first_knowing.origin == SEEN)
    assert seen > 0.8 * np.count_nonzero(first_knowing.origin)


def test_never_seen_places_are_painted_and_say_so():
    mask = np.zeros((180, 320), bool)
    mask[60:120, 120:180] = True
    seen = texture(320, 180)
    seen[mask] = 0
    shot = Shot([seen] * 4, [seen] * 4, [mask] * 4)
    for filled in run(shot):
        assert (filled.origin == INVENTED).all()
        patch = filled.frame.planes[0][66:114, 126:174]
        assert patch.min() > 5
    assert filled.origin.shape == (60, 60)


def test_the_inpainter_is_asked_with_a_blank_hole_and_only_the_hole_is_taken():
    asked = []

    def inpaint(image, gaps, reference, validity):
        asked.append((image, gaps, reference, validity))
        return np.full_like(image, 77)

    mask = np.zeros((180, 320), bool)
    mask[60:120, 120:180] = True
    shot = Shot([texture(320, 180)], [texture(320, 180)], [mask])
    out = outputs(shot, inpaint=inpaint)[0]
    image, gaps, reference, validity = asked[0]
    assert image.shape == reference.shape == (128, 128, 3)
    assert gaps.shape == validity.shape == (128, 128)
    assert set(np.unique(gaps)) == {0, 1}
    assert not image[gaps > 0].any()
    # What it paints is the structure: the texture laid over it is the picture's own.
    assert np.array_equal(out[~mask], shot.seen[0][~mask])


def test_a_region_larger_than_the_crop_is_scaled():
    def inpaint(image, *_):
        assert image.shape == (128, 128, 3)
        return np.full_like(image, 99)

    mask = np.zeros((300, 460), bool)
    mask[10:290, 60:420] = True
    shot = Shot([texture(460, 300)], [texture(460, 300)], [mask])
    out = outputs(shot, inpaint=inpaint)[0]
    assert abs(float(out[50:250, 100:380].mean()) - 99) < 25


def test_paint_on_a_resting_camera_does_not_boil():
    mask = np.zeros((180, 320), bool)
    mask[60:120, 120:180] = True
    chance = np.random.default_rng(1)
    seen = []
    for _ in range(8):
        noisy = texture(320, 180) + chance.normal(0, 3, (180, 320, 3))
        seen.append(np.clip(noisy, 0, 255).astype(np.uint8))
    out = outputs(Shot(seen, seen, [mask] * 8))
    change = np.abs(out[-1][66:114, 126:174].astype(int) - out[-2][66:114, 126:174])
    assert change.mean() < 1.0


def test_paint_keeps_its_texture_under_a_panning_camera_and_follows_the_light():
    grain = np.random.default_rng(6).normal(0, 60, (180, 420, 3))
    ground, shot = 128 + cv2.GaussianBlur(grain, (0, 0), 1.2), Shot([], [], [])
    mask = np.zeros((180, 320), bool)
    mask[50:130, 100:190] = True
    for t in range(16):
        shot.truth.append((ground[:, 2 * t : 2 * t + 320] * (1 - 0.01 * t)).astype(np.uint8))
        shot.seen.append(np.where(mask[..., None], np.uint8(128), shot.truth[-1]))
        shot.masks.append(mask)
    painted = [filled for filled in run(shot) if (filled.origin == INVENTED).mean() > 0.3]
    assert len(painted) > 10
    core = slice(58, 122), slice(134, 182)
    for filled in (painted[0], painted[-1]):
        truth, out = shot.truth[filled.frame.index][core], filled.frame.rgb[core]
        laplacians = [cv2.Laplacian(each.astype(np.float32), cv2.CV_32F) for each in (out, truth)]
        assert 0.6 < float(np.square(laplacians[0]).mean() / np.square(laplacians[1]).mean()) < 1.5
        assert abs(float(out.mean()) - float(truth.mean())) < 5
    # What is carried moves with the ground, two pixels a frame, and stays what it was.
    one, two = (filled.frame.rgb.astype(int) for filled in painted[4:6])
    assert np.abs(two[60:120, 112:170] - one[60:120, 114:172]).mean() < 4


def test_what_stays_but_moves_is_never_background():
    # A kept thing (id 9) stands for a while where the removed one (the mask) comes to stand.
    config = load_config("tourist", overrides={"hole.shadow": False})
    ground = texture(320, 180)
    state, known = motion.initial(), plate.initial(config.plate)
    gone = np.zeros((180, 320), bool)
    gone[60:120, 140:180] = True
    for t in range(16):
        seen, labels = ground.copy(), np.zeros((180, 320), np.uint16)
        if 4 <= t < 15:
            seen[50:130, 130:190] = (250, 20, 250)
            labels[50:130, 130:190] = 9
        if t == 15:
            seen[gone] = 0
            labels[gone] = 4
        picture = frame(seen, t)
        moved, state = motion.step(state, picture, labels > 0)
        known = plate.observe(known, picture, moved, labels)
    wanted = replace(hole.from_mask(gone), tracks=(4,))
    filled, _ = fill.fill(picture, wanted, known, moved, {4, 9}, None, config)
    core = cv2.erode(gone.astype(np.uint8), np.ones((5, 5))) > 0
    assert psnr(filled.frame.planes[0], ground, core) > 40


def test_a_resting_kept_thing_may_be_background():
    config = load_config("tourist", overrides={"hole.shadow": False})
    scene = texture(320, 180)
    scene[50:130, 130:190] = (20, 90, 40)
    bench = np.zeros((180, 320), np.uint16)
    bench[50:130, 130:190] = 9
    state, known = motion.initial(), plate.initial(config.plate)
    gone = np.zeros((180, 320), bool)
    gone[60:120, 140:180] = True
    for t in range(12):
        seen, labels = scene.copy(), bench.copy()
        if t == 11:
            seen[gone], labels[gone] = 0, 4
        picture = frame(seen, t)
        moved, state = motion.step(state, picture, labels > 0)
        known = plate.observe(known, picture, moved, labels)
    filled, _ = fill.fill(
        picture, replace(hole.from_mask(gone), tracks=(4,)), known, moved, {4}, None, config
    )
    assert (filled.origin != INVENTED).all()
    core = cv2.erode(gone.astype(np.uint8), np.ones((5, 5))) > 0
    assert psnr(filled.frame.planes[0], scene, core) > 40


def test_old_memories_alone_are_not_painted_black():
    # exp(-dt / tau) falls below any floor one would think of; only ratios of weights may count
    grey = np.full((20, 20), 100, np.uint8)
    one = np.ones((20, 20), np.uint8)
    source = Source(None, np.eye(3), (1.0, 1.0, 1.0), grey, one)
    tiny = np.full((20, 20), 1e-25, np.float32)
    ballot = vote.tally([source, source], [tiny, tiny], 1.0)
    assert ballot.seen.all()
    assert np.allclose(sum(ballot.weights), 1.0, atol=1e-3)


def test_sources_that_contradict_each_other_are_not_averaged():
    dark, light = np.full((20, 20), 40, np.uint8), np.full((20, 20), 200, np.uint8)
    one = np.ones((20, 20), np.uint8)
    flat = np.ones((20, 20), np.float32)
    sources = [Source(None, np.eye(3), (1.0, 1.0, 1.0), g, one) for g in (dark, dark, light)]
    ballot = vote.tally(sources, [flat, flat, flat * 1.2], 1.0)
    assert ballot.weights[0].min() > 0.49
    assert ballot.weights[2].max() < 0.01


@pytest.mark.parametrize("size", [(321, 181), (200, 120), (97, 61)])
def test_odd_sizes_work(size):
    shot = walker_shot(6, size=size, pan=0.6)
    for filled, mask in zip(run(shot, 2), shot.masks, strict=True):
        assert filled.frame.planes[0].shape == (size[1], size[0], 3)
        assert filled.origin.shape == (filled.box[3] - filled.box[1], filled.box[2] - filled.box[0])
        assert mask.any()
    assert vote_size(*size)[0] <= size[0]


def test_frames_serve_to_their_very_edge():
    # The camera sways by a pixel: what lies at the border now was one pixel inside a moment ago.
    ground = texture(340, 180)
    shot = Shot([], [], [])
    for t in range(12):
        x = 10 - t % 2
        truth = ground[:, x : x + 320]
        mask = np.zeros((180, 320), bool)
        mask[40:140, 290:] = t == 11
        shot.truth.append(truth)
        shot.seen.append(np.where(mask[..., None], np.uint8(0), truth))
        shot.masks.append(mask)
    filled = list(run(shot))[-1]
    assert not (filled.origin == INVENTED).any()
    assert psnr(filled.frame.planes[0], shot.truth[-1], shot.masks[-1]) > 35


@pytest.mark.parametrize("same", [True, False])
def test_in_a_deep_scene_only_frames_that_agree_around_the_hole_serve(same):
    # Of the last frame it is told that it moved on with the others, but it may show another place.
    config = load_config("tourist")
    known = plate.initial(config.plate)
    mask = np.zeros((180, 320), bool)
    for t in range(10):
        mask[60:120, 140:180] = t == 9
        ground = np.where(texture(340, 180).mean(2, keepdims=True) > 120, np.uint8(210), np.uint8(40))
        ground = ground.repeat(3, axis=2)
        if not same and t == 9:
            ground = 250 - ground
        picture = frame(np.where(mask[..., None], np.uint8(0), ground[:, t : t + 320]), t)
        step = np.array([[1.0, 0, -1], [0, 1, 0], [0, 0, 1]])
        moved = Motion(t, (step,), np.zeros((0, 2), np.float32), np.zeros(0, np.int64), False, 0.5, t == 0)
        known = plate.observe(known, picture, moved, np.zeros(mask.shape, np.uint16), mask)
        # No dense motion: it ended where much was lost.
        known = replace(known, views=tuple(replace(v, parallax=None) for v in known.views))
    filled, _ = fill.fill(picture, hole.from_mask(mask), known, moved, (), None, config)
    shown = filled.origin[filled.origin != UNTOUCHED]
    assert ((shown == SEEN).mean() > 0.95) if same else (shown == INVENTED).all()


def test_origin_is_untouched_outside_the_hole():
    shot = walker_shot(6)
    filled = list(run(shot))[-1]
    x0, y0, x1, y1 = filled.box
    outside = ~shot.masks[-1][y0:y1, x0:x1]
    assert (filled.origin[outside] == UNTOUCHED).all() or not outside.any()
