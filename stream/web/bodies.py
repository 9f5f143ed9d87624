"""Bodies of requests, never longer than they may be."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.exceptions import HTTPException
from starlette.requests import Request


async def read_body(request: Request, limit: int) -> bytes:
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


async def chunks(request: Request) -> AsyncIterator[bytes]:
    """The body piece by piece; whoever takes it keeps count."""
    async for chunk in request.stream():
        if chunk:
            yield chunk
