"""What a live run gives up when it cannot keep pace, in which order, and when it takes it back.

One step is taken down when pictures are dropped or come late, and one back up when all has been well for a
while and the measured work says that the step above would fit. A step that had to be left again at once is
tried again only after twice as long.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace

from configs.schema import Config


@dataclass(frozen=True, slots=True)
class Step:
    """One degree of thrift; `every`: frames from one look of the segmentator to the next, at least.

    `sources`: frames looked at for one hole, at most. `shadow`: whether shadows may be looked for. `shown`:
    one of so many pictures is shown. `waiting`: pictures that may wait, so that a moment's hesitation costs
    none; under load every one that waits makes all later ones late.
    """

    name: str
    every: int = 1
    sources: int = 99
    shadow: bool = True
    shown: int = 1
    waiting: int = 1


STEPS: tuple[Step, ...] = (
    Step("full", waiting=3),
    Step("a look every 3rd frame", every=3),
    Step("a look every 4th frame", every=4),
    Step("few sources, no shadows", every=4, sources=2, shadow=False),
    Step("every 2nd frame shown", every=2, sources=2, shadow=False, shown=2),
    Step("every 3rd frame shown", every=2, sources=2, shadow=False, shown=3),
)
"""In the order in which they are taken. Where fewer frames are shown, a look at every 2nd of them is one at
every 4th that comes."""

_DOWN_LATENCY = 0.12
_FAR_DOWN_LATENCY = 0.2
_DOWN_DROPS, _DOWN_LASTING, _DOWN_ANYHOW = 0.15, 0.05, 0.2
_LOADED = 0.85
"""A room that is busy for less of the time lost its pictures to a hiccup, which no step would have spared."""

_BLIND_SECONDS = 0.14
_BAD = 0.75
"""A single moment of hesitation is not yet a load: so many of the last second's pictures were no later."""

_LASTING_SECONDS = 4.0
_SETTLE_SECONDS = 1.0
"""A step must have shown what it brings before the next is taken."""

_WELL_SECONDS, _LONGEST_WELL = 3.0, 48.0
_FAILED_SECONDS = 4.0
_FITS = 0.88


@dataclass(frozen=True, slots=True)
class Load:
    """The last second: share of pictures dropped, a bad latency in seconds, the busiest room's share.

    `lasting` and `lasting_busy`: the share dropped, and the busiest room's, of the last four seconds.
    """

    drops: float
    lasting: float
    latency: float
    busy: float
    lasting_busy: float


@dataclass(frozen=True, slots=True)
class State:
    """The step at hand, since when, since when all is well, and how long that must last to go up."""

    at: int = 0
    since: float = 0.0
    well_since: float | None = None
    patience: float = _WELL_SECONDS
    rose: float = float("-inf")

    @property
    def step(self) -> Step:
        """The step at hand."""
        return STEPS[self.at]


def initial(since: float = 0.0) -> State:
    """Nothing given up, and nothing to be given up until a second after `since`."""
    return State(since=since)


def step(state: State, load: Load | None, now: float) -> State:
    """The state after another picture; `load` None: too little has been measured yet."""
    if load is None or now - state.since < _SETTLE_SECONDS:
        return state
    dropping = load.drops > _DOWN_DROPS and load.busy > _LOADED
    lasting = load.lasting > _DOWN_LASTING and load.lasting_busy > _LOADED
    if dropping or lasting or load.lasting > _DOWN_ANYHOW or load.latency > _DOWN_LATENCY:
        if state.at + 1 >= len(STEPS):
            return replace(state, well_since=None)
        far = 2 if load.latency > _FAR_DOWN_LATENCY and state.at + 2 < len(STEPS) else 1
        failed = now - state.rose < _FAILED_SECONDS
        patience = min(2 * state.patience, _LONGEST_WELL) if failed else _WELL_SECONDS
        return State(state.at + far, now, None, patience, state.rose)
    if state.at == 0:
        return state
    above = STEPS[state.at - 1]
    if load.busy * state.step.shown / above.shown > _FITS:
        return replace(state, well_since=None)
    well_since = now if state.well_since is None else state.well_since
    if now - well_since < state.patience:
        return replace(state, well_since=well_since)
    return State(state.at - 1, now, None, state.patience, now)


def applied(config: Config, step: Step, rate: float = 30.0) -> Config:
    """The settings with what the step gives up; `rate`: frames analysed a second.

    Between two looks masks are carried by motion, which goes astray with time and not with frames: where few
    frames are analysed more of them are looked at.
    """
    every = max(1, min(max(config.perceive.every, step.every), round(_BLIND_SECONDS * rate)))
    if step == STEPS[0] and every == config.perceive.every:
        return config
    perceive = config.perceive.model_copy(update={"every": every})
    plate = config.plate.model_copy(update={"sources": min(config.plate.sources, step.sources)})
    hole = config.hole.model_copy(update={"shadow": config.hole.shadow and step.shadow})
    return config.model_copy(update={"perceive": perceive, "plate": plate, "hole": hole})


class Meter:
    """Counts what came, what was shown and what was dropped, over the last seconds."""

    def __init__(self) -> None:
        self._came: deque[float] = deque(maxlen=240)
        self._dropped: deque[float] = deque(maxlen=240)
        self._shown: deque[tuple[float, float]] = deque(maxlen=240)
        self._worked: dict[str, deque[tuple[float, float]]] = {}

    def came(self, at: float) -> None:
        """A picture came."""
        self._came.append(at)

    def dropped(self) -> None:
        """A picture was dropped though it should have been shown."""
        self._dropped.append(time.monotonic())

    def showed(self, latency: float) -> None:
        """A picture was shown."""
        self._shown.append((time.monotonic(), latency))

    def worked(self, room: str, seconds: float) -> None:
        """A room needed so long for one picture."""
        self._worked.setdefault(room, deque(maxlen=240)).append((time.monotonic(), seconds))

    def now(self, over: float = 2.0) -> tuple[float, float]:
        """Pictures shown a second and their median latency in seconds, over the last seconds."""
        since = time.monotonic() - over
        recent = [each for each in list(self._shown) if each[0] >= since]
        if len(recent) < 2:
            return 0.0, 0.0
        span = recent[-1][0] - recent[0][0]
        latencies = sorted(each[1] for each in recent)
        return (len(recent) - 1) / max(span, 1e-3), latencies[len(latencies) // 2]

    def load(self, ahead: float = 0.0, begun: float = 0.0, over: float = 1.0) -> Load | None:
        """How the last second went, None before there is one.

        `ahead`: seconds of latency that are wanted; `begun`: when the step at hand was taken.
        """
        now = time.monotonic()
        since = now - over
        came = sum(each >= since for each in list(self._came))
        latencies = sorted(latency for at, latency in list(self._shown) if at >= since)
        if came < 3 or len(latencies) < 3 or not self._came or self._came[0] > since:
            return None
        drops = sum(each >= since for each in list(self._dropped))
        longer = now - _LASTING_SECONDS
        lasting = sum(each >= longer for each in list(self._dropped)) if begun <= longer else 0
        all_came = sum(each >= longer for each in list(self._came))
        bad = latencies[int(_BAD * (len(latencies) - 1))]
        busy, lasting_busy = self._busy(over), self._busy(_LASTING_SECONDS)
        return Load(drops / came, lasting / all_came, bad - ahead, busy, lasting_busy)

    def _busy(self, over: float) -> float:
        """How much of the last seconds the busiest room worked."""
        since = time.monotonic() - over
        return max(
            (
                sum(seconds for at, seconds in list(worked) if at >= since) / over
                for worked in self._worked.values()
            ),
            default=0.0,
        )
