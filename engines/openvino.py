"""OpenVINO on a CPU: two to five times faster than eager, and open at once from the cache."""

from __future__ import annotations

import io
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engines import hardware, threads
from engines.base import USE_EAGER, Array, EngineError, EngineUnavailable, Run, first_line

if TYPE_CHECKING:
    from torch.export import ExportedProgram

TENSORS = False

_one_by_one = threading.Lock()
_has_run = threading.Event()
"""Set when a network has run in this process. Until then networks are opened and run one by one: at its first
call OpenVINO sets up tables, asks Python for their contents meanwhile, and two threads would wait for each
other for ever, one for the interpreter and one for the tables."""


def _core() -> Any:
    # OpenVINO sends a usage event to its vendor on import unless this package is absent: make it absent.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino

        return openvino.Core()
    except Exception as error:  # a broken installation may raise anything
        said = f"OpenVINO cannot be loaded: {first_line(error)}"
        raise EngineUnavailable(said, hint="pip install --force-reinstall openvino") from error


def require() -> None:
    """OpenVINO has to be installed."""
    if not hardware.installed("openvino"):
        raise EngineUnavailable("OpenVINO is not installed", hint="pip install openvino")


def precisions(wanted: str) -> tuple[str, ...]:
    """bf16 only where both OpenVINO and the processor have it: OpenVINO's own default would emulate it."""
    if wanted != "auto":
        return (wanted,)
    if hardware.native_bf16() and "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return ("bf16", "f32")
    return ("f32",)


def torch_device() -> str:
    """Conversion happens on the CPU."""
    return "cpu"


def identity(count: int) -> dict[str, str]:
    """The file holds the graph compiled for a kind of processor; threads are set when it is opened."""
    del count
    return {
        "openvino": hardware.version("openvino"),
        "torch": hardware.version("torch"),
        "device": hardware.cpu_name(),
        "capability": ",".join(hardware.cpu_flags()),
        "driver": "none",
    }


def build(program: ExportedProgram, precision: str, count: int) -> bytes:
    """Convert and compile; the bytes are OpenVINO's compiled blob."""
    core = _core()
    import openvino

    shapes = [
        tuple(node.meta["val"].shape)
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in program.graph_signature.user_inputs
    ]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # conversion is noisy about torch's internals
            model = openvino.convert_model(program)
        # The converter forgets the fixed sizes; with them OpenVINO plans memory and kernels once.
        model.reshape({index: list(shape) for index, shape in enumerate(shapes)})
        compiled = core.compile_model(model, "CPU", settings(precision, count))
        data = bytes(compiled.export_model().getvalue())
        taken = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    except Exception as error:  # conversion and compilation raise several unrelated types
        said = f"OpenVINO cannot compile this network: {first_line(error)}"
        raise EngineError(said, hint=USE_EAGER) from error
    if taken != precision:  # it does not say so itself
        raise EngineUnavailable(
            f"OpenVINO takes {taken} for {precision} on this processor", hint=f"use {taken}"
        )
    return data


def load(data: bytes, precision: str, count: int) -> Run:
    """Open a blob; the returned function releases the GIL while it computes and returns fresh arrays."""
    with _one_by_one:
        compiled = _core().import_model(io.BytesIO(data), "CPU", settings(precision, count))
        request = compiled.create_infer_request()
        ports = list(compiled.outputs)

    def run(inputs: Sequence[Any]) -> list[Array]:
        if _has_run.is_set():
            return infer(inputs)
        with _one_by_one:
            results = infer(inputs)
        _has_run.set()
        return results

    def infer(inputs: Sequence[Any]) -> list[Array]:
        # Inputs are read where they lie; outputs are copied, for the next call writes over OpenVINO's own.
        results = request.infer(list(inputs), share_inputs=True, share_outputs=False)
        return [results[port] for port in ports]

    return run


def settings(precision: str, count: int) -> dict[str, Any]:
    """Everything that has a machine-dependent default is said."""
    return {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads.threads_for(count),
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        # Its default pins each network's threads to processors counted from 0: two networks with a thread
        # each, or two processes, would share processor 0 and leave the others idle.
        "ENABLE_CPU_PINNING": False,
    }
