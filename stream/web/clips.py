"""Files that visitors send: taken with a limit, cleaned in a process of its own, one at a time, given back.

Names, places and types are chosen here; nothing of them comes from the visitor.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from stream.errors import CleanplateError, OutputError
from stream.web.wishes import SPARE_BYTES

MOST_KEPT = 4
SILENT_SECONDS = 300.0
"""A cleaning process that tells nothing for so long is ended (opening networks for a new size takes some)."""

_CHUNK_SECONDS = 20.0
_GRACE_SECONDS = 30.0
_SLOWEST_BYTES = 16 << 10
"""An upload that is slower than this per second, after some grace, gives its place to others."""

_LONGEST_LINE = 1 << 16


class RefusedError(Exception):
    """Why an upload is not taken: HTTP status and what to tell."""

    def __init__(self, status: int, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.status = status
        self.what = what
        self.hint = hint


@dataclass
class Clip:
    """One upload; `told` is what the page gets: its state receiving, waiting, cleaning, done or failed."""

    id: str
    folder: Path
    told: dict[str, Any] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    result: Path | None = None

    @property
    def active(self) -> bool:
        """Whether it is being received or cleaned."""
        return self.told["state"] in ("receiving", "waiting", "cleaning")


class Clips:
    """All uploads of this run, in a folder that goes with it."""

    def __init__(self, folder: Path, limit: int, change: Sequence[str], changed: Callable[[], None]) -> None:
        self.limit = limit
        self._folder = folder
        self._change = tuple(change)
        self._changed = changed
        self._clips: dict[str, Clip] = {}

    def told(self) -> list[dict[str, Any]]:
        """What is known of each, the newest first, as JSON."""
        return [{"id": clip.id, **clip.told} for clip in reversed(self._clips.values())]

    def find(self, number: str) -> Clip | None:
        """The clip of this id."""
        return self._clips.get(number)

    async def take(self, body: AsyncIterator[bytes], declared: int | None, preset: str) -> Clip:
        """Receive a file and begin to clean it; raises RefusedError."""
        if any(clip.active for clip in self._clips.values()):
            raise RefusedError(409, "another clip is being cleaned", "wait for it, or stop it")
        room = min(self.limit, shutil.disk_usage(self._folder).free - SPARE_BYTES)
        if declared is not None and declared > self.limit:
            raise RefusedError(413, f"at most {_size(self.limit)} are taken", "cut it into parts")
        if room <= 0 or (declared or 0) > room:
            raise RefusedError(507, "there is not enough room on the disk for this file")
        clip = self._new()
        try:
            await self._receive(clip, body, declared, room)
        except BaseException:
            self._forget(clip)
            raise
        clip.told = {"state": "waiting"}
        clip.task = asyncio.create_task(self._clean(clip, preset))
        self._changed()
        return clip

    async def stop(self, clip: Clip) -> None:
        """End what is going on with a clip and delete its files."""
        await self._end(clip)
        self._forget(clip)

    async def close(self) -> None:
        """End everything; the folder is deleted by whoever made it."""
        for clip in [*self._clips.values()]:
            await self._end(clip)

    async def _receive(self, clip: Clip, body: AsyncIterator[bytes], declared: int | None, room: int) -> None:
        began, count = monotonic(), 0
        with (clip.folder / "upload").open("xb") as file:
            while True:
                try:
                    chunk = await asyncio.wait_for(anext(body, None), _CHUNK_SECONDS)
                except TimeoutError:
                    raise RefusedError(408, "the upload stopped") from None
                if chunk is None:
                    break
                count += len(chunk)
                if count > room:
                    raise RefusedError(413, f"at most {_size(room)} are taken", "cut it into parts")
                if count < (monotonic() - began - _GRACE_SECONDS) * _SLOWEST_BYTES:
                    raise RefusedError(408, "the upload is too slow")
                await asyncio.to_thread(file.write, chunk)
                clip.told = {"state": "receiving", "bytes": count, "of": declared}
        if count == 0:
            raise RefusedError(400, "the file is empty")

    async def _clean(self, clip: Clip, preset: str) -> None:
        """Run the cleaning process to its end and keep what it tells."""
        try:
            await self._run(clip, preset)
        except asyncio.CancelledError:
            clip.told = {"state": "failed", "error": "stopped", "hint": ""}
            raise
        except Exception as error:
            what = error.what if isinstance(error, CleanplateError) else str(error)
            clip.told = {"state": "failed", "error": what, "hint": getattr(error, "hint", "")}
        finally:
            for name in ("upload", "input"):
                for path in clip.folder.glob(f"{name}*"):
                    path.unlink(missing_ok=True)
            self._changed()

    async def _run(self, clip: Clip, preset: str) -> None:
        command = (sys.executable, "-m", "stream.web.cleaning", str(clip.folder / "upload"), str(clip.folder))
        process = await asyncio.create_subprocess_exec(
            *command,
            preset,
            *self._change,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_LONGEST_LINE,
            env={**os.environ, "CLEANPLATE_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        try:
            assert process.stdout is not None
            while line := await asyncio.wait_for(process.stdout.readline(), SILENT_SECONDS):
                self._hear(clip, line)
            code = await asyncio.wait_for(process.wait(), 10.0)
        except TimeoutError:
            raise OutputError("the cleaning process hung and was ended") from None
        finally:
            await _finish(process)
        if clip.told["state"] not in ("done", "failed"):
            raise OutputError(f"the cleaning process ended early (code {code})")

    def _hear(self, clip: Clip, line: bytes) -> None:
        try:
            told = json.loads(line)
        except ValueError:
            return  # a library printed something
        if not isinstance(told, dict):
            return
        if "error" in told:
            clip.told = {"state": "failed", "error": told["error"], "hint": told.get("hint", "")}
        else:
            clip.told = {**clip.told, **told}
        if told.get("state") == "done":
            clip.result = clip.folder / clip.told.pop("output")
            clip.told["suffix"] = clip.result.suffix
            clip.told["bytes"] = clip.result.stat().st_size
        if "frames" in told:
            clip.told["picture"] = clip.told.get("picture", 0) + 1
        self._changed()

    def _new(self) -> Clip:
        finished = [clip for clip in self._clips.values() if not clip.active]
        for clip in finished[: max(0, len(finished) - MOST_KEPT + 1)]:
            self._forget(clip)
        number = secrets.token_hex(8)
        folder = self._folder / number
        folder.mkdir(mode=0o700)
        clip = self._clips[number] = Clip(number, folder, {"state": "receiving", "bytes": 0, "of": None})
        return clip

    async def _end(self, clip: Clip) -> None:
        if clip.task is not None:
            clip.task.cancel()
            with suppress(asyncio.CancelledError):
                await clip.task

    def _forget(self, clip: Clip) -> None:
        self._clips.pop(clip.id, None)
        shutil.rmtree(clip.folder, ignore_errors=True)
        self._changed()


async def _finish(process: asyncio.subprocess.Process) -> None:
    """End a process at once: whatever it has written goes with its folder."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _size(count: int) -> str:
    return f"{count / (1 << 30):.3g} GB" if count >= 1 << 30 else f"{count / (1 << 20):.3g} MB"
