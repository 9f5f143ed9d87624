"""`cleanplate weights list|fetch|verify`: what the networks learned, where it is, whether it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The networks' weights: list, fetch, verify.", no_args_is_help=True)

Names = Annotated[
    list[str] | None, typer.Argument(help="Which ones; all without a name.", show_default=False)
]


@app.command("list")
def list_() -> None:
    """Show every known file, its size, licence, and where it is."""
    from models import weights

    for name, entry in weights.all_weights().items():
        try:
            place = str(weights.weights_path(name))
        except weights.WeightsError:
            place = f"not here ({'cleanplate weights fetch ' + name if entry.url else 'missing'})"
        size = f"{entry.size / 1e6:7.1f} MB" if entry.size is not None else " " * 10
        typer.echo(f"{name:34} {size}  {entry.licence:12} {place}")


@app.command()
def fetch(names: Names = None) -> None:
    """Download weights that do not come with the package; only a file with the right digest is kept.

    What was cut off goes on where it stopped.
    """
    from models import weights

    chosen = names or [name for name, entry in weights.all_weights().items() if entry.url]
    for name in chosen:
        weights.find_weights(name)  # a wrong name is said before anything is downloaded
    for name in chosen:
        typer.echo(f"{name}: {_fetch(name)}")
    if not chosen:
        typer.echo("nothing to fetch: all weights come with the package")


def _fetch(name: str) -> Path:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from models import weights

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=weights.find_weights(name).size)

        def show(done: int, size: int) -> None:
            bar.update(task, completed=done, total=size or None)

        return weights.fetch(name, on_progress=show)


@app.command()
def verify(
    names: Names = None,
    update: Annotated[
        bool, typer.Option("--update", help="For maintainers: write the files' digests into the list.")
    ] = False,
) -> None:
    """Compare the files with the published digests; the exit code is 5 if one is missing or differs."""
    from models import weights
    from stream.errors import EngineError

    if update:
        changed = weights.update_list()
        typer.echo(f"changed: {', '.join(changed) if changed else 'nothing'}")
    failed: list[weights.WeightsError] = []
    for name in names or weights.all_weights():
        try:
            typer.echo(f"{name:34} ok       {weights.verify(name)}")
        except weights.WeightsError as error:
            if names is None and weights.find_weights(name).url and "not on this machine" in str(error):
                typer.echo(f"{name:34} not fetched")
                continue
            typer.echo(f"{name:34} FAILED   {error}")
            failed.append(error)
    if failed:
        raise EngineError(
            f"{len(failed)} of the weights files cannot be used", where=str(failed[0]), hint=failed[0].hint
        )
