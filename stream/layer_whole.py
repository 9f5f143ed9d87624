"""The layers of a frame: everything in it in its order, and whole where something else hides it."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np

from configs.schema import Config
from stream import deocclude, order, pipeline
from stream.arrays import Bytes
from stream.completer import open_completer, witness
from stream.hole import enlarge
from stream.matting import Cut, Layer, by_foot, take_apart
from stream.squares import Answer, Network
from stream.types import Filled, Image, Mask, Track


class Wholes:
    """What is in front of what, and what is hidden of each thing; the analysis is ahead of the fill.

    `observe` is called by the one thread, `complete` by the other; what they share is replaced as a whole.
    """

    def __init__(self, config: Config, *, clip: bool) -> None:
        self._config = config
        self._clip = clip
        self._network: Network | None = None
        self._asked = threading.Lock()
        self._orders: dict[int, tuple[int, order.Order]] = {}
        self._order = order.initial()
        self._seen: dict[int, deocclude.DeoccludeState] = {}
        self._past = deocclude.initial()

    def observe(self, seen: pipeline.Seen) -> None:
        """Take note of the newest frame."""
        assert seen.frame is not None
        if seen.shot not in self._seen:
            self._order = order.initial()
            self._seen[seen.shot] = deocclude.initial()
        rgb = seen.frame.rgb

        def judge_pair(back: Track, front: Track) -> float:
            return witness(rgb, self._ask)(back, front)

        look = judge_pair if self._may_ask else None
        found, self._order = order.step(self._order, seen.tracks, seen.frame.height, look)
        self._orders[seen.index] = seen.shot, found
        every = [each.id for each in seen.tracks]
        self._seen[seen.shot] = deocclude.observe(
            self._seen[seen.shot], rgb, seen.index, seen.tracks, found, every
        )

    def complete(self, filled: Filled) -> tuple[tuple[int, ...], tuple[deocclude.Completed, ...]]:
        """Ids of the things of a frame from front to back, and those that are hidden in part made whole."""
        before = filled.before
        shot, found = self._orders.pop(before.index)
        for old in [each for each in self._seen if each < shot]:
            del self._seen[old]
        past = self._past
        state = replace(self._seen[shot], used=past.used, tried=past.tried, drawn=past.drawn)
        every = [each.id for each in filled.tracks]
        done, self._past = deocclude.complete(
            state,
            before.rgb,
            before.index,
            filled.tracks,
            found,
            wanted=every,
            over=every,
            network=self._ask if self._may_ask else None,
            reach=self._config.hole.dilate,
            followed=self._clip,
        )
        return found.ids, done

    @property
    def _may_ask(self) -> bool:
        return self._config.fill.inpaint and self._config.engine.name != "none"

    def _ask(self, picture: Image, visible: Bytes, front: Bytes) -> Answer:
        """What the network says; opened when it is first asked, and asked by one thread at a time."""
        with self._asked:
            if self._network is None:
                self._network = open_completer(self._config)
            assert self._network is not None
            return self._network(picture, visible, front)


def layers_of(filled: Filled, hidden: Wholes) -> list[Layer]:
    """The layers of a frame, the rearmost first."""
    ids, completed = hidden.complete(filled)
    if filled.box is None:
        return []
    frame = filled.frame
    shape = frame.height, frame.width
    gone = {each.track for each in filled.verdicts if each.action == "remove"}
    masks = {
        each.id: enlarge(each.instance.mask, shape, (0, 0, frame.width, frame.height)) > 0
        for each in filled.tracks
        if each.id in gone
    }
    known = [number for number in reversed(ids) if number in masks]
    rest = [number for number in by_foot(masks) if number not in known]
    whole = {each.track: each for each in completed if each.confidence >= deocclude.ENOUGH}
    things = [_cut(number, masks[number], whole.get(number)) for number in (*rest, *known)]
    replaced = np.zeros(shape, bool)
    x0, y0, x1, y1 = filled.box
    replaced[y0:y1, x0:x1] = filled.origin > 0
    return take_apart(filled.before.rgb, frame.rgb, replaced, things)


def _cut(number: int, mask: Mask, whole: deocclude.Completed | None) -> Cut:
    if whole is None:
        return Cut(number, mask)
    x0, y0, x1, y1 = whole.box
    amodal, colours = np.zeros(mask.shape, bool), np.zeros((*mask.shape, 3), np.uint8)
    amodal[y0:y1, x0:x1], colours[y0:y1, x0:x1] = whole.amodal, whole.rgb
    return Cut(number, mask, amodal, colours)
