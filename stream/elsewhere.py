"""Background seen elsewhere: by keyframes of long ago and of other shots, or by the user's pictures.

Asked only for what the plate of the shot has never seen. A picture is found by its visual words, laid over
the frame, and believed if it agrees with the frame around the hole; from then on it is carried along with the
camera and only checked now and then, so that the same picture goes on serving while it fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from models.words import bag, load_words
from stream import align, geometry
from stream.aligned import Aligned, Question, Refused, bring, check, lay, shows
from stream.archive import Archive, finished, observe
from stream.arrays import Bytes, u8
from stream.boxes import Box
from stream.geometry import Homography, Points
from stream.places import EVERYONE, Picture, similarities
from stream.plate import Memory, Plate, scale_to
from stream.pose import View, by_chain
from stream.types import REFERENCE, SEEN, Frame, Hole, Image

_CHECK = 0.5
_SOON = 0.25
_CHECK_RESTING = 2.0
_LONGEST_WAIT = 8.0
_TRIES = 4
_MOST = 4
_ENOUGH = 3
_DRIFT = 250
_REDUCED = 3

_NOT_NEEDED = "not needed: the clip itself or other pictures showed what was behind"
_REASONS: dict[Refused, str] = {
    "place": "it shows another place, or the same place too differently",
    "view": "it was taken from where the view is too different",
    "changed": "around the hole it does not look like the clip",
    "useless": "it does not show what is missing, or something stands before it",
}
_STAGES = tuple(_REASONS)


@dataclass(frozen=True, slots=True)
class Use:
    """What became of one of the user's files: how many pixels it gave, and why or why not."""

    file: str
    pixels: int
    used: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """Pixels of a box: `rgb` uint8, `origin` uint8: SEEN, REFERENCE, or 0 where there are none."""

    rgb: Image
    origin: Bytes


