"""One frame's view of one thing: how far it leans to going, and the reason in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from configs.schema import Judge as JudgeConfig
from stream import wording
from stream.types import Frame, Track

ANIMATE = frozenset(
    {
        "person",
        "bird",
        "cat",
        "dog",
        "horse",
        "sheep",
        "cow",
        "elephant",
        "bear",
        "zebra",
        "giraffe",
    }
)
"""Classes that never hold quite still: they are no source for what is behind others."""

OWN_TRAVEL = 0.3
"""A thing that has come this many of its own sizes has moved: more than trembling boxes and gestures."""

_OWN_SPEED = 0.5
_NEWCOMER_SECONDS = 0.5
_RESTED_SECONDS = 1.5
_BORDER = 0.02
_STIRRED = 0.04
_UNDER_WAY = 0.08
_AS_LARGE = 0.35
_ALONE = 0.04


@dataclass(frozen=True, slots=True)
class Opinion:
    """`lean` in [-1, 1], above 0 = goes; `reason` continues a sentence that begins with the thing."""

    lean: float
    reason: str


@dataclass(frozen=True, slots=True)
class Context:
    """What surrounds a thing: classes for the relation, words for the reason, whether it is enough.

    `nothing`: no surroundings and fewer than two other things.
    """

    names: tuple[str, ...]
    words: str
    enough: bool
    nothing: bool = False


def context(each: Track, tracks: Sequence[Track], present: Sequence[str]) -> Context:
    """The other things and the stuff that is `present`; enough is some stuff or two other things.

    Things of the same class count as others, but a class cannot vouch for itself.
    """
    others = [other.label for other in tracks if other.id != each.id and other.confirmed]
    foreign = [label for label in others if label != each.label]
    names = (*dict.fromkeys(foreign), *present)
    words = wording.listed([*map(wording.stuff_word, present[:3]), *wording.thing_words(foreign)[:2]])
    nothing = not present and len(others) < 2
    return Context(names, words, enough=bool(present) or (not nothing and bool(foreign)), nothing=nothing)


def opinion(
    each: Track, passed: bool, relation: float, around: Context, config: JudgeConfig, frame: Frame
) -> Opinion:
    """The rules of `stream.judge` for a thing in a moving picture.

    `passed`: whether it has ever moved; `relation`: its mean relation so far, NaN without evidence.
    """
    outside = _size_limits(each, config)
    if outside is not None:
        return outside
    if not each.confirmed:
        return Opinion(0.0, "has only just been seen")
    if is_subject(each, config):
        followed = passed and each.speed > config.pass_speed
        how = "keeps the middle of the picture as it moves" if followed else "is what the picture is about"
        return Opinion(-min(1.0, 0.5 + 4 * (each.subject - config.subject)), how)
    if each.label in config.passers:
        passing = _passing(each, passed, config, frame)
        if passing is not None:
            return passing
    if _is_judged(each.label, config):
        return by_relation(each.label, relation, around, config.threshold)
    if each.label in config.passers:
        # That it rests is the surer the longer it has been seen and the less it has come; halfway to having
        # moved it is as likely that it passes.
        rests = min(1.0, each.age / _RESTED_SECONDS) * (1 - 2 * each.travel / OWN_TRAVEL)
        how = "rests in the picture and does not pass" if rests >= 0 else "has begun to move"
        return Opinion(-0.5 * rests, how)
    return Opinion(-1.0, f"stays: {wording.plural(each.label)} are not among what is to go")


def still_opinion(
    each: Track, relation: float, around: Context, config: JudgeConfig, tracks: Sequence[Track]
) -> Opinion:
    """The rules for a single picture, of whose motion nothing is known."""
    outside = _size_limits(each, config)
    if outside is not None:
        return outside
    if is_subject(each, config):
        return Opinion(-1.0, "is what the picture is about")
    if each.label in config.passers and each.label in ANIMATE:
        largest = max((other.area for other in tracks if is_subject(other, config)), default=0.0)
        if largest > 0 and each.area >= _AS_LARGE * largest:
            return Opinion(-1.0, "is as large in the picture as its subject")
        alive = max(other.area for other in tracks if other.label in ANIMATE)
        if config.keep_subject and largest == 0 and each.area >= max(_ALONE, _AS_LARGE * alive):
            return Opinion(-1.0, "is the largest in a picture without a subject in its middle")
        if around.nothing:
            return Opinion(-0.3, f"stays: too little is seen around this {each.label} to judge it")
        said = (
            "is not what the picture is about"
            if largest > 0
            else "is too small or too far aside to be its subject"
        )
        return Opinion(1.0, said)
    if _is_judged(each.label, config):
        return by_relation(each.label, relation, around, config.threshold)
    return Opinion(-1.0, f"stays: {wording.plural(each.label)} are not among what is to go")


def paper_opinion(each: Track, relation: float, around: Context, config: JudgeConfig) -> Opinion:
    """The rule of ICIP 2019 for one frame: mean cosine below the threshold goes if it is large enough."""
    outside = _size_limits(each, config)
    if outside is not None:
        return outside
    if not _is_judged(each.label, config):
        return Opinion(-1.0, f"stays: {wording.plural(each.label)} are not among what is to go")
    return by_relation(each.label, relation, around, config.threshold)


def by_relation(label: str, relation: float, around: Context, threshold: float) -> Opinion:
    """Below the threshold goes, the farther the surer; without evidence it stays."""
    if math.isnan(relation):
        return Opinion(-0.3, f"stays: too little is seen around this {label} to judge it")
    lean = max(-1.0, min(1.0, (threshold - relation) / 0.1))
    if relation < threshold:
        return Opinion(max(lean, 0.2), wording.foreign(label, around.words, relation, threshold))
    return Opinion(min(lean, -0.2), wording.fits(label, around.words, relation, threshold))


def is_subject(each: Track, config: JudgeConfig) -> bool:
    """Whether this is what the picture is about."""
    return config.keep_subject and each.subject >= config.subject


def _is_judged(label: str, config: JudgeConfig) -> bool:
    if config.by_relation is None:
        return label not in config.passers
    return label in config.by_relation


def _size_limits(each: Track, config: JudgeConfig) -> Opinion | None:
    share = f"{each.area:.1%} of the picture"
    if each.area < config.min_area:
        return Opinion(-1.0, f"is too small to matter ({share} < {config.min_area:.1%})")
    if each.area > config.max_area:
        return Opinion(-1.0, f"is too large to remove ({share} > {config.max_area:.1%})")
    return None


def _passing(each: Track, passed: bool, config: JudgeConfig, frame: Frame) -> Opinion | None:
    x0, y0, x1, y1 = each.instance.box
    size = max(x1 - x0, y1 - y0, 1.0) / frame.width
    tail = " and is not its subject" if config.keep_subject else ""
    if passed and each.speed >= min(config.pass_speed, _OWN_SPEED * size):
        return Opinion(1.0, f"passes through the picture ({each.speed:.2f} widths/s){tail}")
    if passed:
        return Opinion(0.6, f"has passed through the picture before it stopped{tail}")
    if each.speed >= 1.5 * config.pass_speed and each.travel >= _UNDER_WAY:
        return Opinion(0.6, f"moves through the picture ({each.speed:.2f} widths/s){tail}")
    edge = _BORDER * frame.width
    at_border = x0 < edge or y0 < edge or x1 > frame.width - edge or y1 > frame.height - edge
    # A panning camera also brings what rests over the border, so it must have moved a little itself.
    if each.age < _NEWCOMER_SECONDS and each.first > 0 and at_border and each.travel > _STIRRED:
        return Opinion(0.3, "comes into the picture")
    return None
