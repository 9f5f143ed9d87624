"""Threads are given out once, in time for torch's OpenMP to hear of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from threadpoolctl import ThreadpoolController

from engines import threads

ROOT = Path(threads.__file__).parents[1]


def test_the_wait_policy_is_set_by_importing_engines_and_before_torch_is() -> None:
    program = (
        "import os, sys, engines\n"
        "assert 'torch' not in sys.modules and 'openvino' not in sys.modules\n"
        "assert os.environ['OMP_WAIT_POLICY'] == 'PASSIVE'\n"
        "engines.give_threads(1)\n"
        "import torch\n"
        "assert torch.get_num_threads() == 1\n"
        "engines.give_threads(2)\n"
        "assert torch.get_num_threads() == 2\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("wish", "expected"), [("3", 3), ("0", None), ("many", None), ("", None)])
def test_the_user_may_say_how_many(wish: str, expected: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEANPLATE_THREADS", wish)
    count = threads.available_threads()
    assert count >= 1 and (expected is None or count == expected)


def test_a_count_of_ones_own_goes_before_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_given", 5)
    assert (threads.threads_for(), threads.threads_for(2)) == (5, 2)
    with pytest.raises(ValueError, match="negative"):
        threads.give_threads(-1)


def test_products_of_matrices_stay_in_the_thread_that_asks() -> None:
    # They took twenty times the processor time, for threads of OpenBLAS waited for each other by spinning.
    pools = ThreadpoolController().select(user_api="blas")
    with pools.limit(limits=2):
        before = [pool["num_threads"] for pool in pools.info()]
        with threads.one_thread_each():
            assert all(pool["num_threads"] == 1 for pool in pools.info())
        assert [pool["num_threads"] for pool in pools.info()] == before
