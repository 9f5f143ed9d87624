"""The application: the page's own files, the question for the token, and all that is asked from the page."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from configs.schema import PRESETS
from stream.errors import CleanplateError
from stream.web.bodies import read_body
from stream.web.clip_routes import clip_routes
from stream.web.clips import Clips
from stream.web.feed import Feed
from stream.web.gate import Gate, Guard, let_in, refuse
from stream.web.live_routes import live_routes
from stream.web.wishes import Recordings

if TYPE_CHECKING:
    from stream.live_run import Live

_PAGE = Path(__file__).with_name("page")
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

Answer = Callable[[Request], Awaitable[Response]]


def make_app(
    live: Live,
    gate: Gate,
    *,
    recordings: Path,
    uploads: Path,
    upload_bytes: int,
    change: tuple[str, ...] = (),
) -> Starlette:
    """The ASGI application that shows `live`; `recordings` and `uploads` are existing folders."""
    from models.labels import THING_NAMES

    clips = Clips(uploads, upload_bytes, change, lambda: feed.wake())
    kept = Recordings(live, recordings)
    feed = Feed(live, clips, kept)
    greeting = {
        "classes": list(THING_NAMES),
        "presets": list(PRESETS),
        "upload_bytes": upload_bytes,
        "token": gate.token is not None,
    }

    async def alive(_: Request) -> Response:
        return Response(status_code=204)

    async def enter(request: Request) -> Response:
        if request.method == "GET":
            return question[request.query_params.get("wrong") == "1"]
        body = await read_body(request, 1024)
        given = parse_qs(body.decode("latin-1")).get("token", [""])[0]
        return let_in(gate, given.strip(), secure=request.url.scheme == "https")

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(feed.run()), asyncio.create_task(_watch_disk(kept))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
            await clips.close()

    page = _page_files()
    whole = bytes(page["enter.html"].body).decode()
    question = (HTMLResponse(re.sub(r"<!-- wrong -->.*<!-- /wrong -->", "", whole)), HTMLResponse(whole))
    routes: list[BaseRoute] = [
        Route("/", _file(page["index.html"])),
        *(Route(f"/page/{name}", _file(answer)) for name, answer in page.items()),
        Route("/enter", enter, methods=["GET", "POST"]),
        Route("/alive", alive),
        *live_routes(live, feed, kept, greeting),
        *clip_routes(clips),
    ]
    errors: Mapping[Any, Any] = {HTTPException: _http_error}
    return Starlette(
        routes=routes, lifespan=life, middleware=[Middleware(Guard, gate=gate)], exception_handlers=errors
    )


def _page_files() -> dict[str, Response]:
    """All files of the page, read once: no path of a request ever reaches the disk."""
    return {
        path.name: Response(
            path.read_bytes(),
            media_type=_KINDS[path.suffix],
            headers={"cache-control": "no-cache"},
        )
        for path in sorted(_PAGE.iterdir())
        if path.suffix in _KINDS
    }


def _file(answer: Response) -> Answer:
    async def give(_: Request) -> Response:
        return answer

    return give


async def _http_error(_: Request, error: HTTPException) -> Response:
    return refuse(error.status_code, str(error.detail).lower(), "", error.headers)


async def _watch_disk(recordings: Recordings) -> None:
    while True:
        await asyncio.sleep(2.0)
        with suppress(OSError, CleanplateError):
            await asyncio.to_thread(recordings.check_space)
