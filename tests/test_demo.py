"""The demo's clip: composed of real photographs, with the truth known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("skimage")
pytest.importorskip("sklearn")

from stream import demo


@pytest.fixture(scope="module")
def scene() -> demo.Scene:
    return demo.compose()


def test_the_person_crosses_the_whole_view_and_leaves_it(scene: demo.Scene) -> None:
    places = [np.flatnonzero(mask.any(0)).mean() for mask in scene.person if mask.any()]
    assert not scene.person[0].any()
    assert not scene.person[-1].any()
    assert places[0] < 0.1 * demo.WIDTH
    assert places[-1] > 0.9 * demo.WIDTH


def test_only_the_person_differs_from_the_truth(scene: demo.Scene) -> None:
    for frame, truth, person in zip(scene.frames[::20], scene.truth[::20], scene.person[::20], strict=True):
        assert np.abs(frame.astype(int) - truth)[~person].max() <= 5


def test_the_camera_is_held_by_hand(scene: demo.Scene) -> None:
    clean = [frame[:40, -80:].astype(float) for frame in scene.truth]
    assert np.abs(clean[0] - clean[45]).mean() > 2


def test_every_place_is_seen_at_some_time(scene: demo.Scene) -> None:
    assert not np.logical_and.reduce(scene.person).any()
