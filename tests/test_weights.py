"""The list of weights is true, loading is strict, and fetching leaves either the right file or none."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

import engines  # noqa: F401 - comes before torch: it sets what torch's OpenMP reads once
from models import weights
from models.relation import load_relation
from models.weights import WeightsError

import torch  # isort: skip
from safetensors.torch import save_file
from torch import nn

torch.set_num_threads(1)
CONTENT = b"tensors" * 1000


@pytest.mark.parametrize("name", weights.all_weights())
def test_committed_files_are_what_the_list_says(name: str) -> None:
    listed = weights.find_weights(name)
    if listed.url is None:
        path = weights.verify(name)
        assert path.parent == weights.FOLDER, "after new training: cleanplate weights verify --update"
        assert path.stat().st_size == listed.size and listed.licence


def test_every_committed_file_is_listed() -> None:
    files = {path.name for path in weights.FOLDER.glob("*.safetensors")}
    assert files == {w.file for w in weights.all_weights().values() if w.url is None}


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(WeightsError) as caught:
        weights.weights_path("relatoin")
    assert "did you mean 'relation'" in caught.value.hint and caught.value.exit_code == 5


def test_who_wants_the_paper_size_is_told_how_to_get_it() -> None:
    with pytest.raises(WeightsError, match="do not come with the program") as caught:
        weights.weights_path("stuff-paper")
    assert "models.weights={stuff: FILE}" in caught.value.hint


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def test_half_precision_is_cast_to_what_the_module_has(tmp_path: Path) -> None:
    source, target = network(), network()
    state = {k: v.half() if v.is_floating_point() else v for k, v in source.state_dict().items()}
    del state["1.num_batches_tracked"]
    save_file(state, tmp_path / "net.safetensors")
    weights.load_weights(target, tmp_path / "net.safetensors")
    weight = target.state_dict()["0.weight"]
    assert weight.dtype == torch.float32 and torch.equal(weight, state["0.weight"].float())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"0.bias": None}, "missing: 0.bias"),
        ({"2.weight": torch.zeros(1)}, "unexpected: 2.weight"),
        ({"0.bias": torch.zeros(3)}, r"wrong shape: 0.bias is \(3,\), not \(2,\)"),
        ({f"{i}.more": torch.zeros(1) for i in range(9)}, "and 5 more"),
    ],
)
def test_weights_of_another_network_are_refused(
    change: dict[str, torch.Tensor | None], says: str, tmp_path: Path
) -> None:
    state = {**network().state_dict(), **change}
    save_file({k: v for k, v in state.items() if v is not None}, tmp_path / "net.safetensors")
    module = network()
    before = module.state_dict()["0.weight"].clone()
    with pytest.raises(WeightsError, match=says):
        weights.load_weights(module, tmp_path / "net.safetensors")
    assert torch.equal(module.state_dict()["0.weight"], before), "nothing is half loaded"


@pytest.mark.parametrize("content", [None, b"", b"\x80\x04pickle", b"\xff" * 100])
def test_missing_and_damaged_files_are_errors(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError):
        weights.load_weights(network(), path)


def test_a_changed_file_is_refused_by_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # one flipped bit in a number: the file can be read, and everything computed with it would be wrong
    for path in weights.FOLDER.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    for name in ("stuff-compact", "relation"):
        data = bytearray((tmp_path / f"{name}.safetensors").read_bytes())
        data[-1000] ^= 64
        (tmp_path / f"{name}.safetensors").write_bytes(data)
    with pytest.raises(WeightsError, match="not what was published") as caught:
        weights.load_weights(network(), "stuff-compact")
    assert caught.value.hint and caught.value.exit_code == 5
    with pytest.raises(WeightsError, match="not what was published"):
        load_relation()
    (tmp_path / "relation.safetensors").unlink()
    with pytest.raises(WeightsError, match="not on this machine"):
        load_relation()


class Server(BaseHTTPRequestHandler):
    """Serves from any byte on, except /whole, which always sends all; /cut breaks off when asked for all."""

    answers: ClassVar[dict[str, bytes]] = {
        "/good": CONTENT,
        "/whole": CONTENT,
        "/cut": CONTENT,
        "/unsized": CONTENT,
        "/wrong": CONTENT[::-1],
        "/short": CONTENT[:-7],
        "/endless": CONTENT * 50,
    }
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        content = self.answers.get(self.path)
        ranged = self.headers.get("Range", "")
        self.asked.append(f"{self.path} {ranged}".strip())
        if content is None:
            self.send_error(404)
            return
        first = int(ranged.removeprefix("bytes=").rstrip("-") or 0) if self.path != "/whole" else 0
        if first >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        if self.path != "/short":
            self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        self.wfile.write(content[first : 3000 if self.path == "/cut" and not first else None])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A list with one entry for each answer of a local server; yields the folder of fetched files."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    listed = {
        name: {
            "file": f"{name}.safetensors",
            "sha256": hashlib.sha256(CONTENT).hexdigest(),
            "size": len(CONTENT),
            "licence": "Apache-2.0",
            "url": f"http://127.0.0.1:{server.server_port}/{name}",
        }
        for name in ("good", "whole", "cut", "wrong", "short", "endless", "absent")
    }
    listed["unsized"] = {
        **listed["good"],
        "file": "unsized.pth",
        "sha256": listed["good"]["sha256"][:8],
        "size": None,
        "url": f"http://127.0.0.1:{server.server_port}/unsized",
    }
    listed["local"] = {**listed["good"], "file": "local.safetensors", "url": "file:///etc/passwd"}
    listed["shipped"] = {**listed["good"], "file": "shipped.safetensors", "url": None}
    (shipped / "weights.json").write_text(json.dumps(listed))
    monkeypatch.setattr(weights, "FOLDER", shipped)
    monkeypatch.setenv("CLEANPLATE_WEIGHTS", str(tmp_path / "fetched"))
    monkeypatch.setenv("no_proxy", "*")
    Server.asked.clear()
    yield tmp_path / "fetched"
    server.shutdown()
    server.server_close()


def test_fetched_weights_are_whole_and_fetched_once(published: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = weights.fetch("good", on_progress=lambda done, size: seen.append((done, size)))
    assert path == published / "good.safetensors" == weights.weights_path("good")
    assert path.read_bytes() == CONTENT and seen[-1] == (len(CONTENT), len(CONTENT))
    assert weights.fetch("good") == path and Server.asked == ["/good"]


def test_the_command_fetches_what_does_not_come_with_the_package(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from stream.commands import main

    for arguments, code in (["good"], 0), (["wrong"], 5), (["good", "unheard"], 5), ([], 5):
        with pytest.raises(SystemExit) as ended:
            main(["weights", "fetch", *arguments])
        assert ended.value.code == code
    assert f"good: {published / 'good.safetensors'}" in capsys.readouterr().out


@pytest.mark.usefixtures("published")
def test_a_damaged_file_is_fetched_again() -> None:
    path = weights.fetch("good")
    path.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="not what was published"):
        weights.verify("good")
    assert weights.fetch("good").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("wrong", "not the published file"),
        ("endless", "not the published file"),
        ("absent", "Not Found"),
        ("local", "http or https only"),
        ("shipped", "not on this machine"),
    ],
)
def test_a_fetch_that_fails_leaves_no_file(name: str, says: str, published: Path) -> None:
    with pytest.raises(WeightsError, match=says):
        weights.fetch(name)
    assert not published.exists() or not list(published.iterdir())


def test_what_was_cut_off_goes_on_where_it_stopped(published: Path) -> None:
    with pytest.raises(WeightsError, match="cut off after 3000 of 7000 bytes") as caught:
        weights.fetch("cut")
    assert "weights fetch cut" in caught.value.hint
    assert [path.name for path in published.iterdir()] == ["cut.safetensors.part"]
    seen: list[tuple[int, int]] = []
    path = weights.fetch("cut", on_progress=lambda done, size: seen.append((done, size)))
    assert path.read_bytes() == CONTENT and list(published.iterdir()) == [path]
    assert Server.asked == ["/cut", "/cut bytes=3000-"] and seen == [(7000, 7000)]


def test_a_download_that_ends_early_without_a_length_is_no_file(published: Path) -> None:
    with pytest.raises(WeightsError, match="cut off after 6993 of 7000 bytes"):
        weights.fetch("short")
    assert not (published / "short.safetensors").exists()


@pytest.mark.parametrize("name", ["good", "whole"])
@pytest.mark.parametrize("begun", [b"x" * 100, CONTENT[:100], b"y" * 9000], ids=["other", "own", "longer"])
def test_whatever_was_begun_before_the_right_file_comes(name: str, begun: bytes, published: Path) -> None:
    published.mkdir()
    (published / f"{name}.safetensors.part").write_bytes(begun)
    assert weights.fetch(name).read_bytes() == CONTENT
    assert [path.name for path in published.iterdir()] == [f"{name}.safetensors"]


def test_the_beginning_of_a_digest_is_enough_where_no_more_is_published(published: Path) -> None:
    path = weights.fetch("unsized")
    assert weights.verify("unsized") == path
    path.write_bytes(CONTENT + b"?")
    with pytest.raises(WeightsError, match="not what was published"):
        weights.verify("unsized")
    (published / "unsized.pth.part").write_bytes(CONTENT)  # all of it came, but it was never renamed
    assert weights.fetch("unsized").read_bytes() == CONTENT


def test_no_server_is_an_error_that_says_what_to_do(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionRefusedError("nobody there")

    monkeypatch.setattr(weights.urllib.request, "urlopen", refuse)
    with pytest.raises(WeightsError, match="cannot be fetched: nobody there") as caught:
        weights.fetch("good")
    assert f"put it at {published / 'good.safetensors'}" in caught.value.hint
    assert not list(published.iterdir())


def test_a_folder_that_cannot_be_written_is_an_error(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CLEANPLATE_WEIGHTS", str(tmp_path / "file" / "weights"))
    with pytest.raises(WeightsError, match="cannot be written") as caught:
        weights.fetch("good")
    assert "CLEANPLATE_WEIGHTS" in caught.value.hint and not published.exists()


def test_the_list_is_refreshed_from_the_files(published: Path) -> None:
    (weights.FOLDER / "new.safetensors").write_bytes(CONTENT)
    assert weights.update_list() == ["shipped", "new"]
    assert weights.verify("new").name == "new.safetensors"
    assert weights.update_list() == [] and weights.find_weights("good").url
    assert not published.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"a": {"file": 1}}'])
def test_an_unreadable_list_is_an_error(text: str, published: Path) -> None:
    (weights.FOLDER / "weights.json").write_text(text)
    with pytest.raises(WeightsError, match="list of weights"):
        weights.all_weights()
    assert not published.exists()
