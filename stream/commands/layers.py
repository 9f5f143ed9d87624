"""`cleanplate layers INPUT -o DIR` and `cleanplate compose DIR -o OUTPUT`: taken apart, and put together."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.commands.signals import stop_signals

if TYPE_CHECKING:
    from stream.layer_contents import Contents


class _Style(StrEnum):
    prores = "prores"
    vp9 = "vp9"
    png = "png"


def layers(
    input: Annotated[Path, typer.Argument(help="A video, a folder of images, or one image.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder for plate and layers.")],
    style: Annotated[
        _Style, typer.Option("--format", help="How layers of a clip are stored; stills are PNG and .ora.")
    ] = _Style.prores,
    preset: Annotated[str, typer.Option(help="tourist, paper or webcam.")] = "tourist",
    remove: Annotated[
        list[str] | None, typer.Option(help="Classes, or class@x,y, that are said to go.")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="Classes, or class@x,y, that are said to stay.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="A labelled PNG folder with an objects.json: these are the things.")
    ] = None,
    fps: Annotated[str, typer.Option(help="Frames per second of a folder of images.")] = "25",
    engine: Annotated[str | None, typer.Option(help="auto, eager, openvino, inductor, tensorrt.")] = None,
    start: Annotated[str | None, typer.Option(help="Begin here: seconds, or h:mm:ss.")] = None,
    end: Annotated[str | None, typer.Option(help="Stop here: seconds, or h:mm:ss.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file laid over the preset.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the layers in the folder.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
) -> None:
    """Take a picture or a clip apart: what is behind everything, and each thing as a layer of its own."""
    from stream.layer_job import LayerJob, take_layers
    from stream.options import Options, to_config, to_job
    from stream.progress import show_progress

    wished = Options(
        preset=preset,
        remove=tuple(remove or ()),
        keep=tuple(keep or ()),
        masks=None if masks is None else str(masks),
        fps=fps,
        engine=engine,
        start=start,
        end=end,
        config=None if config is None else str(config),
        change=tuple(change or ()),
    )
    job = to_job(wished)
    with stop_signals() as stop, show_progress(quiet=quiet, doing="taking apart") as show:
        found = take_layers(
            input,
            output,
            to_config(wished),
            LayerJob(style.value, job.masks, job.start, job.end, job.fps, overwrite),
            on_progress=show,
            stop=stop,
        )
    if not quiet:
        for line in _table(found, output):
            typer.echo(line)


def compose(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `layers` made.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The video, image or folder to write.")],
    edit: Annotated[
        Path | None, typer.Option(help="A JSON file that says what is moved, scaled, hidden or reordered.")
    ] = None,
    lossless: Annotated[bool, typer.Option("--lossless", help="Encode without loss.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No summary.")] = False,
) -> None:
    """Put layers together again, as they were or as an edit changes them."""
    from stream import compose as composing
    from stream.layer_contents import read_contents

    wanted = None if edit is None else composing.read_edit(edit, read_contents(folder))
    with stop_signals() as stop:
        warnings = composing.compose(
            folder, output, wanted, lossless=lossless, overwrite=overwrite, stop=stop
        )
    if not quiet:
        for warning in warnings:
            typer.echo(f"warning: {warning}", err=True)


def _table(contents: Contents, folder: Path) -> list[str]:
    """The layers as text, one a line; of a clip's things the most that is ever hidden of them."""
    rows = []
    for each in contents.layers:
        when = f"{each.first_seconds:.1f} to {each.last_seconds:.1f} s"
        most = max(place.hidden for place in each.places)
        rows.append(
            (
                str(each.id),
                each.label,
                {"remove": "goes", "keep": "stays"}[each.action],
                *((when,) if contents.kind == "clip" else ()),
                f"{most:.0%} hidden" if most >= 0.005 else "",
                each.file,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in rows]
    count = f"{len(rows)} layer{'' if len(rows) == 1 else 's'}"
    return [*(line.rstrip() for line in lines), f"{count} and the plate in {folder}"]
