"""`cleanplate live SOURCE`: a camera, an address or a file, cleaned while it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.commands.signals import stop_signals
from stream.errors import UsageError

if TYPE_CHECKING:
    from stream.live_run import Live

_SAID_SECONDS = 10.0


def live(
    source: Annotated[
        str, typer.Argument(help="A camera (0, /dev/video0, dshow:video=NAME), a URL, a file.")
    ],
    window: Annotated[
        bool | None,
        typer.Option("--window/--no-window", help="Show a window; the default where nothing else is asked."),
    ] = None,
    web: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Serve a web page there.")] = None,
    token: Annotated[
        str | None, typer.Option(help="What a visitor of --web must know; made up off this machine.")
    ] = None,
    virtual_camera: Annotated[
        bool, typer.Option("--virtual-camera", help="Be a camera that other programs can choose.")
    ] = False,
    record: Annotated[Path | None, typer.Option(help="Record what is shown: mp4, mov, mkv or webm.")] = None,
    preset: Annotated[str, typer.Option(help="tourist, paper or webcam.")] = "webcam",
    remove: Annotated[list[str] | None, typer.Option(help="Classes, or class@x,y, that go.")] = None,
    keep: Annotated[list[str] | None, typer.Option(help="Classes, or class@x,y, that stay.")] = None,
    look_ahead: Annotated[str, typer.Option(help="Seconds by which the picture may be late.")] = "0",
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Picture asked of a camera.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="A file begins again at its end.")] = False,
    seconds: Annotated[float | None, typer.Option(help="End after so many seconds.")] = None,
    engine: Annotated[str | None, typer.Option(help="auto, eager, openvino, inductor, tensorrt.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file laid over the preset.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one key, e.g. judge.threshold=0.2."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the recording if it exists.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No lines about how it goes.")] = False,
) -> None:
    """Show a camera's scene without what does not belong in it, while it runs."""
    from stream import camera
    from stream.live_run import live as run
    from stream.options import Options, to_config

    wished = Options(
        preset=preset,
        remove=tuple(remove or ()),
        keep=tuple(keep or ()),
        look_ahead=look_ahead,
        engine=engine,
        config=None if config is None else str(config),
        change=tuple(change or ()),
    )
    settings = to_config(wished)
    host, port = _address(web)
    if window is None:
        window = web is None and record is None and not virtual_camera
    opened = run(
        int(source) if source.isdigit() else source,
        settings,
        record=record,
        overwrite=overwrite,
        size=camera.parse_size(size),
        loop=loop,
    )
    with stop_signals() as asked, opened:
        stop = _until(asked, seconds)
        if not quiet:
            opened.aside("status", lambda: _say(opened, stop))
        if virtual_camera:
            from stream.virtual_camera import feed_virtual_camera

            opened.aside("virtual-camera", lambda: feed_virtual_camera(opened, stop))
        if web is not None:
            from stream.web import serve

            def show_page() -> None:
                serve(
                    opened,
                    host,
                    port,
                    token,
                    folder=None if record is None else record.parent,
                    change=tuple(change or ()),
                    on_ready=lambda address: typer.echo(f"open {address}", err=True),
                    stop=stop,
                )

            if window:
                opened.aside("web", show_page)
            else:
                show_page()
        if window:
            from stream.preview import show_window

            show_window(opened, stop)
        while web is None and not window and not opened.status.ended and not stop():
            opened.wait(0.2)
        opened.close()
        _end(opened, quiet=quiet)


def _address(web: str | None) -> tuple[str, int]:
    if web is None:
        return "127.0.0.1", 0
    host, colon, port = web.rpartition(":")
    if not colon or not port.isdigit() or not 0 <= int(port) < 65536:
        raise UsageError(f"--web wants HOST:PORT, got {web!r}", hint="for example --web 127.0.0.1:8000")
    return host.strip("[]") or "127.0.0.1", int(port)


def _until(asked: Callable[[], bool], seconds: float | None) -> Callable[[], bool]:
    from time import monotonic

    end = None if seconds is None else monotonic() + seconds
    return lambda: asked() or (end is not None and monotonic() >= end)


def _say(opened: Live, stop: Callable[[], bool]) -> None:
    """A line when something changes, and every ten seconds."""
    from time import monotonic

    from stream.preview import status_line

    told, step, away = monotonic(), "full", False
    while not stop() and not opened.status.ended:
        status = opened.status
        if (status.step, status.away) != (step, away) or monotonic() - told >= _SAID_SECONDS:
            if status.away != away:
                typer.echo(
                    "the source has vanished; waiting" if status.away else "the source is back", err=True
                )
            typer.echo(status_line(status), err=True)
            told, step, away = monotonic(), status.step, status.away
        opened.wait(0.25)


def _end(opened: Live, *, quiet: bool) -> None:
    status = opened.status
    if not quiet:
        for each in status.warnings:
            typer.echo(f"warning: {each}", err=True)
        typer.echo(f"{opened.shown} pictures shown, {status.dropped} dropped", err=True)
    opened.check()
