"""Interlaced pictures: which of the two fields is first, keeping it so, and making one picture of them."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain

import av
from av.filter import Graph
from av.video.stream import VideoStream

TOP_FIRST = (2, 4)
"""FFmpeg's field orders in which the top field is shown first; 3 and 5 are those of the bottom field."""


def field_order(told: int, first: av.VideoFrame) -> int:
    """FFmpeg's number of the field order: what the container says, unless the picture itself knows better."""
    if not first.interlaced_frame:
        return told
    graph = _graph(first, Fraction(1, 1000), "select", "eq(interlace_type\\,TOPFIRST)")
    graph.push(first)
    graph.push(None)
    try:
        graph.pull()
    except (av.BlockingIOError, av.EOFError):
        return told if told in (3, 5) else 3
    return told if told in TOP_FIRST else 2


class FieldMarker:
    """Marks pictures as interlaced with one field order, which is what encoders go by."""

    def __init__(self, order: int) -> None:
        self._mode = "tff" if order in TOP_FIRST else "bff"
        self._graph: Graph | None = None

    def mark(self, picture: av.VideoFrame) -> av.VideoFrame:
        """The same picture, marked."""
        if self._graph is None:
            self._graph = _graph(picture, Fraction(1, 1000), "setfield", self._mode)
        self._graph.push(picture)
        marked = self._graph.pull()
        assert isinstance(marked, av.VideoFrame)
        marked.pict_type = 0
        return marked


def progressive(pictures: Iterator[av.VideoFrame], stream: VideoStream) -> Iterator[av.VideoFrame]:
    """One progressive picture for each interlaced one (bwdif); progressive pictures pass."""
    graph = Graph()
    graph.link_nodes(
        graph.add_buffer(template=stream),
        graph.add("bwdif", "mode=send_frame:deint=interlaced"),
        graph.add("buffersink"),
    ).configure()
    for picture in chain(pictures, [None]):
        graph.push(picture)
        while True:
            try:
                done = graph.pull()
            except (av.BlockingIOError, av.EOFError):
                break
            # the filter counts in half ticks, for those who want two pictures of one
            if done.pts is not None and done.time_base is not None:
                done.pts = round(done.pts * done.time_base / (stream.time_base or done.time_base))
                done.duration = round(done.duration * done.time_base / (stream.time_base or done.time_base))
                done.time_base = stream.time_base or done.time_base
            yield done  # type: ignore[misc]


def _graph(picture: av.VideoFrame, time_base: Fraction, name: str, options: str) -> Graph:
    """A graph of one filter for pictures like this one."""
    graph = Graph()
    graph.link_nodes(
        graph.add_buffer(
            width=picture.width, height=picture.height, format=picture.format, time_base=time_base
        ),
        graph.add(name, options),
        graph.add("buffersink"),
    ).configure()
    return graph
