"""The rooms of one run, opened and put in their order."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from configs.schema import Config
from stream import judge, perceive, pipeline
from stream.analysis import Plan
from stream.completer import open_completer
from stream.elsewhere import Elsewhere
from stream.filling import FillingState
from stream.inpaint import inpaint_on_demand
from stream.masks import MaskReader
from stream.planes import frame_bytes
from stream.references import References, read_references, things_of
from stream.source import Source, SourceInfo
from stream.types import Filled, Frame, Perception


@dataclass(frozen=True)
class Rooms:
    """What the rooms of one run are made of, opened; `start` puts them in their order."""

    config: Config
    info: SourceInfo
    masks: MaskReader | None
    networks: perceive.Networks
    references: References
    elsewhere: Elsewhere
    clock: pipeline.Clock
    again: Iterator[Frame] | None

    @property
    def known(self) -> tuple[object, ...]:
        """What whoever goes on with this run has already."""
        return (
            *(getattr(self.config, name) for name in type(self.config).model_fields),
            *self.references.pictures,
        )

    def start(
        self,
        frames: Iterable[Frame],
        state: FillingState | None = None,
        borders: pipeline.Borders | None = None,
        stop: Callable[[], bool] | None = None,
        then: Callable[[pipeline.Seen], pipeline.Seen] = lambda seen: seen,
    ) -> tuple[pipeline.Analysis, Generator[Filled | pipeline.Border, None, None]]:
        """Begin, or go on from a state; the finished frames come from what is returned last; close it.

        `then` is what becomes of the analysis of each frame before the fill gets it.
        """
        analysis = pipeline.Analysis(
            self.config,
            self.networks,
            judge.open_relation(self.config.judge),
            self.clock,
            still=self.info.kind == "image",
            state=None if state is None else state.analysis,
        )
        filling = pipeline.Filling(
            self.config,
            inpaint_on_demand(self.config),
            self.clock,
            self.again,
            self.elsewhere,
            state,
            cache(lambda: open_completer(self.config)),
            _patience(self.config, self.info, held=self.again is None),
        )

        def plan(frame: Frame) -> Plan:
            if self.masks is None:
                return analysis.plan(frame)
            drawn = self.masks.read(frame)
            return analysis.plan(frame, drawn.mask, drawn.labels)

        def follow(plan: Plan, perception: Perception | None) -> pipeline.Seen:
            return then(analysis.follow(plan, perception))

        steps = pipeline.Steps(plan, analysis.perceive, follow)
        done = pipeline.run(frames, steps, filling, self.clock, borders=borders, stop=stop)
        return analysis, done


def open_rooms(
    stack: ExitStack, source: Source, config: Config, masks: MaskReader | None, references: Sequence[Path]
) -> Rooms:
    """Open networks and references for a source; `stack` closes what is to be closed."""
    info = source.info
    networks = perceive.open_networks(config, info.width, info.height, info.rotation)
    things = things_of(networks, config, info)
    read = read_references(list(references), info, things) if references else References()
    again = iter(stack.enter_context(source.reopen())) if _too_much_to_hold(config, source) else None
    elsewhere = Elsewhere(config.plate.archive_mb << 20, read.pictures)
    return Rooms(config, info, masks, networks, read, elsewhere, pipeline.Clock(), again)


def _too_much_to_hold(config: Config, source: Source) -> bool:
    """Whether the frames between analysis and fill would not fit half of the memory allowed."""
    info = source.info
    if info.kind == "image":
        return False
    frames = config.look_ahead_seconds * _rate(info)
    if info.frames is not None:
        frames = min(frames, info.frames)
    return frames > _room(config, info)


def _patience(config: Config, info: SourceInfo, *, held: bool) -> float:
    """How many seconds a frame may wait for an open verdict; frames that are `held` must fit the memory."""
    return min(config.longest_wait, _room(config, info) / _rate(info)) if held else config.longest_wait


def _room(config: Config, info: SourceInfo) -> float:
    """How many frames fit half of the memory allowed."""
    return config.memory_mb / 2 * 2**20 / frame_bytes(info.format, info.width, info.height)


def _rate(info: SourceInfo) -> float:
    return float(info.rate) if info.rate else 30.0
