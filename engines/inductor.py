"""torch's own compiler, ahead of time: Triton kernels on a CUDA GPU, C++ on a CPU if asked for by name.

The file is an AOTInductor package; nothing of it is compiled again when it is opened. On a GPU it runs as a
CUDA graph (`engines.graphs`).
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines import hardware, threads
from engines.base import USE_EAGER, EngineError, EngineUnavailable, Run, first_line

if TYPE_CHECKING:
    from torch.export import ExportedProgram

TENSORS = True


def require() -> None:
    """Triton for a GPU; a C++ compiler in any case, for the code around the kernels."""
    if not hardware.installed("torch"):
        raise EngineUnavailable("torch is not installed", hint="pip install torch")
    if hardware.cuda_usable() and not hardware.installed("triton"):
        raise EngineUnavailable("Triton is not installed", hint="pip install triton")
    if not any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++", "cl") if name):
        raise EngineUnavailable("there is no C++ compiler", hint="install g++ (Debian: apt install g++)")


def precisions(wanted: str) -> tuple[str, ...]:
    """bf16 where the GPU computes in it (from capability 8.0 on), f32 elsewhere."""
    if wanted != "auto":
        return (wanted,)
    if hardware.cuda_usable() and hardware.cuda_capability() >= 80:
        return ("bf16", "f32")
    return ("f32",)


def torch_device() -> str:
    """The graph is compiled for the device it was exported on."""
    return "cuda" if hardware.cuda_usable() else "cpu"


def identity(count: int) -> dict[str, str]:
    """The number of threads is compiled into the code for a CPU."""
    versions = {"torch": hardware.version("torch"), "triton": hardware.version("triton")}
    if hardware.cuda_usable():
        return {**versions, **hardware.cuda_identity()}
    return {
        **versions,
        "device": hardware.cpu_name(),
        "capability": ",".join(hardware.cpu_flags()),
        "driver": "none",
        "threads": str(threads.threads_for(count)),
    }


def build(program: ExportedProgram, precision: str, count: int) -> bytes:
    """Compile to a package and return it; tens of seconds."""
    import torch

    from engines.export import lower_precision

    if not hardware.cuda_usable():
        threads.give_threads(threads.threads_for(count))
    with tempfile.TemporaryDirectory(prefix="cleanplate-") as folder:
        path = Path(folder) / "network.pt2"
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                lowered = lower_precision(program, precision, torch_device())
                torch._inductor.aoti_compile_and_package(lowered, package_path=str(path))
            return path.read_bytes()
        except Exception as error:  # the compiler raises what it likes
            said = f"inductor cannot compile this network: {first_line(error)}"
            raise EngineError(said, hint=USE_EAGER) from error


def load(data: bytes, precision: str, count: int) -> Run:
    """Open a package; precision and threads are in it. On a GPU the kernels are replayed as a CUDA graph."""
    del precision
    import torch

    from engines.export import flatten

    on_gpu = hardware.cuda_usable()
    if not on_gpu:
        threads.give_threads(threads.threads_for(count))
    # Without a second model of its own in flight the package waits for no event, which a graph cannot hold.
    package = torch._inductor.aoti_load_package(io.BytesIO(data), run_single_threaded=on_gpu)

    def run(inputs: Sequence[Any]) -> list[torch.Tensor]:
        with torch.no_grad():
            return flatten(package(*inputs))[0]

    if not on_gpu:
        return run
    from engines.graphs import replayed

    return replayed(run)
