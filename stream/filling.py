"""The second half of the way: what the analysis saw in, finished frames out, `look_ahead` behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from stream import fill, hindsight, hole, judge, kept, plate
from stream.analysis import AnalysisState, Seen
from stream.clock import Clock
from stream.deocclude import Completed
from stream.elsewhere import Elsewhere
from stream.types import Filled, Frame, Track, Verdict


@dataclass(frozen=True)
class FillingState:
    """All that must be saved after `frames` finished frames for a run to go on from there.

    `analysed`: how many frames were read; `analysis`: what was known after the last of them.
    """

    frames: int
    analysed: int
    analysis: AnalysisState
    waiting: tuple[Seen, ...]
    plates: Mapping[int, plate.Plate]
    verdicts: Mapping[int, Verdict]
    latest: Mapping[int, Track]
    elsewhere: Mapping[str, object]
    kept: Mapping[int, kept.KeptState] = field(default_factory=dict)


class Filling:
    """`Seen` in, `Filled` out as soon as enough of what follows is known.

    `state`: where an earlier run ended. `completer` opens the network for what is hidden of who stays; it is
    called only when somebody is. `patience`: how many seconds a frame waits while a verdict is not settled,
    if that is more than the look-ahead.
    """

    def __init__(
        self,
        config: Config,
        inpaint: fill.Inpaint | None,
        clock: Clock,
        again: Iterator[Frame] | None = None,
        elsewhere: Elsewhere | None = None,
        state: FillingState | None = None,
        completer: kept.Opener = lambda: None,
        patience: float = 0.0,
    ) -> None:
        self._config, self._inpaint, self._clock, self._again = config, inpaint, clock, again
        # Outlives the shots: a place seen minutes ago, or before other shots, is found again.
        self._elsewhere = elsewhere or Elsewhere(config.plate.archive_mb << 20)
        self._patience = patience
        self._waiting: deque[Seen] = deque()
        self._completer = completer
        self._plate: dict[int, plate.Plate] = {}
        self._kept: dict[int, kept.KeptState] = {}
        self._verdicts: dict[int, Verdict] = {}
        self._latest: dict[int, Track] = {}
        self._frames = self._analysed = 0
        self._analysis: AnalysisState | None = None
        if state is not None:
            self._waiting.extend(state.waiting)
            self._plate.update(state.plates)
            self._kept.update(state.kept)
            self._verdicts.update(state.verdicts)
            self._latest.update(state.latest)
            self._frames, self._analysed = state.frames, state.analysed
            self._analysis = state.analysis
            self._elsewhere.restore(state.elsewhere)

    def configure(self, config: Config) -> None:
        """Go on with other settings from the next frame on, with all that is remembered."""
        self._config = config
        for shot, known in self._plate.items():
            self._plate[shot] = plate.configured(known, config.plate, self._wait)

    def forget(self) -> None:
        """Begin to remember afresh: nothing that was seen so far is background any more."""
        self._plate.clear()
        self._elsewhere = Elsewhere(self._config.plate.archive_mb << 20)

    def trim(self) -> None:
        """Forget what is known of things that nothing remembered shows; for runs without an end."""
        shown = {number for known in self._plate.values() for m in known.memories for number in m.ids}
        shown |= {each.id for seen in self._waiting for each in seen.tracks}
        self._latest = {key: value for key, value in self._latest.items() if key in shown}
        self._verdicts = {key: value for key, value in self._verdicts.items() if key in shown}

    def skip(self) -> list[int]:
        """Give up the frames that have become ripe, as after a shorter look-ahead; return their indices."""
        ripe = sum(self._ripe(each, self._waiting[-1]) for each in self._waiting)
        return [self._waiting.popleft().index for _ in range(ripe)]

    @property
    def state(self) -> FillingState:
        """What the next run needs to go on after the last frame that was returned; parts of it may change."""
        assert self._analysis is not None
        return FillingState(
            frames=self._frames,
            analysed=self._analysed,
            analysis=self._analysis,
            waiting=tuple(self._waiting),
            plates=self._plate,
            verdicts=self._verdicts,
            latest=self._latest,
            elsewhere=self._elsewhere.state,
            kept=self._kept,
        )

    @property
    def frames(self) -> int:
        """Frames returned so far, those of an earlier run included."""
        return self._frames

    @property
    def _wait(self) -> float:
        return self._config.look_ahead_seconds

    def push(self, seen: Seen) -> list[Filled]:
        """Remember the newest frame and return those that are ripe."""
        return list(self.each(seen))

    def each(self, seen: Seen) -> Iterator[Filled]:
        """Do as `push`, but return each frame as it is finished."""
        with self._clock.time("plate"):
            self._remember(seen)
        self._analysed, self._analysis = seen.index + 1, seen.after
        held = replace(seen, frame=self._held(seen.frame), after=None)
        self._waiting.append(_packed(held) if self._wait else held)
        while self._waiting and self._ripe(self._waiting[0], seen):
            done = self._next()
            yield done
            # What later frames need is done when this one has been given away, and need not wait for it.
            with self._clock.time("fill"):
                fill.prepare(self._plate[seen.shot], done.frame.index)
        with self._clock.time("plate"):
            self._elsewhere.observe(self._plate[seen.shot].memories[-1], seen.shot)

    def _held(self, frame: Frame | None) -> Frame | None:
        if frame is None or self._again is not None:
            return None
        # Without the RGB picture: it holds twice as much as the planes, and is made anew in a moment.
        return replace(frame) if self._wait else frame

    def finish(self) -> list[Filled]:
        """Fill what still waits."""
        return list(self.rest())

    def rest(self) -> Iterator[Filled]:
        """Do as `finish`, but return each frame as it is finished."""
        while self._waiting:
            yield self._next()

    def _next(self) -> Filled:
        done = self._fill(_unpacked(self._waiting.popleft()))
        self._frames += 1
        return done

    def _remember(self, seen: Seen) -> None:
        known = replace(self._known(seen.shot), look_ahead=self._lag(seen))
        assert seen.frame is not None
        self._verdicts.update((verdict.track, verdict) for verdict in seen.verdicts)
        # Without their masks: these are kept for as long as the run lasts.
        self._latest.update((each.id, _maskless(each)) for each in seen.tracks)
        self._plate[seen.shot] = plate.observe(known, seen.frame, seen.motion, seen.things, seen.mask)
        if seen.mask is None:
            before = self._kept.get(seen.shot, kept.initial())
            self._kept[seen.shot] = kept.remember(
                before, seen.frame, seen.tracks, self._verdicts, self._completer, known.limits
            )

    def _known(self, shot: int) -> plate.Plate:
        if shot not in self._plate:
            budget = self._config.memory_mb // 2 << 20
            self._plate[shot] = plate.initial(self._config.plate, self._wait, budget)
        return self._plate[shot]

    def _lag(self, newest: Seen) -> float:
        """How many seconds the frame that is filled next is behind the newest, or will be."""
        oldest = self._waiting[0] if self._waiting else newest
        return max(self._wait, float(newest.time - oldest.time) if oldest.shot == newest.shot else 0.0)

    def _ripe(self, oldest: Seen, newest: Seen) -> bool:
        waited = newest.time - oldest.time
        if oldest.shot != newest.shot or waited >= max(self._wait, self._patience):
            return True
        return waited >= self._wait and not unsettled(oldest, newest)

    def _fill(self, seen: Seen) -> Filled:
        frame = seen.frame if self._again is None else next(self._again)
        assert frame is not None
        assert frame.index == seen.index
        if self._wait:
            # A copy of our own: its RGB goes when it is done, though the frame may be remembered for long.
            frame = replace(frame)
        for old in [shot for shot in self._plate if shot < seen.shot]:
            del self._plate[old]
            self._kept.pop(old, None)
        tracks = self._with_hindsight(seen, frame)
        verdicts = tuple(self._verdicts[each.id] for each in tracks if each.id in self._verdicts)
        known = self._known(seen.shot)
        with self._clock.time("hole"):
            if seen.mask is not None:
                wanted = hole.from_mask(seen.mask)
            else:
                wanted = hole.make_hole(frame, tracks, verdicts, seen.motion, self._config.hole)
        if wanted.box is None:
            return Filled(frame, np.zeros((0, 0), np.uint8), None, verdicts, tracks, frame)
        known = plate.with_own(known, frame, seen.things, seen.mask)
        done: tuple[Completed, ...] = ()
        with self._clock.time("fill"):
            if seen.mask is None:
                done, self._kept[seen.shot] = kept.complete(
                    self._kept[seen.shot],
                    frame,
                    tracks,
                    self._verdicts,
                    self._config.hole.dilate + self._config.hole.soft,
                    self._completer,
                    known.limits,
                )
                wanted = kept.widened(wanted, done)
            filled, self._plate[seen.shot] = fill.fill(
                frame,
                wanted,
                known,
                seen.motion,
                self._forbidden(),
                self._inpaint,
                self._config,
                self._elsewhere,
                seen.shot,
            )
        filled = kept.put_back(filled, done, wanted)
        return replace(filled, verdicts=verdicts, tracks=tracks, before=frame)

    def _forbidden(self) -> set[int]:
        return judge.forbidden(tuple(self._latest.values()), tuple(self._verdicts.values()))

    def _with_hindsight(self, seen: Seen, frame: Frame) -> tuple[Track, ...]:
        """The frame's tracks as the frames behind it in the look-ahead correct them."""
        following = [_moment(each) for each in self._waiting if each.shot == seen.shot]
        return hindsight.with_hindsight(_moment(seen), following, frame.width, frame.height)


