"""Which pixel formats a frame's planes may have, how each is laid out, and what is nearest to the others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import av
import numpy as np
from av.video import format as video_format

Kind = Literal["yuv", "gray", "gbr", "packed"]

_ALL_NAMES: frozenset[str] = frozenset(video_format.names)  # type: ignore[attr-defined]
_PACKED: dict[str, tuple[int, int, int]] = {
    "rgb24": (0, 1, 2),
    "bgr24": (2, 1, 0),
    "rgba": (0, 1, 2),
    "bgra": (2, 1, 0),
    "rgb48le": (0, 1, 2),
    "bgr48le": (2, 1, 0),
    "rgba64le": (0, 1, 2),
    "bgra64le": (2, 1, 0),
}


@dataclass(frozen=True)
class Layout:
    """How a pixel format lays out its planes.

    `order`: where red, green and blue are, as plane numbers (gbr) or channel numbers (packed).
    `sub_x`, `sub_y`: how many luma samples one chroma sample covers. `alpha`: an alpha plane or channel is
    there as well.
    """

    name: str
    kind: Kind
    bits: int
    planes: int
    channels: int = 1
    sub_x: int = 1
    sub_y: int = 1
    order: tuple[int, int, int] = (0, 1, 2)
    alpha: bool = False

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """The type of one sample in `Frame.planes`."""
        return np.uint8 if self.bits == 8 else np.uint16

    @property
    def peak(self) -> int:
        """The largest code value of a sample."""
        return (1 << self.bits) - 1

    def plane_size(self, plane: int, width: int, height: int) -> tuple[int, int]:
        """Width and height in samples of one plane of a picture of this size."""
        if self.kind == "yuv" and plane in (1, 2):
            return -(-width // self.sub_x), -(-height // self.sub_y)
        return width, height


@lru_cache(maxsize=64)
def layout(name: str) -> Layout | None:
    """The layout of a pixel format that `Frame.planes` may hold, None for any other format."""
    if name in _PACKED:
        channels = 4 if "a" in name else 3
        bits = 8 if name in ("rgb24", "bgr24", "rgba", "bgra") else 16
        return Layout(name, "packed", bits, 1, channels, order=_PACKED[name], alpha=channels == 4)
    form = av.VideoFormat(name, 64, 64)
    parts = form.components
    own_planes = len({part.plane for part in parts}) == len(parts)
    bits = parts[0].bits
    whole = all(part.bits == bits for part in parts) and (
        bits == 8 or (8 < bits <= 16 and name.endswith("le"))
    )
    if not own_planes or not whole or form.is_bayer or form.is_bit_stream or form.has_palette:
        return None
    # Samples that sit in the upper bits of their word (MSB formats) do not follow the arithmetic here.
    if "msb" in name or not name.startswith(("yuv", "gray", "gbr")):
        return None
    alpha = len(parts) == 4
    if form.is_rgb:
        return Layout(name, "gbr", bits, len(parts), order=(2, 0, 1), alpha=alpha)
    if len(parts) == 1:
        return Layout(name, "gray", bits, 1)
    sub_x, sub_y = 64 // form.chroma_width(), 64 // form.chroma_height()
    return Layout(name, "yuv", bits, len(parts), sub_x=sub_x, sub_y=sub_y, alpha=alpha)


@lru_cache(maxsize=64)
def nearest_format(name: str) -> str:
    """The format of `Frame.planes` that loses least for a decoder's pixel format; itself where it is one."""
    if layout(name) is not None:
        return name
    form = av.VideoFormat(name, 64, 64)
    parts = form.components
    bits = max(part.bits for part in parts)
    grey_alpha = len(parts) == 2 and not form.has_palette
    alpha = form.has_palette or grey_alpha or any(part.is_alpha for part in parts)
    if form.is_rgb or form.has_palette or form.is_bayer or grey_alpha:
        deep = bits > 8 and not form.has_palette
        return ("rgba64le" if alpha else "rgb48le") if deep else ("rgba" if alpha else "rgb24")
    depth = 8 if bits <= 8 else next((d for d in (9, 10, 12, 14, 16) if d >= bits), 16)
    tail = "" if depth == 8 else f"{depth}le"
    if len(parts) == 1:
        return f"gray{tail}"
    sampling = {(1, 1): "444", (2, 1): "422", (2, 2): "420", (1, 2): "440", (4, 1): "411", (4, 4): "410"}
    key = (64 // form.chroma_width(), 64 // form.chroma_height())
    wanted = f"yuv{'a' if alpha else ''}{sampling.get(key, '444')}p{tail}"
    return wanted if wanted in _ALL_NAMES else "yuv444p16le"
