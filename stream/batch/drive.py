"""Carries a plan out on Dask: the workers of this machine, or of a cluster that runs already."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from time import monotonic, perf_counter
from typing import Any
from uuid import uuid4

from stream.batch import outcomes, storage, work
from stream.batch.outcomes import Outcome
from stream.batch.plan import HOME, Clip
from stream.batch.work import TOPIC, Batch, Look
from stream.errors import CleanplateError, EngineError, InterruptedRunError, OutputError, UsageError
from stream.options import to_config

PORT = 8786
_QUIET_SECONDS = 20.0
"""After so long without a word from any worker, whether there are workers is looked at."""
_LOOK_SECONDS = 5.0
_DEATHS = 4
"""How often each worker may die, with nothing done in between, before the batch gives up."""
_NOBODY = " (no worker is there)"
_CPU = {"CPU": 1}
_ON_CPU = ("openvino", "none")
_DASK = {
    # a worker's death is not the clip's fault until it has happened often
    "distributed.scheduler.allowed-failures": 3,
    # a worker that waits for its memory to shrink would wait for ever: nothing that we hold can be spilt
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
}


@dataclass
class Standing:
    """Where a batch is, for whoever shows it; changed while it runs.

    `running` by name: frames, all, fps. `heard`: when a worker last said something.
    """

    clips: int
    frames: dict[str, int | None] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    running: dict[str, tuple[int, int | None, float]] = field(default_factory=dict)
    began: float = field(default_factory=monotonic)
    heard: float = field(default_factory=monotonic)
    stage: str = "looking at the clips"


@dataclass(frozen=True)
class Place:
    """Where the work is done: `workers` on this machine, or the scheduler at `address`."""

    workers: int = 0
    address: str = ""


def parse_place(text: str) -> Place:
    """Read `local`, `local:N` or `tcp://HOST:PORT` (also `tls://`); raises UsageError."""
    kind, _, rest = text.partition(":")
    if kind == "local" and (not rest or (rest.isdigit() and int(rest) > 0)):
        return Place(workers=int(rest or 0))
    if kind in ("tcp", "tls") and rest.startswith("//") and len(rest) > 2:
        return Place(address=text if rest.count(":") else f"{text}:{PORT}")
    raise UsageError(f"--on does not know {text!r}", hint="local, local:N, or tcp://SCHEDULER:8786")


def default_workers(cores: int) -> int:
    """Processes that clean most clips a minute, as measured (docs/batch.md): one a core, as memory allows."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return max(1, cores)
    gigabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return max(1, min(cores, int(gigabytes)))


@contextmanager
def held(folder: str) -> Iterator[None]:
    """Hold an output folder against a second batch; raises OutputError when one is at it.

    At an address there are no locks, and the workers alone see that nothing is done twice at once.
    """
    path = storage.local(folder)
    if path is None:
        yield
        return
    from stream.part import Part, output_error

    try:
        (path / HOME).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, path) from None
    try:
        part = Part(path / HOME / "batch")
    except CleanplateError:
        raise OutputError(
            "another batch is writing there", where=folder, hint="wait for it, or stop it"
        ) from None
    try:
        yield
    finally:
        part.remove()


