"""Memory that is free goes back to the system, so that a long run holds no more than a short one."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache


@cache
def _trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    # only the GNU library has it; elsewhere allocators do this themselves
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> None:
    """Return what was freed among what is still held; takes some milliseconds, does nothing elsewhere.

    Pictures come and go between small things that stay, and the gaps would add up.
    """
    trim = _trim()
    if trim is not None:
        trim(0)
