"""A block that walks over a still background, with masks that say where: a clip that is cheap to clean."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

import stream

WIDTH, HEIGHT = 160, 96
CHEAP = {"engine.name": "none", "look_ahead": 0.2, "resume.frames": 8, "resume.seconds": 0}


def background(index: int = 0) -> NDArray[np.uint8]:
    """The place itself, a little noisy as every camera is."""
    rough = np.random.default_rng(5).integers(20, 236, (HEIGHT // 6, WIDTH // 6, 3)).astype(np.uint8)
    place = cv2.resize(rough, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(index).integers(-2, 3, place.shape)
    return np.clip(place.astype(int) + noise, 0, 255).astype(np.uint8)


def block(index: int) -> tuple[slice, slice]:
    """Rows and columns of the block in one frame; it walks to and fro."""
    way = WIDTH - 40
    step = 4 * index % (2 * way)
    left = 8 + (step if step < way else 2 * way - step)
    return slice(30, 66), slice(left, left + 24)


def make_walk(path: Path, frames: int) -> Path:
    """A lossless clip with sound; its time stamps are irregular."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"qp": "0", "preset": "ultrafast"})
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("aac", rate=44100, layout="mono")
        assert isinstance(sound, av.AudioStream)
        for index in range(frames):
            image = background(index)
            image[block(index)] = 128
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = 40 * index + (index % 3), Fraction(1, 1000)
            container.mux(video.encode(frame))
        tone = (np.sin(np.arange(44100) / 20) * 9000).astype(np.int16)[None]
        for start in range(0, tone.shape[1], 1024):
            samples = av.AudioFrame.from_ndarray(tone[:, start : start + 1024], format="s16", layout="mono")
            samples.sample_rate, samples.pts = 44100, start
            container.mux(sound.encode(samples))
        container.mux(video.encode())
        container.mux(sound.encode())
    return path


def make_masks(folder: Path, frames: int) -> Path:
    """One PNG a frame, white where the block is."""
    folder.mkdir()
    for index in range(frames):
        cv2.imwrite(str(folder / f"{index:04}.png"), mask_of(index))
    return folder


def make_mask_video(path: Path, frames: int) -> Path:
    """The same masks as a lossless video."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=25)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "gray"
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(mask_of(index), format="gray")
            frame.pts, frame.time_base = 40 * index + (index % 3), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode())
    return path


def mask_of(index: int) -> NDArray[np.uint8]:
    """White where the block is, and three pixels around it."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    rows, columns = block(index)
    mask[rows.start - 3 : rows.stop + 3, columns.start - 3 : columns.stop + 3] = 255
    return mask


def cheap(**changes: object) -> stream.Config:
    """A configuration without networks that can be gone on with every eight frames."""
    return stream.load_config("tourist", overrides={**CHEAP, **changes})
