"""The memory: bounded, by poses, late in deciding what is background."""

from __future__ import annotations

import numpy as np
import pytest
from shots import frame, texture

from configs.schema import Plate as PlateConfig
from stream import covers, plate, pose
from stream.types import Motion

H, W = 90, 160


def moved(index, shift=0.0, cut=False):
    h = np.array([[1.0, 0, shift], [0, 1, 0], [0, 0, 1]])
    none = np.zeros((0, 2), np.float32)
    return Motion(index, (h,), none, np.zeros(0, np.int64), shift == 0.0 and not cut, 1.0, cut)


def remember(count, config=None, shifts=None, labels=None, **kind):
    known = plate.initial(config or PlateConfig(), **kind)
    picture = texture(W, H)
    for k in range(count):
        label = np.zeros((H, W), np.uint16) if labels is None else labels[k]
        shift = 0.0 if shifts is None else shifts[k]
        known = plate.observe(known, frame(picture, k), moved(k, shift, k == 0), label)
    return known


def test_frames_of_a_resting_camera_share_a_pose():
    known = remember(5, shifts=[0, 0, 0, 2.5, 0])
    poses = [m.view.pose for m in known.memories]
    assert poses == [0, 0, 0, 1, 1]
    assert np.array_equal(pose.relate(known.view(0), known.view(2)), np.eye(3))


def test_motions_are_chained():
    known = remember(5, shifts=[0, 1.0, 2.0, 3.0, 4.0])
    h = pose.relate(known.view(1), known.view(4))
    assert h[0, 2] == pytest.approx(9.0)
    back = pose.relate(known.view(4), known.view(1))
    assert back[0, 2] == pytest.approx(-9.0)


def test_memory_is_bounded_and_reaches_back():
    known = remember(400, PlateConfig(window_seconds=1.0, keyframes=10))
    assert len(known.memories) <= 10 + 26
    indices = [m.index for m in known.memories]
    assert indices == sorted(indices)
    assert indices[0] == 0
    assert indices[-25:] == list(range(375, 400))


def test_frames_ahead_of_the_fill_are_all_kept():
    known = remember(120, PlateConfig(window_seconds=1.0, keyframes=5), look_ahead=2.0)
    assert [m.index for m in known.memories][-75:] == list(range(45, 120))


def test_bytes_are_bounded_above_all():
    known = remember(100, budget=20 * H * W * 3)
    assert len(known.memories) <= 20
    assert known.memories[-1].index == 99


def test_caches_forget_with_the_frames():
    known = remember(30, PlateConfig(window_seconds=0.2, keyframes=4))
    for memory in known.memories:
        covers.blocked(known, memory, {1})
    for k in range(30, 60):
        known = plate.observe(known, frame(texture(W, H), k), moved(k), np.zeros((H, W), np.uint16))
    kept = {m.index for m in known.memories}
    assert {key[0] for key in known.covers} <= kept
    assert {key[0] for key in known.parts} <= kept


def test_what_is_background_is_decided_late():
    label = np.zeros((H, W), np.uint16)
    label[30:60, 40:80] = 5
    known = remember(1, labels=[label])
    parked, passing = (covers.blocked(known, known.memories[0], ids) for ids in ((), (5,)))
    assert not parked.any()
    assert passing[45, 60] == 1
    # grown, so that no soft border serves as background
    assert passing[45, 39] == 1
    assert passing[45, 20] == 0


def test_things_cover_together_what_each_covers_alone():
    label = np.zeros((H, W), np.uint16)
    label[30:60, 40:80] = 5
    label[62:80, 90:120] = 9
    known = remember(1, labels=[label])
    first, second, both = (covers.blocked(known, known.memories[0], ids) for ids in ((5,), (9,), (5, 9)))
    assert np.array_equal(both, first | second)
    assert not (first & second).any()


def test_the_users_mask_is_never_background():
    mask = np.zeros((2 * H, 2 * W), bool)
    mask[40:80, 100:140] = True
    known = plate.initial(PlateConfig())
    known = plate.observe(
        known, frame(texture(2 * W, 2 * H), 0), moved(0, cut=True), np.zeros((H, W), np.uint16), mask
    )
    cover = covers.blocked(known, known.memories[0], ())
    assert cover[30, 60] == 1
    assert cover[80, 20] == 0


def test_a_frame_that_had_to_be_forgotten_is_remembered_when_it_is_filled():
    budget = 10 * H * W * 3
    known = remember(60, PlateConfig(window_seconds=1.0), look_ahead=2.0, budget=budget)
    gone = next(k for k in range(10, 60) if known.memory(k) is None)
    labels = np.zeros((H, W), np.uint16)
    labels[20:40, 30:50] = 7
    again = plate.with_own(known, frame(texture(W, H), gone), labels)
    own = again.memory(gone)
    assert own is not None and own.ids == {7} and own.view == known.view(gone)
    indices = [m.index for m in again.memories]
    assert indices == sorted(indices) and len(indices) <= 11
    assert plate.with_own(again, frame(texture(W, H), gone), labels) is again
