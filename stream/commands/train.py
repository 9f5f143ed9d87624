"""`cleanplate train MODEL`: train one of the networks or tables from data."""

from __future__ import annotations

from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stream.errors import InputError, UsageError


class Model(StrEnum):
    """What can be trained."""

    segmentator = "segmentator"
    stuff = "stuff"
    relation = "relation"
    inpainter = "inpainter"
    deocclusion = "deocclusion"
    words = "words"


def train(
    model: Annotated[Model, typer.Argument(help="Which one.")],
    data: Annotated[
        Path, typer.Option(help="Folder with the training data; docs/training.md says how it is laid out.")
    ],
    work: Annotated[
        Path, typer.Option(help="Folder for checkpoints, log and result; a run found there goes on.")
    ] = Path("training"),
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe.")
    ] = None,
) -> None:
    """Train a network or table; interrupted runs go on where they were."""
    import difflib
    from importlib import import_module

    if not data.is_dir():
        raise InputError("no such folder of training data", where=str(data))
    program = import_module(f"models.training.{model.value}")
    known = {field.name: field for field in fields(program.Recipe)}
    values = {}
    for text in change or ():
        key, equals, value = text.partition("=")
        if not equals or key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise UsageError(
                f"the recipe of {model.value} has no {key!r}",
                hint=f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(sorted(known))}",
            )
        values[key] = _converted(key, value, known[key].default)
    written = program.train(data, work / model.value, program.Recipe(**values), log=typer.echo)
    typer.echo(f"wrote {written}")


def _converted(key: str, text: str, default: object) -> object:
    """A value of a recipe, of the kind that it has by itself."""
    import yaml

    try:
        if isinstance(default, float):
            return float(text)  # YAML takes 6e-4 for a word
        made = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        made = None
    if isinstance(default, str):
        return text
    if type(made) is not type(default) and isinstance(default, (int, float)):
        raise UsageError(f"{key} of the recipe cannot be {text!r}", hint=f"it is {default!r} by itself")
    return made
