"""For programs that have frames already: push pictures in, get cleaned pictures out."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from functools import cache

from configs.schema import Config, load_config
from engines import one_thread_each
from stream import judge, perceive, pipeline
from stream.completer import open_completer
from stream.errors import UsageError
from stream.inpaint import open_inpaint
from stream.types import Filled, Frame, Image

_TIME_BASE = Fraction(1, 90_000)


class Cleaner:
    """Cleans a stream of pictures of one size, in the caller's thread; each comes back `look_ahead` later.

    The networks are opened at the first picture. Raises `UsageError` for a picture of another size or
    dtype, or a time that does not grow.
    """

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or load_config()
        self._analysis: pipeline.Analysis | None = None
        self._filling: pipeline.Filling | None = None
        self._last: Frame | None = None
        self._done: deque[Filled] = deque()

    def push(self, image: Image, time: float | Fraction) -> Filled | None:
        """Take the next picture (uint8 H x W x 3 RGB) at `time` seconds; return the oldest finished."""
        frame = self._frame(image, time)
        if self._analysis is None or self._filling is None:
            if self.config.engine.name == "none":
                raise UsageError("the engine none sees nothing", hint="choose another engine")
            clock = pipeline.Clock()
            networks = perceive.open_networks(self.config, frame.width, frame.height)
            self._analysis = pipeline.Analysis(
                self.config, networks, judge.open_relation(self.config.judge), clock
            )
            inpaint = open_inpaint(self.config)
            self._filling = pipeline.Filling(
                self.config, inpaint, clock, completer=cache(lambda: open_completer(self.config))
            )
        with one_thread_each():
            self._done.extend(self._filling.push(self._analysis.push(frame)))
        return self._done.popleft() if self._done else None

    def finish(self) -> list[Filled]:
        """Return every picture that is still waiting; the cleaner may then be used for another stream."""
        with one_thread_each():
            rest = [*self._done, *(self._filling.finish() if self._filling else [])]
        self.__init__(self.config)  # type: ignore[misc]
        return rest

    def _frame(self, image: Image, time: float | Fraction) -> Frame:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != "uint8":
            raise UsageError(f"a picture must be uint8 H x W x 3, got {image.dtype} {image.shape}")
        height, width = image.shape[:2]
        pts = round(Fraction(time) / _TIME_BASE)
        last = self._last
        if last is not None and (width, height) != (last.width, last.height):
            raise UsageError(f"the picture is {width}x{height}, those before were {last.width}x{last.height}")
        if last is not None and pts <= last.pts:
            raise UsageError(f"time must grow, got {float(time):.6f} s after {float(last.time):.6f} s")
        self._last = Frame(
            index=0 if last is None else last.index + 1,
            pts=pts,
            time_base=_TIME_BASE,
            planes=(image,),
            format="rgb24",
            width=width,
            height=height,
        )
        return self._last
