"""`cleanplate engines list|build|clear`: networks compiled for this machine, ahead of the first run."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from stream.errors import UsageError

if TYPE_CHECKING:
    from engines import Engine
    from engines.cache import Entry
    from stream.networks import NetworkSpec

app = typer.Typer(help="Networks compiled for this machine: list, build, clear.", no_args_is_help=True)

_SHOWN_APART = ("engine", "device")


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON for programs.")] = False,
) -> None:
    """Show what is in the cache: engine, precision, size, build time, time of a run, difference from eager.

    Below each: what has to be the same for it to be used again.
    """
    import engines

    entries = engines.list_entries()
    if as_json:
        import json

        whole = {"folder": str(engines.engine_folder()), "bytes": engines.cache_bytes()}
        typer.echo(json.dumps({**whole, "engines": [_record(entry) for entry in entries]}, indent=2))
        return
    head = ("network", "engine", "precision", "size", "build", "run", "mean error", "largest", "device")
    rows = [_row(entry) for entry in entries]
    for line, entry in zip(_aligned([head, *rows]) if rows else (), (None, *entries), strict=False):
        typer.echo(line)
        if entry is not None:
            typer.echo(f"    {_key(entry)}")
    typer.echo(f"{engines.cache_bytes() / 1e6:.1f} MB in {engines.engine_folder()}")


@app.command()
def build(
    sizes: Annotated[
        list[str] | None, typer.Argument(metavar="[WIDTHxHEIGHT]...", help="Frame sizes; 1280x720 if none.")
    ] = None,
    preset: Annotated[str, typer.Option(help="The preset runs will use.")] = "tourist",
    engine: Annotated[str, typer.Option(help="auto, openvino, inductor, tensorrt or eager.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, f32, f16 or bf16.")] = "auto",
) -> None:
    """Compile every network of a run for these frame sizes, so that the first run starts at once."""
    import time

    from configs.schema import load_config

    config = load_config(preset, overrides={"engine.name": engine, "engine.precision": precision})
    if engine == "none":
        raise UsageError("the engine none has nothing to build", hint="choose another --engine")
    frames = [_size(text) for text in sizes or ["1280x720"]]

    from stream.networks import every_network

    specs = every_network(config, frames)
    with _progress(specs) as progress:
        for spec in specs:
            progress.begins(spec)
            started = time.perf_counter()
            with spec.open(config) as opened:
                progress.ended(_opened(spec, opened, time.perf_counter() - started))


@app.command()
def clear() -> None:
    """Delete every compiled network; the next run builds what it needs again."""
    import engines

    count = len(engines.list_entries())
    typer.echo(f"removed {count} engines, {engines.clear() / 1e6:.1f} MB")


class _Progress(Protocol):
    def begins(self, spec: NetworkSpec) -> None: ...

    def ended(self, line: str) -> None: ...


@contextmanager
def _progress(specs: Sequence[NetworkSpec]) -> Iterator[_Progress]:
    """A bar on a terminal, with the lines after it; elsewhere a line as each network is done."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    lines: list[str] = []
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("preparing", total=len(specs))

        class Shown:
            def begins(self, spec: NetworkSpec) -> None:
                bar.update(task, description=spec.label)

            def ended(self, line: str) -> None:
                lines.append(line)
                bar.advance(task)

        try:
            yield Shown()
        finally:
            bar.stop()
            for line in lines:
                typer.echo(line)


class _Lines:
    def begins(self, spec: NetworkSpec) -> None:
        del spec

    def ended(self, line: str) -> None:
        typer.echo(line)
        sys.stdout.flush()


def _opened(spec: NetworkSpec, engine: Engine, seconds: float) -> str:
    run = f"{engine.milliseconds:7.1f} ms a run" if engine.milliseconds else " " * 16
    how = f"built: {engine.reason}" if engine.reason else "from the cache"
    return f"{spec.label:34} {engine.name:9} {engine.precision:5} {seconds:6.1f} s {run}  {how}"


def _row(entry: Entry) -> tuple[str, ...]:
    return (
        entry.label,
        entry.engine,
        entry.precision,
        f"{entry.size / 1e6:.1f} MB",
        f"{entry.build_seconds:.1f} s" if entry.build_seconds else "-",
        f"{entry.milliseconds:.1f} ms" if entry.milliseconds else "-",
        f"{entry.error.mean:.1e}",
        f"{entry.error.largest:.1e}",
        entry.device,
    )


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines of columns as wide as their widest; what begins with a digit lies to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def cell(text: str, width: int) -> str:
        return text.rjust(width) if text[:1].isdigit() or text == "-" else text.ljust(width)

    return ["  ".join(map(cell, row, widths)).rstrip() for row in rows]


def _key(entry: Entry) -> str:
    """The key's fields that the columns do not show, digests cut short."""
    shown = {name: value for name, value in sorted(entry.key.items()) if name not in _SHOWN_APART}
    return "; ".join(f"{name} {value[:18] if name == 'graph' else value}" for name, value in shown.items())


def _record(entry: Entry) -> dict[str, object]:
    return {
        "label": entry.label,
        "engine": entry.engine,
        "precision": entry.precision,
        "device": entry.device,
        "bytes": entry.size,
        "build_seconds": entry.build_seconds,
        "milliseconds": entry.milliseconds,
        "error": {"mean": entry.error.mean, "largest": entry.error.largest},
        "created": entry.created,
        "path": str(entry.path),
        "key": dict(entry.key),
    }


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None or not int(match[1]) or not int(match[2]):
        raise UsageError(f"not a frame size: {text!r}", hint="write it as 1280x720")
    return int(match[1]), int(match[2])
