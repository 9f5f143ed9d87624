"""Things that belong together and share one verdict: bag and bearer, rider and mount, who goes with whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stream.types import Action, Track

CARRIED = frozenset(
    {
        "backpack",
        "umbrella",
        "handbag",
        "tie",
        "suitcase",
        "frisbee",
        "skis",
        "snowboard",
        "sports ball",
        "kite",
        "baseball bat",
        "baseball glove",
        "skateboard",
        "surfboard",
        "tennis racket",
        "cell phone",
        "bottle",
        "cup",
        "book",
    }
)
RIDDEN = frozenset({"bicycle", "motorcycle", "horse", "elephant"})

COMPANY_SECONDS = 0.6
"""Who has kept beside the subject for so long belongs to it."""

_LINK_SECONDS = 0.4
_SURE_SECONDS = 1.0
_MOST_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Link:
    """A thing's owner and for how many seconds they have been seen together (less those apart)."""

    owner: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Company:
    """Who stays beside a subject: which one, since when, and how far away in pixels (x, y) it was then."""

    subject: int
    since: float
    apart: tuple[float, float]


def link(
    links: Mapping[int, Link], tracks: Sequence[Track], pause: float, *, at_once: bool
) -> dict[int, Link]:
    """Bring up to date who carries or rides what; a link holds once it is `_LINK_SECONDS` old."""
    people = [each for each in tracks if each.label == "person"]
    out = dict(links)
    for each in tracks:
        if each.label not in CARRIED and each.label not in RIDDEN and each.label != "person":
            continue
        owner = _whole(each, people) if each.label == "person" else _owner(each, people)
        old = out.get(each.id)
        if owner is None:
            if old is not None:
                out[each.id] = Link(old.owner, old.seconds - 0.5 * pause)
        elif old is not None and old.owner == owner:
            out[each.id] = Link(owner, min(old.seconds + pause, _MOST_SECONDS))
        elif old is None or old.seconds <= 0:
            out[each.id] = Link(owner, _LINK_SECONDS if at_once else pause)
        else:
            out[each.id] = Link(old.owner, old.seconds - pause)
    return out


def _owner(thing: Track, people: Sequence[Track]) -> int | None:
    """The person a thing goes with at this moment: they overlap as bag and bearer do, and move alike."""
    best, found = 0.0, None
    for person in people:
        score = _rides(thing, person) if thing.label in RIDDEN else _carries(thing, person)
        if score > best and _alike(thing, person):
            best, found = score, person.id
    return found


def _whole(part: Track, people: Sequence[Track]) -> int | None:
    """The larger person of whom this one seems to be the upper or lower part: stacked, and moving alike.

    A detector now and then sees legs and body as two; two people behind each other overlap far more.
    """
    x0, y0, x1, y1 = part.instance.box
    best, found = 0.0, None
    for other in people:
        bx0, by0, bx1, by1 = other.instance.box
        above = (max(y0, by0) - min(y1, by1)) / max(min(y1 - y0, by1 - by0), 1.0)
        across = (min(x1, bx1) - max(x0, bx0)) / max(min(x1 - x0, bx1 - bx0), 1.0)
        stacked = -0.3 < above < 0.15 and across > 0.7
        if (
            other.id != part.id
            and other.area > part.area
            and stacked
            and _alike(part, other)
            and other.area > best
        ):
            best, found = other.area, other.id
    return found


def _alike(first: Track, second: Track) -> bool:
    """Whether two things move over the background at about the same speed."""
    return abs(first.speed - second.speed) <= 0.5 * max(first.speed, second.speed) + 0.02


def _carries(thing: Track, person: Track) -> float:
    """Share of the thing's box inside the person's, grown by a fifth; 0 below six tenths."""
    x0, y0, x1, y1 = person.instance.box
    wide, high = 0.2 * (x1 - x0), 0.1 * (y1 - y0)
    share = _common(thing.instance.box, (x0 - wide, y0 - high, x1 + wide, y1 + high)) / _size(
        thing.instance.box
    )
    small = _size(thing.instance.box) < 0.6 * _size(person.instance.box)
    return share if share >= 0.6 and (small or thing.label in {"umbrella", "kite", "surfboard"}) else 0.0


