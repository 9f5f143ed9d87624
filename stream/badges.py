"""Where the labels of things go: near what they name, inside the picture, not over each other or others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Rect = tuple[int, int, int, int]
"""x0, y0, x1, y1; the end is exclusive."""

_RINGS = 6


def place(things: Sequence[Rect], sizes: Sequence[tuple[int, int]], picture: tuple[int, int]) -> list[Rect]:
    """A place for each thing's label of (width, height) in a picture of (width, height), in their order.

    Above the thing where that is free, else beside, below or inside it, else farther away. Labels overlap
    only where a picture is too small to hold them all.
    """
    placed: list[Rect] = []
    for number, (thing, size) in enumerate(zip(things, sizes, strict=True)):
        others = [other for place, other in enumerate(things) if place != number]
        best, cost = _inside((thing[0], thing[1]), size, picture), float("inf")
        for far, corner in enumerate(_corners(thing, size)):
            rect = _inside(corner, size, picture)
            over = sum(_common(rect, other) for other in placed)
            hides = sum(_common(rect, other) for other in others)
            now = 20.0 * over + hides + 0.05 * far * size[0] * size[1]
            if now < cost:
                best, cost = rect, now
        placed.append(best)
    return placed


def touches(label: Rect, thing: Rect) -> bool:
    """Whether a label lies on or right beside its thing, so that no line is needed between them."""
    return _common((label[0] - 3, label[1] - 3, label[2] + 3, label[3] + 3), thing) > 0


def _corners(thing: Rect, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Upper left corners to try, the best first."""
    x0, y0, x1, y1 = thing
    wide, high = size
    middle = (x0 + x1 - wide) // 2
    yield x0, y0 - high
    yield middle, y0 - high
    yield x0, y0
    yield x1 - wide, y0 - high
    yield middle, (y0 + y1 - high) // 2
    yield middle, y1
    yield x1, y0
    yield x0 - wide, y0
    for ring in range(1, _RINGS):
        for dx, dy in ((0, -1), (1, -1), (-1, -1), (1, 0), (-1, 0), (0, 1), (1, 1), (-1, 1)):
            yield middle + dx * ring * (wide + 4), y0 - high + dy * ring * (high + 2)


def _inside(corner: tuple[int, int], size: tuple[int, int], picture: tuple[int, int]) -> Rect:
    x, y = (max(0, min(at, most - wide)) for at, wide, most in zip(corner, size, picture, strict=True))
    return x, y, x + size[0], y + size[1]


def _common(first: Rect, second: Rect) -> int:
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    return max(0, wide) * max(0, high)
