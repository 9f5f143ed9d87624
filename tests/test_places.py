"""Places are found again by what they show; what is remembered of a run stays within its bytes."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import cv2
import numpy as np
import pytest
from shots import frame, psnr, texture

from configs.schema import load_config
from models.words import bag, describe, load_words
from stream import align, archive, fill, hole, motion, plate
from stream.elsewhere import Elsewhere
from stream.pipeline import Clock, Filling, Seen
from stream.places import EVERYONE, keep, most_redundant, similarities
from stream.types import INVENTED, SEEN, Filled, Image, Mask

SIZE = (320, 180)
NOBODY = np.zeros((90, 160), np.uint16)


def photograph(place: int, *, move: float = 0.0, gain: float = 1.0, noise: float = 2.0) -> Image:
    """A place seen a little from aside: `move` in pixels, with a perspective change that goes with it."""
    w, h = SIZE
    big = texture(w + 120, h + 80, place)
    bend = 0.00002 * move
    view = np.array([[1, 0.001 * move, -30 - move], [-0.001 * move, 1, -30], [bend, 0, 1]])
    seen = cv2.warpPerspective(big, view, SIZE, flags=cv2.INTER_CUBIC).astype(np.float32) * gain
    seen += np.random.default_rng(place + 99).normal(0, noise, seen.shape)
    return np.clip(seen, 0, 255).astype(np.uint8)


def grey(picture: Image) -> Image:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


def test_a_place_is_found_again_among_others() -> None:
    album = [keep(photograph(place), NOBODY) for place in range(12)]
    for place in range(12):
        again = keep(photograph(place, move=25, gain=0.7, noise=4.0), NOBODY)
        likeness = similarities(album, again.words)
        assert int(np.argmax(likeness)) == place


def test_only_the_same_place_can_be_laid_over() -> None:
    here = describe(grey(photograph(1)))
    same, other = (describe(grey(photograph(place, move=20, gain=1.2))) for place in (1, 2))
    fit = align.match(same, here, *SIZE)
    assert fit is not None
    points = np.array([[60, 50], [250, 60], [160, 140]], np.float32)
    # where the points really are, from the two cameras' own maps
    bend = 0.00002 * 20
    first = np.array([[1, 0, -30], [0, 1, -30], [0, 0, 1.0]])
    second = np.array([[1, 0.02, -50], [-0.02, 1, -30], [bend, 0, 1]])
    true = cv2.perspectiveTransform(points[:, None], first @ np.linalg.inv(second))[:, 0]
    assert np.abs(cv2.perspectiveTransform(points[:, None], fit.forward)[:, 0] - true).max() < 1.5
    assert align.match(other, here, *SIZE) is None


def test_plain_pictures_have_no_words_and_fit_nothing() -> None:
    plain = np.full((180, 320, 3), 120, np.uint8)
    found = describe(grey(plain))
    assert len(found.points) == 0
    assert not bag(found, load_words()).any()
    assert align.match(found, describe(grey(photograph(0))), *SIZE) is None
    assert np.isfinite(similarities([keep(plain, NOBODY)], bag(found, load_words()))).all()


def test_who_covers_a_keyframe_is_decided_when_it_is_used() -> None:
    labels = NOBODY.copy()
    labels[20:40, 20:40], labels[60:80, 100:120] = 7, EVERYONE
    picture = keep(photograph(3), labels)
    assert picture.covered({7})[30, 30] and not picture.covered({8})[30, 30]
    assert picture.covered(())[70, 110], "what the user masked is background for nobody"
    assert not picture.covered({7})[50, 70]


def test_pixels_survive_compression() -> None:
    shown = photograph(4)
    assert psnr(keep(shown, NOBODY).rgb(), shown, np.ones(shown.shape[:2], bool)) > 38


def test_the_picture_that_goes_is_the_one_that_others_repeat() -> None:
    album = [keep(photograph(p, move=m), NOBODY) for p, m in ((0, 0), (1, 0), (1, 1), (1, 2), (2, 0))]
    assert most_redundant(album) in (1, 2, 3)


def remember(pictures: Sequence[Image], budget: int, ticks: int = 13) -> archive.Archive:
    config = load_config("tourist").plate
    kept, state, known = archive.Archive(budget), motion.initial(), plate.initial(config)
    for index, picture in enumerate(pictures):
        shown = frame(picture, index * ticks)
        moved, state = motion.step(state, shown, np.zeros((90, 160), bool))
        known = plate.observe(known, shown, moved, NOBODY)
        kept = archive.observe(kept, known.memories[-1], 0)
        assert kept.nbytes <= budget
    return archive.finished(kept)


def test_the_archive_stays_within_its_bytes() -> None:
    long_pan = texture(2400, 240, 8)
    pictures = [long_pan[20:200, 12 * t : 12 * t + 320] for t in range(160)]
    free = remember(pictures, 1 << 30)
    tight = remember(pictures, free.nbytes // 3)
    assert 8 < len(tight.pictures) < len(free.pictures) / 2
    # Thinned, not cut off: the whole way is still there.
    gaps = np.diff([0.0, *(each.seconds for each in tight.pictures), 160 * 13 / 25])
    assert gaps.max() < 160 * 13 / 25 / 3


def test_a_resting_camera_fills_no_archive() -> None:
    kept = remember([photograph(5, noise=0.0)] * 120, 1 << 30)
    assert 3 <= len(kept.pictures) < 15
    hours = remember([photograph(5, noise=0.0)] * 120, 1 << 30, ticks=60 * 25)
    assert 8 <= len(hours.pictures) <= 20
    assert hours.pictures[0].seconds < 600 and hours.pictures[-1].seconds > 6000


def filled_over(
    shots: Sequence[Sequence[tuple[Image, Mask | None]]], *, archive_mb: int = 64, keyframes: int = 40
) -> list[Filled]:
    """Several shots of one run, the mask being the hole, as the pipeline fills them."""
    overrides = {"look_ahead": 0.0, "plate.archive_mb": archive_mb, "plate.keyframes": keyframes}
    config = load_config("tourist", overrides=overrides)
    filling, done, index = Filling(config, None, Clock()), [], 0
    for number, shot in enumerate(shots):
        state = motion.initial()
        for picture, mask in shot:
            shown = frame(picture, index)
            blocked = np.zeros(picture.shape[:2], bool) if mask is None else mask
            moved, state = motion.step(state, shown, blocked)
            stuff = np.zeros(0, np.float32)
            hole = blocked if mask is not None else None
            seen = Seen(shown, index, Fraction(index, 25), number, moved, (), (), NOBODY, stuff, hole)
            done += filling.push(seen)
            index += 1
    return [*done, *filling.finish()]


def hidden(picture: Image, mask: Mask) -> Image:
    out = picture.copy()
    out[mask] = (30, 220, 40)
    return out


def in_the_way() -> Mask:
    mask = np.zeros((180, 320), bool)
    mask[50:130, 120:190] = True
    return mask


def test_after_a_cut_back_to_a_place_its_old_pixels_fill_the_hole() -> None:
    mask = in_the_way()
    before = [(photograph(6, move=0.4 * t), None) for t in range(30)]
    between = [(photograph(7), None)] * 5
    truth = [photograph(6, move=8 + 0.2 * t, gain=0.85) for t in range(12)]
    after = [(hidden(each, mask), mask) for each in truth]
    done = filled_over([before, between, after])[-len(truth) :]
    blind = filled_over([before, between, after], archive_mb=0)[-len(truth) :]
    core = cv2.erode(mask.astype(np.uint8), np.ones((5, 5))) > 0
    for t in (0, 5, 11):
        with_memory = psnr(done[t].frame.planes[0], truth[t], core)
        assert with_memory > 32
        assert with_memory > psnr(blind[t].frame.planes[0], truth[t], core) + 10
        assert np.count_nonzero(done[t].origin == SEEN) > 0.95 * mask.sum()
        assert np.count_nonzero(blind[t].origin == INVENTED) > 0.8 * mask.sum()


def test_after_a_pan_away_and_back_the_hole_gets_its_old_pixels() -> None:
    mask = in_the_way()
    wide = texture(1300, 240, 21)
    way = [*range(0, 900, 12), *range(900, 0, -12), *[0] * 12]
    shot = []
    for number, x in enumerate(way):
        seen = np.ascontiguousarray(wide[30:210, 20 + x : 340 + x])
        shot.append((hidden(seen, mask), mask) if number >= len(way) - 12 else (seen, None))
    done = filled_over([shot], keyframes=4)[-1]
    core = cv2.erode(mask.astype(np.uint8), np.ones((5, 5))) > 0
    assert psnr(done.frame.planes[0], wide[30:210, 20:340], core) > 30
    assert np.count_nonzero(done.origin == SEEN) > 0.95 * mask.sum()


def test_another_place_is_never_taken_for_this_one() -> None:
    mask = in_the_way()
    before = [(photograph(8, move=0.5 * t), None) for t in range(30)]
    after = [(hidden(photograph(9), mask), mask)] * 6
    for filled in filled_over([before, after])[-6:]:
        assert np.count_nonzero(filled.origin == INVENTED) > 0.8 * mask.sum()


def test_who_stood_there_then_is_not_put_back() -> None:
    # The keyframe shows a thing (track 5) where the hole is now; it goes, so its pixels are no background.
    mask = in_the_way()
    config = load_config("tourist")
    elsewhere = Elsewhere(64 << 20)
    shown = photograph(10)
    shown[60:120, 130:180] = (250, 250, 0)
    labels = NOBODY.copy()
    labels[28:62, 63:92] = 5
    asked = [(0, shown, labels, None), (1, photograph(10, move=3), NOBODY, mask)]
    for shot, picture, things, covered in asked:
        seen = picture if covered is None else hidden(picture, covered)
        moved, _ = motion.step(motion.initial(), frame(seen, shot), np.zeros((180, 320), bool))
        known = plate.observe(plate.initial(config.plate), frame(seen, shot), moved, things, covered)
        elsewhere.observe(known.memories[-1], shot)
    filled, _ = fill.fill(frame(seen, 1), hole.from_mask(mask), known, moved, {5}, None, config, elsewhere, 1)
    assert np.count_nonzero(filled.origin == SEEN) > 0.1 * mask.sum(), "what lies beside it is used"
    inside = filled.frame.planes[0][70:110, 140:170].astype(int)
    assert np.abs(inside - (250, 250, 0)).max(axis=2).min() > 40


def test_what_a_mask_leaves_over_in_the_frame_itself_is_not_put_back() -> None:
    # A picture alone: its thing is a little larger than its label. Nothing else has been seen.
    mask, labels = in_the_way(), NOBODY.copy()
    labels[32:58, 67:90] = 5
    shown = hidden(photograph(11), mask)
    moved, _ = motion.step(motion.initial(), frame(shown, 0), mask)
    config = load_config("tourist")
    known = plate.observe(plate.initial(config.plate), frame(shown, 0), moved, labels)
    elsewhere = Elsewhere(64 << 20)
    elsewhere.observe(known.memories[-1], 0)
    wanted = hole.from_mask(mask)
    filled, _ = fill.fill(frame(shown, 0), wanted, known, moved, {5}, None, config, elsewhere, 0)
    assert not np.any(filled.origin == SEEN)


@pytest.mark.parametrize("size", [(97, 61), (64, 48), (33, 21)])
def test_tiny_pictures_are_no_problem(size: tuple[int, int]) -> None:
    shown = texture(*size, 3)
    picture = keep(shown, np.zeros((size[1] // 2, size[0] // 2), np.uint16))
    assert picture.size == size and picture.rgb().shape == shown.shape
