"""A ready-made DeepLab as a teacher: its .tflite graph read here and evaluated in float by torch.

Only what the training needs: the flat-buffer tables of one graph of convolutions, sums, a global
average pool, concatenations and resizes. Weights are the file's 8-bit values times their scale;
activations stay float, so nothing is rounded between layers.

Padding differs on purpose from the file's "same" rule for even sizes: every convolution is padded
alike on both sides, so that cell (i, j) at stride s is centred on pixel (s i, s j), as it is at the
odd sizes the teacher was trained with.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..labels import THING_NAMES

VOC_NAMES: tuple[str, ...] = (
    "background", "airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "dining table", "dog", "horse", "motorcycle", "person", "potted plant", "sheep",
    "couch", "train", "tv",
)  # fmt: skip
"""The 21 Pascal VOC classes in VOC's order under their COCO names."""

VOC_CLASSES: tuple[int, ...] = (0, *(THING_NAMES.index(name) + 1 for name in VOC_NAMES[1:]))
"""For each VOC class its index among the segmentator's 81 classes."""

ADD, POOL, CONCAT, CONV, DEPTHWISE, RESIZE, QUANTIZE = 0, 1, 2, 3, 4, 23, 114
RELU, RELU6 = 1, 3
TENSOR_TYPES = {2: np.int32, 3: np.uint8, 9: np.int8}


