"""What can be configured, with ranges and meaning beside each key; unknown keys are refused.

A preset is a YAML file beside this one that sets only what differs from the defaults here.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

PRESETS = ("tourist", "paper", "webcam")


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key and, for a typo, the nearest one."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Perceive(_Section):
    """What the networks look at."""

    size: int = Field(512, ge=128, le=2048, description="longer side of the segmentator's input, pixels")
    every: int = Field(
        1, ge=1, le=30, description="run the segmentator on every n-th frame, carry masks between"
    )
    stuff_seconds: float = Field(1.0, gt=0, description="look at the surroundings this often, seconds")
    score: float = Field(0.12, ge=0, le=1, description="things below this score are not things")
    min_area: float = Field(0.0002, ge=0, le=1, description="smallest thing, share of the frame")


class Track(_Section):
    """How things are followed."""

    patience_seconds: float = Field(0.7, ge=0, description="how long a track survives unseen")
    confirm: int = Field(2, ge=1, description="sightings before a track is believed")
    start: float = Field(
        0.25, ge=0, le=1, description="less sure sightings go on with a track but start none"
    )


class Judge(_Section):
    """What does not belong."""

    rule: Literal["fitted", "paper"] = Field(
        "fitted", description="relation table, or the paper's word vectors"
    )
    threshold: float = Field(0.4, ge=0, le=1, description="relation below this does not belong")
    stuff: float = Field(0.25, ge=0, le=1, description="surroundings more probable than this are there")
    min_area: float = Field(0.0, ge=0, le=1, description="smaller things are left alone, share of the frame")
    max_area: float = Field(1.0, ge=0, le=1, description="larger things are left alone, share of the frame")
    passers: tuple[str, ...] = Field(
        (), description="classes that go because they pass, unless one is the subject"
    )
    by_relation: tuple[str, ...] | None = Field(
        None, description="classes judged by relation; null = every class that is not among the passers"
    )
    pass_speed: float = Field(0.02, ge=0, description="faster than this passes: frame widths per second")
    keep_subject: bool = Field(True, description="what the picture is about stays")
    subject: float = Field(0.6, ge=0, le=1, description="subject score from which a thing is the subject")
    remove: tuple[str, ...] = Field((), description="class or class@x,y that always goes")
    keep: tuple[str, ...] = Field((), description="class or class@x,y that always stays")
    memory_seconds: float = Field(2.0, gt=0, description="evidence is weighed over this time")


class Hole(_Section):
    """From masks to what is replaced. Lengths are shares of the frame's height."""

    dilate: float = Field(0.025, ge=0, le=0.2, description="grown by this much")
    soft: float = Field(0.008, ge=0, le=0.1, description="width of the soft edge")
    blur: bool = Field(True, description="grow along fast motion, where the thing is smeared")
    shadow: bool = Field(True, description="take shadows that touch the thing")
    mirror: bool = Field(True, description="take its mirror image on a wet or polished floor")


class Plate(_Section):
    """The memory of what is behind."""

    window_seconds: float = Field(1.5, gt=0, description="every frame is kept this long, older ones thinned")
    keyframes: int = Field(40, ge=4, le=400, description="frames remembered at most")
    sources: int = Field(7, ge=1, le=32, description="frames looked at for one hole")
    layers: int = Field(2, ge=1, le=2, description="motion layers: far, or far and near")
    archive_mb: int = Field(
        64, ge=0, description="keyframes of all shots kept compressed, megabytes; 0 = no long memory"
    )
    even: bool = Field(
        False, description="spread the work evenly over the frames, at some cost: no picture may be late"
    )


class Fill(_Section):
    """What happens where the plate is not enough."""

    inpaint: bool = Field(True, description="the trained inpainter; false = a classical one")
    texture: bool = Field(
        True, description="copy texture over what is invented; takes a tenth of a second for a large hole"
    )


class Resume(_Section):
    """Where an interrupted run can go on."""

    frames: int = Field(
        250, ge=1, description="the encoder begins afresh every so many frames, where a run can go on"
    )
    seconds: float = Field(
        20.0, ge=0, description="the state is saved there, no more often than this; 0 = each time"
    )