class Elsewhere:
    """The archive of this run and the user's references, asked hole by hole.

    Frames are observed and filled in order; the state is the pictures that lie over the shot at hand.
    """

    def __init__(self, budget: int, references: Sequence[Picture] = ()) -> None:
        self.archive = Archive(budget)
        self._references = tuple(references)
        self._aligned: tuple[Aligned, ...] = ()
        self._stretch = (-1, 0)
        self._next = 0.0
        self._wait = _SOON
        self._given: dict[str, int] = {}
        self._points: dict[str, int] = {}
        self._refused: dict[str, Refused] = {}

    @property
    def state(self) -> dict[str, object]:
        """Everything that changes, by name: what must be saved for a run to go on from here."""
        return {name: value for name, value in vars(self).items() if name != "_references"}

    def restore(self, state: Mapping[str, object]) -> None:
        """Go on from a saved `state`; the references are those of this run."""
        vars(self).update(state)

    def observe(self, memory: Memory, shot: int) -> None:
        """Take the newest remembered frame into the archive if it shows something new."""
        if self.archive.budget > 0:
            self.archive = observe(self.archive, memory, shot)

    def recall(
        self,
        frame: Frame,
        shot: int,
        plate: Plate,
        hole: Hole,
        box: Box,
        patch: Image,
        unseen: Bytes,
        forbidden: Iterable[int],
    ) -> Found | None:
        """What other pictures show of the `unseen` pixels (uint8 0 or 1) of `box`; None when nothing.

        `patch`: the box with what is known of the hole laid in. `forbidden`: ids of tracks that are never
        background.
        """
        view, memory = plate.view(frame.index), plate.memory(frame.index)
        known = self.archive.last is not None or self._references
        if view is None or memory is None or not known:
            return None
        if (shot, view.leg) != self._stretch:
            self._stretch, self._aligned, self._next, self._wait = (shot, view.leg), (), 0.0, _SOON
        count = cv2.countNonZero(unseen)
        worth = count > 0.002 * frame.width * frame.height or (
            count > 64 and count > 0.03 * cv2.countNonZero(hole.alpha)
        )
        if count == 0 or not (worth or self._aligned):
            return None
        question = Question(frame, view, memory, hole, box, patch, unseen, frozenset(forbidden))
        carried = [self._carried(each, question) for each in self._aligned]
        self._aligned = tuple(each for each in carried if each is not None)
        if worth and question.seconds >= self._next:
            before = len(self._aligned)
            lacking = self._lacking(question)
            if lacking:
                self._search(question, plate)
            vain = lacking and len(self._aligned) == before
            self._wait = min(2 * self._wait, _LONGEST_WAIT) if vain else _SOON
            self._next = question.seconds + (self._wait if vain else _CHECK)
        return self._shown(question) if self._aligned else None

    def told(self) -> tuple[Use, ...]:
        """What became of each of the user's files, in the order in which they were read."""
        uses = []
        for file in dict.fromkeys(each.file for each in self._references):
            pixels = self._given.get(file, 0)
            reason = _NOT_NEEDED
            if pixels:
                reason = f"{self._points[file]} points agree"
            elif file in self._refused:
                reason = _REASONS[self._refused[file]]
            uses.append(Use(file, pixels, pixels > 0, reason))
        return tuple(uses)

    def _carried(self, aligned: Aligned, question: Question) -> Aligned | None:
        """Keep a laid picture for this frame; check it again when it is time."""
        resting = aligned.view.pose == question.view.pose
        after = _CHECK_RESTING if resting else (2 * _CHECK if aligned.steady else _CHECK)
        if question.seconds - aligned.checked >= after:
            return self._believed(aligned.picture, check(aligned, question, sharpen=not resting))
        if aligned.ids != question.forbidden:
            own = aligned.picture.covered(question.forbidden)
            return replace(aligned, own=own, cover=u8(aligned.cover | own), ids=question.forbidden)
        return aligned

    def _lacking(self, question: Question) -> bool:
        """Whether part of what is missing is shown by no laid picture."""
        left = np.ones(len(question.samples), bool)
        for each in self._aligned:
            left &= ~shows(each, question)
        return len(self._aligned) < _MOST and float(left.mean()) > 0.05

    def _search(self, question: Question, plate: Plate) -> None:
        """Look for pictures that show what is missing and lay them over the frame."""
        self.archive = finished(self.archive)
        # What the plate still remembers it has been asked about, and knows better.
        asked = {each.index for each in plate.memories}
        times = np.zeros(len(question.samples), np.int64)
        for each in self._aligned:
            times += shows(each, question)
        words = bag(question.features, load_words())
        for pool in (self.archive.pictures, self._references):
            known = {self._stretch: (question.view, np.eye(3))}
            tries = 0
            for k in np.argsort(-similarities(pool, words), kind="stable"):
                enough = len(self._aligned) == _MOST or times.min() >= _ENOUGH
                if enough or tries == _TRIES:
                    break
                picture = pool[k]
                guess = _guess(picture, known)
                if any(each.picture is picture for each in self._aligned):
                    continue
                if picture.view is not None and picture.view.index in asked:
                    continue
                if guess is not None and not _may_show(picture, guess, question, times < _ENOUGH):
                    continue
                tries += 1
                fit = align.match(picture.features, question.features, *question.size)
                if fit is not None and picture.view is not None:
                    known[picture.shot, picture.view.leg] = picture.view, fit.forward
                if fit is None and guess is not None:
                    # Too few features, but the motion since a keyframe that fits says where it lies.
                    fit = align.Fit(guess, 0)
                laid = self._believed(picture, "place" if fit is None else lay(picture, fit, question))
                if laid is not None:
                    self._aligned = (*self._aligned, laid)
                    times += shows(laid, question)
        self._aligned = tuple(sorted(self._aligned, key=lambda each: each.error))

    def _believed(self, picture: Picture, outcome: Aligned | Refused) -> Aligned | None:
        """Note what became of a picture, for the report."""
        if isinstance(outcome, Aligned):
            if picture.file:
                self._points[picture.file] = max(outcome.points, self._points.get(picture.file, 0))
            return outcome
        last = self._refused.get(picture.file)
        if last is None or _STAGES.index(outcome) > _STAGES.index(last):
            self._refused[picture.file] = outcome
        return None

    def _shown(self, question: Question) -> Found:
        """Bring the laid pictures into the box, each pixel from the one that most others agree with."""
        found = Found(np.zeros_like(question.patch), np.zeros_like(question.unseen))
        x, y, w, h = cv2.boundingRect(question.unseen)
        missing = question.unseen[y : y + h, x : x + w].copy()
        left, top = question.box[0] + x, question.box[1] + y
        choice = np.zeros((h, w), np.int8)
        if len(self._aligned) > 1:
            few = [bring(e, question, (left, top, left + w, top + h), _REDUCED) for e in self._aligned]
            lines = question.frame.height / 360 / _REDUCED
            reduced = _choose([rgb for rgb, _ in few], [valid for _, valid in few], lines)
            choice = np.asarray(cv2.resize(reduced, (w, h), interpolation=cv2.INTER_NEAREST), np.int8)
        # Each where it was chosen; then, in order, where the chosen one ends a pixel too early.
        turns = [(each, choice == k) for k, each in enumerate(self._aligned)]
        turns += [(each, ~mine) for each, mine in turns]
        for each, mine in turns:
            wanted = u8(mine.astype(np.uint8) & missing)
            px, py, pw, ph = cv2.boundingRect(wanted)
            if pw == 0:
                continue
            box = left + px, top + py, left + px + pw, top + py + ph
            rgb, valid = bring(each, question, box)
            part = slice(py, py + ph), slice(px, px + pw)
            take = (wanted[part] & valid) > 0
            missing[part][take] = 0
            self._give(found, each, (slice(y + py, y + py + ph), slice(x + px, x + px + pw)), rgb, take)
        return found

    def _give(
        self, found: Found, aligned: Aligned, part: tuple[slice, slice], rgb: Image, take: NDArray[np.bool_]
    ) -> None:
        found.rgb[part][take] = rgb[take]
        file = aligned.picture.file
        found.origin[part][take] = REFERENCE if file else SEEN
        if file:
            self._given[file] = self._given.get(file, 0) + int(np.count_nonzero(take))


