"""What is asked of the live stream: pictures, wishes, thumbnails, a snapshot, recordings."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from configs.schema import ConfigError
from stream.errors import CleanplateError
from stream.web.bodies import read_body
from stream.web.feed import Feed
from stream.web.gate import refuse
from stream.web.viewer import serve_viewer
from stream.web.wishes import Recordings, wishes

if TYPE_CHECKING:
    from stream.live_run import Live

LONGEST_WISH = 16 << 10


def live_routes(live: Live, feed: Feed, recordings: Recordings, greeting: dict[str, Any]) -> list[BaseRoute]:
    """The routes; `greeting` is the first thing that each visitor is told."""
    known = wishes(live, feed.things, recordings)
    # however many ask: threads are few, and the pictures need one
    one_at_a_time = asyncio.Lock()

    async def watch(socket: WebSocket) -> None:
        await serve_viewer(socket, feed, greeting)

    async def wish(request: Request) -> Response:
        found = known.get(request.path_params["name"])
        if found is None:
            return refuse(404, "no such wish")
        kind, heed = found
        try:
            wished = kind.model_validate(json.loads(await read_body(request, LONGEST_WISH)))
        except (ValueError, RecursionError) as error:
            return refuse(400, "this wish is not understood", _why(error))
        try:
            async with one_at_a_time:
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
        async with one_at_a_time:
            data = await asyncio.to_thread(_snapshot, live)
        if data is None:
            return refuse(404, "there is no picture yet")
        named = {"content-disposition": "attachment; filename=cleanplate.png"}
        return Response(data, media_type="image/png", headers=named)

    async def recording(request: Request) -> Response:
        path = recordings.find(request.path_params["name"])
        if path is None:
            return refuse(404, "no such recording")
        return FileResponse(path, media_type="video/mp4", filename=path.name)

    return [
        WebSocketRoute("/feed", watch),
        Route("/wish/{name}", wish, methods=["POST"]),
        Route("/thing/{name}", thumbnail),
        Route("/snapshot", snapshot),
        Route("/recording/{name}", recording),
    ]


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
