"""`cleanplate clean INPUT -o OUTPUT`: the main job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from stream.commands.signals import stop_signals
from stream.errors import PartialError


def clean(
    input: Annotated[Path, typer.Argument(help="A video, a folder of images, or one image.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="What to write; never the input.")],
    preset: Annotated[str, typer.Option(help="tourist, paper or webcam.")] = "tourist",
    remove: Annotated[
        list[str] | None, typer.Option(help="Classes, or class@x,y, that go: car,truck or person@320,200.")
    ] = None,
    keep: Annotated[list[str] | None, typer.Option(help="Classes, or class@x,y, that stay.")] = None,
    masks: Annotated[
        Path | None,
        typer.Option(help="Video or PNG folder, non-zero is hole; with an objects.json: object ids."),
    ] = None,
    references: Annotated[
        Path | None, typer.Option(help="Folder of other photographs or clips of the same place.")
    ] = None,
    look_ahead: Annotated[str | None, typer.Option(help="0, seconds, or shot.")] = None,
    fps: Annotated[
        str, typer.Option(help="Frames per second of a folder of images, such as 30000/1001.")
    ] = "25",
    engine: Annotated[
        str | None, typer.Option(help="auto, eager, openvino, inductor, tensorrt, or none with --masks.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="Begin here: seconds, or h:mm:ss.")] = None,
    end: Annotated[str | None, typer.Option(help="Stop here: seconds, or h:mm:ss.")] = None,
    lossless: Annotated[bool, typer.Option("--lossless", help="Encode without loss.")] = False,
    deinterlace: Annotated[bool, typer.Option("--deinterlace", help="Deinterlace first.")] = False,
    smart_copy: Annotated[
        bool, typer.Option(help="Copy the packets of stretches of H.264 in which nothing goes.")
    ] = True,
    report: Annotated[Path | None, typer.Option(help="Write what was done as JSON.")] = None,
    log: Annotated[Path | None, typer.Option(help="Write one JSON line per frame and thing.")] = None,
    provenance: Annotated[
        Path | None,
        typer.Option(help="Write a lossless grey .mkv: 0 untouched, 1 seen, 2 reference, 3 invented."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file laid over the preset.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one key, e.g. judge.threshold=0.2."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an unfinished run of the same command.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
) -> None:
    """Take out of a clip what does not belong in it, and keep everything else as it is."""
    from stream.job import clean as run
    from stream.options import Options, to_config, to_job
    from stream.progress import show_progress, summary
    from stream.resume import unfinished

    wished = Options(
        preset=preset,
        remove=tuple(remove or ()),
        keep=tuple(keep or ()),
        masks=_text(masks),
        references=_text(references),
        look_ahead=look_ahead,
        fps=fps,
        engine=engine,
        start=start,
        end=end,
        lossless=lossless,
        deinterlace=deinterlace,
        smart_copy=smart_copy,
        config=_text(config),
        change=tuple(change or ()),
    )
    job = replace(
        to_job(wished),
        overwrite=overwrite,
        resume=resume,
        log=log,
        provenance=provenance,
        report=report,
    )
    settings = to_config(wished)
    said: list[str] = []

    def on_start(warnings: tuple[str, ...]) -> None:
        said.extend(warnings)
        for each in warnings if not quiet else ():
            typer.echo(f"warning: {each}", err=True)

    done_before = None if resume else unfinished(output)
    if done_before is not None and not quiet:
        told = f"hint: an unfinished run had done {done_before:.2f} s; this one starts over, --resume goes on"
        typer.echo(told, err=True)
    with stop_signals() as stop, show_progress(quiet=quiet) as on_progress:
        done = run(input, output, settings, job=job, on_start=on_start, on_progress=on_progress, stop=stop)
    if not quiet:
        for line in summary(done, said):
            typer.echo(line, err=True)
    if done.partial:
        raise typer.Exit(PartialError.exit_code)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
