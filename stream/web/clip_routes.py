"""Uploads: sent, watched, stopped, and taken back."""

from __future__ import annotations

import json

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from configs.schema import PRESETS
from stream.web.bodies import chunks
from stream.web.clips import Clips, RefusedError
from stream.web.gate import refuse

_KINDS = {".mp4": "video/mp4", ".webm": "video/webm", ".jpg": "image/jpeg", ".png": "image/png"}


def clip_routes(clips: Clips) -> list[BaseRoute]:
    """The routes."""

    async def upload(request: Request) -> Response:
        preset = request.query_params.get("preset", "tourist")
        if preset not in PRESETS:
            return refuse(400, "no such preset")
        declared = request.headers.get("content-length", "")
        size = int(declared) if declared.isdecimal() and len(declared) < 20 else None
        try:
            clip = await clips.take(chunks(request), size, preset)
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
        kind = _KINDS.get(clip.result.suffix, "application/octet-stream")
        # without a name, so that the page can give the file the one its visitor knows
        return FileResponse(clip.result, media_type=kind, headers={"content-disposition": "attachment"})

    return [
        Route("/clips", upload, methods=["POST"]),
        Route("/clips/{number}", clip_stopped, methods=["DELETE"]),
        Route("/clips/{number}/picture", clip_picture),
        Route("/clips/{number}/result", clip_result),
    ]
