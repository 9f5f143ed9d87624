"""Where a thing is when what is seen is less than it (behind a pole, at the border) or more (two as one)."""

from __future__ import annotations

from stream.regions import Box

_CUT = 0.85
_MERGED = 1.3
_CLEAR = 0.5
_BORDER = 2.0


def whole_box(
    predicted: Box, size: tuple[float, float], seen: Box, width: float, height: float
) -> tuple[Box, bool]:
    """The box of all of the thing and nothing else, and whether that is not what is seen. Frame pixels.

    `predicted`: where all of it should be; `size`: its width and height when nothing hides it; `seen`: the
    box of what is seen. Where that is narrower, the side that is where it should be is believed, and the
    other one is taken for hidden; where it is much wider, other things are thought to be seen with it. A
    side at the picture's border is never believed.
    """
    x0, x1, cut_x = _along(predicted[0], predicted[2], size[0], seen[0], seen[2], width)
    y0, y1, cut_y = _along(predicted[1], predicted[3], size[1], seen[1], seen[3], height)
    return (x0, y0, x1, y1), cut_x or cut_y


def _along(
    low: float, high: float, full: float, seen_low: float, seen_high: float, limit: float
) -> tuple[float, float, bool]:
    """One axis of `whole_box`."""
    free_low, free_high = seen_low > _BORDER, seen_high < limit - _BORDER
    middle = (low + high) / 2
    low, high = middle - full / 2, middle + full / 2
    if seen_high - seen_low > _MERGED * full:
        shift = max(seen_low - low, 0.0) + min(seen_high - high, 0.0)
        return low + shift, high + shift, True
    if seen_high - seen_low >= _CUT * full:
        return seen_low, seen_high, False
    off_low, off_high = abs(seen_low - low), abs(seen_high - high)
    if free_low and (not free_high or off_low <= _CLEAR * off_high):
        return seen_low, seen_low + full, True
    if free_high and (not free_low or off_high <= _CLEAR * off_low):
        return seen_high - full, seen_high, True
    shift = max(seen_high - high, 0.0) + min(seen_low - low, 0.0)
    return low + shift, high + shift, True
