"""The first half of the way: a frame in, everything out that must be known before a hole can be filled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from stream import judge, motion, perceive, shots, track
from stream.clock import Clock
from stream.types import Action, Frame, Mask, Motion, Perception, Track, Verdict

Labels = tuple[NDArray[np.uint16], dict[int, str]]
"""A frame's things as the user draws them: the id of each pixel, 0 = nothing, and the class of each id."""


@dataclass(frozen=True)
class Seen:
    """What the analysis knows of one frame.

    `frame` is None when the frame is decoded again for the fill. `things`: uint16 at working resolution,
    0 = nothing, else the id of the track that covers the pixel. `mask`: the user's plain mask, if there is
    one. `stuff`: the latest probabilities of the surroundings. `after`: the state of the analysis, for
    whoever saves it; None once nobody will.
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
    after: AnalysisState | None = None


@dataclass(frozen=True)
class AnalysisState:
    """What the analysis knows after a frame: all that must be saved for it to go on from there."""

    motion: motion.MotionState
    tracks: track.TrackState
    judge: judge.JudgeState
    shots: shots.ShotState
    last_tracks: tuple[Track, ...] = ()
    since: int = 0
    shot: int = -1
    stuff: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    looked_at: Fraction | None = None
    cuts: tuple[Fraction, ...] = ()


def initial(first_id: int = 1) -> AnalysisState:
    """Before the first frame; ids of tracks go on from `first_id`."""
    return AnalysisState(motion.initial(), track.initial(first_id), judge.initial(), shots.initial())


@dataclass(frozen=True)
class Plan:
    """What is to be done with a frame, before any network has seen it.

    `cut`: a shot begins here. `things`, `stuff`: whether the networks look for them. `after`: the plan's own
    part of the state after the frame, the rest of it is left empty.
    """

    frame: Frame
    cut: bool
    things: bool
    stuff: bool
    mask: Mask | None
    labels: Labels | None
    after: AnalysisState


class Analysis:
    """Frames in, one `Seen` each out: everything that must be known before a hole can be filled.

    A frame goes through `plan`, `perceive` and `follow`, which `push` does in one. Frames are planned and
    followed in their order; in between, several may be perceived at once, for that depends on nothing else.

    `still`: the frames are pictures on their own, so nothing can be said of what passes. `state`: where an
    earlier run ended.
    """

    def __init__(
        self,
        config: Config,
        networks: perceive.Networks,
        relation: judge.Relation,
        clock: Clock,
        *,
        still: bool = False,
        state: AnalysisState | None = None,
    ) -> None:
        self._config, self._networks, self._relation, self._clock = config, networks, relation, clock
        self._still = still
        self._planned = self._state = state or initial()

    @property
    def cuts(self) -> list[Fraction]:
        """When each shot began that has been seen so far."""
        return list(self._planned.cuts)

    def configure(self, config: Config, relation: judge.Relation) -> None:
        """Go on with other settings from the next frame on; `perceive.size` and the models cannot change."""
        self._config, self._relation = config, relation

    def push(
        self,
        frame: Frame,
        mask: Mask | None = None,
        labels: Labels | None = None,
        asked: Mapping[int, Action] | None = None,
    ) -> Seen:
        """Analyse the next frame; `mask` and `labels` are the user's, in frame size.

        `asked`: what the user says of single tracks, by id; it is stronger than every rule.
        """
        plan = self.plan(frame, mask, labels)
        return self.follow(plan, self.perceive(plan), asked)

    def plan(self, frame: Frame, mask: Mask | None = None, labels: Labels | None = None) -> Plan:
        """Say what is to be done with the next frame: `push`'s first part."""
        last, config = self._planned, self._config
        with self._clock.time("shots"):
            cut, shown = shots.step(last.shots, frame)
        cut = cut or last.shot < 0
        if cut:
            last = replace(last, shot=last.shot + 1, cuts=(*last.cuts, frame.time), since=0, looked_at=None)
        look = last.looked_at is None or frame.time - last.looked_at >= config.perceive.stuff_seconds
        skip = last.since % config.perceive.every != 0
        self._planned = replace(
            last, shots=shown, since=last.since + 1, looked_at=frame.time if look else last.looked_at
        )
        return Plan(frame, cut, not skip or look, look, mask, labels, self._planned)

    def perceive(self, plan: Plan) -> Perception | None:
        """Run the networks on a frame: `push`'s second part, for several frames at once if need be."""
        if not plan.things:
            return None
        able = self._config.engine.name != "none"
        with self._clock.time("perceive"):
            perception = perceive.perceive(
                self._networks,
                plan.frame,
                look_at_stuff=plan.stuff and able,
                look_at_things=plan.labels is None and able,
                config=self._config,
            )
            if plan.labels is None:
                return perception
            return perceive.from_labels(*plan.labels, plan.frame, perception)

    def follow(
        self, plan: Plan, perception: Perception | None, asked: Mapping[int, Action] | None = None
    ) -> Seen:
        """Go on with all that lasts longer than a frame: `push`'s last part."""
        config, clock, frame = self._config, self._clock, plan.frame
        last = self._state
        if plan.cut:
            begun = track.initial(last.tracks.next_id)
            last = replace(last, motion=motion.initial(), tracks=begun, judge=judge.initial(), last_tracks=())
        stuff = perception.stuff if plan.stuff and perception is not None else last.stuff
        with clock.time("motion"):
            blocked = self._blocked(plan, perception, last.last_tracks)
            moved, camera = motion.step(last.motion, frame, blocked)
        with clock.time("track"):
            tracks, followed = track.step(last.tracks, perception, moved, frame, config.track)
        with clock.time("judge"):
            verdicts, judged = judge.step(
                last.judge,
                tracks,
                stuff,
                self._relation,
                config.judge,
                frame,
                still=self._still,
                asked=asked or {},
            )
        self._state = replace(
            plan.after, motion=camera, tracks=followed, judge=judged, last_tracks=tracks, stuff=stuff
        )
        return Seen(
            frame=frame,
            index=frame.index,
            time=frame.time,
            shot=plan.after.shot,
            motion=moved,
            tracks=tracks,
            verdicts=verdicts,
            things=label_map(tracks, perceive.working_size(config, frame)),
            stuff=stuff,
            mask=plan.mask,
            after=self._state,
        )

    def _blocked(self, plan: Plan, perception: Perception | None, last: Sequence[Track]) -> Mask:
        """Pixels no background corner may lie on: every thing that might move, and the user's mask."""
        masks: Sequence[Mask]
        if perception is None:
            masks = [each.instance.mask for each in last]
        else:
            masks = [each.mask for each in perception.instances]
        height, width = perceive.working_size(self._config, plan.frame)
        blocked = np.zeros((height, width), bool)
        for each in masks:
            if each.shape == blocked.shape:
                blocked |= each
            else:  # the user's labelled masks keep a resolution of their own
                blocked |= (
                    cv2.resize(each.astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA) > 0
                )
        if plan.mask is not None:
            small = cv2.resize(plan.mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA)
            blocked |= small > 0
        return blocked


def label_map(tracks: Iterable[Track], working: tuple[int, int]) -> NDArray[np.uint16]:
    """Draw the tracks' masks as their ids, uint16 at the masks' own resolution; smaller things lie on top."""
    tracks = list(tracks)
    things = np.zeros(tracks[0].instance.mask.shape if tracks else working, np.uint16)
    for each in sorted(tracks, key=lambda one: -one.area):
        things[each.instance.mask] = each.id
    return things
