"""The web page of `cleanplate live --web HOST:PORT`; the server's libraries are imported when it starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stream.errors import UsageError

if TYPE_CHECKING:
    from stream.live_run import Live

__all__ = ["serve"]


def serve(
    live: Live,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    *,
    folder: Path | None = None,
    names: Sequence[str] = (),
    upload_mb: int = 2048,
    change: Sequence[str] = (),
    on_ready: Callable[[str], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> None:
    """Show `live` on a web page and take wishes from it, until `stop` says so (asked ten times a second).

    `port` 0 takes a free one. `token`: what a visitor must know; at an address other than this machine's own
    one is made when none is given. `folder`: where recordings go (default: the working folder). `names`: host
    names under which the page is reached through a proxy. `change`: KEY=VALUE settings for uploaded clips.
    `on_ready` gets the address to open, with the token in it. No signal is handled here, and any thread
    will do. Raises UsageError (libraries missing, bad address or token) and OutputError (folder).
    """
    try:
        from stream.web.server import Settings, run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn", "websockets"):
            raise
        raise UsageError(
            f"the web page needs {error.name}, which is not installed", hint="pip install 'cleanplate[web]'"
        ) from None
    settings = Settings(
        host=host,
        port=port,
        token=token,
        folder=folder or Path.cwd(),
        names=tuple(names),
        upload_bytes=upload_mb << 20,
        change=tuple(change),
    )
    run(live, settings, on_ready, stop)
