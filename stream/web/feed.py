"""The newest picture for all viewers: encoded once, while somebody looks, and never queued."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict
from time import monotonic
from typing import TYPE_CHECKING, Any

from stream.web.picture import Picture, make_picture
from stream.web.things import Things

if TYPE_CHECKING:
    from stream.live_run import Live, Shown
    from stream.web.clips import Clips
    from stream.web.wishes import Recordings

_WAIT_SECONDS = 0.25
_log = logging.getLogger(__name__)


class Viewer:
    """What one visitor's connection wants: pictures (unless its tab is hidden), and those before too."""

    def __init__(self) -> None:
        self.compare = False
        self.hidden = False
        self.woken = asyncio.Event()


class Feed:
    """Takes each new picture of `live`, encodes it in a thread, and wakes the viewers."""

    def __init__(self, live: Live, clips: Clips, recordings: Recordings) -> None:
        self.live = live
        self.things = Things()
        self.newest: Picture | None = None
        self._clips = clips
        self._recordings = recordings
        self._viewers: set[Viewer] = set()
        self._watched = asyncio.Event()

    def join(self, viewer: Viewer) -> None:
        """Begin to wake a viewer."""
        self._viewers.add(viewer)
        self.look()

    def leave(self, viewer: Viewer) -> None:
        """Wake it no longer."""
        self._viewers.discard(viewer)
        self.look()

    @property
    def viewers(self) -> int:
        """How many connections there are."""
        return len(self._viewers)

    def look(self) -> None:
        """Work only while somebody looks; to be called when a viewer's wishes have changed."""
        if any(not viewer.hidden for viewer in self._viewers):
            self._watched.set()
        else:
            self._watched.clear()

    def wake(self) -> None:
        """Let every viewer look whether there is something new to tell."""
        for viewer in self._viewers:
            viewer.woken.set()

    async def run(self) -> None:
        """Go on until cancelled; what goes wrong with one picture does not end the stream."""
        last = -1
        while True:
            await self._watched.wait()
            compare = any(viewer.compare and not viewer.hidden for viewer in self._viewers)
            missing = compare and self.newest is not None and self.newest.both is None
            try:
                shown = await asyncio.to_thread(self.live.newer, last - int(missing), _WAIT_SECONDS)
                if shown is not None:
                    last = shown.number
                    self.newest = await asyncio.to_thread(self._take, shown, compare)
                elif self.live.status.ended:
                    await asyncio.sleep(_WAIT_SECONDS)
            except Exception as error:
                _log.warning("a picture is not shown: %s", error)
                await asyncio.sleep(_WAIT_SECONDS)
            self.wake()

    def _take(self, shown: Shown, compare: bool) -> Picture:
        self.things.see(shown, monotonic())
        return make_picture(shown, compare=compare)

    def told(self) -> dict[str, Any]:
        """How the stream is doing, as JSON."""
        status = asdict(self.live.status)
        status["latency_seconds"] = round(status["latency_seconds"], 4)
        status["frames_per_second"] = round(status["frames_per_second"], 2)
        status["recording"] = self._recordings.running(status["recording"])
        return {**status, "viewers": self.viewers, "recordings": self._recordings.told()}

    def clips(self) -> list[dict[str, Any]]:
        """The uploaded clips, as JSON."""
        return self._clips.told()
