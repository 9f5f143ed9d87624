"""`cleanplate batch INPUTS -o DIR`: many clips, on this machine or on a cluster."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Annotated

import typer

from stream.commands.signals import stop_signals
from stream.errors import CleanplateError, PartialError, UsageError

if TYPE_CHECKING:
    from stream.batch.drive import Place
    from stream.batch.outcomes import Outcome
    from stream.batch.plan import Clip


def batch(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Clips, folders of clips, a manifest (.csv, .jsonl), or addresses such as s3://."
        ),
    ],
    output: Annotated[str, typer.Option("-o", "--output", help="The folder for the outputs.")],
    on: Annotated[
        str, typer.Option(help="local, local:N workers, or tcp://SCHEDULER:8786 (a Dask cluster).")
    ] = "local",
    glob: Annotated[
        str, typer.Option(help="Which files of folders, such as '*.mov'; all videos if none.")
    ] = "",
    split: Annotated[
        float, typer.Option(metavar="MINUTES", help="Clean longer clips in segments; 0 = never.")
    ] = 5.0,
    preset: Annotated[str, typer.Option(help="tourist, paper or webcam.")] = "tourist",
    remove: Annotated[list[str] | None, typer.Option(help="Classes that go.")] = None,
    keep: Annotated[list[str] | None, typer.Option(help="Classes that stay.")] = None,
    references: Annotated[str | None, typer.Option(help="Other pictures of the same place.")] = None,
    look_ahead: Annotated[str | None, typer.Option(help="0, seconds, or shot.")] = None,
    engine: Annotated[str | None, typer.Option(help="auto, eager, openvino, inductor, tensorrt.")] = None,
    lossless: Annotated[bool, typer.Option("--lossless", help="Encode without loss.")] = False,
    deinterlace: Annotated[bool, typer.Option("--deinterlace", help="Deinterlace first.")] = False,
    smart_copy: Annotated[
        bool, typer.Option(help="Copy the packets of stretches of H.264 in which nothing goes.")
    ] = True,
    config: Annotated[str | None, typer.Option(help="A YAML file laid over the preset.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key.")
    ] = None,
    only_failed: Annotated[bool, typer.Option("--only-failed", help="Only what failed before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, do nothing.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs of other origin.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
) -> None:
    """Clean many clips; what was done before in the same way is not done again."""
    from time import monotonic

    from stream.batch import drive, outcomes, page, plan, storage
    from stream.batch.show import show_standing
    from stream.options import Options, to_config

    output = storage.absolute(output)

    if split < 0:
        raise UsageError(f"--split wants minutes, got {split:g}")
    wished = Options(
        preset=preset,
        remove=tuple(remove or ()),
        keep=tuple(keep or ()),
        references=None if references is None else storage.absolute(references),
        look_ahead=look_ahead,
        engine=engine,
        lossless=lossless,
        deinterlace=deinterlace,
        smart_copy=smart_copy,
        config=None if config is None else storage.absolute(config),
        change=tuple(change or ()),
    )
    to_config(wished)
    place = drive.parse_place(on)
    clips = plan.find_clips(inputs, output, wished, glob)
    earlier = {clip: outcomes.last(output, clip) for clip in clips}
    if only_failed:
        todo = [clip for clip, was in earlier.items() if was is not None and was.state in ("begun", "failed")]
    else:
        todo = [clip for clip, was in earlier.items() if not _good(clip, was)]
    if dry_run:
        _print_plan(todo, len(clips) - len(todo), [was for was in earlier.values() if was], place)
        return
    began = monotonic()
    ended = []
    if todo:
        every = Fraction(split).limit_denominator(1000) * 60 or None
        with (
            drive.held(output),
            drive.cluster(place) as client,
            show_standing(quiet=quiet) as show,
            stop_signals() as stop,
        ):
            ended = drive.carry_out(
                todo, output, client, overwrite=overwrite, every=every, show=show, stop=stop
            )
    found = {each.name: each for each in ended}
    results = [found.get(clip.name) or earlier[clip] for clip in clips]
    known = [each for each in results if each is not None]
    where = storage.beside(output, "batch.html")
    storage.write(where, page.make_page(known, output, monotonic() - began).encode())
    if not quiet:
        _print_end(known, len(clips) - len(todo), where)
    if any(each.state != "done" for each in known):
        raise typer.Exit(PartialError.exit_code)


def _good(clip: Clip, was: Outcome | None) -> bool:
    from stream.batch import outcomes

    try:
        return outcomes.is_good(clip, was)
    except CleanplateError:
        return False  # what is wrong with it is said when it is cleaned


def _print_plan(todo: list[Clip], done: int, earlier: list[Outcome], place: Place) -> None:
    from stream.batch import estimate

    rows, seconds = estimate.expected(todo, earlier, place)
    for row in rows:
        typer.echo(row)
    typer.echo(f"{len(todo)} clips to clean, {done} are done; about {estimate.in_words(seconds)}")


def _print_end(outcomes: list[Outcome], before: int, page: str) -> None:
    failed = [each for each in outcomes if each.state == "failed"]
    for each in failed:
        typer.echo(f"failed: {each.name}: {each.error}", err=True)
        if each.hint:
            typer.echo(f"hint: {each.hint}", err=True)
    done, part = (sum(each.state == state for each in outcomes) for state in ("done", "partial"))
    words = [f"{done} done" + (f" ({before} of them before)" if before else "")]
    words += [f"{part} in part"] if part else []
    words += [f"{len(failed)} failed; --only-failed tries these again"] if failed else []
    typer.echo(f"{', '.join(words)}. {page} shows all.", err=True)
