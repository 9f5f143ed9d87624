"""Which encoder writes a video: the input's own family where the container and an encoder allow it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import av
from av.codec.codec import find_best_pix_fmt_of_list
from av.video.codeccontext import VideoCodecContext

from stream.errors import UsageError
from stream.fields import TOP_FIRST
from stream.hdr import svt_params, x264_params, x265_params
from stream.pixel_format import Layout, layout
from stream.source_info import SourceInfo

CONTAINERS: dict[str, str] = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
    ".gif": "gif",
}
"""Output suffix to FFmpeg's name of the container."""

_HOLDS: dict[str, tuple[str, ...]] = {
    "mp4": ("h264", "hevc", "vp9", "av1", "mpeg4"),
    "mov": ("h264", "hevc", "prores", "mjpeg", "mpeg4"),
    "matroska": ("h264", "hevc", "vp9", "av1", "ffv1", "mjpeg", "mpeg4"),
    "webm": ("vp9", "av1"),
    "avi": ("h264", "ffv1", "mjpeg", "mpeg4"),
    "gif": ("gif",),
}
_ENCODERS: dict[str, str] = {
    "h264": "libx264",
    "hevc": "libx265",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
    "prores": "prores_ks",
    "ffv1": "ffv1",
    "gif": "gif",
    "mjpeg": "mjpeg",
    "mpeg4": "mpeg4",
}
_FAMILY: dict[str, str] = {"vp8": "vp9"}
_KIN: dict[str, tuple[str, ...]] = {"vp9": ("av1", "hevc"), "av1": ("hevc",), "hevc": ("av1",)}
"""Where to turn when an encoder does not take its family's pixels: ten bits of H.264 play hardly anywhere."""

_OLD = ("mjpeg", "mpeg4")
"""Families that go on only where the input is of them, and where their encoder takes its clock."""

FIELD_ENCODERS = ("libx264", "ffv1", "prores_ks", "mpeg4")
"""The encoders here that keep which lines of an interlaced picture belong together."""

DEFAULT_QUALITY = 16.0
"""x264's constant rate factor at which a viewer cannot tell the copy from the input."""
DEFAULT_PRESET = "veryfast"
_LAMBDA = 118
"""FFmpeg's unit of a quantiser."""

_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


@dataclass(frozen=True)
class Encoding:
    """An encoder with its options, and the pixel format in which it takes the pictures.

    `bit_exact`: what is decoded again equals what was given. `warnings`: what it cannot keep, in words.
    """

    encoder: str
    format: str
    options: dict[str, str]
    bit_exact: bool = False
    warnings: tuple[str, ...] = field(default=())


def choose_encoding(
    info: SourceInfo,
    container: str,
    *,
    lossless: bool = False,
    quality: float = DEFAULT_QUALITY,
    preset: str = DEFAULT_PRESET,
) -> Encoding:
    """The encoder for `info`'s pictures in a container of `CONTAINERS`.

    `quality` is a constant rate factor on x264's scale, lower is better; the other encoders get the value
    that looks alike. `preset` is one of x264's names. Raises UsageError for values outside these.
    """
    if preset not in _PRESETS:
        raise UsageError(f"no preset {preset!r}; known: {', '.join(_PRESETS)}")
    if not 0 <= quality <= 51:
        raise UsageError(f"quality {quality:g} is not between 0 (best) and 51")
    wanted = _FAMILY.get(info.codec, info.codec)
    held = _HOLDS[container]
    shape = layout(info.format)
    order = [name for name in (wanted, *_KIN.get(wanted, ()), *held) if name in held]
    order = [name for name in order if name not in _OLD or (name == wanted and _opens(name, info))]
    if info.field_order > 1 and _ENCODERS.get(order[0]) not in FIELD_ENCODERS and "h264" in held:
        order = ["h264", *order]  # of the encoders of today, the one that knows fields
    if lossless:
        order = _lossless_order(held, info)
    chosen = next((name for name in order if _takes(name, info, lossless)), order[0])
    encoder = _ENCODERS[chosen]
    if lossless and chosen == "h264" and info.format in ("rgb24", "bgr24"):
        encoder = "libx264rgb"
    form, warnings = _format(encoder, info, shape)
    options, exact = _options(encoder, form, container, lossless, quality, preset)
    if lossless and (not exact or form != info.format):
        exact = False
        warnings.append(f"{container} cannot hold {info.format} losslessly; mkv can")
    elif wanted != chosen and info.kind == "video" and not lossless:
        warnings.append(f"the video is written as {chosen}, not as the input's {info.codec}")
    encoding = Encoding(encoder, form, options, exact, tuple(warnings))
    return _with_hdr(_with_fields(encoding, info), info)


def _lossless_order(held: tuple[str, ...], info: SourceInfo) -> list[str]:
    # FFV1 holds every format bit for bit, but only where the container is made for it, and no HDR10 metadata
    order = ("hevc", "h264", "ffv1", "vp9") if info.hdr10 is not None else ("ffv1", "h264", "vp9", "hevc")
    return [name for name in order if name in held] or list(held)


def _formats(encoder: str) -> list[str]:
    return [each.name for each in av.Codec(encoder, "w").video_formats or []]


