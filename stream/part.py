"""The hidden folder beside an output in which it is made, held by one run at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from pathlib import Path
from typing import BinaryIO

from stream.errors import BusyError, OutputError

if sys.platform != "win32":
    import fcntl

_LOCK = "lock"


def part_of(output: Path) -> Path:
    """The folder in which `output` is made."""
    return output.with_name(f".{output.name}.part")


class Part:
    """The work folder of one output. Raises OutputError when it cannot be made or another run holds it."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self.folder = part_of(output)
        self._lock: BinaryIO | None = self._locked()

    def clear(self) -> None:
        """Remove what another run left there."""
        for each in self.folder.iterdir():
            if each.name != _LOCK:
                remove(each)

    def remove(self) -> None:
        """Remove the folder with all that is in it; harmless when it is gone."""
        if self._lock is not None:
            remove(self.folder)
            self.release()

    def release(self) -> None:
        """Let another run have the folder; what is in it stays."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _locked(self) -> BinaryIO:
        busy = BusyError(
            "another run is writing this output", where=str(self._output), hint="wait for it, or stop it"
        )
        for _ in range(3):
            try:
                self.folder.mkdir(exist_ok=True)
                lock = (self.folder / _LOCK).open("ab")
            except FileNotFoundError:
                continue  # it was removed by a run that ended just now
            except OSError as error:
                raise output_error(error, self._output) from None
            if sys.platform == "win32":
                return lock
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                raise busy from None
            except OSError:
                # some network file systems know no locks; the run is worth more than the guard
                return lock
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(lock.fileno()), (self.folder / _LOCK).stat()):
                    return lock
            lock.close()
        raise busy


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there and can be."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Bring a file or the names in a folder onto the disk; raises OSError."""
    folder = path.is_dir()
    if folder and sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def output_error(error: Exception, output: Path) -> OutputError:
    """What a failed write means for the user."""
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return OutputError("the disk is full", where=str(output), hint="free some space or write elsewhere")
    if number == errno.EFBIG:
        return OutputError(
            "the file is larger than allowed there", where=str(output), hint="write to another disk"
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError("writing there is not permitted", where=str(output), hint="choose another folder")
    reason = getattr(error, "strerror", None) or str(error)
    return OutputError(f"it cannot be written: {reason}", where=str(output))
