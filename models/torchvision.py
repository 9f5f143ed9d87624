"""Public torchvision weights into the paper-size networks: which layer goes where.

Two files are of use, both listed in `weights.json`, so `cleanplate weights fetch NAME` gets them:

* ``resnet101-cd907fc2``: ResNet-101 for ImageNet. Into either network's `trunk`, name to same name: conv1,
  bn1, layer1.{0..2}, layer2.{0..3}, layer3.{0..22}, layer4.{0..2}, in each block conv1 bn1 conv2 bn2 conv3
  bn3 and, in the first of a layer, downsample.0 (convolution) and downsample.1 (norm). Left out: fc.
* ``deeplabv3_resnet101_coco-586e9e4e``: DeepLabv3 for the 20 classes of Pascal VOC. `backbone.` goes into
  `trunk` as above. In a segmentator its pyramid goes into `aspp`: classifier.0.convs.{0..3} into
  branches.{0..3} (.0 convolution, .1 norm), classifier.0.convs.4 (.1 convolution, .2 norm, merged into one
  convolution with a bias) into pooled, classifier.0.project (.0, .1) into project. Left out:
  classifier.{1,2,4} and aux_classifier, since decoder and classes here are others (DeepLabv3+, 81 classes,
  instances); those start at random and have to be trained.

The published DeepLab runs at output stride 8 with rates 12, 24 and 36; here it is 16 with 6, 12 and 18, which
are the same distances in pixels.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .segmentator import ResNetTrunk, Segmentator
from .stuff import StuffClassifier
from .weights import WeightsError, verify

RESNET101 = "resnet101-cd907fc2"
DEEPLABV3 = "deeplabv3_resnet101_coco-586e9e4e"

_NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class Mapped:
    """What `load_torchvision` did: tensors of the network that were filled, names of the file left out."""

    filled: tuple[str, ...]
    left_out: tuple[str, ...]


def read_state_dict(name_or_path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a listed file, by its name, or of any .safetensors or .pth file.

    Of a .pth only tensors and plain containers are unpickled: nothing in it is run. Raises `WeightsError` for
    a file that is missing, not what was published, or holds anything else.
    """
    is_name = isinstance(name_or_path, str) and not Path(name_or_path).suffix
    path = verify(str(name_or_path)) if is_name else Path(name_or_path)
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(
            f"this is no state dict of tensors alone: {str(error).splitlines()[0]} ({path})",
            hint="a .pth is only read for its tensors; other content is refused",
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"this is no state dict of tensors alone ({path})")
    return dict(state)


def load_torchvision(network: Segmentator | StuffClassifier, state: Mapping[str, Tensor]) -> Mapped:
    """Fill a paper-size network from a public state dict, as this module's docstring lists.

    Raises ValueError where the trunk is another one, a name is missing or a shape differs; the network is
    then as it was.
    """
    if not isinstance(network.trunk, ResNetTrunk):
        raise ValueError("only the paper variant has a ResNet-101 trunk")
    wanted = network.state_dict()
    prefix = "backbone." if any(name.startswith("backbone.") for name in state) else ""
    sources: dict[str, tuple[str, ...]] = {
        f"trunk.{name}": (f"{prefix}{name}",)
        for name in network.trunk.state_dict()
        if not name.endswith("num_batches_tracked") or f"{prefix}{name}" in state
    }
    if isinstance(network, Segmentator) and "classifier.0.project.0.weight" in state:
        sources |= _pyramid_sources()
    taken: dict[str, Tensor] = {}
    for name, names in sources.items():
        value = _value(state, names, name)
        if value.shape != wanted[name].shape:
            raise ValueError(f"{names[0]}: shape {tuple(value.shape)}, wanted {tuple(wanted[name].shape)}")
        taken[name] = value
    with torch.no_grad():
        for name, value in taken.items():
            wanted[name].copy_(value)
    used = {name for names in sources.values() for name in names}
    return Mapped(tuple(taken), tuple(name for name in state if name not in used))


_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_POOLED = tuple(f"classifier.0.convs.4.{rest}" for rest in ("1.weight", *(f"2.{part}" for part in _NORM)))


def _pyramid_sources() -> dict[str, tuple[str, ...]]:
    pairs = [(f"aspp.branches.{k}", f"classifier.0.convs.{k}") for k in range(4)]
    pairs.append(("aspp.project", "classifier.0.project"))
    sources = {f"{ours}.0.weight": (f"{its}.0.weight",) for ours, its in pairs}
    sources |= {f"{ours}.1.{part}": (f"{its}.1.{part}",) for ours, its in pairs for part in _NORM}
    return {**sources, "aspp.pooled.0.weight": _POOLED, "aspp.pooled.0.bias": _POOLED}


def _value(state: Mapping[str, Tensor], names: tuple[str, ...], wanted: str) -> Tensor:
    missing = [name for name in names if name not in state and not name.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(f"the state dict has no {missing[0]!r}: not a ResNet-101 of torchvision")
    if len(names) == 1:
        return state[names[0]]
    # a norm of fixed statistics behind a convolution: one convolution with a bias
    weight, gain, bias, mean, variance = (state[name].float() for name in names[:5])
    gain = gain / torch.sqrt(variance + _NORM_EPSILON)
    if wanted.endswith("weight"):
        return weight * gain.view(-1, 1, 1, 1)
    return bias - mean * gain
