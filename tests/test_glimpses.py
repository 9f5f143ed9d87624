"""Who was never whole in the pose of now is pieced together from the frames around; who is shown stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stream import deocclude, order, snapshot
from stream.deocclude import ENOUGH, Answer, Completed
from stream.drawing import Drawn, draw
from stream.types import REFERENCE, Instance, Mask, Track
from stream.views import Look

SIZE = (160, 240)
Picture = NDArray[np.uint8]
GREY = np.full((*SIZE, 3), 128, np.uint8)


def thing(number: int, mask: Mask) -> Track:
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    return Track(
        number,
        "person",
        Instance("person", 0.9, (x, y, x + w, y + h), mask),
        0,
        0,
        9,
        False,
        float(mask.mean()),
        0,
        0,
    )


def dancer(index: int) -> tuple[Mask, Picture]:
    """A small trunk, red, and wide arms, blue, that turn so far that no frame before is like this one."""
    arms, trunk = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    cv2.circle(trunk, (120, 80), 16, 1, -1)
    turn = 0.0016 * index**2
    reach = np.array([np.cos(turn), np.sin(turn)]) * 50
    first, last = (np.array([120, 80]) + side * reach for side in (-1, 1))
    cv2.line(arms, tuple(map(round, first.tolist())), tuple(map(round, last.tolist())), 1, 20)
    picture = GREY.copy()
    picture[arms > 0], picture[trunk > 0] = (30, 30, 220), (210, 40, 30)
    return (arms | trunk) > 0, picture


def passer(index: int) -> Mask:
    mask = np.zeros(SIZE, bool)
    left = 4 * index - 20
    mask[20:150, max(0, left) : max(0, left + 22)] = True
    return mask


def says(chance: float, hidden: float) -> Callable[[Picture, Picture, Picture], Answer]:
    """A network that calls everything hidden a part of the thing with this chance, and paints it white."""

    def network(image: Picture, modal: Picture, _: Picture) -> Answer:
        return Answer(np.full(modal.shape, chance, np.float32), np.full_like(image, 255), hidden)

    return network


def follow(
    networks: Callable[[int], Callable[..., Answer]], ahead: int, folder: Path | None = None
) -> dict[int, Completed]:
    """What was completed of the dancer in each frame; with a folder the state goes through a file there."""
    state, pairs, found = deocclude.initial(), order.initial(), {}
    seen = 0
    orders = []
    for index in range(60):
        while seen < min(60, index + 1 + ahead):
            tracks = tracks_of(seen)
            now, pairs = order.step(pairs, tracks, SIZE[0])
            orders.append(now)
            picture = frame(seen)
            state = deocclude.observe(state, picture, seen, tracks, now, {1}, {2})
            seen += 1
        if folder is not None and index == 32:
            snapshot.save(folder / "state", state)
            state = snapshot.Snapshot(folder / "state").load({})
        done, state = deocclude.complete(
            state, frame(index), index, tracks_of(index), orders[index], wanted={1}, over={2},
            network=networks(index), followed=True,
        )  # fmt: skip
        for each in done:
            found[index] = each
    return found


def frame(index: int) -> Picture:
    return np.where(passer(index)[..., None], np.uint8(60), dancer(index)[1]).astype(np.uint8)


def tracks_of(index: int) -> list[Track]:
    masks = dancer(index)[0] & ~passer(index), passer(index)
    return [thing(number, mask) for number, mask in enumerate(masks, 1) if mask.any()]


@pytest.mark.parametrize(("ahead", "least"), [(0, 0.35), (4, 0.5)])
def test_a_dancer_is_pieced_together_from_the_frames_around(ahead: int, least: float) -> None:
    # The network paints white: what has the right colours is from the frames around.
    found = follow(lambda _: says(0.5, 3.0), ahead)
    right, own = [], []
    for index in range(32, 44):
        if index not in found:
            continue
        done, (whole, true) = found[index], dancer(index)
        x0, y0, x1, y1 = done.box
        hidden = (whole & passer(index))[y0:y1, x0:x1]
        apart = np.abs(done.rgb.astype(int) - true[y0:y1, x0:x1]).max(2)
        right.append((apart < 40)[hidden].mean())
        own.append((done.origin == REFERENCE)[hidden].mean())
    assert len(right) > 5 and np.mean(right) > least and np.mean(own) > 0.8 * least


def test_pieces_survive_an_interruption(tmp_path: Path) -> None:
    plain, resumed = (follow(lambda _: says(0.5, 3.0), 10, folder) for folder in (None, tmp_path))
    assert plain.keys() == resumed.keys() and len(plain) > 5
    assert all(np.array_equal(plain[index].rgb, resumed[index].rgb) for index in plain)


def drawn(
    chance: float, hidden: float, before: Drawn | None, index: int, *, shown: bool = False
) -> Drawn | None:
    """The dancer of one frame, as a network that says this draws it."""
    whole, front = dancer(38)[0], passer(38).astype(np.uint8)
    look = Look((0, 0, *SIZE[::-1]), frame(38), whole.astype(np.uint8) & (1 - front), front, front)
    network = says(chance, hidden)
    return draw(frame(38), look, index, network, 1.0, before, np.zeros(2), None, shown=shown, twice=False)


def test_who_was_shown_does_not_vanish_for_being_a_little_less_sure() -> None:
    sure, doubtful, lost = drawn(0.99, 3.0, None, 1), drawn(0.99, -0.9, None, 1), drawn(0.99, -9.0, None, 1)
    assert sure is not None and sure.confidence >= ENOUGH
    assert doubtful is None and lost is None
    after = drawn(0.99, -0.9, sure, 2)
    assert after is not None and after.confidence >= ENOUGH
    gone = drawn(0.99, -9.0, sure, 2)
    assert gone is None or gone.confidence < ENOUGH
    # What was said long ago counts no more.
    assert drawn(0.99, -0.9, sure, 9) is None


def test_what_is_drawn_changes_slowly() -> None:
    first = drawn(0.95, 3.0, None, 1)
    assert first is not None
    second = drawn(0.25, 3.0, first, 2)
    assert second is not None
    x0, y0, x1, y1 = second.box
    inside = passer(38)[y0:y1, x0:x1] & dancer(38)[0][y0:y1, x0:x1]
    assert inside.sum() > 100 and 0.5 < float(second.whole[inside].mean()) < 0.9
