"""torch's own compiler, ahead of time: Triton kernels on a CUDA GPU, C++ on a CPU if asked for by name.

The file is an AOTInductor package; nothing of it is compiled again when it is opened.
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
    if hardware.cuda_usable() and _capability() >= 80:
        return ("bf16", "f32")
    return ("f32",)


def _capability() -> int:
    return int(hardware.cuda_identity()["capability"].removeprefix("sm_"))


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

    if not hardware.cuda_usable():
        threads.give_threads(threads.threads_for(count))
    with tempfile.TemporaryDirectory(prefix="cleanplate-") as folder:
        path = Path(folder) / "network.pt2"
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch._inductor.aoti_compile_and_package(_lowered(program, precision), package_path=str(path))
            return path.read_bytes()
        except Exception as error:  # the compiler raises what it likes
            said = f"inductor cannot compile this network: {first_line(error)}"
            raise EngineError(said, hint=USE_EAGER) from error


def _lowered(program: ExportedProgram, precision: str) -> ExportedProgram:
    """The graph with autocast written into it, which keeps in f32 what does not bear less."""
    if precision == "f32":
        return program
    import torch

    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    place, inner = torch_device(), program.module()

    class Lowered(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *inputs: torch.Tensor) -> Any:
            with torch.autocast(place, dtype):
                return self.inner(*inputs)

    if program.example_inputs is None:
        raise EngineError("the exported graph has lost its example inputs", hint=USE_EAGER)
    return torch.export.export(Lowered(), program.example_inputs[0])


def load(data: bytes, precision: str, count: int) -> Run:
    """Open a package; precision and threads are in it."""
    del precision
    import torch

    from engines.export import flatten

    if not hardware.cuda_usable():
        threads.give_threads(threads.threads_for(count))
    package = torch._inductor.aoti_load_package(io.BytesIO(data))

    def run(inputs: Sequence[Any]) -> list[torch.Tensor]:
        with torch.no_grad():
            return flatten(package(*inputs))[0]

    return run