def _rides(thing: Track, person: Track) -> float:
    """How much of the person's width is over the thing, if the person is above it and they overlap."""
    px0, py0, px1, py1 = person.instance.box
    tx0, ty0, tx1, ty1 = thing.instance.box
    over = max(0.0, min(px1, tx1) - max(px0, tx0)) / max(px1 - px0, 1.0)
    on_it = ty0 < py1 and py0 < ty0 + 0.4 * (ty1 - ty0) and py1 < ty1 + 0.15 * (ty1 - ty0)
    sized = 0.25 < (px1 - px0) / max(tx1 - tx0, 1.0) < 4 or (py1 - py0) > 0.5 * (ty1 - ty0)
    return over if over >= 0.6 and on_it and sized else 0.0


def accompany(
    companies: Mapping[int, Company],
    tracks: Sequence[Track],
    subjects: set[int],
    alike: frozenset[str],
    time: float,
) -> dict[int, Company]:
    """Bring up to date who goes with which subject: near it, and keeping its distance.

    Only classes `alike` may be company. Whoever changes place by a quarter of the subject's size begins anew.
    """
    shown = {each.id: each for each in tracks}
    out: dict[int, Company] = {}
    for each in tracks:
        if each.id in subjects or each.label not in alike:
            continue
        old = companies.get(each.id)
        near = [number for number in subjects if number in shown and _close(each, shown[number])]
        if old is not None and old.subject in near:
            subject = shown[old.subject]
        elif near:
            subject = min((shown[number] for number in near), key=lambda one: abs(_offset(each, one)[0]))
            old = None
        else:
            continue
        apart = _offset(each, subject)
        box = subject.instance.box
        # What lies within the subject's outline may well be a part of it that was seen as another thing.
        within = _common(each.instance.box, box) >= 0.7 * _size(each.instance.box)
        limit = (0.6 if within else 0.25) * max(box[2] - box[0], 0.5 * (box[3] - box[1]))
        kept = old is not None and max(abs(apart[0] - old.apart[0]), abs(apart[1] - old.apart[1])) <= limit
        out[each.id] = old if old is not None and kept else Company(subject.id, time, apart)
    return out


def _offset(each: Track, other: Track) -> tuple[float, float]:
    mine, its = each.instance.box, other.instance.box
    return (mine[0] + mine[2] - its[0] - its[2]) / 2, (mine[1] + mine[3] - its[1] - its[3]) / 2


def _close(each: Track, subject: Track) -> bool:
    """Whether the gap between two boxes is under half the subject's width, and the thing not far behind."""
    mine, its = each.instance.box, subject.instance.box
    gap = max(mine[0] - its[2], its[0] - mine[2], 0.0)
    down = max(mine[1] - its[3], its[1] - mine[3], 0.0)
    reach = 0.5 * max(its[2] - its[0], 0.4 * (its[3] - its[1]))
    tall = (mine[3] - mine[1]) >= 0.4 * (its[3] - its[1]) or _common(mine, its) >= 0.5 * _size(mine)
    return gap <= reach and down <= 0.1 * (its[3] - its[1]) and tall and _alike(each, subject)


def share(
    tracks: Sequence[Track],
    decisions: Mapping[int, tuple[Action, str]],
    fixed: set[int],
    subjects: set[int],
    links: Mapping[int, Link],
) -> dict[int, tuple[Action, str]]:
    """Give every linked thing its owner's verdict.

    A mount that is kept as one of the `subjects`, or that the user decided on (`fixed`), leads its rider.
    What is `fixed` is changed by nothing.
    """
    out = dict(decisions)
    labels = {each.id: each.label for each in tracks}
    for each in tracks:
        tied = links.get(each.id)
        if tied is None or tied.seconds < _LINK_SECONDS or tied.owner not in out:
            continue
        action, reason = out[tied.owner]
        if each.label == "person":  # a part of a larger one
            if each.id not in fixed and each.id not in subjects:
                out[each.id] = (action, reason)
            continue
        verb = "ridden" if each.label in RIDDEN else "carried"
        said = f"is {verb} by a {labels.get(tied.owner, 'person')} who {reason}"
        mine, my_reason = out[each.id]
        if mine == "remove" and tied.seconds < _SURE_SECONDS and tied.owner not in subjects:
            continue  # small things show their motion first
        leads = each.id in fixed or (mine == "keep" and each.id in subjects)
        if leads and tied.owner not in fixed and each.label in RIDDEN:
            out[tied.owner] = (mine, f"rides the {each.label}, which {my_reason}")
        elif each.id not in fixed:
            out[each.id] = (action, said)
    return out


def _common(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    return max(0.0, wide) * max(0.0, high)


def _size(box: tuple[float, ...]) -> float:
    return max((box[2] - box[0]) * (box[3] - box[1]), 1.0)
