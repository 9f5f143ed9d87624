"""The rooms in their order: analysis runs ahead, the fill follows `look_ahead` behind it.

    source -> shots -> perceive -> motion -> track -> judge  |  plate -> hole -> fill -> sink
              `Analysis.push`, one frame at a time           |  `Filling.push`, as soon as a frame is ripe

Each half owns its state and is fed in order by one thread, so a result never depends on how threads
were scheduled. `run_ahead` is the only place that starts one.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from time import perf_counter
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from stream import fill, hindsight, hole, judge, motion, perceive, plate, shots, track
from stream.elsewhere import Elsewhere
from stream.types import Filled, Frame, Mask, Motion, Perception, Track, Verdict

T = TypeVar("T")
_END = object()


class Clock:
    """Seconds spent in each stage, added up over a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the wall time of the block to `stage`."""
        began = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - began

    def timed(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Pass `items` on, adding the time it takes to get each of them."""
        source = iter(items)
        while True:
            with self.time(stage):
                item = next(source, _END)
            if item is _END:
                return
            yield item  # type: ignore[misc]


def run_ahead(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    """Run `items` in a thread of its own, at most `depth` items ahead of whoever reads them.

    An exception of the producer is raised at the reader, in its place in the order. When the reader
    stops early the producer stops at its next item.
    """
    ready: queue.Queue[object] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def offer(item: object) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def produce() -> None:
        try:
            for item in items:
                if not offer(item):
                    return
            offer(_END)
        except BaseException as error:
            offer(_Failure(error))

    worker = threading.Thread(target=produce, name="cleanplate-ahead", daemon=True)
    worker.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        worker.join()


@dataclass(frozen=True)
class _Failure:
    error: BaseException


@dataclass(frozen=True)
class Seen:
    """What the analysis knows of one frame.

    `frame` is None when the frame is decoded again for the fill. `things`: uint16 at working resolution,
    0 = nothing, else the id of the track that covers the pixel. `mask`: the user's plain mask, if there is
    one. `stuff`: the latest probabilities of the surroundings.
    """

    frame: Frame | None
    index: int
    time: Fraction
    shot: int
    motion: Motion
    tracks: tuple[Track, ...]
    verdicts: tuple[Verdict, ...]
    things: NDArray[np.uint16]
    stuff: NDArray[np.float32]
    mask: Mask | None


class Analysis:
    """Frames in, one `Seen` each out: everything that must be known before a hole can be filled.

    `still`: the frames are pictures on their own, so nothing can be said of what passes.
    """

    def __init__(
        self,
        config: Config,
        networks: perceive.Networks,
        relation: judge.Relation,
        clock: Clock,
        *,
        still: bool = False,
    ) -> None:
        self._config, self._networks, self._relation, self._clock = config, networks, relation, clock
        self._still = still
        self._motion = motion.initial()
        self._tracks = track.initial()
        self._judge = judge.initial()
        self._last_tracks: tuple[Track, ...] = ()
        self._since = 0
        self._shots = shots.initial()
        self._shot = -1
        self._stuff = np.zeros(0, np.float32)
        self._looked_at: Fraction | None = None
        self.cuts: list[Fraction] = []

    def push(
        self,
        frame: Frame,
        mask: Mask | None = None,
        labels: tuple[NDArray[np.uint16], dict[int, str]] | None = None,
    ) -> Seen:
        """Analyse the next frame; `mask` and `labels` are the user's, in frame size."""
        config, clock = self._config, self._clock
        with clock.time("shots"):
            cut, self._shots = shots.step(self._shots, frame)
        if cut or self._shot < 0:
            self._begin_shot(frame)
        with clock.time("perceive"):
            perception = self._perceive(frame, labels)
        with clock.time("motion"):
            blocked = self._blocked(frame, perception, mask)
            moved, self._motion = motion.step(self._motion, frame, blocked)
        with clock.time("track"):
            tracks, self._tracks = track.step(self._tracks, perception, moved, frame, config.track)
        with clock.time("judge"):
            verdicts, self._judge = judge.step(
                self._judge, tracks, self._stuff, self._relation, config.judge, frame, still=self._still
            )
        self._last_tracks = tracks
        return Seen(
            frame=frame,
            index=frame.index,
            time=frame.time,
            shot=self._shot,
            motion=moved,
            tracks=tracks,
            verdicts=verdicts,
            things=label_map(tracks, perceive.working_size(config, frame)),
            stuff=self._stuff,
            mask=mask,
        )

    def _begin_shot(self, frame: Frame) -> None:
        self._shot += 1
        self.cuts.append(frame.time)
        self._motion = motion.initial()
        self._tracks = track.initial(self._tracks.next_id)
        self._judge = judge.initial()
        self._last_tracks = ()
        self._since = 0
        self._looked_at = None

    def _perceive(
        self, frame: Frame, labels: tuple[NDArray[np.uint16], dict[int, str]] | None
    ) -> Perception | None:
        config = self._config
        look = self._looked_at is None or frame.time - self._looked_at >= config.perceive.stuff_seconds
        skip = self._since % config.perceive.every != 0
        self._since += 1
        if skip and not look:
            return None
        able = config.engine.name != "none"
        perception = perceive.perceive(
            self._networks,
            frame,
            look_at_stuff=look and able,
            look_at_things=labels is None and able,
            config=config,
        )
        if labels is not None:
            perception = perceive.from_labels(labels[0], labels[1], frame, perception)
        if look:
            self._stuff, self._looked_at = perception.stuff, frame.time
        return perception

    def _blocked(self, frame: Frame, perception: Perception | None, mask: Mask | None) -> Mask:
        """Pixels no background corner may lie on: every thing that might move, and the user's mask."""
        masks: Sequence[Mask]
        if perception is None:
            masks = [each.instance.mask for each in self._last_tracks]
        else:
            masks = [each.mask for each in perception.instances]
        height, width = perceive.working_size(self._config, frame)
        blocked = np.zeros((height, width), bool)
        for each in masks:
            if each.shape == blocked.shape:
                blocked |= each
            else:  # the user's labelled masks keep a resolution of their own
                blocked |= (
                    cv2.resize(each.astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA) > 0
                )
        if mask is not None:
            small = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA)
            blocked |= small > 0
        return blocked


