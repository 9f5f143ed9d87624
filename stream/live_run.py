"""A camera in, the scene without its occlusions out, now: the newest picture wins, late ones are dropped.

    reader --newest--> analysis --one--> fill --> Shown: whoever looks, and the recording

Analysis of the next frame overlaps the fill of this one. A frame is taken only when the fill has taken the
one before, so none waits between the two. Under load the steps of `stream.ladder` are given up in order.
"""

from __future__ import annotations

import gc
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2

from configs.schema import Config, load_config
from engines.threads import available_threads, one_thread_each
from stream import camera, judge, ladder, perceive, wishes
from stream.analysis import Analysis, Seen, initial
from stream.camera import Away, Captured
from stream.clock import Clock
from stream.errors import CleanplateError, UsageError
from stream.filling import Filling
from stream.inpaint import open_inpaint
from stream.intake import Intake
from stream.recording import Recording
from stream.shown import Shown, Status
from stream.types import Action, Filled, Frame
from stream.wishes import Wishes

__all__ = ["Live", "Shown", "Status", "live"]

_TIME_BASE = Fraction(1, 90_000)
_START_SECONDS = 1.0
_TRIM_FRAMES = 900
_SWITCH_SECONDS = 0.0005
_AWAY_SECONDS = 0.5
"""While the source is away its last plate is shown again this often, so that everybody sees how long."""


@dataclass(frozen=True)
class _Analysed:
    seen: Seen
    at: float
    wishes: Wishes
    config: Config


