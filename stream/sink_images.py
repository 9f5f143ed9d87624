"""Frames as images: one file each, named as the input's images were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from stream.jpeg_tags import copy_tags
from stream.part import sync
from stream.pixel_format import layout
from stream.planes import to_rgb, to_video_frame
from stream.source_info import SourceInfo
from stream.types import Colour, Frame

_ENCODERS: dict[str, str] = {
    ".png": "png",
    ".jpg": "mjpeg",
    ".jpeg": "mjpeg",
    ".webp": "libwebp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".bmp": "bmp",
}
_OPTIONS: dict[str, dict[str, str]] = {
    # the finest quantiser: what the camera's own JPEG kept is kept
    "mjpeg": {"qmin": "1", "qmax": "1"},
    # level 9 takes five times as long for a few per cent
    "png": {"compression_level": "4", "pred": "mixed"},
    "libwebp": {"quality": "95"},
    "tiff": {"compression_algo": "deflate"},
    "bmp": {},
}
_LOSSLESS = {".png", ".tif", ".tiff", ".bmp"}


class ImageWriter:
    """Writes each frame as one image into a folder; `copied` is empty, images have no other streams."""

    def __init__(
        self, folder: Path, info: SourceInfo, *, lossless: bool = False, name: str | None = None
    ) -> None:
        self._folder = folder
        self._info = info
        self._lossless = lossless
        self._name = name
        self._unsynced: list[Path] = []
        self._contexts: dict[tuple[str, str, int, int], VideoCodecContext] = {}
        self._originals = Path(info.path) if info.kind == "folder" else Path(info.path).parent
        self.copied: tuple[str, ...] = ()
        self.waiting = None
        self.frames_copied = 0
        self.warnings = [f"{each} does not fit into images and is left out" for each in info.streams]
        if info.kind == "video":
            self.warnings.append(f"the video is written as PNG images: {info.format} becomes RGB, full range")
            self.warnings.append(
                "images have no time stamps, tags or chapters; those of the video are left out"
            )
        if info.sample_aspect not in (None, 1):
            self.warnings.append("images do not keep the sample aspect")
        shape = layout(info.format)
        if shape is not None and shape.kind == "yuv" and shape.bits > 8:
            self.warnings.append(f"images of {shape.bits}-bit video are written with 8 bits")

    def settle(self) -> None:
        """Nothing ever waits."""

    def write(self, frame: Frame, _same: bool = False, /) -> None:
        """Encode one frame under its name."""
        name = self._named(frame.index)
        data = self._encode(frame, Path(name).suffix.lower())
        if name.lower().endswith((".jpg", ".jpeg")) and self._info.images:
            data = copy_tags(self._originals / self._info.images[frame.index], data)
        path = self._folder / name
        path.write_bytes(data)
        self._unsynced.append(path)

    def part(self) -> int:
        """Bring every image onto the disk; there is no file whose length could be told."""
        for path in self._unsynced:
            sync(path)
        self._unsynced.clear()
        return 0

    def has(self, frames: int) -> bool:
        """Whether the images of the first `frames` frames are there."""
        return all((self._folder / self._named(index)).is_file() for index in range(frames))

    def finish(self) -> None:
        """Every image is written already."""

    def abandon(self) -> None:
        """Nothing is open."""

    def _named(self, index: int) -> str:
        if self._name is not None:
            return self._name
        images = self._info.images
        name = images[index] if index < len(images) else f"{index:06d}.png"
        if self._lossless and Path(name).suffix.lower() not in _LOSSLESS:
            return f"{Path(name).stem}.png"
        return name

    def _encode(self, frame: Frame, suffix: str) -> bytes:
        encoder = _ENCODERS[suffix]
        picture = _fitting(frame, encoder)
        key = (encoder, picture.format.name, picture.width, picture.height)
        context = self._contexts.get(key)
        if context is None:
            context = _context(*key, lossless=self._lossless)
            self._contexts[key] = context
        packets = context.encode(picture)
        return b"".join(bytes(packet) for packet in packets)


def _context(encoder: str, form: str, width: int, height: int, *, lossless: bool) -> VideoCodecContext:
    context = av.CodecContext.create(encoder, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height = width, height
    context.pix_fmt = form
    # WebP's lossless kind is the one that is decoded to RGB
    exact = encoder == "libwebp" and (lossless or form == "bgra")
    context.options = {**_OPTIONS[encoder], **({"lossless": "1"} if exact else {})}
    # one image in, one image out: several threads would hold pictures back
    context.thread_count = 1
    return context


def _fitting(frame: Frame, encoder: str) -> av.VideoFrame:
    """The frame in a pixel format that the encoder takes, converted as little as possible."""
    offered = [each.name for each in av.Codec(encoder, "w").video_formats or []]
    shape = layout(frame.format)
    assert shape is not None
    if encoder == "mjpeg" and frame.format in ("yuv420p", "yuv422p", "yuv444p") and frame.colour.full_range:
        picture = to_video_frame(frame)
        return picture.reformat(format=f"yuvj{frame.format[3:]}")
    native = shape.kind != "yuv" or frame.format.startswith("yuvj") or encoder == "libwebp"
    if frame.format in offered and native:
        return _stamped(to_video_frame(frame))
    swapped = {"rgb48le": "rgb48be", "rgba64le": "rgba64be", "gray16le": "gray16be"}.get(frame.format)
    if swapped in offered:
        return _stamped(to_video_frame(frame).reformat(format=swapped))
    if encoder == "mjpeg":
        rgb = _rgb_frame(frame)
        picture = to_video_frame(rgb).reformat(format="yuvj444p", dst_colorspace=5, dst_color_range=2)
        return _stamped(picture)
    if shape.kind == "packed" and shape.alpha and "bgra" in offered:
        return _stamped(to_video_frame(frame).reformat(format="bgra"))
    plain = to_video_frame(_rgb_frame(frame))
    wanted = next(name for name in ("rgb24", "bgr24", "bgra") if name in offered)
    return _stamped(plain if wanted == "rgb24" else plain.reformat(format=wanted))


def _rgb_frame(frame: Frame) -> Frame:
    rgb = np.ascontiguousarray(to_rgb(frame))
    return replace(frame, planes=(rgb,), format="rgb24", colour=Colour(matrix=0, full_range=True))


def _stamped(picture: av.VideoFrame) -> av.VideoFrame:
    # each image is the first of its own file
    picture.pts = None
    picture.pict_type = 0
    return picture
