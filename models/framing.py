"""The square of a picture that the de-occlusion network is shown. No torch here: it is cheap to import."""

from __future__ import annotations

from collections.abc import Sequence

SIDE = 128
"""Pixels of the square as the network sees it."""

_REACH = 1.0
_MARGIN = 1.12


def frame_square(
    visible: Sequence[float], front: Sequence[float], reach: float = _REACH
) -> tuple[float, float, float]:
    """Left, top and side of the square around what is seen of a thing and what may hide the rest of it.

    `visible`: box (x0, y0, x1, y1) of the thing's visible part; `front`: box of what is in front of it. The
    hidden part lies inside the latter, and is looked for within `reach` times the visible part's longer side.
    """
    far = reach * max(visible[2] - visible[0], visible[3] - visible[1])
    low = [min(visible[k], max(front[k], visible[k] - far)) for k in (0, 1)]
    high = [max(visible[k], min(front[k], visible[k] + far)) for k in (2, 3)]
    side = _MARGIN * max(high[0] - low[0], high[1] - low[1], 8.0)
    return (low[0] + high[0] - side) / 2, (low[1] + high[1] - side) / 2, side
