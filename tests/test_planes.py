from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from clips import picture
from numpy.typing import NDArray

from stream.pixel_format import layout, nearest_format
from stream.planes import (
    from_video_frame,
    matrices,
    part_to_rgb,
    pixels_to_rgb,
    to_rgb,
    to_video_frame,
    write_back,
)
from stream.types import Colour, Frame

YUV = ["yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuv420p10le", "yuv422p10le", "yuv444p12le", "yuv411p"]
OTHERS = [
    "gray",
    "gray10le",
    "gray16le",
    "gbrp",
    "gbrp10le",
    "rgb24",
    "bgr24",
    "rgba",
    "bgra",
    "rgb48le",
    "rgba64le",
]


def noise(form: str, width: int = 97, height: int = 61, colour: Colour | None = None) -> Frame:
    shape = layout(form)
    assert shape is not None
    rng = np.random.default_rng(3)
    planes = []
    for number in range(shape.planes):
        w, h = shape.plane_size(number, width, height)
        size = (h, w, shape.channels) if shape.kind == "packed" else (h, w)
        # blacker than black is left out: OpenCV's conversion clips it before it adds the colour
        least = shape.peak // 16 + 1 if shape.kind == "yuv" else 0
        planes.append(rng.integers(least, shape.peak + 1, size).astype(shape.dtype))
    return Frame(0, 0, Fraction(1, 25), tuple(planes), form, width, height, colour or Colour())


def exact_rgb(frame: Frame) -> NDArray[np.float64]:
    """The definition (ITU-T H.273), in float64, with repeated chroma."""
    shape = layout(frame.format)
    assert shape is not None
    code = frame.colour.matrix if frame.colour.matrix != 2 else 6 if frame.height < 720 else 1
    kr, kb = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}[code]
    y, cb, cr = (np.asarray(p, np.float64) for p in frame.planes[:3])
    cb, cr = (
        np.repeat(np.repeat(c, shape.sub_y, 0), shape.sub_x, 1)[: frame.height, : frame.width]
        for c in (cb, cr)
    )
    unit = 2 ** (shape.bits - 8)
    if frame.colour.full_range:
        y, cb, cr = y / shape.peak, (cb - 128 * unit) / shape.peak, (cr - 128 * unit) / shape.peak
    else:
        y, cb, cr = (
            (y - 16 * unit) / (219 * unit),
            (cb - 128 * unit) / (224 * unit),
            (cr - 128 * unit) / (224 * unit),
        )
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.stack([red, green, blue], -1) * 255, 0, 255)


