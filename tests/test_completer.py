"""The shipped network completes what it never saw whole, and leaves alone what nothing hides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_deocclusion import SIZE, STREET, painted, person, thing

import stream
from models.deocclusion import build_deocclusion
from stream import completer, deocclude, order
from stream.squares import Network
from stream.types import Mask


@pytest.fixture(scope="module")
def network() -> Network:
    config = stream.load_config("tourist", overrides={"engine.name": "eager"})
    found = completer.open_completer(config)
    assert found is not None
    return found


def overlap(first: Mask, second: Mask) -> float:
    return np.count_nonzero(first & second) / np.count_nonzero(first | second)


CASES = [(dx, height) for dx in (-26, -18, -10, 12, 20, 28) for height in (110, 130)]


def scene(dx: int, height: int) -> tuple[np.ndarray, Mask, Mask]:
    whole, front = person(160, 150, 110), person(160 + dx, 162, height, 0.08)
    picture = painted(painted(STREET, whole, 160, 150), front, 40, 90)
    return picture, whole, front


def test_half_hidden_people_are_completed(network: Network) -> None:
    before, after, errors = [], [], []
    for dx, height in CASES:
        picture, whole, front = scene(dx, height)
        things = [thing(1, whole & ~front), thing(2, front)]
        given = order.Order((2, 1), (order.Pair(2, 1, 1.0),))
        done, _ = deocclude.complete(
            deocclude.initial(), picture, 0, things, given, wanted={1}, over={2}, network=network
        )
        found = whole & ~front
        before.append(overlap(found, whole))
        if done:
            full = np.zeros((SIZE[0] + 8, SIZE[1] + 8), bool)
            x0, y0, x1, y1 = done[0].box
            full[y0:y1, x0:x1] = done[0].amodal
            found = full[: SIZE[0], : SIZE[1]]
            errors.append(bool((done[0].amodal == (done[0].origin > 0)).all()))
        after.append(overlap(found, whole))
    assert np.mean(after) > np.mean(before) + 0.05 and all(errors)


def test_who_is_whole_is_left_as_seen(network: Network) -> None:
    grown = []
    for dx, height in CASES:
        picture, whole, front = scene(dx, height)
        # asked of the one in front: the other one touches it, and hides nothing
        things = [thing(1, front), thing(2, whole & ~front)]
        given = order.Order((2, 1), (order.Pair(2, 1, 1.0),))
        done, _ = deocclude.complete(
            deocclude.initial(), picture, 0, things, given, wanted={1}, over={2}, network=network
        )
        grown.append(sum(np.count_nonzero(each.origin > 1) for each in done) / np.count_nonzero(front))
    assert np.mean(grown) < 0.1


def test_no_network_where_none_is_wanted() -> None:
    for change in {"engine.name": "none"}, {"fill.inpaint": False}:
        assert completer.open_completer(stream.load_config("tourist", overrides=change)) is None


def test_empty_masks_and_full_ones_give_finite_answers() -> None:
    net = build_deocclusion().eval()
    for modal, front in (0.0, 0.0), (1.0, 0.0), (0.0, 1.0):
        planes = [torch.full((2, 1, 128, 128), value) for value in (modal, front)]
        with torch.no_grad():
            found = net(torch.rand(2, 3, 128, 128), *planes)
        assert all(bool(torch.isfinite(part).all()) for part in found)
        assert found.picture.min() >= 0 and found.picture.max() <= 1


def test_unknown_variant_is_an_error() -> None:
    with pytest.raises(ValueError, match="'compact'"):
        build_deocclusion(variant="paper")  # type: ignore[arg-type]
