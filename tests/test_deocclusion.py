"""Things hidden in part are completed from when they were seen whole, and by a network if never seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stream import deocclude, order, snapshot
from stream.deocclude import Answer, Completed, DeoccludeState
from stream.types import INVENTED, REFERENCE, SEEN, Instance, Mask, Track

SIZE = (180, 320)
Picture = NDArray[np.uint8]


def pattern(seed: int, height: int, width: int, cell: int) -> Picture:
    rough = np.random.default_rng(seed).integers(20, 236, (height // cell + 2, width // cell + 2, 3))
    large = cv2.resize(rough.astype(np.uint8), None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
    return np.asarray(large[:height, :width], np.uint8)


STREET = pattern(1, *SIZE, 20)
CLOTH = pattern(2, *SIZE, 7)


def person(x: float, foot: float, height: float, step: float = 0.0) -> Mask:
    """Head, trunk and two legs that stride by `step`."""
    canvas = np.zeros(SIZE, np.uint8)

    def at(dx: float, dy: float) -> tuple[int, int]:
        return round(x + dx * height), round(foot - dy * height)

    cv2.circle(canvas, at(0, 0.9), round(0.09 * height), 1, -1)
    cv2.ellipse(canvas, at(0, 0.62), (round(0.13 * height), round(0.22 * height)), 0, 0, 360, 1, -1)
    for side in (-1, 1):
        cv2.line(canvas, at(0, 0.5), at(side * (0.06 + step), 0), 1, round(0.09 * height))
    return canvas > 0


def painted(picture: Picture, mask: Mask, x: float, foot: float) -> Picture:
    """`picture` with the person's cloth, which moves along with the person."""
    move = np.array([[1, 0, x - 160], [0, 1, foot - 150]], np.float64)
    cloth = cv2.warpAffine(CLOTH, move, SIZE[::-1], borderMode=cv2.BORDER_WRAP)
    return np.where(mask[..., None], cloth, picture).astype(np.uint8)


def thing(number: int, mask: Mask, *, missed: bool = False) -> Track:
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    instance = Instance("person", 0.9, (x, y, x + w, y + h), mask)
    return Track(number, "person", instance, 0, 0, 9, missed, float(mask.mean()), 0.0, 0.0)


def scene(index: int, speed: float = 0.0) -> tuple[Picture, Mask, Mask, Picture]:
    """Frame, the first one's whole mask, the passer's mask, and the frame without the passer."""
    x, foot, step = 160 + speed * index, 150.0, 0.1 * np.sin(0.4 * index) * (speed != 0)
    whole = person(x, foot, 110, step)
    alone = painted(STREET, whole, x, foot)
    passer = person(20 + 7.0 * index, 165, 125, 0.1)
    return np.where(passer[..., None], 255 - STREET, alone).astype(np.uint8), whole, passer, alone


def follow(frames: int, speed: float = 0.0) -> list[tuple[int, Completed]]:
    """Run through a clip in which 2 passes before 1, and return what was completed of 1 and when."""
    state, pairs, found = deocclude.initial(), order.initial(), []
    for index in range(frames):
        picture, whole, passer, _ = scene(index, speed)
        things = [each for each in (thing(1, whole & ~passer), thing(2, passer)) if each.area > 0]
        now, pairs = order.step(pairs, things, SIZE[0])
        state = deocclude.observe(state, picture, index, things, now, {1})
        done, state = deocclude.complete(state, picture, index, things, now, wanted={1}, over={2})
        found += [(index, each) for each in done]
    return found


def full(mask: NDArray[np.generic], box: tuple[int, int, int, int]) -> NDArray[np.generic]:
    out = np.zeros((SIZE[0] + 8, SIZE[1] + 8, *mask.shape[2:]), mask.dtype)
    out[box[1] : box[3], box[0] : box[2]] = mask
    return out[: SIZE[0], : SIZE[1]]


@pytest.mark.parametrize(("speed", "overlap", "level"), [(0.0, 0.9, 6), (1.5, 0.7, 40)])
def test_someone_passed_by_another_is_whole_again(speed: float, overlap: float, level: float) -> None:
    found = follow(40, speed)
    assert len(found) >= 8
    overlaps, errors = [], []
    for index, each in found:
        _, whole, passer, alone = scene(index, speed)
        hidden = whole & passer
        if np.count_nonzero(hidden) < 150:
            continue
        said = full(each.amodal, each.box).astype(bool) & passer
        overlaps.append(np.count_nonzero(said & hidden) / np.count_nonzero(said | hidden))
        both = said & hidden
        colours = full(each.rgb, each.box)
        errors.append(np.abs(colours[both].astype(int) - alone[both]).mean())
        assert each.by == (2,) and each.track == 1 and each.confidence >= deocclude.ENOUGH
    assert len(overlaps) >= 5
    assert np.mean(overlaps) > overlap and np.mean(errors) < level


def test_visible_pixels_are_the_frames_own_and_origins_say_what_is_what() -> None:
    index, each = max(follow(30), key=lambda found: found[1].hidden)
    picture, whole, passer, _ = scene(index)
    seen = full(each.origin == SEEN, each.box).astype(bool)
    assert np.array_equal(full(each.rgb, each.box)[seen], picture[seen])
    assert np.mean(seen[whole & ~passer]) > 0.98
    assert set(np.unique(each.origin)) == {0, SEEN, REFERENCE}
    assert np.array_equal(each.origin > 0, each.amodal)
    assert not each.alpha[cv2.dilate(each.amodal.astype(np.uint8), np.ones((3, 3))) == 0].any()


