"""Public torchvision state dicts: which layer goes where, and what is refused."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import engines  # noqa: F401 - comes before torch: it sets what torch's OpenMP reads once
from models import weights
from models.segmentator import build_segmentator
from models.stuff import build_stuff
from models.torchvision import DEEPLABV3, RESNET101, load_torchvision, read_state_dict
from models.weights import WeightsError

import torch  # isort: skip
from torch import Tensor

torch.set_num_threads(1)
NORM = ("weight", "bias", "running_mean", "running_var")


def norm(name: str, width: int) -> dict[str, Tensor]:
    state = {f"{name}.{part}": torch.rand(width) + 0.5 for part in NORM}
    return {**state, f"{name}.num_batches_tracked": torch.tensor(3)}


def resnet101(prefix: str = "") -> dict[str, Tensor]:
    """A state dict with the names and shapes of torchvision's ResNet-101, small random numbers."""
    state = {"conv1.weight": torch.rand(64, 3, 7, 7) * 0.01, **norm("bn1", 64)}
    inputs = 64
    for layer, (width, depth) in enumerate(((64, 3), (128, 4), (256, 23), (512, 3)), 1):
        for block in range(depth):
            name = f"layer{layer}.{block}"
            shapes = ((width, inputs, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1))
            for k, shape in enumerate(shapes, 1):
                state[f"{name}.conv{k}.weight"] = torch.full(shape, 1e-3 * k)
                state |= norm(f"{name}.bn{k}", shape[0])
            if block == 0:
                state[f"{name}.downsample.0.weight"] = torch.full((4 * width, inputs, 1, 1), 2e-3)
                state |= norm(f"{name}.downsample.1", 4 * width)
            inputs = 4 * width
    state |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    return {f"{prefix}{name}": value for name, value in state.items() if not (prefix and name[:2] == "fc")}


def deeplab() -> dict[str, Tensor]:
    """The names and shapes of torchvision's DeepLabv3 with ResNet-101."""
    state = resnet101("backbone.")
    for k, size in enumerate((1, 3, 3, 3)):
        state[f"classifier.0.convs.{k}.0.weight"] = torch.rand(256, 2048, size, size) * 0.01
        state |= norm(f"classifier.0.convs.{k}.1", 256)
    state["classifier.0.convs.4.1.weight"] = torch.rand(256, 2048, 1, 1) * 0.01
    state |= norm("classifier.0.convs.4.2", 256)
    state["classifier.0.project.0.weight"] = torch.rand(256, 1280, 1, 1) * 0.01
    state |= norm("classifier.0.project.1", 256)
    state["classifier.1.weight"] = torch.rand(256, 256, 3, 3)
    state |= norm("classifier.2", 256)
    state |= {"classifier.4.weight": torch.rand(21, 256, 1, 1), "classifier.4.bias": torch.rand(21)}
    state |= {"aux_classifier.4.weight": torch.rand(21, 256, 1, 1), "aux_classifier.4.bias": torch.rand(21)}
    return state


def test_a_resnet_fills_the_whole_trunk_of_either_network() -> None:
    torch.manual_seed(0)
    state = resnet101()
    for network in (build_stuff(variant="paper"), build_segmentator(variant="paper")):
        mapped = load_torchvision(network, state)
        trunk = network.trunk.state_dict()
        assert set(mapped.filled) == {f"trunk.{name}" for name in trunk} and len(trunk) == 624
        assert mapped.left_out == ("fc.weight", "fc.bias")
        assert all(torch.equal(value, state[name]) for name, value in trunk.items())


