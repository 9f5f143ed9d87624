"""The page's server: an address is bound, connections are bounded, and it ends when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import quote

import starlette  # noqa: F401  all that is missing is to be missed here
import uvicorn
import websockets  # noqa: F401

from stream.errors import OutputError, UsageError
from stream.web.gate import Gate, make_gate

if TYPE_CHECKING:
    from stream.live_run import Live

MOST_CONNECTIONS = 64
IDLE_SECONDS = 10.0
"""A connection that has asked nothing for so long is closed."""


@dataclass(frozen=True)
class Settings:
    """Where and for whom the page is; see `stream.web.serve`."""

    host: str
    port: int
    token: str | None
    folder: Path
    names: tuple[str, ...]
    upload_bytes: int
    change: tuple[str, ...]


def run(
    live: Live,
    settings: Settings,
    on_ready: Callable[[str], None] | None,
    stop: Callable[[], bool] | None,
) -> None:
    """Serve until `stop` says so."""
    from stream.web.app import make_app

    if not settings.folder.is_dir():
        raise OutputError(
            "there is no such folder for recordings", where=str(settings.folder), hint="make it first"
        )
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_bind(settings.host, settings.port))
        port = listener.getsockname()[1]
        gate = make_gate(settings.host, port, settings.token, settings.names)
        uploads = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="cleanplate-web-", ignore_cleanup_errors=True)
        )
        app = make_app(
            live,
            gate,
            recordings=settings.folder.absolute(),
            uploads=Path(uploads),
            upload_bytes=settings.upload_bytes,
            change=settings.change,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        config = uvicorn.Config(
            app,
            http="h11",
            ws="websockets-sansio",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            backlog=64,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=1,
            ws_max_size=4096,
            ws_per_message_deflate=False,  # pictures are compressed already
        )
        server = _Server(config, stop, lambda: on_ready and on_ready(address(settings.host, port, gate)))
        asyncio.run(server.serve(sockets=[listener]))


def address(host: str, port: int, gate: Gate) -> str:
    """What to open in a browser; for an address that means all, the one that others use."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_unspecified:
            host = _own_address()
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + (f"?token={quote(gate.token)}" if gate.token else "")


def _own_address() -> str:
    """The address that a packet to elsewhere would come from (none is sent)."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return socket.gethostname()


class _Server(uvicorn.Server):
    """uvicorn's server without signal handlers, with a way to end it, and with an eye on idle connections."""

    def __init__(
        self, config: uvicorn.Config, stop: Callable[[], bool] | None, ready: Callable[[], object]
    ) -> None:
        super().__init__(config)
        self._stop = stop
        self._ready = ready
        self._since: dict[object, float] = {}

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the program's signal handlers alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say when it is ready."""
        await super().startup(sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        """Look around, ten times a second."""
        if self._stop is not None and self._stop():
            self.should_exit = True
        if counter % 10 == 0:
            self._close_idle()
        return await super().on_tick(counter)

    def _close_idle(self) -> None:
        """Close connections that never send a whole request: uvicorn itself waits for ever."""
        now = monotonic()
        silent = [each for each in self.server_state.connections if getattr(each, "cycle", each) is None]
        self._since = {each: self._since.get(each, now) for each in silent}
        for each, since in self._since.items():
            if now - since > IDLE_SECONDS:
                each.transport.close()  # type: ignore[attr-defined]


def _bind(host: str, port: int) -> socket.socket:
    if not 0 <= port < 1 << 16:
        raise UsageError(f"a port is a number from 0 to 65535, not {port}")
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise UsageError(
            f"the page cannot be served there: {error.strerror or error}",
            where=f"{host}:{port}",
            hint="choose another port, or 0 for any free one",
        ) from None
    return listener
