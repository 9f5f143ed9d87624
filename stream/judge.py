"""What does not belong: verdicts that keep over a track's life, each with its reason in words.

The rules, in their order; the first that applies decides:

1. `--remove` and `--keep` are final. A rule for one thing (`class@x,y`) is stronger than one for a class, and
   keeping is stronger than removing. A point means the thing that covers it when one first does.
2. What is carried (bags, umbrellas, boards, balls) shares the verdict of who carries it; what is ridden
   that of its rider. People and animals who keep beside the subject stay with it.
3. Things outside `min_area..max_area` stay.
4. The subject stays (`keep_subject`): large, central and steady in the picture for most of the time, where
   steady means that it keeps its place or that the camera follows it.
5. A passer (`passers`) goes once it passes: it moves against the background faster than `pass_speed` or
   half its own height a second, and has come a third of its own size; or comes in over the picture's border.
   One who has passed and then stands still goes too.
6. A passer who rests all the time and is not the subject stays: nobody has seen what is behind, and who
   sits there belongs to the place. In a single picture nothing is known of motion: there people and animals
   who are not the subject, nor as large as the subject, go.
7. What is judged by relation (`by_relation`) goes when its relation to the other things and the surroundings,
   averaged over the track's life, is below `threshold`. Without surroundings and with fewer than two other
   things there is no evidence, and it stays.
8. All else stays.

Each frame's answer is a lean in [-1, 1]; verdicts follow its average over `memory_seconds`, and change only
when that average is clearly on the other side. The rule `paper` without passers (ICIP 2019)
judges each frame on its own, by relation and area alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from configs.schema import Judge as JudgeConfig
from models.labels import STUFF_NAMES
from stream import groups, opinions
from stream.groups import COMPANY_SECONDS, Company, Link
from stream.opinions import ANIMATE, OWN_TRAVEL, Context, Opinion
from stream.rules import Rule, bind, check_classes, parse_rules, wish
from stream.types import Action, Frame, Track, Verdict

__all__ = ["JudgeState", "Relation", "check", "forbidden", "initial", "open_relation", "parse_rules", "step"]

_EVIDENCE_SECONDS = 6.0
_FIRST_MARGIN = 0.1
_LATER_MARGIN = 0.3
_STUFF_SECONDS = 2.5
_FORGET_SECONDS = 30.0
_PARKED_SPEED = 0.02
_UNSETTLED_SECONDS = 6.0
_UNSETTLED_SUBJECT = 0.5
_HARDLY = 0.5 * OWN_TRAVEL
"""Own sizes below which something has hardly moved."""

_STOOD_SECONDS = 2.0
"""How long something must be known to have got about so little that it stands."""


class Relation(Protocol):
    """What the judge asks of `models.relation`."""

    def score(self, thing: str, others: Sequence[str]) -> float:
        """How well a thing fits the other classes of its picture, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of one track.

    `action` and the latest reason for each; `lean`, the average opinion over `seconds`; `relation`, the mean
    relation over `related` seconds, NaN before any evidence; whether it ever `passed` and is the `subject`.
    """

    action: Action = "keep"
    reasons: Mapping[Action, str] = field(default_factory=dict)
    lean: float = 0.0
    seconds: float = 0.0
    relation: float = math.nan
    related: float = 0.0
    passed: bool = False
    subject: bool = False
    seen: float = 0.0


@dataclass(frozen=True)
class JudgeState:
    """What must be known of the past; `bound` maps a rule for one thing to the track it means."""

    memories: Mapping[int, Memory] = field(default_factory=dict)
    links: Mapping[int, Link] = field(default_factory=dict)
    companies: Mapping[int, Company] = field(default_factory=dict)
    stuff: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    time: float = math.nan
    bound: Mapping[int, int] = field(default_factory=dict)


def initial() -> JudgeState:
    """The state before the first frame of a shot."""
    return JudgeState()


def check(config: JudgeConfig) -> None:
    """Raise `UsageError` for an unknown class in rules, passers or by_relation, before any work is done."""
    parse_rules(config.remove, config.keep)
    check_classes(config.passers, "judge.passers")
    check_classes(config.by_relation or (), "judge.by_relation")


def open_relation(config: JudgeConfig) -> Relation:
    """The relation table for the configured rule."""
    from models.relation import load_relation

    return load_relation(rule=config.rule)


def step(
    state: JudgeState,
    tracks: Sequence[Track],
    stuff: NDArray[np.float32],
    relation: Relation,
    config: JudgeConfig,
    frame: Frame,
    *,
    still: bool = False,
    asked: Mapping[int, Action] | None = None,
) -> tuple[tuple[Verdict, ...], JudgeState]:
    """Decide on every track of this frame.

    `stuff`: float32 (91,), latest probabilities of the surroundings, or empty when nobody looked. `still`:
    the frame is a single picture, so nothing is known of motion. `asked`: the user's word for single tracks,
    by id. Raises `UsageError` for an unknown class.
    """
    rules = parse_rules(config.remove, config.keep)
    time = float(frame.time)
    pause = min(max(time - state.time, 0.0), 0.5) if not math.isnan(state.time) else 0.0
    surroundings = _average(state.stuff, stuff, pause)
    seen = [(name, p) for name, p in zip(STUFF_NAMES, surroundings, strict=False) if p >= config.stuff]
    present = [name for name, _ in sorted(seen, key=lambda pair: -pair[1])]
    plain = config.rule == "paper" and not config.passers
    at_once = still or plain
    if at_once:  # a picture on its own has nothing else to confirm a thing by
        tracks = [replace(each, confirmed=True) for each in tracks]
    memories = {key: value for key, value in state.memories.items() if time - value.seen <= _FORGET_SECONDS}
    subjects = {each.id for each in tracks if opinions.is_subject(each, config)}
    companies = groups.accompany(state.companies, tracks, subjects, ANIMATE, time)
    scores: dict[tuple[str, tuple[str, ...]], float] = {}
    for each in tracks:
        around = opinions.context(each, tracks, present)
        memory = memories.get(each.id, Memory())
        score = math.nan
        if around.enough:
            key = (each.label, around.names)
            if key not in scores:
                scores[key] = relation.score(*key)
            score = scores[key]
        memory = replace(
            _related(memory, score, pause, at_once=at_once),
            passed=memory.passed or each.travel >= OWN_TRAVEL,
            subject=each.id in subjects,
            seen=time,
        )
        company = companies.get(each.id)
        view = _view(each, memory, around, config, frame, tracks, still=still, plain=plain)
        if company is not None and time - company.since >= COMPANY_SECONDS and view.lean > 0:
            view = Opinion(-1.0, "goes with what the picture is about")
        if at_once:
            memories[each.id] = _decided_now(memory, view)
        else:
            memories[each.id] = _decided_slowly(memory, view, pause, config, each)
    links = groups.link(state.links, tracks, pause, at_once=at_once)
    bound = bind(state.bound, rules, tracks, frame)
    verdicts = _verdicts(tracks, memories, links, rules, bound, asked or {}, config)
    return verdicts, JudgeState(memories, links, companies, surroundings, time, bound)


def forbidden(tracks: Sequence[Track], verdicts: Sequence[Verdict]) -> set[int]:
    """Ids of tracks whose pixels must not be used to fill holes.

    What is removed, what is alive and what moves. A kept thing that stands is part of the scene.
    """
    removed = {verdict.track for verdict in verdicts if verdict.action == "remove"}
    return {each.id for each in tracks if each.id in removed or _is_moving(each)}


def _is_moving(each: Track) -> bool:
    # Who walks by hides now one part of what stands and now another: its box moves, but does not get away.
    stood = each.age >= _STOOD_SECONDS and each.ranged < _HARDLY
    moves = not stood and (each.speed > _PARKED_SPEED or each.travel > OWN_TRAVEL)
    return each.label in ANIMATE or moves


def _view(
    each: Track,
    memory: Memory,
    around: Context,
    config: JudgeConfig,
    frame: Frame,
    tracks: Sequence[Track],
    *,
    still: bool,
    plain: bool,
) -> Opinion:
    if plain:
        return opinions.paper_opinion(each, memory.relation, around, config)
    if still:
        return opinions.still_opinion(each, memory.relation, around, config, tracks)
    return opinions.opinion(each, memory.passed, memory.relation, around, config, frame)


def _average(old: NDArray[np.float32], new: NDArray[np.float32], pause: float) -> NDArray[np.float32]:
    """Surroundings averaged over a few seconds, so that one odd look does not change them."""
    if not len(new):
        return old
    if not len(old):
        return new
    gain = np.float32(1 - math.exp(-pause / _STUFF_SECONDS))
    return old + gain * (new - old)


def _related(memory: Memory, score: float, pause: float, *, at_once: bool) -> Memory:
    if at_once:
        return replace(memory, relation=score)
    if math.isnan(score):
        return memory
    if math.isnan(memory.relation):
        return replace(memory, relation=score, related=pause)
    seconds = min(memory.related + pause, _EVIDENCE_SECONDS)
    gain = pause / seconds if seconds > 0 else 0.0
    return replace(memory, relation=memory.relation + gain * (score - memory.relation), related=seconds)


def _decided_now(memory: Memory, view: Opinion) -> Memory:
    action: Action = "remove" if view.lean > 0 else "keep"
    return replace(memory, action=action, reasons={action: view.reason}, lean=view.lean)


def _decided_slowly(memory: Memory, view: Opinion, pause: float, config: JudgeConfig, each: Track) -> Memory:
    wanted: Action = "remove" if view.lean > 0 else "keep"
    reasons = {**memory.reasons, wanted: view.reason}
    if not each.confirmed:
        return replace(memory, reasons=reasons)
    step = max(pause, 1e-3)
    seconds = min(memory.seconds + step, config.memory_seconds)
    lean = memory.lean + step / seconds * (view.lean - memory.lean)
    # A young verdict yields easily, an old one only to evidence that is clear and lasts.
    margin = _FIRST_MARGIN + (_LATER_MARGIN - _FIRST_MARGIN) * seconds / config.memory_seconds
    action = memory.action
    if lean > margin:
        action = "remove"
    elif lean < -margin:
        action = "keep"
    return replace(memory, action=action, reasons=reasons, lean=lean, seconds=seconds)


def _verdicts(
    tracks: Sequence[Track],
    memories: Mapping[int, Memory],
    links: Mapping[int, Link],
    rules: Sequence[Rule],
    bound: Mapping[int, int],
    words: Mapping[int, Action],
    config: JudgeConfig,
) -> tuple[Verdict, ...]:
    decided: dict[int, tuple[Action, str]] = {}
    fixed: set[int] = set()
    for each in tracks:
        memory = memories[each.id]
        reason = memory.reasons.get(memory.action, "has only just been seen")
        asked = wish(each, rules, bound, words)
        if asked is not None:
            fixed.add(each.id)
        decided[each.id] = asked or (memory.action, reason)
    subjects = {each.id for each in tracks if memories[each.id].subject}
    shared = groups.share(tracks, decided, fixed, subjects, links)
    return tuple(
        Verdict(
            each.id,
            each.label,
            shared[each.id][0],
            memories[each.id].relation,
            shared[each.id][1],
            settled=each.id in fixed or _settled(each, shared[each.id][0], config),
            tentative=not each.confirmed and shared[each.id][0] == "keep" and each.id not in fixed,
        )
        for each in tracks
    )


def _settled(each: Track, action: Action, config: JudgeConfig) -> bool:
    """Whether a passer's verdict will hardly change.

    Who stays and has stirred may be about to pass, and who goes may stop in the middle to be what the picture
    is about. Who has become that by now will stay in a moment, however long he has been seen.
    """
    if each.label not in config.passers or not each.confirmed:
        return True
    if action == "remove" and opinions.is_subject(each, config):
        return False
    if each.age >= _UNSETTLED_SECONDS:
        return True
    # At this pace, will it have come far enough by then?
    if each.travel < max(_HARDLY, OWN_TRAVEL * each.age / _UNSETTLED_SECONDS):
        return True
    if action == "keep":
        return False
    stopped = each.speed < 2 * config.pass_speed
    return not (config.keep_subject and stopped and each.subject >= _UNSETTLED_SUBJECT * config.subject)
