"""What is known about an input before its first frame is used."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from stream.hdr import Hdr10
from stream.types import Colour

MAX_SIDE = 16384
MAX_PIXELS = 1 << 28
"""Larger pictures are refused: a header of a few bytes can claim any size."""


@dataclass(frozen=True)
class StreamInfo:
    """One stream of a container beside the video that is cleaned."""

    index: int
    kind: str
    codec: str
    language: str = ""
    title: str = ""

    def __str__(self) -> str:
        words = [self.kind, f"#{self.index}", self.codec]
        return " ".join([*words, *(f"({word})" for word in (self.language, self.title) if word)])


@dataclass(frozen=True)
class SourceInfo:
    """An input as its headers and its first frame describe it; what a sink needs to write the same again.

    `format`: pixel format of the frames' planes, `coded_format`: the decoder's own. `rotation`: degrees
    clockwise; `display_matrix`: the nine numbers it came from, flips included. `sample_aspect`: width to
    height of a sample, None where nothing is said. `range_tag`: 0 unspecified, 1 limited, 2 full.
    `field_order`: 0 unknown, 1 progressive, 2 and 4 top field first, 3 and 5 bottom field first.
    `hdr10`: for which display an HDR video was graded. `first_pts`: the time stamp of the first picture of
    the whole input, in `time_base`; `start` and `end` are seconds after it, `shown_from` those of the first
    picture that is read. `duration` (seconds) and `frames` (an estimate unless `frames_exact`) are of the cut
    where there is one.
    `images`: file names of a folder in their order.
    """

    path: str
    kind: Literal["video", "folder", "image"]
    container: str
    codec: str
    width: int
    height: int
    format: str
    coded_format: str
    colour: Colour
    range_tag: int
    time_base: Fraction
    rate: Fraction
    rotation: int = 0
    display_matrix: tuple[int, ...] | None = None
    sample_aspect: Fraction | None = None
    field_order: int = 0
    first_pts: int = 0
    duration: Fraction | None = None
    frames: int | None = None
    frames_exact: bool = False
    stream: int = 0
    streams: tuple[StreamInfo, ...] = ()
    images: tuple[str, ...] = ()
    start: Fraction | None = None
    end: Fraction | None = None
    shown_from: Fraction = Fraction(0)
    hdr10: Hdr10 | None = None
    warnings: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """Length of what will be read, in seconds, None where it is unknown."""
        return None if self.duration is None else float(self.duration)

    def shift(self, container: str) -> Fraction:
        """Seconds of the input's clock that are 0 in an output of this container."""
        if container in ("avi", "gif"):
            # these have no start times: the first picture is shown at 0, and the sound has to agree with that
            return self.first_pts * self.time_base + self.shown_from
        return self.start or Fraction(0)

    @property
    def name(self) -> str:
        """The last part of the path, for messages."""
        return Path(self.path).name or self.path
