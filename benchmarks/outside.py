"""What encoding does to the picture outside the hole: python -m benchmarks.outside CLIP ... --json FILE

Every clip is first coded in each family at a usual quality by the `ffmpeg` command, then cleaned with a box
as mask, as it is by default and with --lossless. Both files are decoded by `ffmpeg`; pixels count that the
provenance video calls untouched. PSNR is of the luma, sizes are those of whole files, without sound.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

FAMILIES = {
    "H.264": ("mp4", "-c:v libx264 -crf 20 -pix_fmt yuv420p"),
    "HEVC": ("mp4", "-c:v libx265 -crf 22 -pix_fmt yuv420p -x265-params log-level=none"),
    "HEVC, 10 bits": ("mkv", "-c:v libx265 -crf 22 -pix_fmt yuv420p10le -x265-params log-level=none"),
    "VP9": ("webm", "-c:v libvpx-vp9 -crf 28 -b:v 0 -cpu-used 4 -row-mt 1 -pix_fmt yuv420p"),
    "AV1": ("mp4", "-c:v libsvtav1 -crf 28 -preset 8 -pix_fmt yuv420p"),
    "MPEG-4": ("avi", "-c:v mpeg4 -q:v 4 -pix_fmt yuv420p"),
    "Motion JPEG": ("mov", "-c:v mjpeg -q:v 4 -pix_fmt yuvj420p"),
    "ProRes": ("mov", "-c:v prores_ks -profile:v hq -pix_fmt yuv422p10le"),
    "FFV1": ("mkv", "-c:v ffv1 -pix_fmt yuv420p"),
    "GIF": ("gif", "-vf scale=320:-2,split[a][b];[a]palettegen[p];[b][p]paletteuse -c:v gif"),
}
PLANES = {
    "yuv420p": (1, (2, 2)),
    "yuvj420p": (1, (2, 2)),
    "yuv420p10le": (2, (2, 2)),
    "yuv422p10le": (2, (1, 2)),
}
"""Bytes of a sample, and how many rows and columns of luma a chroma sample covers."""


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--only", default="", help="families whose name has this in it")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for family in FAMILIES:
        if options.only not in family:
            continue
        found = [of_clip(clip, family, options.frames) for clip in options.clips]
        rows.append({"family": family, "container": FAMILIES[family][0], **_summary(found)})
        print(json.dumps(rows[-1]), flush=True)
    if options.json:
        data = {"clips": len(options.clips), "frames": options.frames, "rows": rows}
        options.json.write_text(json.dumps(data, indent=1) + "\n")


def _summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "codec": found[0]["codec"],
        "psnr": [_finite(pick(each["psnr"] for each in found)) for pick in (min, max)],
        "size": round(statistics.median(each["size"] for each in found), 2),
        "sizes": [round(each["size"], 2) for each in found],
        "lossless codec": found[0]["lossless codec"],
        "lossless equal": all(each["lossless equal"] for each in found),
        "lossless size": round(statistics.median(each["lossless size"] for each in found), 2),
    }


def _finite(value: float) -> float | None:
    return None if value == float("inf") else round(value, 1)


def of_clip(clip: Path, family: str, frames: int) -> dict[str, Any]:
    """One clip in one family: quality and size by default, equality and size with --lossless."""
    suffix, options = FAMILIES[family]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / f"in.{suffix}"
        even = "scale=trunc(iw/2)*2:trunc(ih/2)*2"
        given = ["-i", str(clip), "-an", "-sn", "-frames:v", str(frames), "-vf", even]
        _run(["ffmpeg", "-v", "error", "-y", *given, *options.split(), str(source)])
        told = _stream(source)
        box = np.zeros((told["height"], told["width"]), np.uint8)
        box[told["height"] // 3 : told["height"] * 2 // 3, told["width"] // 4 : told["width"] // 2] = 255
        (folder / "masks").mkdir()
        for number in range(int(told["nb_read_frames"])):
            cv2.imwrite(str(folder / "masks" / f"{number:04d}.png"), box)
        first = _cleaned(folder, source, f"out.{suffix}", [])
        # what holds every format without loss is the container of choice for it
        second = _cleaned(folder, source, "exact.mkv", ["--lossless"])
        return {
            "psnr": first["psnr"],
            "size": first["size"],
            "codec": first["codec"],
            "lossless equal": second["planes equal"],
            "lossless size": second["size"],
            "lossless codec": second["codec"],
        }


def _cleaned(folder: Path, source: Path, name: str, extra: list[str]) -> dict[str, Any]:
    output, provenance = folder / name, folder / f"{name}.provenance.mkv"
    command = [sys.executable, "-c", "from stream.commands import main; main()", "clean", str(source)]
    command += ["-o", str(output), "--masks", str(folder / "masks"), "--engine", "none", "--quiet"]
    _run([*command, "--provenance", str(provenance), *extra])
    before, after = _planes(source), _planes(output, _stream(source)["pix_fmt"])
    outside = _decoded(provenance, "gray").reshape(before[0].shape) == 0
    wrong = (before[0].astype(float) - after[0])[outside]
    error = float((wrong**2).mean())
    peak = 1023 if before[0].dtype == np.uint16 else 255
    equal = all(
        np.array_equal(a[_small(outside, a)], b[_small(outside, a)])
        for a, b in zip(before, after, strict=True)
    )
    return {
        "psnr": float(10 * np.log10(peak**2 / error)) if error else float("inf"),
        "planes equal": equal,
        "size": output.stat().st_size / source.stat().st_size,
        "codec": _stream(output)["codec_name"],
    }


def _small(outside: NDArray[np.bool_], plane: NDArray[Any]) -> NDArray[np.bool_]:
    """Which samples of a plane cover untouched luma alone."""
    rows, columns = outside.shape[1] // plane.shape[1], outside.shape[2] // plane.shape[2]
    shape = (len(outside), plane.shape[1], rows, plane.shape[2], columns)
    return outside.reshape(shape).all(axis=(2, 4))


def _planes(path: Path, form: str = "") -> list[NDArray[Any]]:
    """The planes of all pictures; of formats that are not planar, the picture as RGB."""
    told = _stream(path)
    form = form or told["pix_fmt"]
    width, height = told["width"], told["height"]
    if form not in PLANES:
        return [*np.moveaxis(_decoded(path, "rgb24").reshape(-1, height, width, 3), 3, 0)]
    size, (down, across) = PLANES[form]
    data = _decoded(path, form).view(np.uint16 if size == 2 else np.uint8)
    small = (height // down, width // across)
    frames = data.reshape(-1, height * width + 2 * small[0] * small[1])
    luma, rest = frames[:, : height * width], frames[:, height * width :]
    chroma = rest.reshape(len(frames), 2, *small)
    return [luma.reshape(-1, height, width), chroma[:, 0], chroma[:, 1]]


def _decoded(path: Path, form: str) -> NDArray[np.uint8]:
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-fps_mode", "passthrough", "-pix_fmt", form]
    return np.frombuffer(_run([*command, "-f", "rawvideo", "-"]), np.uint8)


def _stream(path: Path) -> Any:
    command = [
        "ffprobe",
        "-v",
        "error",
        "-count_frames",
        "-show_streams",
        "-select_streams",
        "v",
        "-of",
        "json",
    ]
    return json.loads(_run([*command, str(path)]))["streams"][0]


def _run(command: list[str]) -> bytes:
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


if __name__ == "__main__":
    main()
