"""What the user says must go or stay: `class`, or `class@x,y` for the thing of that class at a pixel."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from models.labels import THING_NAMES
from stream.errors import UsageError
from stream.types import Action, Frame, Track

_EVERYDAY = {
    "people": "person",
    "man": "person",
    "woman": "person",
    "child": "person",
    "pedestrian": "person",
    "passer-by": "person",
    "human": "person",
    "face": "person",
    "bike": "bicycle",
    "cyclist": "bicycle",
    "motorbike": "motorcycle",
    "scooter": "motorcycle",
    "lorry": "truck",
    "van": "truck",
    "taxi": "car",
    "vehicle": "car",
    "plane": "airplane",
    "ship": "boat",
    "phone": "cell phone",
    "television": "tv",
    "sofa": "couch",
    "table": "dining table",
    "plant": "potted plant",
    "bag": "handbag",
    "ball": "sports ball",
}
_RULE = re.compile(r"\s*(?P<label>[^@,]+?)\s*(?:@\s*(?P<x>[^,@]*),(?P<y>[^,@]*))?\s*(?:,|$)")


@dataclass(frozen=True, slots=True)
class Rule:
    """One wish of the user; `point` in pixels of the picture as it is shown, None for the whole class."""

    action: Action
    label: str
    point: tuple[float, float] | None = None


def parse_rules(remove: Iterable[str], keep: Iterable[str] = ()) -> tuple[Rule, ...]:
    """Read what `--remove` and `--keep` say; each text may hold several, separated by commas.

    Raises `UsageError` for a class that is not one of COCO's 80 things, naming the nearest, and for a point
    that is not two numbers.
    """
    return _parse(tuple(remove), tuple(keep))


@lru_cache(maxsize=16)
def _parse(remove: tuple[str, ...], keep: tuple[str, ...]) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    lists: tuple[tuple[Action, tuple[str, ...]], ...] = (("remove", remove), ("keep", keep))
    for action, texts in lists:
        for text in texts:
            rules += _read(action, text)
    return tuple(rules)


def _read(action: Action, text: str) -> list[Rule]:
    rules = []
    place = 0
    while place < len(text):
        found = _RULE.match(text, place)
        if not found or found.end() == place:
            raise UsageError(
                f"{text!r} is not a class or class@x,y",
                where=f"--{action}",
                hint=f"for example: --{action} car",
            )
        place = found.end()
        point = None
        if found["x"] is not None:
            try:
                point = (float(found["x"]), float(found["y"]))
            except ValueError:
                raise UsageError(
                    f"the point of {text!r} is not two numbers",
                    where=f"--{action}",
                    hint=f"for example: --{action} {found['label']}@320,180",
                ) from None
        rules.append(Rule(action, check_class(found["label"], f"--{action}"), point))
    if not rules:
        raise UsageError("an empty class name", where=f"--{action}", hint=f"for example: --{action} car")
    return rules


def check_class(name: str, where: str) -> str:
    """The class as COCO writes it; raises `UsageError` with the nearest name for one it does not know."""
    plain = " ".join(name.lower().replace("_", " ").split())
    if plain in THING_NAMES:
        return plain
    near = _EVERYDAY.get(plain) or next(iter(difflib.get_close_matches(plain, THING_NAMES, 1, 0.5)), None)
    hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(THING_NAMES)}"
    raise UsageError(f"no class is called {name!r}", where=where, hint=hint)


def check_classes(names: Sequence[str], where: str) -> None:
    """Raise `UsageError` if any of the names is not a class."""
    for name in names:
        check_class(name, where)


def bind(
    bound: Mapping[int, int], rules: Sequence[Rule], tracks: Sequence[Track], frame: Frame
) -> Mapping[int, int]:
    """Find the thing each pointed rule means: the smallest of its class that covers the point.

    `bound` maps places in `rules` to track ids; a rule that has found its thing keeps it.
    """
    out = dict(bound)
    for index, rule in enumerate(rules):
        if rule.point is None or index in out:
            continue
        x, y = coded_point(rule.point, frame)
        covering = []
        for each in tracks:
            height, width = each.instance.mask.shape
            column, row = int(x * width / frame.width), int(y * height / frame.height)
            inside = 0 <= column < width and 0 <= row < height
            if each.label == rule.label and inside and each.instance.mask[row, column]:
                covering.append((each.area, each.id))
        if covering:
            out[index] = min(covering)[1]
    return out


def coded_point(point: tuple[float, float], frame: Frame) -> tuple[float, float]:
    """The pixel of the coded frame that a viewer sees at `point` of the displayed picture."""
    x, y = point
    if frame.rotation == 90:
        return y, frame.height - 1 - x
    if frame.rotation == 180:
        return frame.width - 1 - x, frame.height - 1 - y
    if frame.rotation == 270:
        return frame.width - 1 - y, x
    return x, y


def wish(
    each: Track, rules: Sequence[Rule], bound: Mapping[int, int], words: Mapping[int, Action]
) -> tuple[Action, str] | None:
    """What the user asked for this track, with the reason; None when no rule speaks of it.

    `words`: what was said of single tracks, by id.
    """
    word = words.get(each.id)
    if word is not None:
        return word, f"{'goes' if word == 'remove' else 'stays'}: you asked to {word} this one"
    pointed = [rule for index, rule in enumerate(rules) if bound.get(index) == each.id]
    general = [rule for rule in rules if rule.point is None and rule.label == each.label]
    for those, what in ((pointed, "this one"), (general, f"every {each.label}")):
        if any(rule.action == "keep" for rule in those):
            return "keep", f"stays: you asked to keep {what}"
        if those:
            return "remove", f"goes: you asked to remove {what}"
    return None
