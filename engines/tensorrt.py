"""TensorRT through torch-tensorrt, on an NVIDIA GPU. Written after its API; not run on hardware yet.

The file is an exported program that holds the serialised TensorRT engines.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines import hardware
from engines.base import USE_EAGER, EngineError, EngineUnavailable, Run, first_line

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

TENSORS = True
HINT = "pip install 'cleanplate[tensorrt]' on a machine with an NVIDIA GPU"


def require() -> None:
    """A CUDA GPU, torch-tensorrt, and TensorRT's own libraries (only importing shows whether they load)."""
    if not hardware.cuda_usable():
        raise EngineUnavailable("TensorRT needs an NVIDIA GPU and a torch built for CUDA", hint=HINT)
    for name in ("tensorrt", "torch_tensorrt"):
        if not hardware.installed(name):
            raise EngineUnavailable(f"{name} is not installed", hint=HINT)
    try:
        import torch_tensorrt  # noqa: F401
    except Exception as error:  # OSError for a missing libnvinfer, RuntimeError for a wrong one
        raise EngineUnavailable(f"torch_tensorrt cannot be loaded: {first_line(error)}", hint=HINT) from error


def precisions(wanted: str) -> tuple[str, ...]:
    """f16 is native wherever TensorRT runs; f32 where f16 is too far from eager."""
    return ("f16", "f32") if wanted == "auto" else (wanted,)


def torch_device() -> str:
    """TensorRT's kernels are chosen by timing them on the GPU."""
    return "cuda"


def identity(count: int) -> dict[str, str]:
    """A file is for exactly this GPU, driver and library."""
    del count
    names = ("torch", "torch-tensorrt", "tensorrt")
    return {**{name: hardware.version(name) for name in names}, **hardware.cuda_identity()}


def build(program: ExportedProgram, precision: str, count: int) -> bytes:
    """Compile and save; minutes."""
    del count
    import torch
    import torch_tensorrt

    if program.example_inputs is None:
        raise EngineError("the exported graph has lost its example inputs", hint=USE_EAGER)
    inputs = list(program.example_inputs[0])
    lower = {"f16": torch.float16, "bf16": torch.bfloat16}.get(precision)
    try:
        compiled = torch_tensorrt.dynamo.compile(
            program,
            inputs,
            enable_autocast=lower is not None,
            autocast_low_precision_type=lower,
            disable_tf32=precision == "f32",
            # Its own cache's key leaves out strides, dilations, weights and the GPU.
            cache_built_engines=False,
            reuse_cached_engines=False,
            immutable_weights=True,
        )
        with tempfile.TemporaryDirectory(prefix="cleanplate-") as folder:
            path = Path(folder) / "network.ep"
            torch_tensorrt.save(compiled, str(path), output_format="exported_program", arg_inputs=inputs)
            return path.read_bytes()
    except Exception as error:  # the compiler raises what it likes
        said = f"TensorRT cannot compile this network: {first_line(error)}"
        raise EngineError(said, hint=USE_EAGER) from error


def load(data: bytes, precision: str, count: int) -> Run:
    """Open a saved program; importing torch_tensorrt registers the operators in it."""
    del precision, count
    import torch
    import torch_tensorrt  # noqa: F401

    from engines.export import flatten

    module = torch.export.load(io.BytesIO(data)).module()

    def run(inputs: Sequence[Any]) -> list[torch.Tensor]:
        with torch.no_grad():
            return flatten(module(*inputs))[0]

    return run