def _opens(name: str, info: SourceInfo) -> bool:
    """Whether an encoder takes pictures of this size and clock; the old ones are particular."""
    context = av.CodecContext.create(_ENCODERS[name], "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = info.width, info.height, info.format
    context.time_base, context.framerate = info.time_base, info.rate
    try:
        context.open()
    except (av.FFmpegError, ValueError):
        return False
    return True


def _takes(name: str, info: SourceInfo, lossless: bool) -> bool:
    if lossless and name == "h264" and info.format in ("rgb24", "bgr24"):
        return True
    return info.format in _formats(_ENCODERS[name])


def _format(encoder: str, info: SourceInfo, shape: Layout | None) -> tuple[str, list[str]]:
    offered = _formats(encoder)
    form = info.format
    warnings = []
    if encoder == "gif":
        return "pal8", []
    if form not in offered:
        if shape is not None and shape.kind == "packed" and "yuv420p" in offered:
            # what every player shows; the finer samplings are for those who ask for lossless
            form = "yuv420p10le" if shape.bits > 8 and "yuv420p10le" in offered else "yuv420p"
        else:
            best, _ = find_best_pix_fmt_of_list(offered, form, has_alpha=bool(shape and shape.alpha))
            form = best.name if best is not None else offered[0]
        warnings.append(f"pixel format {info.format} is written as {form}")
        if shape is not None and shape.alpha and not (layout(form) or shape).alpha:
            warnings.append("transparency is not kept; a folder of PNG images keeps it")
    picked = layout(form)
    odd = picked is not None and bool(info.width % picked.sub_x or info.height % picked.sub_y)
    if odd and encoder in ("libx264", "libx265", "libsvtav1") and "yuv444p" in offered:
        fine = "yuv444p" + (form[form.index("p1") + 1 :] if "p1" in form else "")
        warnings.append(
            f"an odd size cannot be written as {form} by {encoder}; the picture is stored as {fine}"
        )
        form = fine
    return form, warnings


def _options(
    encoder: str, form: str, container: str, lossless: bool, quality: float, preset: str
) -> tuple[dict[str, str], bool]:
    speed = _PRESETS.index(preset)
    match encoder:
        case "libx264" | "libx264rgb":
            # x264's lossless mode needs the constant quantiser 0, whatever the bit depth
            options = {"qp": "0"} if lossless else {"crf": f"{quality:g}"}
            # AVI has no presentation times, so its pictures must lie in the order in which they are shown
            order = {"bf": "0"} if container == "avi" else {}
            return {"preset": preset, **options, **order}, lossless
        case "libx265":
            silent = "log-level=none" + (":lossless=1" if lossless else "")
            rate = {} if lossless else {"crf": f"{min(quality + 1, 51):g}"}
            return {"preset": preset, "x265-params": silent, **rate}, lossless
        case "libvpx-vp9":
            work = {"deadline": "good", "cpu-used": str(max(1, 6 - speed)), "row-mt": "1"}
            if lossless:
                return {**work, "lossless": "1"}, True
            return {**work, "crf": str(min(63, round(quality * 1.2))), "b": "0"}, False
        case "libsvtav1":
            return {"preset": str(max(2, 11 - speed)), "crf": str(min(63, round(quality * 1.2)))}, False
        case "ffv1":
            return {"level": "3", "slices": "4", "slicecrc": "1"}, True
        case "prores_ks":
            return {"profile": "4444" if "444" in form else "hq"}, False
        case "mjpeg" | "mpeg4":
            # the finest quantiser but one: the finest makes files of twice the size
            return {"flags": "+qscale", "global_quality": str(2 * _LAMBDA)}, False
        case _:
            return {}, False


def _with_fields(encoding: Encoding, info: SourceInfo) -> Encoding:
    if info.field_order < 2:
        return encoding
    if encoding.encoder not in FIELD_ENCODERS:
        told = f"{encoding.encoder} writes the interlaced pictures as progressive ones"
        return replace(encoding, warnings=(*encoding.warnings, told))
    if encoding.encoder != "libx264":
        return encoding
    first = "tff=1" if info.field_order in TOP_FIRST else "bff=1"
    return with_params(encoding, "x264-params", [first])


def _with_hdr(encoding: Encoding, info: SourceInfo) -> Encoding:
    if info.hdr10 is None:
        return encoding
    match encoding.encoder:
        case "libx265":
            return with_params(encoding, "x265-params", x265_params(info.hdr10))
        case "libx264":
            return with_params(encoding, "x264-params", x264_params(info.hdr10))
        case "libsvtav1":
            return with_params(encoding, "svtav1-params", svt_params(info.hdr10))
        case _:
            told = f"{encoding.encoder} does not keep for which display the HDR10 video was graded"
            return replace(encoding, warnings=(*encoding.warnings, told))


def with_params(encoding: Encoding, name: str, entries: list[str]) -> Encoding:
    """The encoding with more entries in one of its encoder's own lists of options, such as `x264-params`."""
    known = [encoding.options[name]] if name in encoding.options else []
    return replace(encoding, options={**encoding.options, name: ":".join([*known, *entries])})