class Engine(_Section):
    """How networks are run."""

    name: Literal["auto", "eager", "inductor", "openvino", "tensorrt", "none"] = Field(
        "auto", description="which one; none = no network at all, masks say what goes"
    )
    precision: Literal["auto", "f32", "f16", "bf16"] = "auto"
    threads: int = Field(0, ge=0, description="for the networks; 0 = all cores")
    cache: bool = True


class Models(_Section):
    """Which size of each network, and other weights than the shipped ones."""

    segmentator: Literal["compact", "paper"] = "compact"
    stuff: Literal["compact", "paper"] = "compact"
    inpainter: Literal["compact", "paper"] = "compact"
    deocclusion: Literal["compact"] = "compact"
    weights: dict[str, Path] = Field(default_factory=dict, description="model name -> .safetensors")


class Config(_Section):
    """Everything a run can be told."""

    preset: Literal["tourist", "paper", "webcam"] = "tourist"
    look_ahead: float | Literal["shot"] = Field(
        3.0, description="0, seconds, or shot (to the end of the shot)"
    )
    look_ahead_cap: float = Field(10.0, gt=0, description="longest look-ahead of 'shot', seconds")
    patience: float = Field(6.0, ge=0, description="seconds a file's frame waits at most for an open verdict")
    memory_mb: int = Field(700, ge=50, description="frames held at most; beyond it a file is decoded twice")
    perceive: Perceive = Perceive()
    track: Track = Track()
    judge: Judge = Judge()
    hole: Hole = Hole()
    plate: Plate = Plate()
    fill: Fill = Fill()
    engine: Engine = Engine()
    models: Models = Models()
    resume: Resume = Resume()

    @property
    def look_ahead_seconds(self) -> float:
        """What is known of the future when a frame is finished, in seconds; `shot` is its longest."""
        return self.look_ahead_cap if self.look_ahead == "shot" else self.look_ahead

    @property
    def longest_wait(self) -> float:
        """The longest that a frame of a file waits to be finished, seconds; 0 where nothing is waited for."""
        ahead = self.look_ahead_seconds
        return max(ahead, self.patience) if ahead else 0.0


def load_config(
    preset: str = "tourist",
    file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Read a preset, lay a YAML file and then dotted overrides (`judge.threshold: 0.3`) over it.

    Raises `ConfigError` for an unknown preset, key or value; the message names the nearest known one.
    """
    if preset not in PRESETS:
        raise ConfigError(f"no preset {preset!r}{_nearest(preset, PRESETS)}")
    tree = _read(Path(__file__).with_name(f"{preset}.yaml"))
    if file is not None:
        _merge(tree, _read(file))
    for dotted, value in (overrides or {}).items():
        _merge(tree, _nested(dotted, value))
    tree["preset"] = preset
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from None


def parse_override(text: str) -> tuple[str, Any]:
    """Split `key=value` of the command line; the value is read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"expected key=value, got {text!r}")
    return key.strip(), yaml.safe_load(value)


def describe() -> list[tuple[str, str, str]]:
    """Every key as (dotted name, default, meaning), for documentation and `--help`."""
    rows = []
    for name, info in Config.model_fields.items():
        section = info.annotation
        if isinstance(section, type) and issubclass(section, _Section):
            for key, inner in section.model_fields.items():
                default = inner.get_default(call_default_factory=True)
                rows.append((f"{name}.{key}", _show(default), inner.description or ""))
        else:
            rows.append((name, _show(info.default), info.description or ""))
    return rows


def _show(value: Any) -> str:
    return yaml.safe_dump(list(value) if isinstance(value, tuple) else value).splitlines()[0]


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} should hold keys and values, not a {type(tree).__name__}")
    return tree


def _nested(dotted: str, value: Any) -> dict[str, Any]:
    tree: Any = value
    for key in reversed(dotted.split(".")):
        tree = {key: tree}
    return dict(tree)


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        below = into.get(key)
        if isinstance(below, dict) and isinstance(value, Mapping):
            _merge(below, value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    dotted = ".".join(path)
    if first["type"] == "extra_forbidden":
        known = [row[0] for row in describe()]
        return f"unknown key {dotted!r}{_nearest(dotted, [*known, *Config.model_fields])}"
    return f"{dotted}: {first['msg']}, got {first['input']!r}"


def _nearest(word: str, known: tuple[str, ...] | list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
