"""The first half of the way: a frame in, everything out that must be known before a hole can be filled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from stream import judge, motion, perceive, shots, track
from stream.clock import Clock
from stream.types import Action, Frame, Mask, Motion, Perception, Track, Verdict


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


class Analysis:
    """Frames in, one `Seen` each out: everything that must be known before a hole can be filled.

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
        state = state or initial()
        self._motion, self._tracks, self._judge, self._shots = (
            state.motion,
            state.tracks,
            state.judge,
            state.shots,
        )
        self._last_tracks = state.last_tracks
        self._since = state.since
        self._shot = state.shot
        self._stuff = state.stuff
        self._looked_at = state.looked_at
        self.cuts = list(state.cuts)

    def configure(self, config: Config, relation: judge.Relation) -> None:
        """Go on with other settings from the next frame on; `perceive.size` and the models cannot change."""
        self._config, self._relation = config, relation

    def push(
        self,
        frame: Frame,
        mask: Mask | None = None,
        labels: tuple[NDArray[np.uint16], dict[int, str]] | None = None,
        asked: Mapping[int, Action] | None = None,
    ) -> Seen:
        """Analyse the next frame; `mask` and `labels` are the user's, in frame size.

        `asked`: what the user says of single tracks, by id; it is stronger than every rule.
        """
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
                self._judge,
                tracks,
                self._stuff,
                self._relation,
                config.judge,
                frame,
                still=self._still,
                asked=asked or {},
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
            after=self._state(),
        )

    def _state(self) -> AnalysisState:
        return AnalysisState(
            motion=self._motion,
            tracks=self._tracks,
            judge=self._judge,
            shots=self._shots,
            last_tracks=self._last_tracks,
            since=self._since,
            shot=self._shot,
            stuff=self._stuff,
            looked_at=self._looked_at,
            cuts=tuple(self.cuts),
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


def label_map(tracks: Iterable[Track], working: tuple[int, int]) -> NDArray[np.uint16]:
    """Draw the tracks' masks as their ids, uint16 at the masks' own resolution; smaller things lie on top."""
    tracks = list(tracks)
    things = np.zeros(tracks[0].instance.mask.shape if tracks else working, np.uint16)
    for each in sorted(tracks, key=lambda one: -one.area):
        things[each.instance.mask] = each.id
    return things
