"""The time painted into a picture as bars, to be read back from a screen: for the benchmarks of latency.

A row of 32 black or white cells in the upper left corner: milliseconds since 1970 modulo 2 ** 24, then eight
bits that check them. Cells of 16 pixels survive JPEG, H.264 and VP8 at the qualities used here.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

CELL = 16
BITS = 32
SPAN = 1 << 24

READ = """
function readBars(context) {
  const { data } = context.getImageData(0, 8, 512, 1);
  let value = 0, check = 0;
  for (let bit = 0; bit < 32; bit++) {
    const at = 4 * (bit * 16 + 8);
    const on = data[at] + data[at + 1] + data[at + 2] > 384 ? 1 : 0;
    if (bit < 24) value = value * 2 + on; else check = check * 2 + on;
  }
  const sum = (value & 255) ^ ((value >> 8) & 255) ^ ((value >> 16) & 255) ^ 0x5a;
  return sum === check ? value : null;
}
function age(value) {
  const now = performance.timeOrigin + performance.now();
  const span = 1 << 24;
  return ((now - value) % span + span) % span;
}
"""
"""JavaScript: `readBars(context)` gives the value painted or null, `age(value)` milliseconds since then."""


def now() -> int:
    """The value to paint now."""
    return int(time.time() * 1000) % SPAN


def paint(picture: NDArray[np.uint8], value: int) -> None:
    """Paint a value into an RGB picture at least 512 pixels wide, in place."""
    check = (value & 255) ^ (value >> 8 & 255) ^ (value >> 16 & 255) ^ 0x5A
    whole = value << 8 | check
    bits = np.array([whole >> (BITS - 1 - place) & 1 for place in range(BITS)], np.uint8) * np.uint8(255)
    picture[:CELL, : BITS * CELL] = np.repeat(bits, CELL)[None, :, None]
