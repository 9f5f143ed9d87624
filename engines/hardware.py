"""What this machine is, found out without importing torch where that can be avoided."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import platform
import sys
from importlib import metadata
from pathlib import Path

# The processor flags that decide which precision pays (see docs/performance.md).
TELLING_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd", "bf16")


@functools.cache
def cpu_flags() -> tuple[str, ...]:
    """Those of `TELLING_FLAGS` this processor has; empty where the system does not say (only Linux does)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ()
    has: set[str] = set()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            has = set(value.split())
            break
    return tuple(flag for flag in TELLING_FLAGS if flag in has)


@functools.cache
def cpu_name() -> str:
    """The processor's name, as well as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def native_bf16() -> bool:
    """Whether the processor computes in bf16; elsewhere bf16 is emulated and slower than f32."""
    return any(flag in cpu_flags() for flag in ("avx512_bf16", "amx_bf16"))


@functools.cache
def version(distribution: str) -> str:
    """The installed version of a distribution, or "" (nothing is imported)."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def installed(module: str) -> bool:
    """Whether a top-level module can be found (it is not imported)."""
    if module in sys.modules:
        return sys.modules[module] is not None
    return importlib.util.find_spec(module) is not None


@functools.cache
def cuda_usable() -> bool:
    """Whether torch can use a CUDA GPU here; torch is imported only if a driver is there."""
    if not installed("torch") or version("torch").endswith("+cpu"):
        return False
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    import torch

    return torch.cuda.is_available()


def cuda_identity() -> dict[str, str]:
    """Name, capability and driver of the current GPU, as key fields; call only where `cuda_usable()`."""
    import torch

    major, minor = torch.cuda.get_device_capability()
    return {
        "device": torch.cuda.get_device_name(),
        "capability": f"sm_{major}{minor}",
        "driver": f"{nvidia_driver()}, CUDA {torch.version.cuda}",
    }


def cuda_capability() -> int:
    """The current GPU's compute capability, 90 for sm_90; call only where `cuda_usable()`."""
    return int(cuda_identity()["capability"].removeprefix("sm_"))


def nvidia_cards() -> int:
    """How many NVIDIA GPUs are on the PCI bus, with a driver or without; 0 where the system does not say."""
    count = 0
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
        except OSError:
            continue
        count += vendor == "0x10de" and kind.startswith("0x03")
    return count


def nvidia_reachable() -> bool:
    """Whether this process can open a GPU: in a container the driver may be seen and its devices not."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists() or sys.platform == "win32"


@functools.cache
def nvidia_driver() -> str:
    """The NVIDIA kernel driver's version, or "unknown"."""
    try:
        return Path("/sys/module/nvidia/version").read_text().strip()
    except OSError:
        return "unknown"
