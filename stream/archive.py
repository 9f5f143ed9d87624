"""Long memory: keyframes of this run, of every shot, kept compressed within a fixed number of bytes.

The plate of a shot forgets and its chain of motions drifts; these are found again by what they show. A
keyframe is taken about once a second while the view changes; on a resting camera at growing intervals, and
when something is uncovered that no keyframe of that view has shown. It is described and compressed in the
frames that follow, a step in each, so that none of them waits for all of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from models.words import Features, bag, load_words
from stream.arrays import Bytes, Float, u8
from stream.geometry import corner_motion
from stream.places import EVERYONE, Picture, describe_place, keep, most_redundant
from stream.planes import to_rgb
from stream.plate import Labels, Memory
from stream.pose import View, by_chain

_EVERY = 1.0
_SOONEST = 0.5
_REFRESH = 60.0
_MOVED = 0.3
_NEW = 0.02
_MOST = 400
_OF_A_VIEW = 16


@dataclass(frozen=True, slots=True)
class Last:
    """The newest keyframe: when, since when the camera rests, and what its keyframes have shown (0 or 1)."""

    shot: int
    view: View
    seconds: float
    since: float
    shown: Bytes


@dataclass(frozen=True, slots=True)
class Making:
    """A keyframe that is not in the archive yet, and what is known of it so far."""

    memory: Memory
    shot: int
    labels: Labels
    features: Features | None = None
    words: Float | None = None


@dataclass(frozen=True)
class Archive:
    """Keyframes in the order in which they were taken; never more than `budget` bytes.

    `making`: the newest, which is described and compressed step by step.
    """

    budget: int
    pictures: tuple[Picture, ...] = ()
    last: Last | None = None
    making: Making | None = None

    @property
    def nbytes(self) -> int:
        """Memory held by the keyframes."""
        return sum(each.nbytes for each in self.pictures)


def observe(archive: Archive, memory: Memory, shot: int) -> Archive:
    """Take a remembered frame into the archive if it shows what is not there yet; frames come in order.

    What was taken before is worked on: it is among the pictures two frames later, or once `finished`.
    """
    archive = _stepped(archive)
    clear = _clear(memory)
    last = archive.last
    resting = last is not None and last.shot == shot and last.view.pose == memory.view.pose
    began = memory.seconds
    if last is not None and last.shot == shot:
        since = memory.seconds - last.seconds
        if resting:
            # Several of each view: a passer-by who was overlooked in one is outvoted by the others.
            began = last.since
            due = since > min(_REFRESH, max(_EVERY, 0.5 * (memory.seconds - began)))
            fresh = np.count_nonzero(clear & (1 - last.shown)) > _NEW * clear.size
            if not due and not (fresh and since >= _EVERY):
                return archive
            clear = u8(clear | last.shown)
        elif since < _EVERY and (since < _SOONEST or not _elsewhere(last.view, memory)):
            return archive
    labels = memory.labels
    if memory.masked is not None:
        labels = np.where(memory.masked > 0, np.uint16(EVERYONE), labels)
    now = Last(shot, _bare(memory.view), memory.seconds, began, clear)
    return replace(finished(archive), last=now, making=Making(memory, shot, labels))


def finished(archive: Archive) -> Archive:
    """The archive with the keyframe that is being made among its pictures."""
    while archive.making is not None:
        archive = _stepped(archive)
    return archive


def _stepped(archive: Archive) -> Archive:
    """One step of making a keyframe, each about a third of the work: its features, their words, the rest."""
    making = archive.making
    if making is None:
        return archive
    memory = making.memory
    if making.features is None:
        size = memory.frame.width, memory.frame.height
        found = describe_place(memory.grey, making.labels, size)
        return replace(archive, making=replace(making, features=found))
    if making.words is None:
        return replace(archive, making=replace(making, words=bag(making.features, load_words())))
    picture = keep(
        to_rgb(memory.frame),
        making.labels,
        seconds=memory.seconds,
        shot=making.shot,
        view=_bare(memory.view),
        described=(making.features, making.words),
    )
    pictures = _few_of_a_view([*archive.pictures, picture])
    held = sum(each.nbytes for each in pictures)
    while pictures and (held > archive.budget or len(pictures) > _MOST):
        gone = pictures.pop(most_redundant(pictures))
        held -= gone.nbytes
    return replace(archive, pictures=tuple(pictures), making=None)


def _bare(view: View) -> View:
    """A view without the corners and the dense motion that only its neighbours in time need."""
    motion = view.motion
    few = replace(motion, corners=motion.corners[:0], ids=motion.ids[:0], near=motion.near[:0])
    return replace(view, motion=few, parallax=None)


def _few_of_a_view(pictures: list[Picture]) -> list[Picture]:
    """Without the picture of a resting camera that has the nearest neighbours in time, when it has many."""
    same = [index for index, each in enumerate(pictures) if _same_view(each, pictures[-1])]
    if len(same) > _OF_A_VIEW:
        seconds = np.array([pictures[index].seconds for index in same])
        del pictures[same[1 + int(np.argmin(seconds[2:] - seconds[:-2]))]]
    return pictures


def _same_view(one: Picture, other: Picture) -> bool:
    return (
        one.shot == other.shot
        and one.view is not None
        and other.view is not None
        and one.view.pose == other.view.pose
    )


def _clear(memory: Memory) -> Bytes:
    """1 where no thing is, at an eighth of the frame."""
    cover = (memory.labels > 0).astype(np.uint8)
    if memory.masked is not None:
        cover |= memory.masked
    small = cv2.resize(cover * np.uint8(255), memory.small.shape[1::-1], interpolation=cv2.INTER_AREA)
    return u8((np.asarray(small) == 0).astype(np.uint8))


def _elsewhere(view: View, memory: Memory) -> bool:
    """Whether the camera has turned far since `view`."""
    width = memory.frame.width
    moved = corner_motion(by_chain(view, memory.view), width, memory.frame.height)
    return not moved < _MOVED * width
