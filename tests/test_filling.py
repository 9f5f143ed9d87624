"""When a frame is finished: after the look-ahead, or later while a verdict on what it shows is open."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from configs.schema import load_config
from stream.analysis import Seen
from stream.clock import Clock
from stream.filling import Filling
from stream.types import Action, Filled, Frame, Instance, Motion, Track, Verdict

WIDTH, HEIGHT, RATE = 160, 96, 10
GREY, COAT = 120, 30


def seen(index: int, action: Action, *, settled: bool) -> Seen:
    """Somebody in a dark coat walks to the right before a grey wall."""
    left = 10 + 3 * index
    picture = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)
    picture[20:80, left : left + 16] = COAT
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[18:82, left - 2 : left + 18] = True
    frame = Frame(index, index, Fraction(1, RATE), (picture,), "rgb24", WIDTH, HEIGHT)
    box = (left - 2.0, 18.0, left + 18.0, 82.0)
    track = Track(1, "person", Instance("person", 0.9, box, mask), 0, index, index + 1, False, 0.08, 0.2, 0.0)
    verdict = Verdict(1, "person", action, 0.5, "walks", settled=settled)
    none = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
    motion = Motion(index, (np.eye(3),), *none, static=True, confidence=1.0)
    things = mask.astype(np.uint16)
    return Seen(frame, index, frame.time, 0, motion, (track,), (verdict,), things, np.zeros(0), None)


def run(decided: int, patience: float, frames: int = 36, look_ahead: float = 0.5) -> list[tuple[int, Filled]]:
    """Each finished frame with the number of the newest frame then; the verdict is final at `decided`."""
    config = load_config("tourist", overrides={"engine.name": "none", "look_ahead": look_ahead})
    filling, out = Filling(config, None, Clock(), patience=patience), []
    for index in range(frames):
        late = index >= decided
        given = seen(index, "remove" if late else "keep", settled=late)
        out += [(index, done) for done in filling.push(given)]
    return [*out, *((frames, done) for done in filling.finish())]


def darkest(done: Filled) -> int:
    return int(done.frame.rgb[20:80].min())


def test_nothing_is_finished_while_a_verdict_on_it_is_open() -> None:
    out = run(decided=15, patience=2.0)
    assert [done.frame.index for _, done in out] == list(range(36))
    assert [newest for newest, _ in out][:12] == [15] * 11 + [16]
    assert min(darkest(done) for _, done in out) > GREY - 20


def test_patience_ends() -> None:
    out = run(decided=36, patience=2.0)
    assert [newest - done.frame.index for newest, done in out][:16] == [20] * 16
    assert {darkest(done) for _, done in out} == {COAT}


@pytest.mark.parametrize(("decided", "patience"), [(0, 2.0), (15, 0.0)])
def test_without_doubt_or_patience_the_look_ahead_counts(decided: int, patience: float) -> None:
    out = run(decided=decided, patience=patience)
    assert [newest - done.frame.index for newest, done in out][:31] == [5] * 31
