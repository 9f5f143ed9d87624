"""`cleanplate explain INPUT -o PICTURE.png`: what was seen, what would go, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.errors import OutputError, UsageError

if TYPE_CHECKING:
    from stream.explain import Explained
    from stream.judge import Relation
    from stream.perceive import Networks


def explain(
    input: Annotated[Path, typer.Argument(help="A video, one image, or a folder of images.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The picture to write; for a folder of images a folder.")
    ],
    at: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Which frame of a video; its middle if not given.")
    ] = None,
    objects: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write objects.json and each thing's mask here.")
    ] = None,
    preset: Annotated[str, typer.Option(help="tourist, paper or webcam.")] = "tourist",
    remove: Annotated[
        list[str] | None, typer.Option(help="Classes, or class@x,y, that go: car,truck or person@320,200.")
    ] = None,
    keep: Annotated[list[str] | None, typer.Option(help="Classes, or class@x,y, that stay.")] = None,
    engine: Annotated[str | None, typer.Option(help="auto, eager, openvino, inductor or tensorrt.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file laid over the preset.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one key, e.g. judge.threshold=0.2."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No table.")] = False,
) -> None:
    """Show what was seen in a picture, what would go, and why.

    A video is looked at around the frame, since what passes shows itself by moving; images are judged each on
    its own.
    """
    from configs.schema import load_config, parse_override
    from stream import judge
    from stream.explain import explain_image, explain_video
    from stream.perceive import Networks, check_reported
    from stream.source import open_source

    overrides = dict(parse_override(text) for text in change or ())
    for key, given in (("judge.remove", remove), ("judge.keep", keep), ("engine.name", engine)):
        if given:
            overrides[key] = given
    settings = load_config(preset, config, overrides)
    judge.check(settings.judge)
    if settings.engine.name == "none":
        raise UsageError("the engine none sees nothing to explain", hint="choose another --engine")
    for warning in check_reported(settings):
        typer.echo(f"warning: {warning}", err=True)
    networks = Networks(settings)
    relation = judge.open_relation(settings.judge)
    if input.is_dir():
        if at is not None:
            raise UsageError("--at is for videos; a folder is explained image by image", where=str(input))
        _explain_folder(input, output, objects, networks, relation, overwrite=overwrite, quiet=quiet)
        return
    _refuse(output, overwrite=overwrite)
    with open_source(input) as source:
        single = source.info.kind == "image"
        frame = next(source) if single else None
    if frame is not None:
        explained = explain_image(frame, networks, relation, settings)
    else:
        explained = explain_video(input, at, networks, relation, settings)
    _write(explained, output, objects, quiet=quiet)


def _explain_folder(
    input: Path,
    output: Path,
    objects: Path | None,
    networks: Networks,
    relation: Relation,
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    from stream.explain import explain_image
    from stream.source import open_source
    from stream.source_images import list_images

    images = list_images(input)
    if output.exists() and not output.is_dir():
        raise OutputError("for a folder of images the output is a folder", where=str(output))
    for image in images:
        _refuse(output / f"{image.stem}.png", overwrite=overwrite)
    output.mkdir(parents=True, exist_ok=True)
    for image in images:
        with open_source(image) as source:
            explained = explain_image(next(source), networks, relation, networks.config)
        if not quiet:
            typer.echo(image.name)
        below = None if objects is None else objects / image.stem
        _write(explained, output / f"{image.stem}.png", below, quiet=quiet)


def _write(explained: Explained, output: Path, objects: Path | None, *, quiet: bool) -> None:
    from stream.explain import picture, table, write_objects, write_png

    write_png(output, picture(explained))
    if objects is not None:
        write_objects(explained, objects)
    if not quiet:
        for line in table(explained):
            typer.echo(line)


def _refuse(output: Path, *, overwrite: bool) -> None:
    if output.exists() and not overwrite:
        raise OutputError(
            "the output exists already", where=str(output), hint="choose another name or --overwrite"
        )
