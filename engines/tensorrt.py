"""TensorRT through torch-tensorrt, on an NVIDIA GPU. Written after its sources; not run on hardware yet.

The graph is lowered to half precision by torch's own autocast before it is handed over, so that every type is
said in it: TensorRT's networks are strongly typed and take types as they come. torch-tensorrt's own autocast
is not used: it casts whole numbers too, which breaks gathers and indices. Shapes are fixed; all of the graph
has to become one TensorRT engine, or the build is an error and not half a network left to torch. The file is
an exported program that holds the engine; it runs as a CUDA graph (`engines.graphs`).
"""

from __future__ import annotations

import io
import operator
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
REPAIR = "pip install --force-reinstall 'torch-tensorrt==2.13.*' (it brings the TensorRT it was built with)"
LEAST_CAPABILITY = 75
"""TensorRT 11 and torch's builds for CUDA 13 begin with Turing."""

_DISTRIBUTIONS = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")
"""Names under which TensorRT's own library is installed."""


def require() -> None:
    """A CUDA GPU, torch-tensorrt, and TensorRT's own libraries (only importing shows whether they load)."""
    if not hardware.cuda_usable():
        raise EngineUnavailable("TensorRT needs an NVIDIA GPU and a torch built for CUDA", hint=HINT)
    for name in ("tensorrt", "torch_tensorrt"):
        if not hardware.installed(name):
            raise EngineUnavailable(f"{name} is not installed", hint=HINT)
    capability = hardware.cuda_capability()
    if capability < LEAST_CAPABILITY:
        least = f"sm_{LEAST_CAPABILITY}"
        raise EngineUnavailable(f"TensorRT needs a GPU from {least} on, this is sm_{capability}")
    try:
        import torch_tensorrt  # noqa: F401
    except Exception as error:  # OSError for a missing libnvinfer, RuntimeError for a wrong one
        raise EngineUnavailable(
            f"torch_tensorrt cannot be loaded: {first_line(error)}", hint=REPAIR
        ) from error


def precisions(wanted: str) -> tuple[str, ...]:
    """f16 is native wherever TensorRT runs; f32 where f16 is too far from eager."""
    return ("f16", "f32") if wanted == "auto" else (wanted,)


def torch_device() -> str:
    """TensorRT's kernels are chosen by timing them on the GPU."""
    return "cuda"


def identity(count: int) -> dict[str, str]:
    """A file is for exactly this GPU, driver and library."""
    del count
    installed = (hardware.version(name) for name in _DISTRIBUTIONS)
    return {
        "torch": hardware.version("torch"),
        "torch-tensorrt": hardware.version("torch-tensorrt"),
        "tensorrt": next(filter(None, installed), ""),
        **hardware.cuda_identity(),
    }


def settings(precision: str, folder: Path) -> dict[str, Any]:
    """What `torch_tensorrt.dynamo.compile` is told; `folder` is for what it must write somewhere."""
    return {
        # Nothing may be left to torch in silence. Below its least number of nodes (5) torch-tensorrt
        # returns the graph as it came, whatever else it is told: so that number is 1.
        "require_full_compilation": True,
        "pass_through_build_failures": True,
        "min_block_size": 1,
        "truncate_double": False,
        "disable_tf32": precision == "f32",
        # Its own engine cache's key leaves out strides, dilations, weights and the GPU.
        "cache_built_engines": False,
        "reuse_cached_engines": False,
        # Its default is a file that all users of the machine share.
        "timing_cache_path": str(folder / "timing.bin"),
        "immutable_weights": True,
        "hardware_compatible": False,
        "version_compatible": False,
    }


def build(program: ExportedProgram, precision: str, count: int) -> bytes:
    """Compile and save; minutes."""
    del count
    import torch_tensorrt

    from engines.export import lower_precision

    lowered = lower_precision(program, precision, torch_device())
    if lowered.example_inputs is None:
        raise EngineError("the exported graph has lost its example inputs", hint=USE_EAGER)
    inputs = list(lowered.example_inputs[0])
    with tempfile.TemporaryDirectory(prefix="cleanplate-") as name:
        folder = Path(name)
        try:
            compiled = torch_tensorrt.dynamo.compile(
                lowered, arg_inputs=inputs, **settings(precision, folder)
            )
        except Exception as error:  # the compiler raises what it likes
            said = f"TensorRT cannot compile this network: {first_line(error)}"
            raise EngineError(said, hint=USE_EAGER) from error
        _refuse_leftovers(compiled)
        try:
            path = folder / "network.pt2"
            torch_tensorrt.save(compiled, str(path), output_format="exported_program", arg_inputs=inputs)
            return path.read_bytes()
        except Exception as error:
            said = f"TensorRT's engine cannot be saved: {first_line(error)}"
            raise EngineError(said, hint=USE_EAGER) from error


def _refuse_leftovers(compiled: torch.fx.GraphModule) -> None:
    """Raise `EngineError` unless the compiled graph is one engine and the taking apart of its results."""
    calls = [node for node in compiled.graph.nodes if node.op not in ("placeholder", "output", "get_attr")]
    called = [node for node in calls if node.target is not operator.getitem]
    engines = [node for node in called if node.op == "call_module" and "_run_on_acc" in str(node.target)]
    if len(called) != 1 or called != engines:
        left = sorted({str(node.target) for node in called if node not in engines})
        said = f"{', '.join(left[:4])} left to torch" if left else f"{len(called)} engines instead of one"
        raise EngineError(f"TensorRT did not take the whole network: {said}", hint=USE_EAGER)


def load(data: bytes, precision: str, count: int) -> Run:
    """Open a saved program; importing torch_tensorrt registers the operators in it."""
    del precision, count
    import torch
    import torch_tensorrt  # noqa: F401

    from engines.export import flatten
    from engines.graphs import replayed

    module = torch.export.load(io.BytesIO(data)).module()

    def run(inputs: Sequence[Any]) -> list[torch.Tensor]:
        with torch.no_grad():
            return flatten(module(*inputs))[0]

    return replayed(run)
