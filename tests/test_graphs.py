"""Recording a network as a CUDA graph: the book-keeping around it, with a recorder that stands for CUDA's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

import engines  # noqa: F401 - first: it sets what torch's OpenMP reads once
from engines.graphs import replayed

import torch  # isort: skip


class Recorder:
    """Replays what ran while it recorded; only memory that was there then is read and written."""

    def __init__(self) -> None:
        self.work: list[Any] = []

    def replay(self) -> None:
        for work in self.work:
            work()


class Stream:
    def wait_stream(self, other: Any) -> None:
        del other


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    recording: list[Recorder] = []

    @contextlib.contextmanager
    def graph(recorder: Recorder, *, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        recording.append(recorder)
        yield
        recording.pop()

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recorder)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    return recording


def test_a_network_runs_once_and_is_replayed_on_new_inputs(current: list[Recorder]) -> None:
    calls = []

    def network(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        calls.append(1)
        out = torch.empty(3)
        work = lambda: out.copy_(inputs[0] * 2 + inputs[1])  # noqa: E731
        work()
        for recorder in current:
            recorder.work.append(work)
        return [out]

    run = replayed(network)
    inputs = [(torch.full((3,), float(i)), torch.full((3,), 0.5)) for i in range(5)]
    results = [run(given)[0] for given in inputs]
    run([torch.full((3,), 100.0), torch.zeros(3)])
    # Earlier results stay as they were, and each is of its own inputs.
    assert [result.tolist() for result in results] == [[2 * i + 0.5] * 3 for i in range(5)]
    assert len(calls) == 4  # three to warm up, one recorded


def test_what_cannot_be_recorded_runs_as_it_is_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, current: list[Recorder]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    run = replayed(lambda inputs: [inputs[0] + 1])
    for _ in range(2):
        assert run([torch.zeros(2)])[0].tolist() == [1, 1]
    assert caplog.text.count("no CUDA graph: operation not permitted") == 1 and current == []
