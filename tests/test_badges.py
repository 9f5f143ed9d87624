"""Labels of things: inside the picture, apart from one another, near what they name; the sheet of explain."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

from stream import badges, explain
from stream.types import Instance, Track, Verdict


def apart(first: badges.Rect, second: badges.Rect) -> bool:
    return first[2] <= second[0] or second[2] <= first[0] or first[3] <= second[1] or second[3] <= first[1]


@pytest.mark.parametrize("count", [2, 6, 14])
def test_labels_of_a_crowd_do_not_overlap(count: int) -> None:
    things = [(20 * k, 100 + 3 * (k % 4), 20 * k + 26, 180) for k in range(count)]
    labels = badges.place(things, [(40, 18)] * count, (320, 240))
    assert all(apart(a, b) for a, b in combinations(labels, 2))


@pytest.mark.parametrize("thing", [(0, 0, 30, 30), (290, 0, 320, 40), (280, 200, 320, 240), (0, 0, 320, 240)])
def test_labels_stay_inside_the_picture(thing: badges.Rect) -> None:
    x0, y0, x1, y1 = badges.place([thing], [(60, 20)], (320, 240))[0]
    assert x0 >= 0
    assert y0 >= 0
    assert x1 <= 320
    assert y1 <= 240


def test_a_label_alone_touches_its_thing() -> None:
    thing = (100, 100, 140, 200)
    assert badges.touches(badges.place([thing], [(60, 20)], (320, 240))[0], thing)


def explained(height: int, width: int, count: int) -> explain.Explained:
    tracks, verdicts = [], []
    for k in range(count):
        mask = np.zeros((90, 160), bool)
        x = 4 + (9 * k) % 150
        mask[30:70, x : x + 8] = True
        instance = Instance("person", 0.9, (0.0, 0.0, 1.0, 1.0), mask)
        tracks.append(Track(k + 1, "person", instance, 0, 0, 1, False, float(mask.mean()), 0.0, 0.1))
        verdicts.append(Verdict(k + 1, "person", "remove" if k % 2 else "keep", 0.9, "rests in the picture"))
    shown = np.full((height, width, 3), 128, np.uint8)
    return explain.Explained(
        shown,
        tuple(tracks),
        tuple(verdicts),
        (("sky-other", 0.9),),
        0.3,
        0.25,
        "tourist",
        float(Fraction(3, 2)),
    )


@pytest.mark.parametrize(
    ("height", "width", "count"),
    [(36, 64, 1), (2160, 3840, 12), (1280, 720, 5), (360, 640, 40), (40, 2000, 2), (360, 640, 0)],
)
def test_sheets_of_all_shapes_can_be_looked_at(height: int, width: int, count: int) -> None:
    sheet = explain.picture(explained(height, width, count))
    assert 300 <= sheet.shape[0] <= 6000
    assert 500 <= sheet.shape[1] <= 2100


def test_what_goes_can_be_told_without_colours() -> None:
    sheet = explain.picture(explained(360, 640, 2)).mean(2)
    kept, gone = sheet[220:370, 32:58], sheet[220:370, 84:108]
    assert gone.std() > 2 * kept.std()