@pytest.mark.parametrize("form", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p12le"])
@pytest.mark.parametrize("matrix", [1, 2, 6, 9])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("size", [(96, 64), (97, 61)])
def test_rgb_is_what_the_standard_says(form: str, matrix: int, full: bool, size: tuple[int, int]) -> None:
    frame = noise(form, *size, Colour(matrix=matrix, full_range=full))
    assert np.abs(to_rgb(frame) - exact_rgb(frame)).max() <= 1.5


@pytest.mark.parametrize("form", YUV + OTHERS)
def test_rgb_of_a_part_is_the_part_of_the_rgb(form: str) -> None:
    frame = noise(form)
    whole = to_rgb(frame)
    for box in (13, 7, 40, 30), (0, 0, 97, 61), (90, 55, 97, 61), (4, 8, 5, 9):
        x0, y0, x1, y1 = box
        part = part_to_rgb(frame, box).astype(int)
        # One step: OpenCV's quicker conversion, where it is taken, rounds in its own way.
        assert part.shape == (y1 - y0, x1 - x0, 3) and np.abs(part - whole[y0:y1, x0:x1]).max() <= 1
    tall = noise(form, 32, 720)
    assert np.abs(part_to_rgb(tall, (3, 3, 9, 9)).astype(int) - to_rgb(tall)[3:9, 3:9]).max() <= 1


@pytest.mark.parametrize("size", [(97, 61), (96, 60), (32, 720)])
@pytest.mark.parametrize("form", YUV + OTHERS)
def test_rgb_of_some_pixels_is_that_of_the_whole(form: str, size: tuple[int, int]) -> None:
    frame = noise(form, *size)
    places = np.random.default_rng(5).permutation(size[0] * size[1])[:500]
    assert np.array_equal(pixels_to_rgb(frame, places), to_rgb(frame).reshape(-1, 3)[places])
    assert pixels_to_rgb(frame, places[:1]).shape == (1, 3)


def test_an_unspecified_matrix_depends_on_the_height() -> None:
    small, large = noise("yuv444p", 16, 719), noise("yuv444p", 16, 720)
    assert np.abs(to_rgb(small) - exact_rgb(replace(small, colour=Colour(matrix=6)))).max() <= 1.5
    assert np.abs(to_rgb(large) - exact_rgb(replace(large, colour=Colour(matrix=1)))).max() <= 1.5


@pytest.mark.parametrize("form", YUV + OTHERS)
def test_nothing_changes_where_alpha_is_zero(form: str) -> None:
    frame = noise(form)
    patch = np.random.default_rng(0).integers(0, 256, (30, 41, 3), dtype=np.uint8)
    alpha = np.zeros((30, 41), np.uint8)
    alpha[7:22, 9:30] = np.random.default_rng(1).integers(0, 256, (15, 21))
    out = write_back(frame, patch, alpha, (11, 13, 52, 43))
    whole = np.zeros((61, 97), bool)
    whole[13:43, 11:52] = alpha > 0
    shape = layout(form)
    assert shape is not None
    changed = 0
    for number, (before, after) in enumerate(zip(frame.planes, out.planes, strict=True)):
        w, h = shape.plane_size(number, 97, 61)
        sx, sy = (shape.sub_x, shape.sub_y) if (w, h) != (97, 61) else (1, 1)
        padded = np.zeros((h * sy, w * sx), bool)
        padded[:61, :97] = whole
        touched = padded.reshape(h, sy, w, sx).any((1, 3))
        assert np.array_equal(before[~touched], after[~touched])
        changed += int((before[touched] != after[touched]).sum())
    assert changed > 100
    assert (frame.planes[0] == noise(form).planes[0]).all(), "the input frame must not change"


@pytest.mark.parametrize("form", YUV + OTHERS)
def test_a_picture_written_back_over_itself_stays(form: str) -> None:
    rgb = av.VideoFrame.from_ndarray(picture(3, 97, 61))
    video = rgb.reformat(format=form)
    frame = from_video_frame(video, index=0, pts=0, time_base=Fraction(1, 25))
    full = np.full((61, 97), 255, np.uint8)
    out = write_back(frame, to_rgb(frame), full, (0, 0, 97, 61))
    shape = layout(form)
    assert shape is not None
    # 8-bit RGB cannot say more than one level of it
    level = 2.1 * (1 << (shape.bits - 8))
    for before, after in zip(frame.planes[:3], out.planes[:3], strict=True):
        error = np.abs(np.asarray(before, float) - np.asarray(after, float))
        assert error.mean() <= 0.6 * (1 << (shape.bits - 8))
        assert np.percentile(error, 99) <= level
    assert np.abs(to_rgb(out).astype(int) - to_rgb(frame)).max() <= 4


@pytest.mark.parametrize("form", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_a_full_patch_takes_its_colour(form: str) -> None:
    frame = noise(form, 96, 64, Colour(matrix=1))
    patch = np.full((64, 96, 3), (200, 90, 40), np.uint8)
    out = write_back(frame, patch, np.full((64, 96), 255, np.uint8), (10, 10, 50, 40))
    assert np.abs(to_rgb(out)[10:40, 10:50].astype(int) - (200, 90, 40)).max() <= 2


def test_half_alpha_blends_half() -> None:
    frame = noise("yuv444p", 16, 16, Colour(matrix=1, full_range=True))
    patch = np.full((16, 16, 3), 255, np.uint8)
    out = write_back(frame, patch, np.full((16, 16), 128, np.uint8), (0, 0, 16, 16))
    expected = np.asarray(frame.planes[0], float) * (127 / 255) + 255 * (128 / 255)
    assert np.abs(np.asarray(out.planes[0], float) - expected).max() <= 0.51


def test_chroma_takes_only_the_colours_that_show() -> None:
    # what a patch holds where its alpha is 0 must not bleed into the chroma that it shares
    frame = noise("yuv420p", 16, 16, Colour(matrix=1))
    patch = np.zeros((16, 16, 3), np.uint8)
    patch[:, 0::2] = (200, 60, 60)
    patch[:, 1::2] = (0, 255, 0)
    alpha = np.zeros((16, 16), np.uint8)
    alpha[:, 0::2] = 255
    out = write_back(frame, patch, alpha, (0, 0, 16, 16))
    _, backward = matrices(1, False, 8)
    red = backward @ np.array([200, 60, 60, 1], np.float32)
    expected = (np.asarray(frame.planes[2], float) + red[2]) / 2
    assert np.abs(np.asarray(out.planes[2], float) - expected).max() <= 0.51


def test_ten_bits_stay_ten_bits() -> None:
    frame = noise("yuv444p10le", 32, 32, Colour(matrix=1))
    patch = np.linspace(40, 41, 32 * 32, dtype=np.float32).reshape(32, 32)
    out = write_back(frame, np.dstack([patch] * 3), np.full((32, 32), 255, np.uint8), (0, 0, 32, 32))
    assert len(np.unique(out.planes[0])) >= 4, "one level of eight bits is four of ten"


@pytest.mark.parametrize("form", ["yuv420p", "yuv422p10le", "yuv411p", "gray10le", "gbrp", "rgb24"])
def test_patches_far_apart_are_blended_as_each_alone(form: str) -> None:
    frame = noise(form)
    patch = np.random.default_rng(1).integers(0, 256, (60, 90, 3), np.uint8)
    places = (slice(3, 18), slice(5, 20)), (slice(21, 40), slice(61, 80)), (slice(17, 22), slice(33, 52))
    alpha = np.zeros((60, 90), np.uint8)
    alone = frame
    for number, place in enumerate(places):
        one = np.zeros_like(alpha)
        one[place] = alpha[place] = 90 + 80 * number
        alone = write_back(alone, patch, one, (1, 1, 91, 61))
    both = write_back(frame, patch, alpha, (1, 1, 91, 61))
    assert all(np.array_equal(a, b) for a, b in zip(alone.planes, both.planes, strict=True))


def test_planes_of_the_input_stay_writeable() -> None:
    frame = noise("rgb24")
    write_back(frame, np.zeros((8, 8, 3), np.uint8), np.full((8, 8), 255, np.uint8), (0, 0, 8, 8))
    assert frame.planes[0].flags.writeable


def test_no_box_gives_the_frame_back() -> None:
    frame = noise("yuv420p")
    nothing = np.zeros((0, 0, 3), np.uint8)
    assert write_back(frame, nothing, np.zeros((0, 0), np.uint8), None) is frame


@pytest.mark.parametrize("box", [(0, 0, 98, 10), (-1, 0, 5, 5)])
def test_a_box_outside_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="inside"):
        write_back(noise("yuv420p"), np.zeros((61, 97, 3), np.uint8), np.zeros((61, 97), np.uint8), box)


@pytest.mark.parametrize("form", YUV + OTHERS)
def test_frames_go_through_the_decoder_type_unchanged(form: str) -> None:
    frame = noise(form, 97, 61, Colour(matrix=9, primaries=9, transfer=16))
    again = from_video_frame(to_video_frame(frame), index=0, pts=0, time_base=Fraction(1, 25))
    assert again.format == form
    assert all(np.array_equal(a, b) for a, b in zip(frame.planes, again.planes, strict=True))
    assert (again.colour.primaries, again.colour.transfer) == (9, 16)


@pytest.mark.parametrize(
    ("coded", "planes"),
    [
        ("nv12", "yuv420p"),
        ("p010le", "yuv420p10le"),
        ("yuyv422", "yuv422p"),
        ("pal8", "rgba"),
        ("rgb48be", "rgb48le"),
        ("gray16be", "gray16le"),
        ("argb", "rgba"),
        ("bgr0", "rgb24"),
        ("yuv420p", "yuv420p"),
    ],
)
def test_other_formats_become_the_nearest(coded: str, planes: str) -> None:
    assert nearest_format(coded) == planes


def test_nv12_keeps_every_sample() -> None:
    frame = noise("yuv420p", 96, 64)
    again = from_video_frame(
        to_video_frame(frame).reformat(format="nv12"), index=0, pts=0, time_base=Fraction(1, 25)
    )
    assert all(np.array_equal(a, b) for a, b in zip(frame.planes, again.planes, strict=True))


def test_planes_cannot_be_written() -> None:
    frame = from_video_frame(to_video_frame(noise("yuv420p")), index=0, pts=0, time_base=Fraction(1, 25))
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(frame.planes[0])[0, 0] = 1