class Live:
    """A source that is cleaned while it runs: a context manager, and an iterator of the newest `Shown`.

    Use `live` to open one. All methods may be called from any thread. An error that ends the run is raised
    by the iterator.
    """

    def __init__(
        self,
        source: str | int,
        captured: Iterator[Captured | Away],
        first: Captured,
        config: Config,
        stop: threading.Event,
    ) -> None:
        self.source = str(source)
        self._wishes = Wishes(config)
        self._stop = stop
        self._lock = threading.Condition()
        self._shown: Shown | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._known: set[int] = set()
        self._meter = ladder.Meter()
        self._analysed: queue.Queue[_Analysed | None] = queue.Queue(maxsize=1)
        self._free = threading.Semaphore(1)
        self._recording: Recording | None = None
        self._warnings: list[str] = []
        self._asides: list[threading.Thread] = []
        self._clock = Clock()
        # Analysis and fill already keep two cores busy: OpenCV's own threads would only wait for them, and
        # they themselves for Python's lock, which is handed over more often here than by default.
        self._before = cv2.getNumThreads(), sys.getswitchinterval()
        cv2.setNumThreads(1)
        self._unthreaded = ExitStack()
        self._unthreaded.enter_context(one_thread_each())
        sys.setswitchinterval(_SWITCH_SECONDS)
        self._relation = judge.open_relation(config.judge)
        height, width = first.rgb.shape[:2]
        self._networks = perceive.open_networks(config, width, height)
        self._inpaint = open_inpaint(config)
        # To look through all that was loaded would stop every thread for a tenth of a second.
        gc.collect()
        gc.freeze()
        # What was sent while the networks were opened is late, and no sign of a load.
        self._ladder = ladder.initial(time.monotonic() + _START_SECONDS)
        self._intake = Intake(self._meter, self._ladder.step)
        if camera.kind_of(source) == "file":
            self._intake.put(replace(first, at=time.monotonic()))
        self._threads = [
            self._start("reader", lambda: self._intake.read(captured)),
            self._start("analysis", self._analyse),
            self._start("fill", self._fill),
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Shown]:
        last = -1
        while True:
            shown = self.newer(last, 0.5)
            if shown is not None:
                last = shown.number
                yield shown
            elif self._ended:
                if self._error is not None:
                    raise self._error
                return

    def newer(self, than: int, timeout: float) -> Shown | None:
        """The newest picture if its number is above `than`; waits `timeout` seconds at most, else None."""

        def there() -> bool:
            return self._ended or (self._shown is not None and self._shown.number > than)

        with self._lock:
            self._lock.wait_for(there, timeout)
            shown = self._shown
        return shown if shown is not None and shown.number > than else None

    @property
    def status(self) -> Status:
        """How the run is doing."""
        config = self._wishes.config
        rate, latency = self._meter.now()
        recording = self._recording
        return Status(
            frames_per_second=rate,
            latency_seconds=latency,
            dropped=self._intake.dropped,
            step=self._ladder.step.name,
            recording=None if recording is None else str(recording.path),
            source=self.source,
            preset=config.preset,
            look_ahead=config.look_ahead_seconds,
            remove=config.judge.remove,
            keep=config.judge.keep,
            away=self._intake.away is not None,
            ended=self._ended,
            error=None if self._error is None else str(self._error),
            warnings=tuple(self._warnings),
        )

    @property
    def shown(self) -> int:
        """How many pictures have been shown."""
        newest = self._shown
        return 0 if newest is None else newest.number + 1

    def wait(self, seconds: float) -> None:
        """Wait so long, or until the run ends."""
        with self._lock:
            self._lock.wait_for(lambda: self._ended, seconds)

    def check(self) -> None:
        """Raise the error that ended the run, if one did."""
        if self._error is not None:
            raise self._error

    def aside(self, name: str, work: Callable[[], None]) -> None:
        """Do something beside the run in a thread of its own, such as serving viewers; an error ends both."""
        self._asides.append(self._start(name, work))

    def decide(self, track: int, action: Action | None) -> None:
        """Say what happens to one thing from the next frame on; None lets the judge decide again.

        Raises `UsageError` for a thing that has not been seen.
        """
        if track not in self._known:
            raise UsageError(f"no thing has the number {track}")
        self._wish(lambda wished: wishes.decide(wished, track, action))

    def classes(self, remove: Sequence[str], keep: Sequence[str]) -> None:
        """Say which classes go and which stay, in place of what was said before; UsageError for others."""
        self._wish(lambda wished: wishes.classes(wished, remove, keep))

    def preset(self, name: str) -> None:
        """Decide by the rules of another preset from the next frame on; what costs time stays as it is."""
        self._wish(lambda wished: wishes.preset(wished, name))

    def look_ahead(self, seconds: float) -> None:
        """Show each picture so many seconds later, judged on what came after it; 0 to 10."""
        self._wish(lambda wished: wishes.look_ahead(wished, seconds))

    def reset(self) -> None:
        """Forget what has been seen behind things, from the next frame on."""
        self._wish(wishes.reset)

    def record(self, path: Path | None, *, overwrite: bool = False) -> None:
        """Record what is shown from now on into `path`, or stop (None); the file is whole when this returns.

        Raises `UsageError` for a container that is not known, `OutputError` for a file that is there already
        or cannot be written.
        """
        if path is not None and self._ended:
            raise UsageError("there is nothing to record: the run has ended")
        if path is not None and self._recording is not None:
            raise UsageError("a recording is running already", where=str(self._recording.path))
        if path is None:
            self._stop_recording()
            return
        self._recording = Recording(Path(path), self._start, overwrite=overwrite)

    def close(self) -> None:
        """End the run within a second; a recording is whole afterwards. Closing twice is harmless."""
        self._stop.set()
        self._intake.close()
        with self._lock:
            self._lock.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                # a reader may hang in a camera's driver or in the network: it ends by itself
                thread.join(0.4)
        self._end()

    def _stop_recording(self) -> None:
        with self._lock:
            recording, self._recording = self._recording, None
        if recording is None:
            return
        recording.close()
        if recording.error is not None:
            self._warnings.append(str(recording.error))
        if recording.left_out:
            self._warnings.append(f"{recording.left_out} pictures came too fast to be recorded")

    def _end(self) -> None:
        self._stop_recording()
        with self._lock:
            if not self._ended:
                cv2.setNumThreads(self._before[0])
                self._unthreaded.close()
                sys.setswitchinterval(self._before[1])
                gc.unfreeze()
            self._ended = True
            self._lock.notify_all()

    def _wish(self, change: Callable[[Wishes], Wishes]) -> None:
        with self._lock:
            self._wishes = change(self._wishes)

    def _start(self, name: str, work: Callable[[], None]) -> threading.Thread:
        """Start a thread whose error ends the run."""

        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                with self._lock:
                    if self._error is None and not self._stop.is_set():
                        self._error = error
                self._stop.set()
                self._end()

        thread = threading.Thread(target=guarded, name=f"cleanplate-{name}", daemon=True)
        thread.start()
        return thread

    def _analyse(self) -> None:
        analysis: Analysis | None = None
        size, index, next_id, heeded, last = (0, 0), 0, 1, None, Fraction(-1)
        while not self._stop.is_set():
            if not self._free.acquire(timeout=0.1):
                continue
            captured = self._intake.take(0.1)
            if captured is None:
                self._free.release()
                if self._intake.empty:
                    self._analysed.put(None)
                    return
                continue
            began = time.monotonic()
            frame = _frame(captured, index, last)
            if analysis is None or (frame.width, frame.height) != size:
                size = frame.width, frame.height
                analysis = None
            wished = self._wishes
            rate = self._meter.now()[0] or 30.0
            config = ladder.applied(wished.config, self._ladder.step, rate)
            if analysis is None:
                state = initial(next_id)  # what was said of earlier things must not mean others
                analysis = Analysis(config, self._networks, self._relation, self._clock, state=state)
            elif config != heeded:
                if heeded is not None and config.judge.rule != heeded.judge.rule:
                    self._relation = judge.open_relation(config.judge)
                analysis.configure(config, self._relation)
            heeded = config
            seen = analysis.push(frame, asked=wished.words)
            self._known.update(each.id for each in seen.tracks)
            assert seen.after is not None
            next_id = seen.after.tracks.next_id
            index, last = index + 1, frame.time
            self._meter.worked("analysis", time.monotonic() - began)
            self._analysed.put(_Analysed(seen, captured.at, wished, config))

    def _fill(self) -> None:
        filling: Filling | None = None
        size, heeded, resets = (0, 0), None, 0
        taken: dict[int, float] = {}
        last = 0.0
        while not self._stop.is_set():
            try:
                each = self._analysed.get(timeout=0.1)
            except queue.Empty:
                now = time.monotonic()
                if self._intake.away is not None and self._shown is not None and now - last >= _AWAY_SECONDS:
                    last = now
                    self._publish_away()
                continue
            self._free.release()
            if each is None:
                break
            began = time.monotonic()
            frame = each.seen.frame
            assert frame is not None
            if filling is None or (frame.width, frame.height) != size:
                size = frame.width, frame.height
                filling = Filling(each.config, self._inpaint, self._clock)
                taken.clear()
            elif each.config != heeded:
                filling.configure(each.config)
                for index in filling.skip():
                    taken.pop(index, None)
            heeded = each.config
            if frame.index % _TRIM_FRAMES == 0:
                filling.trim()
            if each.wishes.resets != resets:
                filling.forget()
                resets = each.wishes.resets
            taken[each.seen.index] = each.at
            for filled in filling.each(each.seen):
                self._publish(filled, taken.pop(filled.frame.index))
            self._meter.worked("fill", time.monotonic() - began)
            with self._lock:
                self._ladder = ladder.step(
                    self._ladder,
                    self._meter.load(self.status.look_ahead, self._ladder.since),
                    time.monotonic(),
                )
            self._intake.step = self._ladder.step
        if filling is not None and not self._stop.is_set():
            for filled in filling.rest():
                self._publish(filled, taken.pop(filled.frame.index))
        self._end()

    def _publish(self, filled: Filled, at: float) -> None:
        latency = time.monotonic() - at
        self._meter.showed(latency)
        self._show(Shown(0, filled, filled.frame.time, latency))

    def _publish_away(self) -> None:
        away, shown = self._intake.away, self._shown
        if away is None or shown is None:
            return
        gone = time.monotonic() - away[0]
        since = (
            shown.time - Fraction(shown.away_seconds).limit_denominator(90_000) if shown.away else shown.time
        )
        moment = since + Fraction(gone).limit_denominator(90_000)
        self._show(replace(shown, time=moment, away=True, away_seconds=gone, latency_seconds=0.0))

    def _show(self, shown: Shown) -> None:
        with self._lock:
            number = 0 if self._shown is None else self._shown.number + 1
            self._shown = shown = replace(shown, number=number)
            self._lock.notify_all()
        recording = self._recording
        if recording is not None:
            recording.add(shown.image, shown.time)
            if recording.error is not None:
                self._stop_recording()


