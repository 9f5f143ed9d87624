"""`cleanplate engines list|build|clear`: networks compiled for this machine, ahead of the first run."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from stream.errors import UsageError

app = typer.Typer(help="Networks compiled for this machine: list, build, clear.", no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """Show what is in the cache: engine, precision, difference from eager, size."""
    import engines

    for entry in engines.list_entries():
        typer.echo(
            f"{entry.label:34} {entry.engine:9} {entry.precision:5} {entry.size / 1e6:7.1f} MB  "
            f"error {entry.error.mean:.1e} mean, {entry.error.largest:.1e} largest  {entry.device}"
        )
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

    from stream.networks import deocclusion_spec, inpainter_spec, networks_to_build

    specs = [spec for width, height in frames for spec in networks_to_build(config, width, height)]
    for spec in dict.fromkeys((*specs, inpainter_spec(config), deocclusion_spec(config))):
        started = time.perf_counter()
        with spec.open(config) as opened:
            how = f"built: {opened.reason}" if opened.reason else "from the cache"
            typer.echo(
                f"{spec.label:34} {opened.name:9} {opened.precision:5} "
                f"{time.perf_counter() - started:6.1f} s  {how}"
            )


@app.command()
def clear() -> None:
    """Delete every compiled network; the next run builds what it needs again."""
    import engines

    count = len(engines.list_entries())
    typer.echo(f"removed {count} engines, {engines.clear() / 1e6:.1f} MB")


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None or not int(match[1]) or not int(match[2]):
        raise UsageError(f"not a frame size: {text!r}", hint="write it as 1280x720")
    return int(match[1]), int(match[2])
