"""The reasons for a verdict, in words a user reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

_SAID = {
    "building-other": "building",
    "house": "house",
    "wall-other": "wall",
    "sky-other": "sky",
    "water-other": "water",
    "ground-other": "ground",
    "plant-other": "plants",
    "floor-other": "floor",
    "ceiling-other": "ceiling",
    "window-other": "window",
    "door-stuff": "door",
    "mirror-stuff": "mirror",
    "desk-stuff": "desk",
    "furniture-other": "furniture",
    "food-other": "food",
    "playingfield": "playing field",
    "textile-other": "textile",
    "structural-other": "structure",
    "solid-other": "solid ground",
    "waterdrops": "drops of water",
}
_PLURALS = {
    "person": "people",
    "sheep": "sheep",
    "skis": "skis",
    "scissors": "scissors",
    "mouse": "mice",
    "knife": "knives",
}
_MOST = 4
_ENOUGH, _TOO_LITTLE = "would go under", "would stay from"


def stuff_word(name: str) -> str:
    """A COCO-Stuff name as one says it: `building-other` is a building, `floor-wood` a wood floor."""
    if name in _SAID:
        return _SAID[name]
    base, dash, kind = name.partition("-")
    return f"{kind} {base}" if dash else name


def thing_words(labels: Iterable[str]) -> list[str]:
    """Things counted: `3 people`, `car`; the most frequent first."""
    counted = Counter(labels).most_common()
    return [name if count == 1 else f"{count} {plural(name)}" for name, count in counted]


def plural(name: str) -> str:
    """More than one of a class."""
    if name in _PLURALS:
        return _PLURALS[name]
    if name.endswith(("s", "ch", "sh")):
        return f"{name}es"
    return f"{name}s"


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`; more than four are cut short."""
    words = list(words)
    if len(words) > _MOST:
        words = [*words[:_MOST], f"{len(words) - _MOST} more"]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "nothing"


def fits(label: str, around: str, score: float, threshold: float) -> str:
    """Why a thing stays because of its surroundings."""
    return f"{label} fits {around} ({score:.2f}, {_ENOUGH} {threshold:.2f})"


def foreign(label: str, around: str, score: float, threshold: float) -> str:
    """Why a thing goes because of its surroundings."""
    often = "hardly ever" if score < threshold / 3 else "seldom"
    return f"{label} {often} appears with {around} ({score:.2f}, {_TOO_LITTLE} {threshold:.2f})"


def by_relation(reason: str) -> bool:
    """Whether a reason is one of `fits` and `foreign`."""
    return _ENOUGH in reason or _TOO_LITTLE in reason
