"""What a user wishes for one clip, in words as on the command line, made into a configuration and a job."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from configs.schema import Config, load_config, parse_override
from stream.errors import UsageError
from stream.job import Job


@dataclass(frozen=True)
class Options:
    """The options of `cleanplate clean` that say what is done; `change` holds KEY=VALUE texts."""

    preset: str = "tourist"
    remove: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    masks: str | None = None
    references: str | None = None
    look_ahead: str | None = None
    fps: str = "25"
    engine: str | None = None
    start: str | None = None
    end: str | None = None
    lossless: bool = False
    deinterlace: bool = False
    smart_copy: bool = True
    config: str | None = None
    change: tuple[str, ...] = ()


def to_config(options: Options) -> Config:
    """The preset with everything that was wished laid over it; raises UsageError, ConfigError."""
    overrides = dict(parse_override(text) for text in options.change)
    for key, given in (
        ("judge.remove", options.remove),
        ("judge.keep", options.keep),
        ("engine.name", options.engine),
    ):
        if given:
            overrides[key] = list(given) if isinstance(given, tuple) else given
    ahead = options.look_ahead
    if ahead is not None:
        overrides["look_ahead"] = ahead if ahead == "shot" else _number(ahead, "--look-ahead")
    return load_config(options.preset, None if options.config is None else Path(options.config), overrides)


def to_job(options: Options) -> Job:
    """The rest of what was wished; raises UsageError."""
    return Job(
        masks=None if options.masks is None else Path(options.masks),
        references=None if options.references is None else Path(options.references),
        start=_seconds(options.start, "--start"),
        end=_seconds(options.end, "--end"),
        fps=_rate(options.fps),
        lossless=options.lossless,
        deinterlace=options.deinterlace,
        smart_copy=options.smart_copy,
    )


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{option} wants seconds, got {text!r}") from None


def _rate(text: str) -> Fraction:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"--fps wants a number such as 25 or 30000/1001, got {text!r}") from None
    if rate <= 0:
        raise UsageError(f"--fps must be above 0, got {text}")
    return rate


def _seconds(text: str | None, option: str) -> Fraction | None:
    if text is None:
        return None
    total = Fraction(0)
    try:
        for part in text.split(":"):
            total = total * 60 + Fraction(part)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{option} wants seconds or h:mm:ss, got {text!r}") from None
    if total < 0:
        raise UsageError(f"{option} must not be below 0, got {text}")
    return total
