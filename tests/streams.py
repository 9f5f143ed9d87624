"""A live stream that shows what a test tells it to, when it tells it to: no camera, no networks, no clock."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.errors import OutputError, UsageError
from stream.live_run import Live, Shown, Status
from stream.types import Action, Filled, Frame, Instance, Track, Verdict

WIDTH, HEIGHT = 320, 180
Picture = NDArray[np.uint8]


class Scripted:
    """Stands where `Live` does: same methods, pictures by `show`; `asked` is all that was asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.words: dict[int, Action] = {}
        self.known: set[int] = set()
        self.status = Status(
            frames_per_second=30.0,
            latency_seconds=0.04,
            dropped=2,
            step="full",
            recording=None,
            source="test.mp4",
            preset="webcam",
            look_ahead=0.0,
            remove=(),
            keep=(),
            away=False,
            ended=False,
            error=None,
        )
        self._shown: Shown | None = None
        self._lock = threading.Condition()

    @property
    def live(self) -> Live:
        """As the type that is asked for."""
        return self  # type: ignore[return-value]

    def show(
        self,
        before: Picture,
        after: Picture,
        things: Sequence[tuple[Track, Verdict]] = (),
        latency: float = 0.03,
    ) -> None:
        """The next picture, with what is seen in it."""
        tracks = tuple(track for track, _ in things)
        verdicts = tuple(
            replace(verdict, action=self.words.get(verdict.track, verdict.action)) for _, verdict in things
        )
        self.known |= {track.id for track in tracks}
        number = 0 if self._shown is None else self._shown.number + 1
        filled = Filled(
            frame(after, number), np.zeros((0, 0), np.uint8), None, verdicts, tracks, frame(before, number)
        )
        with self._lock:
            self._shown = Shown(number, filled, Fraction(number, 30), latency)
            self._lock.notify_all()

    def newer(self, than: int, timeout: float) -> Shown | None:
        """As `Live.newer`."""
        with self._lock:
            self._lock.wait_for(lambda: self._shown is not None and self._shown.number > than, timeout)
            return self._shown if self._shown is not None and self._shown.number > than else None

    def decide(self, track: int, action: Action | None) -> None:
        """As `Live.decide`."""
        if track not in self.known:
            raise UsageError(f"no thing has the number {track}")
        self.asked.append(("decide", track, action))
        if action is None:
            self.words.pop(track, None)
        else:
            self.words[track] = action

    def classes(self, remove: Sequence[str], keep: Sequence[str]) -> None:
        """As `Live.classes`."""
        self.asked.append(("classes", tuple(remove), tuple(keep)))
        self.status = replace(self.status, remove=tuple(remove), keep=tuple(keep))

    def preset(self, name: str) -> None:
        """As `Live.preset`."""
        self.asked.append(("preset", name))
        self.status = replace(self.status, preset=name)

    def look_ahead(self, seconds: float) -> None:
        """As `Live.look_ahead`."""
        self.asked.append(("look_ahead", seconds))
        self.status = replace(self.status, look_ahead=seconds)

    def reset(self) -> None:
        """As `Live.reset`."""
        self.asked.append(("reset",))

    def record(self, path: Path | None) -> None:
        """As `Live.record`; what is recorded is the path's own name."""
        if path is not None:
            if path.exists():
                raise OutputError("it is there already", where=str(path))
            path.write_bytes(path.name.encode())
        self.status = replace(self.status, recording=None if path is None else str(path))


def frame(image: Picture, number: int) -> Frame:
    """A picture as a frame."""
    height, width = image.shape[:2]
    return Frame(number, number, Fraction(1, 30), (image,), "rgb24", width, height)


def thing(
    number: int,
    label: str,
    mask: NDArray[np.bool_],
    action: Action,
    *,
    relation: float = float("nan"),
    reason: str = "",
) -> tuple[Track, Verdict]:
    """Something in a picture, by its mask (frame size), and what is to happen to it."""
    rows, columns = np.nonzero(mask)
    box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
    track = Track(
        id=number,
        label=label,
        instance=Instance(label, 0.9, box, mask),
        first=0,
        last=0,
        hits=9,
        missed=False,
        area=float(mask.mean()),
        speed=0.1,
        subject=0.2,
    )
    return track, Verdict(number, label, action, relation, reason or f"{label} {number} is to {action}")


def block(left: int, top: int, wide: int, high: int) -> NDArray[np.bool_]:
    """A mask."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + high, left : left + wide] = True
    return mask


def picture(colour: tuple[int, int, int]) -> Picture:
    """One colour all over."""
    return np.full((HEIGHT, WIDTH, 3), colour, np.uint8)