class Filling:
    """`Seen` in, `Filled` out as soon as enough of what follows is known."""

    def __init__(
        self,
        config: Config,
        inpaint: fill.Inpaint | None,
        clock: Clock,
        again: Iterator[Frame] | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._config, self._inpaint, self._clock, self._again = config, inpaint, clock, again
        # Outlives the shots: a place seen minutes ago, or before other shots, is found again.
        self._elsewhere = elsewhere or Elsewhere(config.plate.archive_mb << 20)
        self._waiting: deque[Seen] = deque()
        self._plate: dict[int, plate.Plate] = {}
        self._verdicts: dict[int, Verdict] = {}
        self._latest: dict[int, Track] = {}

    @property
    def _wait(self) -> float:
        ahead = self._config.look_ahead
        return self._config.look_ahead_cap if ahead == "shot" else ahead

    def push(self, seen: Seen) -> list[Filled]:
        """Remember the newest frame and return those that are ripe."""
        with self._clock.time("plate"):
            self._remember(seen)
        self._waiting.append(replace(seen, frame=None) if self._again is not None else seen)
        done = []
        while self._waiting and self._ripe(self._waiting[0], seen):
            done.append(self._fill(self._waiting.popleft()))
        return done

    def finish(self) -> list[Filled]:
        """Fill what still waits."""
        done = []
        while self._waiting:
            done.append(self._fill(self._waiting.popleft()))
        return done

    def _remember(self, seen: Seen) -> None:
        if seen.shot not in self._plate:
            budget = self._config.memory_mb // 2 << 20
            self._plate[seen.shot] = plate.initial(self._config.plate, self._wait, budget)
        assert seen.frame is not None
        self._verdicts.update((verdict.track, verdict) for verdict in seen.verdicts)
        self._latest.update((each.id, each) for each in seen.tracks)
        self._plate[seen.shot] = plate.observe(
            self._plate[seen.shot], seen.frame, seen.motion, seen.things, seen.mask
        )
        self._elsewhere.observe(self._plate[seen.shot].memories[-1], seen.shot)

    def _ripe(self, oldest: Seen, newest: Seen) -> bool:
        return oldest.shot != newest.shot or newest.time - oldest.time >= self._wait

    def _fill(self, seen: Seen) -> Filled:
        frame = seen.frame if self._again is None else next(self._again)
        assert frame is not None
        assert frame.index == seen.index
        for old in [shot for shot in self._plate if shot < seen.shot]:
            del self._plate[old]
        tracks = self._with_hindsight(seen, frame)
        verdicts = tuple(self._verdicts[each.id] for each in tracks if each.id in self._verdicts)
        known = self._plate[seen.shot]
        with self._clock.time("hole"):
            if seen.mask is not None:
                wanted = hole.from_mask(seen.mask)
            else:
                wanted = hole.make_hole(frame, tracks, verdicts, seen.motion, self._config.hole)
        if wanted.box is None:
            return Filled(frame, np.zeros((0, 0), np.uint8), None, verdicts, tracks, frame)
        with self._clock.time("fill"):
            forbidden = judge.forbidden(tuple(self._latest.values()), tuple(self._verdicts.values()))
            filled, self._plate[seen.shot] = fill.fill(
                frame,
                wanted,
                known,
                seen.motion,
                forbidden,
                self._inpaint,
                self._config,
                self._elsewhere,
                seen.shot,
            )
        return replace(filled, verdicts=verdicts, tracks=tracks, before=frame)

    def _with_hindsight(self, seen: Seen, frame: Frame) -> tuple[Track, ...]:
        """The frame's tracks as the frames behind it in the look-ahead correct them."""
        following = [_moment(each) for each in self._waiting if each.shot == seen.shot]
        return hindsight.with_hindsight(_moment(seen), following, frame.width, frame.height)


def _moment(seen: Seen) -> hindsight.Moment:
    return hindsight.Moment(seen.index, float(seen.time), seen.tracks, seen.motion)


def label_map(tracks: Iterable[Track], working: tuple[int, int]) -> NDArray[np.uint16]:
    """Draw the tracks' masks as their ids, uint16 at the masks' own resolution; smaller things lie on top."""
    tracks = list(tracks)
    things = np.zeros(tracks[0].instance.mask.shape if tracks else working, np.uint16)
    for each in sorted(tracks, key=lambda one: -one.area):
        things[each.instance.mask] = each.id
    return things


def run(
    frames: Iterable[Frame],
    analysis: Callable[[Frame], Seen],
    filling: Filling,
    clock: Clock,
    *,
    depth: int = 4,
) -> Generator[Filled, None, None]:
    """Clean `frames` with decoding, analysis and filling each in a thread of its own."""
    decoded = run_ahead(clock.timed("decode", frames), depth)
    seen = run_ahead(map(analysis, decoded), depth)
    return run_ahead(_filled(seen, filling), depth)


def _filled(seen: Iterable[Seen], filling: Filling) -> Iterator[Filled]:
    for each in seen:
        yield from filling.push(each)
    yield from filling.finish()
