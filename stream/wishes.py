"""What the user of a live run asks for: a configuration, words about single things, and when to forget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from configs.schema import Config, load_config
from stream.errors import UsageError
from stream.rules import check_class
from stream.types import Action


@dataclass(frozen=True)
class Wishes:
    """All that is asked for now. `words`: of things by number; `resets`: how often to have forgotten."""

    config: Config
    words: Mapping[int, Action] = field(default_factory=dict)
    resets: int = 0


def decide(wishes: Wishes, track: int, action: Action | None) -> Wishes:
    """Ask for what happens to one thing; None leaves it to the judge."""
    if action not in ("keep", "remove", None):
        raise UsageError(f"{action!r} is neither keep nor remove")
    words = {key: value for key, value in wishes.words.items() if key != track}
    if action is not None:
        words[track] = action
    return replace(wishes, words=words)


def classes(wishes: Wishes, remove: Sequence[str], keep: Sequence[str]) -> Wishes:
    """Ask for classes that go and that stay, in place of those before; UsageError for unknown ones."""
    chosen = {
        name: tuple(dict.fromkeys(check_class(each, name) for each in labels))
        for name, labels in (("remove", remove), ("keep", keep))
    }
    return _with(wishes, judge=wishes.config.judge.model_copy(update=chosen))


def preset(wishes: Wishes, name: str) -> Wishes:
    """Ask for the rules of another preset; what costs time stays as it is. Raises ConfigError."""
    other, config = load_config(name), wishes.config
    kept = {"remove": config.judge.remove, "keep": config.judge.keep}
    hole = other.hole.model_copy(update={"mirror": config.hole.mirror})
    return _with(wishes, preset=other.preset, judge=other.judge.model_copy(update=kept), hole=hole)


def look_ahead(wishes: Wishes, seconds: float) -> Wishes:
    """Ask for pictures so much later; UsageError outside 0 to 10."""
    if not 0 <= seconds <= 10:
        raise UsageError(f"a live picture can be 0 to 10 seconds late, not {seconds:g}")
    return _with(wishes, look_ahead=float(seconds))


def reset(wishes: Wishes) -> Wishes:
    """Ask to forget what has been seen behind things."""
    return replace(wishes, resets=wishes.resets + 1)


def _with(wishes: Wishes, **changed: object) -> Wishes:
    return replace(wishes, config=wishes.config.model_copy(update=changed))