@contextmanager
def cluster(place: Place) -> Generator[Any, None, None]:
    """A Dask client; with workers of its own unless an address is given. Raises UsageError, OutputError."""
    distributed = _distributed()
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if place.address:
        try:
            client = distributed.Client(place.address, timeout=15)
        except (OSError, ValueError, TimeoutError) as error:
            raise UsageError(
                f"no scheduler answers: {str(error).splitlines()[0]}",
                where=place.address,
                hint="start one with `dask scheduler`, and `dask worker` on each machine",
            ) from None
        with client:
            yield client
        return
    from engines.threads import available_threads

    cores = available_threads()
    count = place.workers or default_workers(cores)
    threads = max(1, cores // count)
    environment = {
        "CLEANPLATE_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    import dask

    with (
        dask.config.set(_DASK),
        tempfile.TemporaryDirectory(prefix="cleanplate-dask-", ignore_cleanup_errors=True) as folder,
        distributed.LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            resources=_CPU,
            env=environment,
            local_directory=folder,
            silence_logs=logging.CRITICAL,
        ) as own,
        distributed.Client(own) as client,
    ):
        yield client


def carry_out(
    clips: Sequence[Clip],
    folder: str,
    client: Any,
    *,
    overwrite: bool = False,
    every: Fraction | None = None,
    show: Callable[[Standing], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Outcome]:
    """Clean all clips, long ones in segments of about `every` seconds, and return what came of each.

    A clip's failure is its outcome. Raises InterruptedRunError once `stop` is true.
    """
    batch = Batch(folder, uuid4().hex, overwrite)
    standing = Standing(len(clips))
    run = _Run(client, batch, standing)
    client.subscribe_topic(TOPIC, lambda event: _heard(standing, event))
    try:
        looks = run.look_at(clips, every, show, stop)
        run.prepare(looks, show, stop)
        run.clean(looks, show, stop)
    except KeyboardInterrupt:
        raise InterruptedRunError("interrupted", hint="the same command goes on with what is left") from None
    finally:
        client.unsubscribe_topic(TOPIC)
    order = {clip.name: number for number, clip in enumerate(clips)}
    return sorted(standing.outcomes, key=lambda each: order[each.name])


class _Run:
    """The tasks of one batch, as they come in and lead to others."""

    def __init__(self, client: Any, batch: Batch, standing: Standing) -> None:
        self._client = client
        self._batch = batch
        self._standing = standing
        self._segments: dict[str, int] = {}
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        self._offered = {name for each in workers for name in each.get("resources", {})}
        self._known: set[str] = set()
        self._looked = 0.0

    def look_at(
        self,
        clips: Sequence[Clip],
        every: Fraction | None,
        show: Callable[[Standing], None],
        stop: Callable[[], bool],
    ) -> dict[Clip, Look]:
        """Look at all clips; those that cannot be read have failed."""
        asked = {self._submit(work.look, clip, every, clip=clip): clip for clip in clips}
        looks: dict[Clip, Look] = {}
        for future in self._finished(list(asked), show, stop):
            clip = asked[future]
            try:
                looks[clip] = future.result()
            except Exception as error:
                self._ended(clip, work.failed(clip, _cause(error)), save=True)
            else:
                self._standing.frames[clip.name] = looks[clip].frames
                self._segments[clip.name] = len(looks[clip].segments)
        return looks

    def prepare(
        self, looks: dict[Clip, Look], show: Callable[[Standing], None], stop: Callable[[], bool]
    ) -> None:
        """Build the networks once for each size, before several workers need them at once."""
        self._standing.stage = "preparing the networks"
        asked: dict[object, Clip] = {}
        for clip, seen in looks.items():
            options = clip.options
            key = (seen.width, seen.height, options.preset, options.engine, options.config, options.change)
            asked.setdefault(key, clip)
        futures = [
            self._submit(work.prepare, clip, looks[clip].width, looks[clip].height, clip=clip)
            for clip in asked.values()
        ]
        for future in self._finished(futures, show, stop):
            # what is wrong here will be said by the clips themselves
            with contextlib.suppress(Exception):
                future.result()

    def clean(
        self, looks: dict[Clip, Look], show: Callable[[Standing], None], stop: Callable[[], bool]
    ) -> None:
        """Clean what can be, the longest first, so that no long one is left for the end."""
        from distributed import as_completed

        self._standing.stage = "cleaning"
        began: dict[str, float] = {}
        pending: dict[Any, tuple[Clip, str]] = {}
        parts: dict[str, list[Any]] = {}
        for clip, seen in sorted(looks.items(), key=lambda item: -_work(item[1])):
            began[clip.name] = perf_counter()
            if len(seen.segments) == 1:
                pending[self._submit(work.clean_clip, clip, self._batch, clip=clip)] = (clip, "clip")
                continue
            parts[clip.name] = [None] * len(seen.segments)
            for segment in seen.segments:
                future = self._submit(work.clean_segment, clip, self._batch, segment, clip=clip)
                pending[future] = (clip, "segment")
        waiting = as_completed(list(pending))
        for future in self._each(waiting, show, stop):
            clip, kind = pending.pop(future)
            try:
                found = future.result()
            except Exception as error:
                if self._ended(clip, work.failed(clip, _cause(error)), save=True):
                    rest = [each for each, (other, _) in pending.items() if other is clip]
                    self._client.cancel(rest)
                continue
            if kind != "segment":
                self._ended(clip, found)
                continue
            done = parts[clip.name]
            done[found[0].segment.number] = found
            self._standing.running.pop(f"{clip.name} [{found[0].segment.number + 1}]", None)
            if all(done):
                seconds = perf_counter() - began[clip.name]
                joined = self._submit(work.join_segments, clip, self._batch, done, seconds, clip=clip)
                pending[joined] = (clip, "join")
                waiting.add(joined)

    def _submit(self, task: Callable[..., Any], *arguments: Any, clip: Clip) -> Any:
        return self._client.submit(task, *arguments, pure=False, resources=self._resources(clip, task))

    def _resources(self, clip: Clip, task: Callable[..., Any]) -> dict[str, float] | None:
        """What a worker must offer: a GPU where there are any and the engine uses one, else a CPU."""
        if task is work.look or task is work.join_segments:
            return None
        with contextlib.suppress(Exception):
            if "GPU" in self._offered and to_config(clip.options).engine.name not in _ON_CPU:
                return {"GPU": 1}
        return dict(_CPU) if "CPU" in self._offered else None

    def _ended(self, clip: Clip, outcome: Outcome, *, save: bool = False) -> bool:
        """Take an outcome, the first of a clip; `save`: no worker did."""
        if any(each.name == clip.name for each in self._standing.outcomes):
            return False
        if save:
            parts = work.parts_of(self._segments.get(clip.name, 1))
            attempts = outcomes.attempts(self._batch.folder, clip, self._batch.run, parts)
            outcome = replace(outcome, attempts=attempts)
            with contextlib.suppress(CleanplateError):
                outcomes.save(self._batch.folder, clip, outcome)
        self._standing.outcomes.append(outcome)
        for name in [each for each in self._standing.running if each.partition(" [")[0] == clip.name]:
            del self._standing.running[name]
        return True

    def _finished(
        self, futures: list[Any], show: Callable[[Standing], None], stop: Callable[[], bool]
    ) -> Iterator[Any]:
        from distributed import as_completed

        yield from self._each(as_completed(futures), show, stop)

    def _each(
        self, waiting: Any, show: Callable[[Standing], None], stop: Callable[[], bool]
    ) -> Iterator[Any]:
        """Futures as they end; in between the standing is shown."""
        while waiting.count():
            show(self._standing)
            if stop():
                raise InterruptedRunError("interrupted", hint="the same command goes on with what is left")
            ended = _next_batch(waiting)
            if ended:
                self._standing.heard = monotonic()
            self._look_for_workers()
            yield from ended
        show(self._standing)

    def _look_for_workers(self) -> None:
        """Say that no worker is there, which may be right; raise EngineError when each dies as it starts."""
        now = monotonic()
        if now - self._standing.heard < _QUIET_SECONDS:
            self._known.clear()
            return
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        there = set(self._client.scheduler_info(n_workers=-1)["workers"])
        self._known |= there
        stage = self._standing.stage.removesuffix(_NOBODY)
        self._standing.stage = stage if there else stage + _NOBODY
        if len(self._known) > _DEATHS * max(len(there), 1) + 1:
            raise EngineError(
                "workers die as soon as they begin, perhaps for want of memory",
                hint="a worker needs about 1.5 GB: `dask worker --memory-limit`, or fewer workers a machine",
            )


def _next_batch(waiting: Any) -> list[Any]:
    """What has ended within half a second."""
    from time import sleep

    until = monotonic() + 0.5
    while monotonic() < until:
        ended = list(waiting.next_batch(block=False))
        if ended:
            return ended
        sleep(0.05)
    return []


def _heard(standing: Standing, event: Any) -> None:
    told = event[1] if isinstance(event, tuple) else event
    name = told["name"]
    standing.heard = monotonic()
    ended = {each.name for each in standing.outcomes}
    if name.partition(" [")[0] not in ended:
        standing.running[name] = (told["frames"], told["total"], told["rate"])


def _work(seen: Look) -> float:
    return (seen.frames or 1000) * seen.width * seen.height


def _cause(error: BaseException) -> BaseException:
    """An error of a task in words for its clip."""
    if type(error).__name__ == "KilledWorker":
        return CleanplateError(
            "each worker that tried it died, perhaps for want of memory",
            hint="fewer workers have more memory each: --on local:1, or `dask worker --memory-limit`",
        )
    return error


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise UsageError(
            "a batch needs the extra cluster", hint="pip install 'cleanplate[cluster]'"
        ) from None
    return distributed
