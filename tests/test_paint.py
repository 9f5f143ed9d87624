"""What was never seen: invented piece by piece, carried along, no more at once than there is time for."""

from __future__ import annotations

import numpy as np
from shots import frame, texture

from stream import crops, paint
from stream.types import Motion

H, W = 120, 800
STILL = Motion(0, (np.eye(3),), np.zeros((0, 2), np.float32), np.zeros(0, np.int64), True, 1.0)
BOX = (10, 10, 790, 110)
RED = np.array([250, 10, 20], np.uint8)


def painted(unseen, most, frames=1):
    """The hole painted in some frames by a network that knows one colour -> the box and the calls a frame."""
    ground = texture(W, H)
    calls, last = [], None
    for number in range(frames):
        calls.append(0)

        def network(picture, hole, *_):
            calls[-1] += 1
            return np.where(hole[..., None] > 0, RED, picture)

        patch = ground[10:110, 10:790].copy()
        patch[unseen > 0] = 0
        out, last = paint.complete(
            frame(ground, number), patch, unseen, unseen, BOX, STILL, last, network, True, crops.sketch, most
        )
    return out, calls


def two_pieces():
    unseen = np.zeros((100, 780), np.uint8)
    unseen[20:70, 15:65] = unseen[30:60, 730:760] = 1
    return unseen


def test_all_pieces_are_invented_at_once_when_nothing_waits():
    out, calls = painted(two_pieces(), None)
    assert calls == [2]
    assert (out[40:50, 35:45] == RED).all() and (out[42:48, 742:748] == RED).all()


def test_pieces_take_turns_where_no_picture_may_be_late():
    first, calls = painted(two_pieces(), 1)
    assert calls == [1]
    assert (first[40:50, 35:45] == RED).all() and (first[42:48, 742:748] != RED).any()
    # the second is filled smoothly meanwhile, not with what was there
    assert first[42:48, 742:748].min() > 0
    last, calls = painted(two_pieces(), 1, frames=4)
    assert calls == [1, 1, 0, 0]
    assert (last[42:48, 742:748].astype(int) - RED < 8).all()


def test_what_is_known_is_not_touched():
    unseen = two_pieces()
    out, _ = painted(unseen, None, frames=3)
    ground = texture(W, H)[10:110, 10:790]
    assert np.array_equal(out[unseen == 0], ground[unseen == 0])


def test_slivers_need_no_network():
    unseen = np.zeros((100, 780), np.uint8)
    unseen[20:22, 15:165] = 1
    out, calls = painted(unseen, None)
    assert calls == [0]
    assert out[20:22, 15:165].min() > 0