def live(
    source: str | int,
    config: Config | None = None,
    *,
    record: Path | None = None,
    overwrite: bool = False,
    size: tuple[int, int] | None = None,
    loop: bool = False,
) -> Live:
    """Open a camera (number or device), an address, or a file in real time, and clean it while it runs.

    `config`: default is the preset webcam. `record`: a file to record into from the first picture on, which
    may exist if `overwrite`. `size`: width and height asked of a camera. `loop`: a file begins again at its
    end. Raises `InputError` when nothing comes from the source, `EngineError` or `WeightsError` when the
    networks cannot be opened.
    """
    config = config or load_config("webcam")
    judge.check(config.judge)
    if not config.engine.threads:
        # the fill runs beside the networks all the time
        engine = config.engine.model_copy(update={"threads": max(1, available_threads() // 2)})
        config = config.model_copy(update={"engine": engine})
    stop = threading.Event()
    captured = camera.captures(source, stop, size=size, loop=loop)
    first = next((each for each in captured if isinstance(each, Captured)), None)
    assert first is not None
    opened = Live(source, captured, first, config, stop)
    if record is not None:
        try:
            opened.record(record, overwrite=overwrite)
        except CleanplateError:
            opened.close()
            raise
    return opened


def _frame(captured: Captured, index: int, last: Fraction) -> Frame:
    """The picture as a frame; its time grows in any case."""
    rgb = captured.rgb
    pts = round(max(captured.time, last + _TIME_BASE) / _TIME_BASE)
    return Frame(index, pts, _TIME_BASE, (rgb,), "rgb24", rgb.shape[1], rgb.shape[0])
