"""`cleanplate doctor`: can this machine do the work, what does it have, and what would make it faster."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import typer

from stream.errors import EngineError

LEAST_DRIVER = 580
"""What torch's builds for CUDA 13 need."""


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, what to do (or ""), and whether the main job needs it."""

    what: str
    found: str
    remedy: str = ""
    broken: bool = False


def doctor() -> None:
    """Look at this machine and say what works; the exit code is 5 if clips cannot be cleaned on it."""
    broken = []
    for finding in examine():
        mark = "!!" if finding.broken else "->" if finding.remedy else "ok"
        typer.echo(f"{mark} {finding.what:12} {finding.found}")
        if finding.remedy:
            typer.echo(f"   {'':12} {finding.remedy}")
        if finding.broken:
            broken.append(finding)
    if broken:
        raise EngineError(
            f"clips cannot be cleaned on this machine: {', '.join(f.what for f in broken)}",
            hint=broken[0].remedy,
        )


def examine() -> Iterator[Finding]:
    """Every finding in the order shown; libraries are really loaded, so this takes seconds."""
    import engines  # noqa: F401 - first: it sets what torch's OpenMP reads once

    yield _python()
    for check in (_processor, _libraries, _codecs, _gpu, _engine, _cache, _weights):
        yield from _guarded(check)


def _guarded(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A check that itself fails is a finding: the doctor has to survive what it is asked to diagnose."""
    try:
        yield from check()
    except Exception as error:
        yield Finding(check.__name__.strip("_"), _line(error), "please report this line", broken=True)


def _python() -> Finding:
    return Finding("python", f"{platform.python_version()} on {platform.platform()}")


def _processor() -> Iterator[Finding]:
    from engines import available_threads, hardware

    flags = ", ".join(hardware.cpu_flags()) or "flags unknown"
    threads = available_threads()
    yield Finding("processor", f"{hardware.cpu_name()}, {threads} threads for networks ({flags})")
    if not hardware.native_bf16():
        yield Finding("bf16", "not native here: networks run in f32")
    if os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE":
        yield Finding(
            "threads",
            f"OMP_WAIT_POLICY is {os.environ.get('OMP_WAIT_POLICY')}",
            "unset OMP_WAIT_POLICY: waiting threads that spin slow torch down many times on a busy machine",
        )


def _libraries() -> Iterator[Finding]:
    from importlib import import_module

    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # nothing is sent to its vendor
    for module, package, needed in (
        ("torch", "torch", True),
        ("cv2", "opencv-python-headless", True),
        ("av", "av", True),
        ("openvino", "openvino", False),
        ("safetensors", "safetensors", True),
    ):
        try:
            version = str(getattr(import_module(module), "__version__", "?"))
        except Exception as error:  # a broken library may raise anything
            remedy = f"pip install --force-reinstall {package}"
            yield Finding(module, f"cannot be loaded: {_line(error)}", remedy, broken=needed)
        else:
            yield Finding(module, version)


def _codecs() -> Iterator[Finding]:
    import av

    wanted = ("libx264", "libx265", "libvpx-vp9", "libsvtav1", "ffv1", "aac", "libopus")
    there = [name for name in wanted if name in av.codecs_available]
    if "libx264" in there:
        yield Finding("encoders", ", ".join(there))
    else:
        yield Finding(
            "encoders", "no libx264 in this build of PyAV", "pip install --force-reinstall av", broken=True
        )


def _gpu() -> Iterator[Finding]:
    from engines import hardware

    if hardware.cuda_usable():
        found = hardware.cuda_identity()
        yield Finding("gpu", f"{found['device']}, {found['capability']}, driver {found['driver']}")
        yield _gpu_engine("inductor", f"Triton {hardware.version('triton')}")
        yield _gpu_engine("tensorrt", f"{hardware.version('tensorrt')}, never run on hardware by its authors")
        return
    driver = hardware.nvidia_driver()
    if driver != "unknown":
        yield _unused_gpu(driver)
    elif hardware.nvidia_cards():
        yield Finding(
            "gpu",
            "an NVIDIA GPU, but no driver for it",
            f"install NVIDIA's driver {LEAST_DRIVER} or newer (Ubuntu: ubuntu-drivers install), then restart",
        )
    else:
        yield Finding("gpu", "no NVIDIA GPU: networks run on the processor")


def _unused_gpu(driver: str) -> Finding:
    """Why torch cannot use a GPU whose driver is there."""
    import torch

    from engines import hardware

    said = f"NVIDIA driver {driver}"
    if not hardware.nvidia_reachable():
        remedy = "in a container: start it with --gpus all (it needs the NVIDIA container toolkit)"
        return Finding("gpu", f"{said}, but no GPU can be opened from here", remedy)
    if torch.version.cuda is None:
        remedy = 'pip install --force-reinstall "torch==2.13.*"'
        if sys.platform == "win32":  # the registry's build for Windows is the one without CUDA
            remedy += " --index-url https://download.pytorch.org/whl/cu130"
        return Finding("gpu", f"{said}, but torch {hardware.version('torch')} is built without CUDA", remedy)
    if driver.split(".")[0].isdigit() and int(driver.split(".")[0]) < LEAST_DRIVER:
        remedy = f"install NVIDIA's driver {LEAST_DRIVER} or newer, then restart"
        return Finding("gpu", f"{said} is too old for torch's CUDA {torch.version.cuda}", remedy)
    try:
        torch.cuda.init()
    except Exception as error:
        said = f"{said}, but torch cannot use it: {_line(error)}"
    return Finding("gpu", said, "python -m torch.utils.collect_env shows what torch finds")


def _gpu_engine(name: str, version: str) -> Finding:
    import engines

    try:
        engines.backend_for(name).require()
    except engines.EngineUnavailable as error:
        return Finding(name, str(error), error.hint)
    return Finding(name, version)


def _engine() -> Iterator[Finding]:
    import engines

    order = engines.auto_engines()
    best = order[0]
    if best == "eager":
        yield Finding("engine", "eager torch, two to five times slower", "pip install openvino")
        return
    precision = engines.backend_for(best).precisions("auto")[0]
    yield Finding("engine", f"auto takes {best} at {precision}, then {' then '.join(order[1:])}")


def _cache() -> Iterator[Finding]:
    import engines

    folder = engines.engine_folder()
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    said = f"{engines.cache_bytes() / 1e6:.1f} MB in {folder}"
    if nearest.is_dir() and os.access(nearest, os.W_OK):
        yield Finding("cache", said)
    else:
        yield Finding("cache", f"{folder} cannot be written", "set CLEANPLATE_CACHE to a folder of yours")


def _weights() -> Iterator[Finding]:
    from models import weights

    try:
        names = weights.shipped()
    except weights.WeightsError as error:
        yield Finding("weights", str(error), error.hint, broken=True)
        return
    for name in names:
        try:
            yield Finding(name, f"whole: {weights.verify(name)}")
        except weights.WeightsError as error:
            yield Finding(name, str(error), error.hint, broken=True)


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
