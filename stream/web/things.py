"""What the page lists: the things seen now and a moment ago, with what was decided, why and by whom."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stream.types import Action, Track, Verdict
from stream.web.picture import thumbnail

if TYPE_CHECKING:
    from stream.live_run import Shown

_STAYS_SECONDS = 4.0
"""How long a thing stays in the list after it has left the picture."""

_MOST = 60
_LARGER = 1.3
_EVERY_SECONDS = 0.4


@dataclass(frozen=True)
class Thing:
    """One row of the list; `thumbnail` is replaced when the thing is seen better, then `version` grows."""

    track: Track
    verdict: Verdict | None
    thumbnail: bytes
    version: int
    best_area: float
    looked: float
    seen: float

    def told(self, word: Action | None, *, here: bool) -> dict[str, object]:
        """The row as JSON; `word` is what the user said of it, `here` whether it is in the newest picture."""
        verdict = self.verdict
        relation = None if verdict is None or math.isnan(verdict.relation) else round(verdict.relation, 3)
        return {
            "id": self.track.id,
            "label": self.track.label,
            "action": "keep" if verdict is None else verdict.action,
            "relation": relation,
            "reason": "" if verdict is None else verdict.reason,
            "subject": round(self.track.subject, 2),
            "word": word,
            "here": here,
            "thumbnail": f"{self.track.id}-{self.version}.jpg",
        }


class Things:
    """The list, brought up to date with each frame; bounded.

    Frames come from another thread than questions, so what is there is replaced, never changed.
    """

    def __init__(self) -> None:
        self._things: dict[int, Thing] = {}
        self._here: frozenset[int] = frozenset()
        self._words: dict[int, Action] = {}
        self._versions = 0

    def see(self, shown: Shown, now: float) -> None:
        """Take in one frame at `now` (monotonic seconds)."""
        verdicts = {verdict.track: verdict for verdict in shown.verdicts}
        things = {number: each for number, each in self._things.items() if now - each.seen <= _STAYS_SECONDS}
        for track in shown.tracks:
            if track.confirmed:
                things[track.id] = self._seen(shown, track, verdicts.get(track.id), now)
        latest = sorted(things, key=lambda number: things[number].seen)[-_MOST:]
        self._here = frozenset(track.id for track in shown.tracks)
        self._things = {number: things[number] for number in latest}
        self._words = {number: word for number, word in self._words.items() if number in things}

    def say(self, number: int, word: Action | None) -> None:
        """Remember the user's word for a thing of the list, to show whose decision it is."""
        words = {key: value for key, value in self._words.items() if key != number}
        self._words = words if word is None or number not in self._things else {**words, number: word}

    def told(self) -> list[dict[str, object]]:
        """The rows, what is in the picture first and each part in the order of appearance."""
        here, words = self._here, self._words
        rows = [
            thing.told(words.get(number), here=number in here)
            for number, thing in sorted(self._things.items())
        ]
        return sorted(rows, key=lambda row: not row["here"])

    def picture(self, number: int) -> bytes | None:
        """The thumbnail of a thing, JPEG."""
        thing = self._things.get(number)
        return None if thing is None else thing.thumbnail

    def _seen(self, shown: Shown, track: Track, verdict: Verdict | None, now: float) -> Thing:
        known = self._things.get(track.id)
        if known is None or known.track.first != track.first:  # numbers may begin again with a new source
            return Thing(track, verdict, thumbnail(shown, track), self._next(), track.area, now, now)
        known = replace(known, track=track, verdict=verdict, seen=now)
        better = track.area > _LARGER * known.best_area and now - known.looked > _EVERY_SECONDS
        if not better or track.missed:
            return known
        return replace(
            known,
            thumbnail=thumbnail(shown, track),
            version=self._next(),
            best_area=track.area,
            looked=now,
        )

    def _next(self) -> int:
        self._versions += 1
        return self._versions
