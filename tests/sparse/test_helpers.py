"""Tiles of a convolution that helpers begin: what they leave is done, what they write late is not written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from sparse_voxels import random_voxels
from torch import Tensor

from kd_seg.sparse import Submanifold, numba_backend, sparse_tensor, threads, using
from kd_seg.sparse.kernels import State

SHAPE = (16, 16, 12)
ROWS = 2500
"""Five tiles."""


@pytest.fixture
def convolution() -> Callable[[], Tensor]:
    torch.manual_seed(0)
    layer = Submanifold(24, 40, (3, 3, 3), "a")
    coordinates = random_voxels(0, ROWS, SHAPE)
    features = torch.randn(len(coordinates), 24)

    def convolve() -> Tensor:
        with using("numba"), torch.no_grad():
            return layer(sparse_tensor(features, coordinates, SHAPE, 2)).features

    return convolve


def offered(monkeypatch: pytest.MonkeyPatch, behave: Callable[[Any, Any, Tensor], None]) -> None:
    """Let ``behave(work, control, out)`` stand for the threads of a convolution."""

    def stand_in(work: partial[None], states: Any, written: int, adds: float) -> None:
        control, held = work.args[1]
        assert states is control.states
        assert len(states) == 5
        out: Tensor = held[-1]
        out.fill_(torch.nan)
        behave(work, control, out)

    monkeypatch.setattr(numba_backend, "offer", stand_in)


def test_tiles_that_helpers_began_are_done_by_who_is_none(
    convolution: Callable[[], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = convolution()

    def behave(work: Any, control: Any, out: Tensor) -> None:
        control.counter[0] = 5  # helpers have taken all
        control.states[:] = [State.DONE, State.COMPUTED, State.OPEN, State.WRITTEN, State.COMPUTED]
        work(False)
        assert control.states.tolist() == [State.DONE, State.TAKEN, State.TAKEN, State.WRITTEN, State.TAKEN]

    offered(monkeypatch, behave)
    found = convolution()
    for tile, done in enumerate([False, True, True, False, True]):
        rows = slice(512 * tile, 512 * tile + 512)
        assert torch.equal(found[rows], expected[rows]) if done else torch.isnan(found[rows]).all()


def test_a_helper_does_not_write_what_was_taken_from_it(
    convolution: Callable[[], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = convolution()

    def behave(work: Any, control: Any, out: Tensor) -> None:
        control.states[[0, 3]] = State.TAKEN
        work(True)
        assert control.states.tolist() == [State.TAKEN, State.DONE, State.DONE, State.TAKEN, State.DONE]
        assert torch.isnan(out[:512]).all()
        assert torch.isnan(out[1536:2048]).all()
        assert torch.equal(out[512:1536], expected[512:1536])
        assert torch.equal(out[2048:], expected[2048:])

    offered(monkeypatch, behave)
    convolution()


def test_results_do_not_depend_on_helpers(convolution: Callable[[], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = convolution()
    with ThreadPoolExecutor(3) as executor:
        monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
        monkeypatch.setattr(threads, "_executor", lambda: executor)
        monkeypatch.setattr(threads, "LEAST", 0)
        for _ in range(60):
            assert torch.equal(convolution(), expected)


@pytest.mark.parametrize("writes", [True, False])
def test_only_a_helper_that_writes_is_waited_for(monkeypatch: pytest.MonkeyPatch, writes: bool) -> None:
    states = np.zeros(3, np.int64)
    waited: list[Any] = []
    with ThreadPoolExecutor(1) as executor:
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
        monkeypatch.setattr(threads, "_executor", lambda: executor)
        monkeypatch.setattr(threads, "wait", waited.extend)
        begun, ended = threading.Event(), threading.Event()

        def work(helper: bool) -> None:
            if helper:
                begun.set()
                ended.wait(20)
                return
            assert begun.wait(20)
            states[1] = State.WRITTEN if writes else State.TAKEN

        threads.offer(work, states, State.WRITTEN, 10**9)
        assert len(waited) == writes
        ended.set()
