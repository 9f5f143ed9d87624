"""Ctrl-C and SIGTERM: the first asks a run to end in good order, the second ends it at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_INTERRUPTED = 130


class Stop:
    """Whether the user asked for an end; called by the run after every frame."""

    def __init__(self) -> None:
        self.asked = False
        self._listening = False

    def __call__(self) -> bool:
        self._listening = True
        return self.asked

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        if self.asked:
            # nothing is asked any more: threads may be deep in a library
            shown = b"\x1b[?25h" if sys.stderr.isatty() else b""  # the cursor, which the bar has hidden
            os.write(sys.stderr.fileno(), shown + b"\nerror: interrupted twice\n")
            os._exit(_INTERRUPTED)
        self.asked = True
        if not self._listening:
            raise KeyboardInterrupt
        os.write(sys.stderr.fileno(), b"\nstopping after this frame; once more stops at once\n")


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Yield the `stop` of a run; afterwards signals are what they were."""
    stop = Stop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop.handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
