"""Who may ask: the Host and Origin of a request, its token, and how long it may be.

A page of another site that is open in the same browser can send requests here, and by DNS rebinding even
under a name of its own. So the Host must be an address or a name of this machine, the Origin this page's,
and what changes something is refused without one.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stream.errors import UsageError

SHORTEST_TOKEN = 12
OPEN_PATHS = ("/enter", "/page/")
"""What a visitor without the token may have: where it is entered, and files that are no secret."""

_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",  # with no-referrer a form would send "Origin: null"
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True)
class Gate:
    """`token` None: everybody on this machine may enter. `names`: hosts allowed besides addresses."""

    token: str | None
    names: frozenset[str]
    cookie: str

    @property
    def session(self) -> str:
        """What the cookie holds: made of the token, but not the token itself."""
        return hmac.new((self.token or "").encode(), b"cleanplate live page", hashlib.sha256).hexdigest()

    def knows(self, token: str) -> bool:
        """Whether this is the token, compared in constant time."""
        return self.token is None or hmac.compare_digest(token.encode(), self.token.encode())

    def entered(self, request: HTTPConnection) -> bool:
        """Whether the visitor has shown the token: by cookie, or as `Authorization: Bearer`."""
        if self.token is None:
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.knows(given.strip()):
            return True
        session = request.cookies.get(self.cookie, "")
        return hmac.compare_digest(session.encode(), self.session.encode())

    def admits_host(self, headers: Headers) -> bool:
        """Whether the Host is a bare address (which no DNS server can point elsewhere) or a known name."""
        hosts = headers.getlist("host")
        name = _host_name(hosts[0]) if len(hosts) == 1 else None
        return name is not None and (_is_address(name) or name in self.names)

    def admits_origin(self, headers: Headers, *, changes: bool) -> bool:
        """Whether the request comes from this page; what `changes` something must say so."""
        origins = headers.getlist("origin")
        if not origins:
            return not changes
        if len(origins) != 1:
            return False
        origin = urlsplit(origins[0])
        return origin.scheme in ("http", "https") and origin.netloc.lower() == headers.get("host", "").lower()


def make_gate(host: str, port: int, token: str | None, names: Sequence[str] = ()) -> Gate:
    """The gate of a page at `host`; raises UsageError for a token that can be guessed."""
    if token is None and not is_own(host):
        token = secrets.token_urlsafe(18)
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise UsageError(
            f"a token needs at least {SHORTEST_TOKEN} letters or digits",
            hint="leave it out, and one is made and printed",
        )
    own = socket.gethostname().lower()
    known = {"localhost", own, f"{own}.local", *(name.lower() for name in names)}
    if not _is_address(host):
        known.add(host.lower())
    return Gate(token, frozenset(known), f"cleanplate-{port}")


def is_own(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Lets through what the gate admits, and adds headers to every answer that keep other sites out."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self.app = app
        self.gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or connection."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(HTTPConnection(scope))
        if scope["type"] == "websocket":
            if refusal is None:
                await self.app(scope, receive, send)
            else:
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = ((name.encode(), value.encode()) for name, value in _HEADERS.items())
                headers = [*message.get("headers", ()), *own]
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message["headers"] = headers
            await send(message)

        await (refusal or self.app)(scope, receive, send_with_headers)

    def _refusal(self, request: HTTPConnection) -> Response | None:
        scope, headers = request.scope, request.headers
        if not self.gate.admits_host(headers):
            return refuse(421, "this is not the name of this machine", "use its address")
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        if not self.gate.admits_origin(headers, changes=changes):
            return refuse(403, "this request does not come from the page itself")
        if self.gate.entered(request) or scope["path"].startswith(OPEN_PATHS):
            return None
        if scope["type"] == "http" and scope["path"] == "/" and not changes:
            given = request.query_params.get("token", "")
            return let_in(self.gate, given) if given else RedirectResponse("/enter", 303)
        return refuse(401, "the token is missing or wrong", "open the address that was printed at the start")


def let_in(gate: Gate, given: str, *, secure: bool = False) -> Response:
    """The answer to a token: the page and a cookie, or once more the question."""
    if not gate.knows(given):
        return RedirectResponse("/enter?wrong=1", 303)
    answer = RedirectResponse("/", 303)
    if gate.token is not None:
        answer.set_cookie(gate.cookie, gate.session, httponly=True, samesite="lax", secure=secure, path="/")
    return answer


def refuse(status: int, what: str, hint: str = "", headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error as every route tells it."""
    return JSONResponse({"error": what, "hint": hint}, status, headers=dict(headers or {}))


def _host_name(host: str) -> str | None:
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018  raises for a port that is none
    except ValueError:
        return None
    return None if parts.username is not None or parts.path else parts.hostname


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
