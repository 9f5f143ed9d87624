"""What a visitor may ask of the stream, each a small JSON object that is checked before it is heeded."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from stream.errors import OutputError
from stream.types import Action
from stream.web.things import Things

if TYPE_CHECKING:
    from stream.live_run import Live

SPARE_BYTES = 1 << 30
"""Recordings and uploads leave this much of the disk free."""

_MOST_LISTED = 20


class _Wish(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Decide(_Wish):
    """Keep or remove one thing; None leaves it to the judge."""

    track: int
    action: Action | None


_Labels = Annotated[
    tuple[Annotated[str, Field(max_length=40, pattern=r"^[a-z ]+$")], ...], Field(max_length=80)
]


class Classes(_Wish):
    """Which classes always go and which always stay."""

    remove: _Labels
    keep: _Labels


class Preset(_Wish):
    """Judge by another preset."""

    name: str = Field(max_length=40)


class LookAhead(_Wish):
    """Show pictures later, judged on what came after."""

    seconds: float = Field(ge=0, le=10)


class Reset(_Wish):
    """Forget what was seen behind things."""


class Record(_Wish):
    """Start or stop recording; the server chooses the name."""

    on: bool


class Recordings:
    """Files recorded by this page into one folder; only these can be downloaded."""

    def __init__(self, live: Live, folder: Path) -> None:
        self._live = live
        self._folder = folder
        self._files: dict[str, Path] = {}
        self._running: tuple[str, float] | None = None
        self._lock = threading.Lock()

    def switch(self, on: bool) -> None:
        """Start or stop; raises OutputError and UsageError when that cannot be."""
        with self._lock:
            if not on:
                self._running = None
                self._live.record(None)
                return
            if shutil.disk_usage(self._folder).free < SPARE_BYTES:
                raise OutputError("the disk is nearly full", hint="delete something first")
            path = self._free_name()
            self._live.record(path)
            self._files[path.name] = path
            self._running = path.name, time.monotonic()

    def check_space(self) -> None:
        """Stop a recording before the disk is full."""
        if self._running is not None and shutil.disk_usage(self._folder).free < SPARE_BYTES:
            self.switch(False)

    def running(self, path: str | None) -> dict[str, Any] | None:
        """The recording that `Status.recording` names, as JSON: it may have been started elsewhere."""
        if path is None:
            return None
        own = self._running
        seconds = time.monotonic() - own[1] if own is not None and own[0] == Path(path).name else None
        return {"name": Path(path).name, "seconds": None if seconds is None else round(seconds)}

    def told(self) -> list[dict[str, Any]]:
        """Finished recordings, the newest first, as JSON."""
        running = None if self._running is None else self._running[0]
        found = [(name, path) for name, path in self._files.items() if name != running and path.is_file()]
        return [
            {"name": name, "bytes": path.stat().st_size} for name, path in reversed(found[-_MOST_LISTED:])
        ]

    def find(self, name: str) -> Path | None:
        """The finished recording of this name."""
        own = self._running
        path = self._files.get(name)
        return path if path is not None and (own is None or own[0] != name) and path.is_file() else None

    def _free_name(self) -> Path:
        stem = time.strftime("cleanplate-%Y%m%d-%H%M%S")
        for number in range(1, 1000):
            path = self._folder / (f"{stem}.mp4" if number == 1 else f"{stem}-{number}.mp4")
            if not path.exists() and path.name not in self._files:
                return path
        raise OutputError("no free name for a recording", where=str(self._folder))


Heed = Callable[[Any], None]


def wishes(live: Live, things: Things, recordings: Recordings) -> dict[str, tuple[type[_Wish], Heed]]:
    """Name of each wish, what it looks like, and what heeds it (may block; raises CleanplateError)."""

    def decide(wish: Decide) -> None:
        live.decide(wish.track, wish.action)
        things.say(wish.track, wish.action)

    return {
        "decide": (Decide, decide),
        "classes": (Classes, lambda wish: live.classes(wish.remove, wish.keep)),
        "preset": (Preset, lambda wish: live.preset(wish.name)),
        "look-ahead": (LookAhead, lambda wish: live.look_ahead(wish.seconds)),
        "reset": (Reset, lambda _: live.reset()),
        "record": (Record, lambda wish: recordings.switch(wish.on)),
    }