class FlatTable:
    """One table of a flat buffer: fields by number, as the TensorFlow Lite schema counts them."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    @classmethod
    def root(cls, data: bytes) -> FlatTable:
        """The outermost table; raises ValueError when `data` is no .tflite file."""
        if data[4:8] != b"TFL3":
            raise ValueError("not a .tflite file: its mark 'TFL3' is missing")
        return cls(data, struct.unpack_from("<I", data, 0)[0])

    def _field(self, number: int) -> int:
        table = self.at - struct.unpack_from("<i", self.data, self.at)[0]
        size = struct.unpack_from("<H", self.data, table)[0]
        if 4 + 2 * number >= size:
            return 0
        found: int = struct.unpack_from("<H", self.data, table + 4 + 2 * number)[0]
        return self.at + found if found else 0

    def _vector(self, number: int) -> tuple[int, int]:
        at = self._field(number)
        if not at:
            return 0, 0
        at += struct.unpack_from("<I", self.data, at)[0]
        return at + 4, struct.unpack_from("<I", self.data, at)[0]

    def scalar(self, number: int, code: str = "i", default: int = 0) -> int:
        """A number of struct format `code`, or the default where the field is left out."""
        at = self._field(number)
        return int(struct.unpack_from("<" + code, self.data, at)[0]) if at else default

    def table(self, number: int) -> FlatTable:
        """The table a field points to."""
        at = self._field(number)
        return FlatTable(self.data, at + struct.unpack_from("<I", self.data, at)[0])

    def tables(self, number: int) -> list[FlatTable]:
        """The tables of a vector field."""
        at, count = self._vector(number)
        places = range(at, at + 4 * count, 4)
        return [FlatTable(self.data, p + struct.unpack_from("<I", self.data, p)[0]) for p in places]

    def array(self, number: int, kind: type[np.generic]) -> np.ndarray:
        """A vector field of plain numbers; empty where it is left out."""
        at, count = self._vector(number)
        return np.frombuffer(self.data, dtype=kind, count=count, offset=at)


@dataclass(frozen=True)
class Step:
    """One operation: its code, the tensors it reads and writes, its convolution settings."""

    code: int
    inputs: tuple[int, ...]
    output: int
    stride: int = 1
    dilation: int = 1
    activation: int = 0
    weight: Tensor | None = None
    bias: Tensor | None = None


class DeeplabTeacher:
    """A DeepLabv3 with a MobileNetV2 trunk, by its graph.

    `ranges[k]` is (scale, zero point) of tap k: the file's own 8-bit scale of that tensor.
    """

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        model = FlatTable.root(path.read_bytes())
        graph = model.tables(2)[0]
        self._tensors = graph.tables(0)
        self._buffers = model.tables(4)
        self._input = int(graph.array(1, np.int32)[0])
        codes = [max(c.scalar(0, "b"), c.scalar(3)) for c in model.tables(1)]
        self._steps: list[Step] = []
        for operator in graph.tables(3):
            step = self._read(operator, codes)
            if step is None:
                break
            self._steps.append(step)
        # What follows the last convolution only enlarges the scores.
        last = max(k for k, step in enumerate(self._steps) if step.code == CONV)
        self._steps = [self._move(step, device) for step in self._steps[: last + 1]]
        self.taps = self._unit_outputs()
        self.ranges = [self._range(tap) for tap in self.taps]
        scale, zero = self._range(self._input)
        self._input_scale, self._input_zero = scale, zero

    def _range(self, index: int) -> tuple[float, float]:
        quantisation = self._tensors[index].table(4)
        return (
            float(quantisation.array(2, np.float32)[0]),
            float(quantisation.array(3, np.int64)[0]),
        )

    def _constant(self, index: int) -> np.ndarray:
        tensor = self._tensors[index]
        raw = self._buffers[tensor.scalar(2, "I")].array(0, np.uint8)
        values = raw.view(TENSOR_TYPES[tensor.scalar(1, "b")]).reshape(tensor.array(0, np.int32))
        quantisation = tensor.table(4)
        scale, zero = quantisation.array(2, np.float32), quantisation.array(3, np.int64)
        if len(scale) != 1:
            raise ValueError("weights with one scale per channel are not read here")
        return ((values.astype(np.float64) - float(zero[0])) * float(scale[0])).astype(np.float32)

    def _read(self, operator: FlatTable, codes: list[int]) -> Step | None:
        code = codes[operator.scalar(0, "I")]
        inputs = tuple(int(i) for i in operator.array(1, np.int32))
        output = int(operator.array(2, np.int32)[0])
        if code in (ADD, POOL, CONCAT, RESIZE, QUANTIZE):
            return Step(code, inputs, output)
        if code not in (CONV, DEPTHWISE):
            return None
        options = operator.table(4)
        depthwise = code == DEPTHWISE
        weight = self._constant(inputs[1])
        # (out, kh, kw, in) and (1, kh, kw, out) both become torch's (out, in / groups, kh, kw).
        weight = weight.transpose(3, 0, 1, 2) if depthwise else weight.transpose(0, 3, 1, 2)
        return Step(
            code,
            inputs[:1],
            output,
            stride=options.scalar(1, default=1),
            dilation=options.scalar(5 if depthwise else 4, default=1),
            activation=options.scalar(4 if depthwise else 3, "b"),
            weight=torch.from_numpy(np.ascontiguousarray(weight)),
            bias=torch.from_numpy(self._constant(inputs[2])),
        )

    @staticmethod
    def _move(step: Step, device: torch.device | str) -> Step:
        if step.weight is None or step.bias is None:
            return step
        weight, bias = step.weight.to(device), step.bias.to(device)
        return Step(
            step.code, step.inputs, step.output, step.stride, step.dilation, step.activation,
            weight, bias,
        )  # fmt: skip

    def _unit_outputs(self) -> list[int]:
        """Tensors between the trunk's units (a linear projection, or the sum behind it), the scores."""
        taps = []
        for k, step in enumerate(self._steps):
            if step.code != CONV or step.activation != 0:
                continue
            following = self._steps[k + 1] if k + 1 < len(self._steps) else None
            summed = following is not None and following.code == ADD
            taps.append(following.output if following is not None and summed else step.output)
        return taps

    @torch.no_grad()
    def __call__(self, image: Tensor, *, taps: Iterable[int] = ()) -> tuple[Tensor, list[Tensor]]:
        """Scores (B, 21, H/16, W/16) and the chosen taps, for (B, 3, H, W) RGB in [0, 255].

        H and W are multiples of 16. Tap k < 17 is the output of the trunk's unit k + 1.
        """
        values = {self._input: (image - self._input_zero) * self._input_scale}
        for step in self._steps:
            x = values[step.inputs[0]]
            if step.weight is not None:
                y = F.conv2d(
                    x, step.weight, step.bias, step.stride,
                    step.dilation * (step.weight.shape[2] // 2), step.dilation,
                    x.shape[1] if step.code == DEPTHWISE else 1,
                )  # fmt: skip
                if step.activation == RELU6:
                    y = y.clamp_(0, 6)
                elif step.activation == RELU:
                    y = y.relu_()
            elif step.code == ADD:
                y = x + values[step.inputs[1]]
            elif step.code == POOL:
                y = x.mean((2, 3), keepdim=True)
            elif step.code == CONCAT:
                parts = [values[i] for i in step.inputs]
                size = max(p.shape[2] for p in parts), max(p.shape[3] for p in parts)
                y = torch.cat([p.expand(-1, -1, *size) for p in parts], 1)
            else:
                y = x  # the pooled branch is one cell: enlarging it is what CONCAT's expand does
            values[step.output] = y
        return values[self.taps[-1]], [values[self.taps[k]] for k in taps]