def _guess(picture: Picture, known: dict[tuple[int, int], tuple[View, Homography]]) -> Homography | None:
    """Where a keyframe should lie by the camera's motion since one of its stretch whose place is known."""
    if picture.view is None or (picture.shot, picture.view.leg) not in known:
        return None
    view, forward = known[picture.shot, picture.view.leg]
    if abs(picture.view.pose - view.pose) > _DRIFT:
        return None
    return np.asarray(forward @ by_chain(picture.view, view), np.float64)


def _may_show(picture: Picture, forward: Homography, question: Question, wanted: NDArray[np.bool_]) -> bool:
    """Whether a picture laid so would show more than a twentieth of the wanted samples."""
    points: Points = question.samples[wanted]
    if not align.possible(forward, picture.size, *question.size):
        return False
    at = geometry.apply(geometry.inverse(forward), points)
    w, h = picture.size
    at = at[(at >= 0).all(1) & (at[:, 0] <= w - 1) & (at[:, 1] <= h - 1)]
    coarse = np.rint(geometry.apply(scale_to(picture.coarse.shape, w, h), at)).astype(int)
    x = np.clip(coarse[:, 0], 0, picture.coarse.shape[1] - 1)
    y = np.clip(coarse[:, 1], 0, picture.coarse.shape[0] - 1)
    hidden = np.isin(picture.coarse[y, x], [EVERYONE, *question.forbidden])
    return bool(np.count_nonzero(~hidden) > 0.05 * len(points))


def _choose(pictures: Sequence[Image], valid: Sequence[Bytes], lines: float) -> NDArray[np.int8]:
    """Per pixel the picture that the others support most, earlier ones first; -1 where none is valid."""
    choice = np.full(valid[0].shape, -1, np.int8)
    if len(pictures) == 1:
        choice[valid[0] > 0] = 0
        return choice
    sigma = max(1.0, 2.5 * lines)
    smooth = [cv2.GaussianBlur(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), (0, 0), sigma) for p in pictures]
    # A head start for the earlier ones: without good reason the choice does not change from frame to frame.
    costs = [np.full(choice.shape, 6 * k, np.uint8) for k in range(len(pictures))]
    for i in range(len(pictures)):
        for j in range(i + 1, len(pictures)):
            apart = np.minimum(cv2.absdiff(smooth[i], smooth[j]), 40) * (valid[i] & valid[j])
            costs[i] += apart
            costs[j] += apart
    best = np.full(choice.shape, 255, np.uint8)
    for k, cost in enumerate(costs):
        better = (cost < best) & (valid[k] > 0)
        best[better], choice[better] = cost[better], k
    return choice
