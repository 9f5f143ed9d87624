"""`cleanplate clean INPUT -o OUTPUT`: the main job."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from stream.commands.signals import stop_signals
from stream.errors import PartialError, UsageError


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
    from configs.schema import load_config, parse_override
    from stream.job import Job
    from stream.job import clean as run
    from stream.progress import show_progress, summary
    from stream.resume import unfinished

    overrides = dict(parse_override(text) for text in change or ())
    for key, given in (("judge.remove", remove), ("judge.keep", keep), ("engine.name", engine)):
        if given:
            overrides[key] = given
    if look_ahead is not None:
        overrides["look_ahead"] = look_ahead if look_ahead == "shot" else _number(look_ahead, "--look-ahead")
    job = Job(
        masks=masks,
        references=references,
        start=_seconds(start, "--start"),
        end=_seconds(end, "--end"),
        fps=_rate(fps),
        lossless=lossless,
        deinterlace=deinterlace,
        overwrite=overwrite,
        resume=resume,
        log=log,
        provenance=provenance,
        report=report,
    )
    settings = load_config(preset, config, overrides)
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
