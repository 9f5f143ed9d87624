"""Import torch-tensorrt without TensorRT and without a GPU, to ask it what it can convert.

Only its Python is used: its registry of converters, with what each says of a node, and its lowering. What
needs TensorRT itself is answered by classes made on demand, so nothing can be built: this shows that a
converter exists and accepts the node, not that it works.
"""

from __future__ import annotations

import importlib.machinery
import shutil
import sys
import types
from pathlib import Path
from typing import Any


class _Made(type):
    """A class whose every attribute is another such class."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = _make(name)
        setattr(cls, name, made)
        return made

    def __int__(cls) -> int:
        return 0

    def __or__(cls, other: Any) -> Any:
        return cls


def _make(name: str) -> _Made:
    return _Made(name, (object,), {"__init__": lambda *_, **__: None})


class _Module(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "tensorrt_rtx":
            raise AttributeError(name)
        made = _make(name)
        setattr(self, name, made)
        return made


class _Properties:
    name, major, minor, total_memory, multi_processor_count = "stand-in", 9, 0, 1 << 36, 1


def import_torch_tensorrt(package: Path, folder: Path) -> Any:
    """Copy the Python of the package folder `torch_tensorrt` to `folder` and import it from there.

    Its compiled libraries stay behind: they would look for TensorRT. Call it once in a process of its own.
    """
    import torch

    tensorrt = _Module("tensorrt")
    # 11.0: what torch-tensorrt 2.13 asks for.
    given = {"__version__": "11.0.0", "__path__": [], "__file__": "tensorrt", "_package_name": "tensorrt"}
    tensorrt.__dict__.update(given, tensorrt=tensorrt)
    tensorrt.__spec__ = importlib.machinery.ModuleSpec("tensorrt", None, is_package=True)
    libraries = types.ModuleType("dllist")
    libraries.__dict__["dllist"] = list
    sys.modules.update({"tensorrt": tensorrt, "tensorrt.tensorrt": tensorrt, "dllist": libraries})
    torch.cuda.get_device_capability = lambda *_: (9, 0)  # type: ignore[assignment]
    torch.cuda.current_device = lambda: 0  # type: ignore[assignment]
    torch.cuda.get_device_properties = lambda *_: _Properties  # type: ignore[assignment]
    torch.cuda.get_device_name = lambda *_: _Properties.name  # type: ignore[assignment]
    if not hasattr(torch._C, "_CudaDeviceProperties"):
        torch._C._CudaDeviceProperties = _Properties
    shutil.copytree(
        package, folder / "torch_tensorrt", ignore=shutil.ignore_patterns("*.so", "*.dll", "include")
    )
    sys.path.insert(0, str(folder))
    import torch_tensorrt

    return torch_tensorrt
