"""A file as the `ffprobe` command sees it, and what differs between two of them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

_OWN = {
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "handler_name",
    "vendor_id",
    "duration",
    "software",
    "alpha_mode",
}
_MARKS = {"forced", "comment", "hearing_impaired", "visual_impaired", "original", "dub"}


@dataclass(frozen=True)
class Looked:
    """What matters of one file; times in seconds, exact."""

    frames: int
    times: tuple[Fraction, ...]
    size: tuple[int, int]
    rotation: int
    aspect: str
    colour: tuple[str, ...]
    pixels: str
    codec: str
    fields: tuple[int, ...]
    streams: tuple[str, ...]
    packets: tuple[tuple[Any, ...], ...]
    chapters: tuple[tuple[Any, ...], ...]
    metadata: tuple[tuple[str, str], ...]
    hdr: tuple[str, ...]


def look(path: Path) -> Looked:
    """Read a video, or a folder of images, with ffprobe."""
    if path.is_dir():
        return _folder(path)
    told = _ffprobe(path, "-show_streams", "-show_format", "-show_chapters")
    video = next(s for s in told["streams"] if s["codec_type"] == "video" and not _is_cover(s))
    frames = _ffprobe(path, "-show_frames", "-select_streams", str(video["index"]))["frames"]
    others = [s for s in told["streams"] if s is not video]
    base = Fraction(video["time_base"])
    times = tuple(int(f.get("best_effort_timestamp", -1)) * base for f in frames)
    first = frames[0] if frames else {}
    keys = ("color_space", "color_primaries", "color_transfer", "color_range")
    return Looked(
        frames=len(frames),
        times=times,
        size=(video["width"], video["height"]),
        rotation=_turned(path) if path.suffix == ".mkv" else _rotation(video),
        aspect=video.get("sample_aspect_ratio", "1:1").replace("0:1", "1:1").replace("N/A", "1:1"),
        colour=tuple(first.get(key, "unknown") for key in keys),
        pixels=first.get("pix_fmt", "").replace("yuv4", "yuva4" if _is_clear(path, video) else "yuv4"),
        codec=video["codec_name"],
        fields=tuple(2 * f.get("interlaced_frame", 0) + f.get("top_field_first", 0) for f in frames),
        streams=tuple(_stream(s) for s in others),
        packets=tuple(_packets(path, s) for s in others if s["codec_type"] in ("audio", "subtitle")),
        chapters=tuple(
            (Fraction(c["start_time"]), Fraction(c["end_time"]), c.get("tags", {}).get("title"))
            for c in told["chapters"]
        ),
        metadata=_tags(told["format"]) + _tags(video),
        hdr=tuple(json.dumps(d, sort_keys=True) for d in first.get("side_data_list", []) if _is_hdr(d)),
    )


def differences(before: Looked, after: Looked) -> list[str]:
    """The names of the fields in which two files differ, times within a microsecond."""
    found = []
    for each in fields(Looked):
        one, two = getattr(before, each.name), getattr(after, each.name)
        if each.name == "times":
            pairs = zip(one, two, strict=False)
            same = len(one) != len(two) or all(abs(a - b) < Fraction(1, 10**6) for a, b in pairs)
        elif each.name == "packets":
            same = len(one) == len(two) and all(_alike(a, b) for a, b in zip(one, two, strict=True))
        else:
            same = one == two
        if not same:
            found.append(each.name)
    return found


def _alike(one: tuple[Any, ...], two: tuple[Any, ...]) -> bool:
    """Whether the packets of two streams have the same content at the same times, to half a millisecond."""
    near = Fraction(1, 1500)
    return len(one) == len(two) and all(
        abs(a[0] - b[0]) <= near and a[1] == b[1] for a, b in zip(one, two, strict=True)
    )


def _folder(path: Path) -> Looked:
    each = [look(image) for image in sorted(path.iterdir())]
    first = each[0]
    names = tuple(image.name for image in sorted(path.iterdir()))
    times = tuple(Fraction(number, 25) for number in range(len(each)))
    changed = {
        "frames": len(each),
        "times": times,
        "streams": names,
        "fields": (0,) * len(each),
    }
    assert all(one.size == first.size and one.pixels == first.pixels for one in each)
    return Looked(**{f.name: changed.get(f.name, getattr(first, f.name)) for f in fields(Looked)})


def _ffprobe(path: Path, *options: str) -> Any:
    command = ["ffprobe", "-v", "error", *options, "-of", "json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _rotation(stream: dict[str, Any]) -> int:
    return next((int(d["rotation"]) % 360 for d in stream.get("side_data_list", []) if "rotation" in d), 0)


def _turned(path: Path) -> int:
    """The rotation of a Matroska file, which the ffprobe command of this age does not read."""
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).rotation % 360


def _is_cover(stream: dict[str, Any]) -> bool:
    return bool(stream.get("disposition", {}).get("attached_pic"))


def _is_clear(path: Path, stream: dict[str, Any]) -> bool:
    """Whether a second video, VP9's transparency, goes along with each packet; it is not decoded here."""
    if stream["codec_name"] != "vp9":
        return False
    packets = _ffprobe(path, "-show_packets", "-select_streams", str(stream["index"]))["packets"]
    return all("BlockAdditional" in json.dumps(each.get("side_data_list", [])) for each in packets)


def _is_hdr(side_data: dict[str, Any]) -> bool:
    return side_data["side_data_type"].startswith(("Mastering", "Content light"))


def _stream(stream: dict[str, Any]) -> str:
    tags = {key.lower(): value for key, value in stream.get("tags", {}).items()}
    kind = "cover" if _is_cover(stream) else stream["codec_type"]
    language = tags.get("language", "und")
    language = {"ger": "deu", "fre": "fra"}.get(language, language)  # the same by their other codes
    marks = "".join(f" {key}" for key, on in stream.get("disposition", {}).items() if on and key in _MARKS)
    return f"{kind}{marks} {stream.get('codec_name', '')} {language} {tags.get('title', '')}".strip()


def _tags(part: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    tags = {key.lower(): value for key, value in part.get("tags", {}).items()}
    kept = {
        k: v for k, v in tags.items() if k not in _OWN and not k.startswith("_statistics") and k != "rotate"
    }
    return tuple(sorted((k, v) for k, v in kept.items() if (k, v) != ("language", "und")))


def _packets(path: Path, stream: dict[str, Any]) -> tuple[Any, ...]:
    told = _ffprobe(path, "-show_packets", "-show_data_hash", "md5", "-select_streams", str(stream["index"]))
    base = Fraction(stream["time_base"])
    return tuple(
        (int(p["pts"]) * base, p.get("data_hash", ""))
        for p in told["packets"]
        if "pts" in p and int(p["size"]) > 2
    )
