"""The page's routes: files of the page, pictures, wishes, recordings and uploads."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from configs.schema import PRESETS, ConfigError
from stream.errors import CleanplateError
from stream.web.clips import Clips, RefusedError
from stream.web.feed import Feed
from stream.web.gate import Gate, Guard, let_in, refuse
from stream.web.viewer import serve_viewer
from stream.web.wishes import Recordings, wishes

if TYPE_CHECKING:
    from stream.live import Live

LONGEST_WISH = 16 << 10
_PAGE = Path(__file__).with_name("page")
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FILES = {".mp4": "video/mp4", ".webm": "video/webm", ".jpg": "image/jpeg", ".png": "image/png"}

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
    known = wishes(live, feed.things, kept)
    greeting = {
        "classes": list(THING_NAMES),
        "presets": list(PRESETS),
        "upload_bytes": upload_bytes,
        "token": gate.token is not None,
    }

    async def watch(socket: WebSocket) -> None:
        await serve_viewer(socket, feed, greeting)

    async def alive(_: Request) -> Response:
        return Response(status_code=204)

    async def enter(request: Request) -> Response:
        if request.method == "GET":
            return question[request.query_params.get("wrong") == "1"]
        body = await _body(request, 1024)
        given = parse_qs(body.decode("latin-1")).get("token", [""])[0]
        return let_in(gate, given.strip(), secure=request.url.scheme == "https")

    async def wish(request: Request) -> Response:
        found = known.get(request.path_params["name"])
        if found is None:
            return refuse(404, "no such wish")
        kind, heed = found
        try:
            wished = kind.model_validate(json.loads(await _body(request, LONGEST_WISH)))
        except (ValueError, RecursionError) as error:
            return refuse(400, "this wish is not understood", _why(error))
        try:
            await asyncio.to_thread(heed, wished)
        except (CleanplateError, ConfigError) as error:
            return refuse(409, getattr(error, "what", str(error)), getattr(error, "hint", ""))
        feed.wake()
        return Response(status_code=204)

    async def thumbnail(request: Request) -> Response:
        number = request.path_params["name"].partition("-")[0]
        found = feed.things.picture(int(number)) if number.isdecimal() and len(number) < 10 else None
        if found is None:
            return refuse(404, "this thing is gone")
        kept_long = {"cache-control": "private, max-age=3600, immutable"}
        return Response(found, media_type="image/jpeg", headers=kept_long)

    async def snapshot(_: Request) -> Response:
        data = await asyncio.to_thread(_snapshot, live)
        if data is None:
            return refuse(404, "there is no picture yet")
        named = {"content-disposition": "attachment; filename=cleanplate.png"}
        return Response(data, media_type="image/png", headers=named)

    async def recording(request: Request) -> Response:
        path = kept.find(request.path_params["name"])
        if path is None:
            return refuse(404, "no such recording")
        return FileResponse(path, media_type="video/mp4", filename=path.name)

    async def upload(request: Request) -> Response:
        preset = request.query_params.get("preset", "tourist")
        if preset not in PRESETS:
            return refuse(400, "no such preset")
        declared = request.headers.get("content-length", "")
        size = int(declared) if declared.isdecimal() and len(declared) < 20 else None
        try:
            clip = await clips.take(_chunks(request), size, preset)
        except RefusedError as error:
            return refuse(error.status, error.what, error.hint, {"connection": "close"})
        except ClientDisconnect:
            return refuse(400, "the upload was broken off")
        return Response(json.dumps({"id": clip.id}), 201, media_type="application/json")

    async def clip_stopped(request: Request) -> Response:
        clip = clips.find(request.path_params["number"])
        if clip is None:
            return refuse(404, "no such clip")
        await clips.stop(clip)
        return Response(status_code=204)

    async def clip_picture(request: Request) -> Response:
        clip = clips.find(request.path_params["number"])
        path = None if clip is None else clip.folder / "picture.jpg"
        if path is None or not path.is_file():
            return refuse(404, "there is no picture yet")
        return Response(path.read_bytes(), media_type="image/jpeg")

    async def clip_result(request: Request) -> Response:
        clip = clips.find(request.path_params["number"])
        if clip is None or clip.result is None:
            return refuse(404, "there is no result")
        kind = _FILES.get(clip.result.suffix, "application/octet-stream")
        # without a name, so that the page can give the file the one its visitor knows
        return FileResponse(clip.result, media_type=kind, headers={"content-disposition": "attachment"})

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
    routes = [
        Route("/", _file(page["index.html"])),
        *(Route(f"/page/{name}", _file(answer)) for name, answer in page.items()),
        Route("/enter", enter, methods=["GET", "POST"]),
        Route("/alive", alive),
        Route("/wish/{name}", wish, methods=["POST"]),
        Route("/thing/{name}", thumbnail),
        Route("/snapshot", snapshot),
        Route("/recording/{name}", recording),
        Route("/clips", upload, methods=["POST"]),
        Route("/clips/{number}", clip_stopped, methods=["DELETE"]),
        Route("/clips/{number}/picture", clip_picture),
        Route("/clips/{number}/result", clip_result),
        WebSocketRoute("/feed", watch),
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


async def _body(request: Request, limit: int) -> bytes:
    """The body of a request; raises a 413 as soon as it is, or claims to be, longer than `limit`."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or len(declared) > 18 or int(declared) > limit:
        raise HTTPException(413, "this is too long", {"connection": "close"})
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise HTTPException(413, "this is too long", {"connection": "close"})
    return body


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk


def _why(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return ""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:200]


def _snapshot(live: Live) -> bytes | None:
    import cv2

    shown = live.newer(-1, 0.0)
    if shown is None:
        return None
    done, data = cv2.imencode(".png", cv2.cvtColor(shown.image, cv2.COLOR_RGB2BGR))
    return data.tobytes() if done else None


async def _watch_disk(recordings: Recordings) -> None:
    while True:
        await asyncio.sleep(2.0)
        with suppress(OSError, CleanplateError):
            await asyncio.to_thread(recordings.check_space)
