"""Every error a user can meet, with its exit code and a remedy."""

from __future__ import annotations


class CleanplateError(Exception):
    """Base of all errors shown to users: WHAT went wrong, WHERE, and what to do about it.

    `exit_code` is part of the command line's contract: 2 usage, 3 input, 4 output, 5 engine or
    weights, 6 partial (130 is an interrupted run).
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(f"{what} ({where})" if where else what)
        self.what = what
        self.where = where
        self.hint = hint


class UsageError(CleanplateError, ValueError):
    """A wrong option, configuration key, class name or mask."""

    exit_code = 2


class InputError(CleanplateError, OSError):
    """The input cannot be read."""

    exit_code = 3


class OutputError(CleanplateError, OSError):
    """The output cannot be written, or is there already."""

    exit_code = 4


class BusyError(OutputError):
    """Another run is writing this output now."""


class EngineError(CleanplateError, RuntimeError):
    """An engine or weights that cannot be used on this machine."""

    exit_code = 5


class PartialError(CleanplateError, RuntimeError):
    """Something good was written, but not all of it: damaged input, or some clips of a batch failed."""

    exit_code = 6


class InterruptedRunError(CleanplateError, RuntimeError):
    """The user stopped the run."""

    exit_code = 130