def look(index: int) -> tuple[Picture, list[Track], order.Order]:
    picture, whole, passer, _ = scene(index)
    things = [thing(1, whole & ~passer), thing(2, passer)]
    return picture, things, order.order_still(things, SIZE[0])


def test_nothing_is_done_for_what_is_whole_or_not_wanted() -> None:
    state = deocclude.initial()
    for index, wanted, over in (2, {1}, {2}), (18, {2}, {1}), (18, {1}, {7}), (18, set(), {2}):
        picture, things, now = look(index)
        done, after = deocclude.complete(state, picture, index, things, now, wanted=wanted, over=over)
        assert done == () and after.used == {}
    alone = [look(2)[1][0]]
    assert deocclude.observe(state, picture, 2, alone, order.order_still(alone, SIZE[0]), {1}) is state


def test_one_who_is_hidden_from_the_first_frame_is_completed_from_later_ones() -> None:
    state = deocclude.initial()
    for index in range(30, 40):
        picture, things, now = look(index)
        state = deocclude.observe(state, picture, index, things, now, {1})
    picture, things, now = look(18)
    done, _ = deocclude.complete(state, picture, 18, things, now, wanted={1}, over={2})
    assert len(done) == 1 and done[0].hidden > 0.1


@pytest.mark.parametrize("leaves", [False, True])
def test_who_left_behind_the_passer_is_not_drawn_where_the_street_shows(leaves: bool) -> None:
    state, pairs = deocclude.initial(), order.initial()
    drawn = []
    for index in range(40):
        picture, whole, passer, _ = scene(index)
        hidden = np.count_nonzero(whole & passer) / np.count_nonzero(whole)
        gone = index >= 20
        if gone and leaves:
            picture = np.where(passer[..., None], 255 - STREET, STREET).astype(np.uint8)
        things = [thing(1, whole & ~passer)] * (not gone) + [thing(2, passer)]
        now, pairs = order.step(pairs, things, SIZE[0])
        state = deocclude.observe(state, picture, index, things, now, {1})
        done, state = deocclude.complete(state, picture, index, things, now, wanted={1}, over={2})
        if gone and 0.15 < hidden < 0.6:
            drawn += [each for each in done if each.confidence >= deocclude.ENOUGH]
    # One whose track is lost but who still stands there goes on; one who is gone does not.
    assert bool(drawn) != leaves


def test_who_was_never_whole_is_left_alone_without_a_network_and_asked_of_one_with_it() -> None:
    picture, things, now = look(19)
    asked: list[tuple[Picture, Picture, Picture]] = []

    def network(image: Picture, modal: Picture, front: Picture) -> Answer:
        asked.append((image, modal, front))
        whole = cv2.dilate(modal, np.ones((31, 31), np.uint8)).astype(np.float32)
        return Answer(whole, np.full_like(image, 77), 3.0)

    state = deocclude.initial()
    nothing, _ = deocclude.complete(state, picture, 19, things, now, wanted={1}, over={2})
    assert nothing == ()
    done, _ = deocclude.complete(state, picture, 19, things, now, wanted={1}, over={2}, network=network)
    image, modal, front = asked[0]
    assert image.shape == (128, 128, 3) and modal.any() and front.any() and not (modal & front).any()
    invented = done[0].origin == INVENTED
    assert invented.any() and (done[0].rgb[invented] == 77).all()


def test_network_may_say_that_nothing_is_hidden() -> None:
    picture, things, now = look(19)

    def network(image: Picture, modal: Picture, _: Picture) -> Answer:
        return Answer(np.ones_like(modal, np.float32), image, -2.0)

    done, _ = deocclude.complete(
        deocclude.initial(), picture, 19, things, now, wanted={1}, over={2}, network=network
    )
    assert done == ()


def test_state_can_be_saved_and_gone_on_with(tmp_path: Path) -> None:
    state, pairs = deocclude.initial(), order.initial()
    for index in range(17):
        picture, things, now = look(index)
        now, pairs = order.step(pairs, things, SIZE[0])
        state = deocclude.observe(state, picture, index, things, now, {1})
        _, state = deocclude.complete(state, picture, index, things, now, wanted={1}, over={2})
    snapshot.save(tmp_path / "state", (state, pairs))
    loaded: DeoccludeState
    loaded, old = snapshot.Snapshot(tmp_path / "state").load({})
    picture, things, _ = look(17)
    now, _ = order.step(old, things, SIZE[0])
    again, _ = order.step(pairs, things, SIZE[0])
    assert now == again
    found = [
        deocclude.complete(each, picture, 17, things, now, wanted={1}, over={2})[0][0]
        for each in (state, loaded)
    ]
    assert np.array_equal(found[0].rgb, found[1].rgb) and np.array_equal(found[0].amodal, found[1].amodal)


def test_memory_of_views_is_bounded_and_reaches_back() -> None:
    state = deocclude.initial()
    picture, things, now = look(2)
    for index in range(0, 3000, 3):
        state = deocclude.observe(state, picture, index, things, now, {1})
    kept = [view.index for view in state.views[1]]
    assert len(kept) <= 64 and kept[-1] == 2997 and kept[0] == 0 and kept[-1] - kept[-3] < 30
    gone = [replace(each, id=each.id + 10) for each in things]
    later = order.order_still(gone, SIZE[0])
    state = deocclude.observe(state, picture, 9000, gone, later, {11, 12})
    assert set(state.views) == {11, 12}


def test_a_whole_thing_as_it_is_seen() -> None:
    picture, whole, _, _ = scene(2)
    seen = deocclude.visible(picture, thing(1, whole))
    assert seen is not None and np.array_equal(full(seen.amodal, seen.box), whole) and seen.hidden == 0
    assert deocclude.visible(picture, thing(1, np.zeros(SIZE, bool))) is None
