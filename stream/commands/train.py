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

    import yaml

    if not data.is_dir():
        raise InputError("no such folder of training data", where=str(data))
    program = import_module(f"models.training.{model.value}")
    known = {field.name for field in fields(program.Recipe)}
    values = {}
    for text in change or ():
        key, equals, value = text.partition("=")
        if not equals or key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise UsageError(
                f"the recipe of {model.value} has no {key!r}",
                hint=f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(sorted(known))}",
            )
        values[key] = yaml.safe_load(value)
    written = program.train(data, work / model.value, program.Recipe(**values), log=typer.echo)
    typer.echo(f"wrote {written}")
