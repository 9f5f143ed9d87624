"""8-bit convolutions for OpenVINO: fake-quantised inputs and weights, from which it makes integer kernels.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"
(CVPR 2018), section 2, after training: weights symmetric with a scale for each output channel, inputs with
one scale for each tensor. The ranges are those seen on drawn pictures (`engines.examples`), which serve as
well as photographs; so they are made anew with every build and need neither data nor a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.base import EngineUnavailable
from engines.examples import example_picture

_PICTURES = 8
_EARLY = 6
_KINDS = ("Convolution", "GroupConvolution")
_LEAST = 1e-8

Range = tuple[float, float]


def quantise(core: Any, model: Any) -> None:
    """Put fake quantisation before the convolutions of an `openvino.Model`, in place.

    The first convolution and early depthwise ones stay as they are: what they add goes through all the rest,
    and they gain little. Raises `EngineUnavailable` for a network that takes anything but one picture.
    """
    chosen = [node for node in _convolutions(model) if node.get_friendly_name() not in _kept(model)]
    ranges = _ranges(core, model, chosen)
    quantised: dict[tuple[str, int], Any] = {}
    for node in chosen:
        source = node.input_value(0)
        name = _name(source)
        if name not in quantised:
            quantised[name] = _tensor(source, ranges[name])
        weights = _weights(node)
        node.input(0).replace_source_output(quantised[name].output(0))
        if weights is not None:
            node.input(1).replace_source_output(weights.output(0))
    model.validate_nodes_and_infer_types()


def _convolutions(model: Any) -> Iterator[Any]:
    return (node for node in model.get_ordered_ops() if node.get_type_name() in _KINDS)


def _kept(model: Any) -> set[str]:
    early = list(_convolutions(model))[:_EARLY]
    names = {node.get_friendly_name() for node in early if node.get_type_name() == "GroupConvolution"}
    return names | {node.get_friendly_name() for node in early[:1]}


def _name(output: Any) -> tuple[str, int]:
    return output.get_node().get_friendly_name(), output.get_index()


def _ranges(core: Any, model: Any, chosen: Sequence[Any]) -> dict[tuple[str, int], Range]:
    """Least and largest value of each convolution's input over the drawn pictures."""
    import openvino
    from openvino import opset13 as ops

    if len(model.inputs) != 1 or list(model.inputs[0].shape)[:2] != [1, 3]:
        raise EngineUnavailable("int8 is for networks that take one picture", hint="use precision auto")
    sources = {_name(node.input_value(0)): node.input_value(0) for node in chosen}
    ends = []
    for source in sources.values():
        axes = ops.constant(np.arange(len(source.get_shape())))
        ends += [ops.result(ops.reduce_min(source, axes)), ops.result(ops.reduce_max(source, axes))]
    probe = openvino.Model(ends, model.get_parameters(), "ranges")
    compiled = core.compile_model(probe, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    height, width = list(model.inputs[0].shape)[2:]
    seen = []
    for seed in range(_PICTURES):
        results = compiled([example_picture(height, width, seed)[None]])
        seen.append([float(results[port]) for port in compiled.outputs])
    least, most = np.min(seen, 0)[0::2], np.max(seen, 0)[1::2]
    return {name: (float(low), float(high)) for name, low, high in zip(sources, least, most, strict=True)}


def _tensor(source: Any, seen: Range) -> Any:
    """A tensor in 256 levels: from 0 where it is never below, else around 0."""
    low, high = min(seen[0], 0.0), max(seen[1], _LEAST)
    if low < 0:
        reach = max(-low, high)
        low, high = -reach * 128 / 127, reach
    return _levels(source, np.float32(low), np.float32(high), 256)


def _weights(node: Any) -> Any | None:
    """A convolution's weights in 255 levels a channel; None where they are computed rather than stored."""
    from openvino import opset13 as ops

    given = node.input_value(1).get_node()
    if given.get_type_name() != "Constant":
        return None
    values = np.asarray(given.get_data(), np.float32)
    channels = 1 if node.get_type_name() == "Convolution" else 2
    reach = np.abs(values).max(axis=tuple(range(channels, values.ndim)), keepdims=True)
    reach = np.maximum(reach, np.float32(_LEAST))
    return _levels(ops.constant(values), -reach, reach, 255)


def _levels(source: Any, low: NDArray[np.float32] | np.float32, high: Any, levels: int) -> Any:
    from openvino import opset13 as ops

    ends = [ops.constant(np.asarray(end, np.float32)) for end in (low, high, low, high)]
    return ops.fake_quantize(source, *ends, levels)
