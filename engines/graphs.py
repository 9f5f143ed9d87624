"""A network's kernels recorded once as a CUDA graph and replayed: one launch a call instead of hundreds.

Small networks are bound by the launches, not by the kernels. Shapes are fixed here, so one recording serves
every call.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engines.base import Run, first_line

if TYPE_CHECKING:
    import torch

WARM_UPS = 3
"""Calls before the recording: libraries choose kernels and take memory then, which cannot be recorded."""

log = logging.getLogger(__name__)


def replayed(run: Run) -> Run:
    """The same network, recorded at its first call and replayed from then on; takes and gives CUDA tensors.

    Inputs are copied to where the recording reads and outputs away from where it writes, so results of
    earlier calls stay. What cannot be recorded runs as before, and the log says so.
    """
    recorded: list[Run] = []

    def call(inputs: Sequence[Any]) -> Sequence[Any]:
        if not recorded:
            try:
                recorded.append(_record(run, inputs))
            except Exception as error:  # capture fails in as many ways as there are libraries
                log.warning("no CUDA graph: %s", first_line(error))
                recorded.append(run)
        return recorded[0](inputs)

    return call


def _record(run: Run, inputs: Sequence[torch.Tensor]) -> Run:
    import torch

    place = [tensor.clone(memory_format=torch.contiguous_format) for tensor in inputs]
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.no_grad(), torch.cuda.stream(aside):
        for _ in range(WARM_UPS):
            run(place)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    # Other threads may use the GPU meanwhile (decoding, another network): only this one is watched.
    with torch.no_grad(), torch.cuda.graph(graph, capture_error_mode="thread_local"):
        results = list(run(place))

    def replay(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        for to, tensor in zip(place, inputs, strict=True):
            to.copy_(tensor)
        graph.replay()
        return [result.clone() for result in results]

    return replay
