"""A camera at rest where no picture may be late: what becomes hidden is what was there, all at once too."""

from __future__ import annotations

import numpy as np
import pytest
from films import core, film, photograph, resting
from shots import frame, psnr, run

from configs.schema import load_config
from stream import hole, motion, plate
from stream.newest import newest
from stream.plate import Memory

pytest.importorskip("skimage")

LIVE = load_config("webcam", overrides={"hole.shadow": False})
WHOLE = np.ones((60, 80), np.uint8)


def memories(pictures: list[np.ndarray]) -> list[Memory]:
    """Remembered frames of a camera at rest, the newest first."""
    nothing = np.zeros(pictures[0].shape[:2], bool)
    state, known = motion.initial(), plate.initial(LIVE.plate)
    for index, picture in enumerate(pictures):
        moved, state = motion.step(state, frame(picture, index), nothing, LIVE.plate)
        known = plate.observe(known, frame(picture, index), moved, nothing.astype(np.uint16))
    return list(reversed(known.memories))


def ask(known: list[Memory], covered: set[int] = frozenset()) -> tuple[np.ndarray, np.ndarray]:
    return newest(
        known,
        WHOLE,
        (100, 50),
        None,
        lambda each: np.full(each.grey.shape, each.index in covered, np.uint8),
        lambda _, colours: colours,
        known[0].seconds,
    )


def scene(frames: int) -> list[np.ndarray]:
    return film(photograph(), resting(frames), noise=1.0).truth


def test_the_very_pixels_of_one_frame_are_taken() -> None:
    pictures = scene(12)
    colours, known = ask(memories(pictures))
    assert known.all()
    parts = [picture[50:110, 100:180] for picture in pictures]
    assert np.array([(part == colours).all(2) for part in parts]).any(0).all()


def test_what_a_mask_left_out_in_a_few_frames_is_outvoted() -> None:
    pictures = scene(14)
    true = [each.copy() for each in pictures]
    for late in pictures[-3:]:
        late[70:90, 120:150] = (250, 20, 20)
    colours, _ = ask(memories(pictures))
    assert np.abs(colours.astype(int) - true[-1][50:110, 100:180]).max() < 30


def test_what_no_frame_shows_is_not_known() -> None:
    known = memories(scene(6))
    assert not ask(known, covered=set(range(6)))[1].any()
    colours, there = ask(known, covered=set(range(1, 6)))
    assert there.all() and np.array_equal(colours, known[-1].frame.rgb[50:110, 100:180])


def test_only_what_is_asked_for_is_told() -> None:
    known = memories(scene(6))
    asked = np.zeros_like(WHOLE)
    asked[11:37, 5:44] = 1
    nothing = np.zeros(known[0].grey.shape, np.uint8)
    _, there = newest(known, asked, (100, 50), None, lambda _: nothing, lambda _, rgb: rgb, 0.2)
    assert np.array_equal(there, asked)


def test_hidden_pixels_do_not_flicker() -> None:
    shot = film(photograph(), resting(32), noise=2.0)
    outs = [each.frame.planes[0] for each in run(shot, config=LIVE)]
    for t in range(13, 32):
        both = core(shot.masks[t]) & core(shot.masks[t - 1])
        changed = (outs[t][both] != outs[t - 1][both]).any(1)
        assert changed.mean() < 0.01


def test_a_large_thing_that_goes_all_at_once_leaves_the_background() -> None:
    # It comes at frame 12 and is told to go at frame 24.
    shot = film(photograph(), resting(30), noise=1.0)
    for t in range(12):
        shot.seen[t], shot.masks[t] = shot.truth[t], np.zeros_like(shot.masks[t])
    nothing = np.zeros_like(shot.masks[0])
    holes = [hole.from_mask(mask if t >= 24 else nothing) for t, mask in enumerate(shot.masks)]
    done = list(run(shot, config=LIVE, holes=holes))
    for t in range(24, 30):
        assert psnr(done[t].frame.planes[0], shot.truth[t], core(shot.masks[t])) > 38


def test_light_that_changes_while_pixels_are_hidden_is_followed() -> None:
    fade = [(1 - 0.004 * t,) * 3 for t in range(40)]
    shot = film(photograph(), resting(40), noise=1.0, light=fade)
    outs = [each.frame.planes[0] for each in run(shot, config=LIVE)]
    for t in range(12, 40):
        inside = core(shot.masks[t])
        assert np.abs((outs[t].astype(float) - shot.truth[t])[inside].mean(0)).max() < 3.0