def unsettled(oldest: Seen, newest: Seen) -> bool:
    """Whether something is in both frames whose verdict may still change; the user's masks ask for none."""
    if oldest.mask is not None:
        return False
    shown = {each.id for each in oldest.tracks}
    return any(not each.settled and each.track in shown for each in newest.verdicts)


def _maskless(each: Track) -> Track:
    return replace(each, instance=replace(each.instance, mask=np.zeros((0, 0), bool), fringe=None))


def _packed(seen: Seen) -> Seen:
    """With a bit for each pixel of the tracks' masks: six things in ninety frames would take 100 MB."""
    return replace(
        seen, tracks=tuple(_with_mask(each, lambda mask: np.packbits(mask, axis=1)) for each in seen.tracks)
    )


def _unpacked(seen: Seen) -> Seen:
    return replace(seen, tracks=tuple(_whole_mask(each, seen) for each in seen.tracks))


def _whole_mask(each: Track, seen: Seen) -> Track:
    """A track with its mask as it was; one that was never packed as it is."""
    if each.instance.mask.dtype == bool:
        return each
    width = seen.things.shape[1]
    return _with_mask(each, lambda bits: np.unpackbits(bits, axis=1, count=width).view(bool))


def _with_mask(each: Track, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Track:
    instance = each.instance
    fringe = None if instance.fringe is None else change(instance.fringe)
    return replace(each, instance=replace(instance, mask=change(instance.mask), fringe=fringe))


def _moment(seen: Seen) -> hindsight.Moment:
    """A frame's tracks; of those that begin here the masks are asked for."""
    tracks = tuple(_whole_mask(each, seen) if each.first == seen.index else each for each in seen.tracks)
    return hindsight.Moment(seen.index, float(seen.time), tracks, seen.motion)
