"""Integer boxes (x0, y0, x1, y1), exclusive at the end, and the pieces of a mask."""

from __future__ import annotations

import cv2
import numpy as np

from stream.arrays import Bytes

Box = tuple[int, int, int, int]

_CELL = 8


def parts(mask: Bytes, gap: int) -> list[Box]:
    """Boxes of the mask's pieces, those nearer than `gap` pixels to each other taken together."""
    joined = cv2.dilate(mask, np.ones((gap // 4 * 2 + 1,) * 2, np.uint8)) if gap > 3 else mask
    count, _, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    boxes = [
        (int(s[0]), int(s[1]), int(s[0] + s[2]), int(s[1] + s[3]))
        for s in sorted(stats[1:count].tolist(), key=lambda s: -s[4])
    ]
    return disjoint(boxes)


def pieces(mask: Bytes, gap: int = 0) -> list[Box]:
    """Tight boxes that share no pixel and hold all that is not 0 (uint8); found on cells of 8 x 8 pixels.

    Pieces less than about `gap` pixels apart are taken together, the largest first.
    """
    height, width = mask.shape
    padded = np.zeros((-(-height // _CELL) * _CELL, -(-width // _CELL) * _CELL), np.uint8)
    padded[:height, :width] = mask
    # Eight pixels are one number.
    rows = padded.view(np.uint64).reshape(-1, _CELL, padded.shape[1] // _CELL)
    cells = (np.bitwise_or.reduce(rows, 1) != 0).view(np.uint8)
    found = []
    for x0, y0, x1, y1 in parts(cells, max(1, gap // _CELL)):
        left, top = x0 * _CELL, y0 * _CELL
        x, y, w, h = cv2.boundingRect(padded[top : y1 * _CELL, left : x1 * _CELL])
        found.append((left + x, top + y, left + x + w, top + y + h))
    return found


def disjoint(boxes: list[Box]) -> list[Box]:
    """The boxes, those that overlap taken together."""
    out: list[Box] = []
    for box in boxes:
        grown = box
        merged = True
        while merged:
            merged = False
            for other in out:
                x0, y0 = max(grown[0], other[0]), max(grown[1], other[1])
                x1, y1 = min(grown[2], other[2]), min(grown[3], other[3])
                if x0 < x1 and y0 < y1:
                    out.remove(other)
                    grown = (
                        min(grown[0], other[0]),
                        min(grown[1], other[1]),
                        max(grown[2], other[2]),
                        max(grown[3], other[3]),
                    )
                    merged = True
                    break
        out.append(grown)
    return out
