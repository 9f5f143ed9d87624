"""The box of all of a thing from what is seen of it, and what is seen of two as one."""

from __future__ import annotations

import pytest

from stream.whole import whole_box

SIZE = (40.0, 100.0)
PREDICTED = (100.0, 50.0, 140.0, 150.0)


@pytest.mark.parametrize(
    ("seen", "whole", "cut"),
    [
        ((102, 52, 142, 152), (102, 52, 142, 152), False),  # all of it
        ((102, 50, 118, 150), (102, 50, 142, 150), True),  # its right part is behind a pole
        ((122, 50, 139, 150), (99, 50, 139, 150), True),  # its left part
        ((100, 50, 140, 90), (100, 50, 140, 150), True),  # its legs are hidden
        ((60, 50, 160, 150), (100, 50, 140, 150), True),  # somebody else is seen with it
        ((112, 50, 126, 150), (100, 50, 140, 150), True),  # cut at both sides
    ],
)
def test_what_is_hidden_is_added_and_what_is_not_its_own_left_out(
    seen: tuple[float, ...], whole: tuple[float, ...], cut: bool
) -> None:
    found, partly = whole_box(PREDICTED, SIZE, seen, 640, 360)
    assert found == pytest.approx(whole)
    assert partly == cut


def test_what_leaves_the_picture_goes_on_beyond_its_border() -> None:
    found, partly = whole_box((-10, 50, 30, 150), SIZE, (0, 50, 26, 150), 640, 360)
    assert found == pytest.approx((-14, 50, 26, 150))
    assert partly
