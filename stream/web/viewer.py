"""One visitor's connection: pictures out at the visitor's pace, acknowledgements and wishes to look in.

A picture is sent only when fewer than `IN_FLIGHT` are unacknowledged, and then the newest: a slow visitor
gets fewer pictures, never older ones, and holds at most two of them in memory here.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from statistics import median
from time import monotonic
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from stream.web.feed import Feed, Viewer
from stream.web.picture import Picture

IN_FLIGHT = 2
MOST_VIEWERS = 8
SEND_SECONDS = 20.0
"""A visitor who takes nothing for so long is gone."""

_STATUS_SECONDS = 0.5
_THINGS_SECONDS = 0.1
_MOST_MESSAGES = 200
"""Per second; the page sends one a picture."""


async def serve_viewer(socket: WebSocket, feed: Feed, greeting: dict[str, Any]) -> None:
    """Talk with one visitor until one side ends it."""
    await socket.accept()
    if feed.viewers >= MOST_VIEWERS:
        await socket.close(1013, f"{MOST_VIEWERS} visitors are the most")
        return
    talk = _Talk(socket, feed)
    feed.join(talk.viewer)
    try:
        await talk.send_json({"hello": greeting})
        tasks = [asyncio.create_task(talk.listen()), asyncio.create_task(talk.tell())]
        done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        for task in (*done, *waiting):
            with suppress(asyncio.CancelledError, WebSocketDisconnect, TimeoutError, RuntimeError):
                await task
    finally:
        feed.leave(talk.viewer)
    with suppress(Exception):
        await asyncio.wait_for(socket.close(talk.code, talk.why), 1.0)


class _Talk:
    def __init__(self, socket: WebSocket, feed: Feed) -> None:
        self.socket = socket
        self.feed = feed
        self.viewer = Viewer()
        self.code, self.why = 1000, ""
        self.flying: deque[tuple[Picture, float]] = deque()
        self.delays: deque[float] = deque(maxlen=60)

    async def listen(self) -> None:
        """Take what the visitor says until it is too much or nonsense."""
        second, count = 0, 0
        while True:
            text = await self.socket.receive_text()
            if int(monotonic()) != second:
                second, count = int(monotonic()), 0
            count += 1
            if count > _MOST_MESSAGES:
                self.code, self.why = 1008, "too many messages"
                return
            if not self._heed(text):
                self.code, self.why = 1007, "not understood"
                return

    def _heed(self, text: str) -> bool:
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            return False
        if not isinstance(said, dict):
            return False
        for key, value in said.items():
            if key == "ack" and type(value) is int:
                self._acknowledge(value)
            elif key in ("compare", "hidden") and type(value) is bool:
                setattr(self.viewer, key, value)
                self.feed.look()
            else:
                return False
        self.viewer.woken.set()
        return True

    def _acknowledge(self, number: int) -> None:
        while self.flying and self.flying[0][0].number <= number:
            picture, _ = self.flying.popleft()
            self.delays.append(monotonic() - picture.captured)

    async def tell(self) -> None:
        """Send what is new until the visitor is gone."""
        sent: Picture | None = None
        things = _News(self.feed.things.told, _THINGS_SECONDS)
        status = _News(lambda: {**self.feed.told(), "screen_seconds": self._delay()}, _STATUS_SECONDS)
        clips = _News(self.feed.clips, _THINGS_SECONDS)
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.viewer.woken.wait(), _STATUS_SECONDS)
            self.viewer.woken.clear()
            now = monotonic()
            picture = self._next(sent)
            if picture is not None:
                sent = picture
                self.flying.append((picture, now))
                both = picture.both if self.viewer.compare else None
                await self._send(self.socket.send_bytes(both or picture.after))
            if self.flying and now - self.flying[0][1] > SEND_SECONDS:
                self.code, self.why = 1008, "pictures are not acknowledged"
                return
            for name, news in (("things", things), ("status", status), ("clips", clips)):
                told = news.get(now)
                if told is not None:
                    await self.send_json({name: told})

    def _next(self, sent: Picture | None) -> Picture | None:
        """The picture to send now, if there is one and the visitor is ready for it."""
        newest = self.feed.newest
        if newest is None or self.viewer.hidden or len(self.flying) >= IN_FLIGHT:
            return None
        if sent is None or newest.number > sent.number:
            return newest
        # the same one again, when it has got what was missing to compare
        again = self.viewer.compare and sent.both is None and newest.both is not None
        return newest if again else None

    def _delay(self) -> float | None:
        """Seconds from capture until the visitor had drawn a picture, median of the last two seconds."""
        return round(median(self.delays), 4) if self.delays else None

    async def send_json(self, told: dict[str, Any]) -> None:
        """Send a message in text."""
        await self._send(self.socket.send_text(json.dumps(told, separators=(",", ":"))))

    async def _send(self, sending: Any) -> None:
        await asyncio.wait_for(sending, SEND_SECONDS)


class _News:
    """Something to tell, when it has changed and some time has passed."""

    def __init__(self, get: Callable[[], Any], seconds: float) -> None:
        self._get = get
        self._seconds = seconds
        self._told: Any = None
        self._at = -math.inf

    def get(self, now: float) -> Any:
        """What to tell now, or None."""
        if now - self._at < self._seconds:
            return None
        self._at = now
        told = self._get()
        if told == self._told:
            return None
        self._told = told
        return told
