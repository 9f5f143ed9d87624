"""Things that belong together: who carries a bag, who rides a bicycle. They share one verdict."""

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

_LINK_SECONDS = 0.4
_MOST_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Link:
    """A thing's owner and for how many seconds they have been seen together (less those apart)."""

    owner: int
    seconds: float


def link(
    links: Mapping[int, Link], tracks: Sequence[Track], pause: float, *, at_once: bool
) -> dict[int, Link]:
    """Bring up to date who carries or rides what; a link holds once it is `_LINK_SECONDS` old."""
    people = [each for each in tracks if each.label == "person"]
    out = dict(links)
    for each in tracks:
        if each.label not in CARRIED and each.label not in RIDDEN:
            continue
        owner = _owner(each, people)
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
        alike = abs(person.speed - thing.speed) <= 0.5 * max(person.speed, thing.speed) + 0.02
        score = _rides(thing, person) if thing.label in RIDDEN else _carries(thing, person)
        if alike and score > best:
            best, found = score, person.id
    return found


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
        verb = "ridden" if each.label in RIDDEN else "carried"
        action, reason = out[tied.owner]
        mine, my_reason = out[each.id]
        leads = each.id in fixed or (mine == "keep" and each.id in subjects)
        if leads and tied.owner not in fixed and each.label in RIDDEN:
            out[tied.owner] = (mine, f"rides the {each.label}, which {my_reason}")
        elif each.id not in fixed:
            out[each.id] = (action, f"is {verb} by a {labels.get(tied.owner, 'person')} who {reason}")
    return out


def _common(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    return max(0.0, wide) * max(0.0, high)


def _size(box: tuple[float, ...]) -> float:
    return max((box[2] - box[0]) * (box[3] - box[1]), 1.0)
