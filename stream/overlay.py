"""Drawing on pictures: outlines of things, legends, before and after, contact sheets; RGB uint8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from stream import badges
from stream.types import Action, Image, Mask, Track, Verdict

Colour = tuple[int, int, int]

COLOURS: Mapping[Action, Colour] = {"keep": (40, 200, 80), "remove": (235, 50, 50)}
INK: Colour = (30, 30, 34)
FAINT: Colour = (120, 120, 128)
PAPER: Colour = (250, 250, 248)

_FONT = cv2.FONT_HERSHEY_DUPLEX
_FEW = 5


def outline(
    picture: Image, mask: Mask, colour: Colour, *, thickness: int = 2, tint: float = 0.25, stripes: int = 0
) -> None:
    """Draw a thing's outline into `picture`, in place, with its area tinted.

    `mask` may have another resolution; `tint` in [0, 1] is how much of the colour covers the area. `stripes`:
    pixels from one slanted line to the next, so that colours need not be told apart; 0 = none.
    """
    height, width = picture.shape[:2]
    whole = mask.view(np.uint8) * np.uint8(255)
    if whole.shape != (height, width):
        whole = np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    inside = whole > 127
    if tint > 0:
        mixed = picture[inside] * (1 - tint) + np.array(colour, np.float32) * tint
        picture[inside] = mixed.astype(np.uint8)
    if stripes > 0:
        y, x = np.nonzero(inside)
        lined = (x + y) % stripes < max(1, stripes // 5)
        picture[y[lined], x[lined]] = colour
    contours, _ = cv2.findContours(inside.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    # A dark line around the coloured one keeps it visible on grass and on snow alike.
    cv2.drawContours(picture, contours, -1, INK, thickness + 2, cv2.LINE_AA)
    cv2.drawContours(picture, contours, -1, colour, thickness, cv2.LINE_AA)


def dashes(picture: Image, mask: Mask, colour: Colour) -> None:
    """Draw a thing's outline into `picture`, in place, dashed; `mask` may have another resolution."""
    height, width = picture.shape[:2]
    whole = np.asarray(cv2.resize(mask.view(np.uint8) * np.uint8(255), (width, height)), np.uint8)
    thickness = max(2, round(max(height, width) / 500))
    contours, _ = cv2.findContours((whole > 127).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    step = 5 * thickness
    for contour in contours:
        for start in range(0, len(contour), 2 * step):
            dash = [contour[start : start + step]]
            cv2.polylines(picture, dash, False, INK, thickness + 2, cv2.LINE_AA)
            cv2.polylines(picture, dash, False, colour, thickness, cv2.LINE_AA)


def text(picture: Image, words: str, at: tuple[int, int], colour: Colour = INK, size: float = 0.5) -> int:
    """Write `words` in place with the baseline's left end `at` (x, y); returns their width in pixels."""
    weight = 2 if size > 0.7 else 1
    cv2.putText(picture, words, at, _FONT, size, colour, weight, cv2.LINE_AA)
    return text_width(words, size)


def text_width(words: str, size: float = 0.5) -> int:
    """Width in pixels of a line of text."""
    return int(cv2.getTextSize(words, _FONT, size, 2 if size > 0.7 else 1)[0][0])


def wrapped(words: str, width: int, size: float = 0.5) -> list[str]:
    """Break a sentence into lines of at most `width` pixels; a longer word keeps a line of its own."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def badge(picture: Image, words: str, at: tuple[int, int], colour: Colour, size: float = 0.5) -> None:
    """A small filled label, in place, kept inside the picture; `at` is its upper left corner."""
    height, width = picture.shape[:2]
    wide, high = badge_size(words, size)
    x, y = max(0, min(at[0], width - wide)), max(0, min(at[1], height - high))
    cv2.rectangle(picture, (x, y), (x + wide, y + high), INK, -1)
    cv2.rectangle(picture, (x + 1, y + 1), (x + wide - 1, y + high - 1), colour, -1)
    text(picture, words, (x + 4, y + high - 6), (255, 255, 255), size)


def badge_size(words: str, size: float = 0.5) -> tuple[int, int]:
    """Width and height of a badge in pixels."""
    return text_width(words, size) + 8, int(26 * size) + 8


def draw_things(picture: Image, tracks: Sequence[Track], verdicts: Sequence[Verdict]) -> Image:
    """A copy with every thing outlined in its verdict's colour and numbered; what goes is striped too.

    The name is added where things are few or large. `picture` and the masks are in the same orientation;
    boxes are in pixels of the frame the tracks come from, and are taken from the masks here, so that any size
    of picture will do.
    """
    out = picture.copy()
    height, width = out.shape[:2]
    actions: dict[int, Action] = {verdict.track: verdict.action for verdict in verdicts}
    large_first = [each for each in sorted(tracks, key=lambda each: -each.area) if each.instance.mask.any()]
    boxes = [_box_in(each.instance.mask, width, height) for each in large_first]
    for each, box in zip(large_first, boxes, strict=True):
        action = actions.get(each.id, "keep")
        # The lines of small things must not cover them.
        thickness = max(1, min(round(max(height, width) / 640), min(box[2] - box[0], box[3] - box[1]) // 25))
        stripes = max(10, max(height, width) // 80) if action == "remove" else 0
        outline(out, each.instance.mask, COLOURS[action], thickness=thickness, tint=0.2, stripes=stripes)
    size = max(0.4, max(height, width) / 2400)
    words = []
    for each, box in zip(large_first, boxes, strict=True):
        named = f"{each.id} {each.label}"
        fits = badge_size(named, size)[0] < 1.2 * (box[2] - box[0])
        words.append(named if fits or len(large_first) <= _FEW else str(each.id))
    places = badges.place(boxes, [badge_size(each, size) for each in words], (width, height))
    for box, rect in zip(boxes, places, strict=True):
        if not badges.touches(rect, box):
            start, end = ((r[0] + r[2]) // 2 for r in (rect, box)), ((r[1] + r[3]) // 2 for r in (rect, box))
            (xa, xb), (ya, yb) = start, end
            cv2.line(out, (xa, ya), (xb, yb), INK, 1, cv2.LINE_AA)
    for each, said, rect in zip(large_first, words, places, strict=True):
        badge(out, said, rect[:2], COLOURS[actions.get(each.id, "keep")], size)
    return out


def _box_in(mask: Mask, width: int, height: int) -> badges.Rect:
    """Bounds of a mask in pixels of a picture."""
    x, y, wide, high = cv2.boundingRect(mask.view(np.uint8))
    across, down = width / mask.shape[1], height / mask.shape[0]
    return int(x * across), int(y * down), int((x + wide) * across), int((y + high) * down)


def bar(picture: Image, at: tuple[int, int], width: int, value: float, mark: float, colour: Colour) -> None:
    """A bar from 0 to 1 filled to `value`, with a line at `mark`, in place; `at` is its upper left corner."""
    x, y = at
    cv2.rectangle(picture, (x, y), (x + width, y + 8), (222, 222, 218), -1)
    cv2.rectangle(picture, (x, y), (x + max(1, round(width * min(1.0, value))), y + 8), colour, -1)
    place = x + round(width * mark)
    cv2.line(picture, (place, y - 3), (place, y + 11), INK, 1)


def side_by_side(before: Image, after: Image, *, titles: tuple[str, str] = ("before", "after")) -> Image:
    """Two pictures of the same height beside each other, each with its title."""
    height = before.shape[0]
    width = round(after.shape[1] * height / after.shape[0])
    if after.shape[:2] != (height, width):
        after = np.asarray(cv2.resize(after, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    gap = np.full((height, max(4, width // 160), 3), PAPER, np.uint8)
    out = np.hstack([before, gap, after])
    size = max(0.4, height / 800)
    badge(out, titles[0], (8, 8), FAINT, size)
    badge(out, titles[1], (before.shape[1] + gap.shape[1] + 8, 8), FAINT, size)
    return out


def contact_sheet(
    pictures: Sequence[Image], titles: Sequence[str], *, columns: int = 4, width: int = 480
) -> Image:
    """Pictures of one shape in rows, each `width` pixels wide with its title above; ValueError for none."""
    if not pictures:
        raise ValueError("a contact sheet needs at least one picture")
    height = round(pictures[0].shape[0] * width / pictures[0].shape[1])
    cells = []
    for picture, title in zip(pictures, titles, strict=True):
        cell = np.full((height + 26, width + 6, 3), PAPER, np.uint8)
        cell[22 : 22 + height, 3 : 3 + width] = cv2.resize(
            picture, (width, height), interpolation=cv2.INTER_AREA
        )
        text(cell, title, (6, 16), INK, 0.45)
        cells.append(cell)
    while len(cells) % columns and len(cells) > columns:
        cells.append(np.full_like(cells[0], PAPER))
    rows = [np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    return np.vstack(rows)


def away_picture(picture: Image, seconds: float) -> Image:
    """A darkened copy of the last picture of a source that has been away for so many `seconds`, marked so."""
    out = np.asarray(picture * 0.55, np.uint8)
    words = f"no picture for {seconds:.0f} s: waiting for the source"
    size = max(0.4, picture.shape[1] / 1600)
    wide, high = badge_size(words, size)
    badge(
        out, words, ((picture.shape[1] - wide) // 2, (picture.shape[0] - high) // 2), COLOURS["remove"], size
    )
    return out
