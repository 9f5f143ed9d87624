"""What the window of a live run shows, and what its keys do; without a display."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest

from stream import preview
from stream.errors import OutputError
from stream.preview import View
from stream.shown import Shown, Status
from stream.types import Filled, Frame, Instance, Track, Verdict


class Run:
    """A run that counts what it is asked for."""

    resets = 0

    def reset(self) -> None:
        self.resets += 1


@pytest.fixture
def shown() -> Shown:
    def frame(level: int) -> Frame:
        picture = np.full((90, 160, 3), level, np.uint8)
        return Frame(0, 0, Fraction(1, 30), (picture,), "rgb24", 160, 90)

    mask = np.zeros((45, 80), bool)
    mask[10:30, 20:40] = True
    thing = Instance("person", 0.9, (40, 20, 80, 60), mask)
    track = Track(3, "person", thing, 0, 0, 1, False, 0.1, 0.0, 0.0)
    verdict = Verdict(3, "person", "remove", 0.1, "passes")
    filled = Filled(frame(90), np.zeros((0, 0), np.uint8), None, (verdict,), (track,), frame(200))
    return Shown(7, filled, Fraction(1), 0.04)


def press(view: View, key: str, shown: Shown, run: Run, folder: Path) -> View:
    return preview.pressed(view, key, cast(Any, run), shown, folder)


def test_space_shows_the_picture_as_it_came_and_again_the_cleaned_one(shown: Shown, tmp_path: Path) -> None:
    clean = preview.compose(shown, View(), None)
    assert (clean == 90).all()
    view = press(View(), "space", shown, Run(), tmp_path)
    before = preview.compose(shown, view, None)
    assert (before[60:] == 200).all()
    assert (preview.compose(shown, press(view, "space", shown, Run(), tmp_path), None) == clean).all()


def test_the_overlay_outlines_the_thing(shown: Shown, tmp_path: Path) -> None:
    view = press(View(), "o", shown, Run(), tmp_path)
    picture = preview.compose(shown, view, None)
    assert (picture[20:60, 40:80] != 90).any()
    assert (picture[80:, 120:] == 90).all()
    assert (shown.image == 90).all()


def test_a_snapshot_is_a_new_file_each_time(shown: Shown, tmp_path: Path) -> None:
    view = press(View(), "s", shown, Run(), tmp_path)
    press(view, "s", shown, Run(), tmp_path)
    files = sorted(each.name for each in tmp_path.iterdir())
    assert files == ["snapshot-001.png", "snapshot-002.png"]
    assert (cv2.imread(str(tmp_path / files[1])) == 90).all()
    assert files[0] in view.said
    with pytest.raises(OutputError):
        preview.snapshot(shown.image, tmp_path / "nowhere")
    assert "cannot" in press(View(), "s", shown, Run(), tmp_path / "nowhere").said


def test_r_forgets_the_plate_and_other_keys_do_nothing(shown: Shown, tmp_path: Path) -> None:
    run = Run()
    assert press(View(), "r", shown, run, tmp_path).said
    assert run.resets == 1
    assert press(View(), "x", shown, run, tmp_path) == View()


def test_a_large_picture_fits_the_screen(shown: Shown) -> None:
    picture = preview.compose(shown, View(), (80, 80))
    assert picture.shape == (45, 80, 3)


def test_the_status_line_says_what_matters() -> None:
    status = Status(
        29.97, 0.043, 12, "full", "/there/talk.mp4", "0", "webcam", 0.0, (), (), False, False, None
    )
    line = preview.status_line(status)
    assert "30.0 fps" in line and "43 ms" in line and "12 dropped" in line and "talk.mp4" in line
