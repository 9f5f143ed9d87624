"""Threads are given out here and nowhere else.

torch's CPU wheel runs on libgomp, whose idle threads spin: beside one other busy process two threads were
20 to 40 times slower than one. `OMP_WAIT_POLICY=PASSIVE` cures it, but only if it is set before torch is
imported, so importing `engines` (which imports this file) has to come first. NumPy's OpenBLAS spins as well;
`one_thread_each` keeps it to the thread that asks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from threadpoolctl import ThreadpoolController

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_given = 0


def available_threads() -> int:
    """How many processors this process may use: `CLEANPLATE_THREADS`, else affinity and container quota."""
    wish = os.environ.get("CLEANPLATE_THREADS", "")
    if wish.isdigit() and int(wish) > 0:
        return int(wish)
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, min(count, _quota() or count))


def _quota() -> int:
    """The processors a cgroup (v2) grants, rounded up; 0 where there is no limit or no cgroup."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return 0 if limit == "max" else -(-int(limit) // int(period))
    except (OSError, ValueError):
        return 0


def give_threads(count: int = 0) -> int:
    """Fix the number of threads networks run with from now on and return it; 0 means all there are.

    Holds for engines opened later without a count of their own, and for torch, imported or not yet.
    """
    if count < 0:
        raise ValueError(f"a number of threads cannot be negative: {count}")
    global _given
    _given = count or available_threads()
    os.environ["OMP_NUM_THREADS"] = str(_given)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(_given)
    return _given


def threads_for(count: int = 0) -> int:
    """The threads an engine gets that asked for `count` (0: what was given, else all there are)."""
    return count or _given or available_threads()


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let NumPy's products of matrices be computed by the thread that asks for them, within the block.

    Its own threads wait for each other by spinning. Ours keep the processors busy already, and there a
    product of 400 x 27 by 27 x 4000 numbers took twenty times the processor time that it takes in one.
    """
    with _libraries().limit(limits=1, user_api="blas"):
        yield


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()