def test_a_deeplab_fills_trunk_and_pyramid_of_the_segmentator() -> None:
    torch.manual_seed(0)
    state = deeplab()
    network = build_segmentator(variant="paper").eval()
    mapped = load_torchvision(network, state)
    filled = {name for name in network.state_dict() if name.startswith(("trunk.", "aspp."))}
    assert set(mapped.filled) == filled
    assert {name.split(".")[0] for name in mapped.left_out} == {"classifier", "aux_classifier"}
    assert not [name for name in mapped.left_out if name.startswith("classifier.0.")]
    own = network.state_dict()
    assert torch.equal(own["trunk.layer3.22.conv3.weight"], state["backbone.layer3.22.conv3.weight"])
    assert torch.equal(own["aspp.branches.2.0.weight"], state["classifier.0.convs.2.0.weight"])
    # the branch of the whole picture: a convolution, then a norm of fixed statistics
    features = torch.rand(1, 2048, 2, 2)
    its = torch.nn.functional.conv2d(
        features.mean((2, 3), keepdim=True), state["classifier.0.convs.4.1.weight"]
    )
    weight, bias, mean, variance = (state[f"classifier.0.convs.4.2.{part}"] for part in NORM)
    its = torch.nn.functional.batch_norm(its, mean, variance, weight, bias, eps=1e-5)
    with torch.no_grad():
        ours = network.aspp.pooled[0](features.mean((2, 3), keepdim=True))
    torch.testing.assert_close(ours, its, rtol=1e-4, atol=1e-4)


def test_what_does_not_fit_changes_nothing() -> None:
    network = build_stuff(variant="paper")
    before = network.trunk.state_dict()["conv1.weight"].clone()
    state = resnet101()
    with pytest.raises(ValueError, match=r"no 'layer4\.2\.conv3\.weight'"):
        load_torchvision(network, {k: v for k, v in state.items() if k != "layer4.2.conv3.weight"})
    with pytest.raises(ValueError, match=r"layer1.0.conv1.weight: shape \(64, 64, 3, 3\)"):
        load_torchvision(network, {**state, "layer1.0.conv1.weight": torch.zeros(64, 64, 3, 3)})
    with pytest.raises(ValueError, match="only the paper variant"):
        load_torchvision(build_stuff(), state)
    assert torch.equal(network.trunk.state_dict()["conv1.weight"], before)


def test_public_files_are_fetched_verified_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a server on this machine, with the names of the real files and their own digests."""
    (tmp_path / "served").mkdir()
    torch.save({"conv1.weight": torch.ones(64, 3, 7, 7)}, tmp_path / "served" / f"{RESNET101}.pth")

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, directory=str(tmp_path / "served"), **options)  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    listed = json.loads((weights.FOLDER / "weights.json").read_text())
    assert {RESNET101, DEEPLABV3} <= listed.keys()
    for name in (RESNET101, DEEPLABV3):  # its publisher puts the beginning of the digest into the name
        assert listed[name]["sha256"] == name.rpartition("-")[2]
        assert listed[name]["url"].startswith("https://download.pytorch.org/models/")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    digest = hashlib.sha256((tmp_path / "served" / f"{RESNET101}.pth").read_bytes()).hexdigest()
    entry = listed[RESNET101]
    entry |= {"sha256": digest[:8], "url": f"http://127.0.0.1:{server.server_port}/{entry['file']}"}
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "weights.json").write_text(json.dumps({RESNET101: entry}))
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "list")
    monkeypatch.setenv("CLEANPLATE_WEIGHTS", str(tmp_path / "fetched"))
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(WeightsError, match="not on this machine") as caught:
        read_state_dict(RESNET101)
    assert caught.value.hint == f"cleanplate weights fetch {RESNET101}"
    weights.fetch(RESNET101)
    server.shutdown()
    server.server_close()
    assert torch.equal(read_state_dict(RESNET101)["conv1.weight"], torch.ones(64, 3, 7, 7))


class Opener:
    """What a pickle may do when it is simply loaded."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("ran.txt", "w")


@pytest.mark.parametrize("content", [Opener(), {"a": 1}, [torch.zeros(1)], b"no archive"])
def test_only_tensors_are_read_from_an_archive(
    content: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if isinstance(content, bytes):
        Path("state.pth").write_bytes(content)
    else:
        torch.save(content, "state.pth")
    with pytest.raises(WeightsError, match="tensors alone"):
        read_state_dict(Path("state.pth"))
    assert not Path("ran.txt").exists()
