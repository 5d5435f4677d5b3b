"""Halved grids, pooled rows and helper threads, against plain loops."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kd_seg.sparse import threads
from kd_seg.sparse.halving import halve
from kd_seg.sparse.pooling import mean_rows, pool_rows


def voxels(rng: np.random.Generator, side: int, height: int, batches: int = 2) -> np.ndarray:
    count = int(rng.integers(0, 200))
    rows = np.column_stack([rng.integers(0, n, count) for n in (batches, side, side, height)])
    return np.unique(rows, axis=0).astype(np.int32).reshape(-1, 4)


@given(st.integers(0, 10**6), st.sampled_from([2, 6, 16]), st.sampled_from([2, 10, 128, 130, 200]))
def test_halving_is_division_by_two(seed: int, side: int, height: int) -> None:
    fine = voxels(np.random.default_rng(seed), side, height)
    coarse, row_of, cell_of = halve(fine, side, height)
    shift = np.array([0, 1, 1, 1])
    np.testing.assert_array_equal(coarse, np.unique(fine >> shift, axis=0).reshape(-1, 4))
    np.testing.assert_array_equal(coarse[row_of], fine >> shift)
    odd = fine[:, 1:] & 1
    np.testing.assert_array_equal(cell_of, odd @ [4, 2, 1])


@given(st.integers(0, 10**6), st.integers(0, 60), st.integers(1, 12))
def test_means_and_maxima_of_rows_are_those_of_a_loop(seed: int, count: int, places: int) -> None:
    rng = np.random.default_rng(seed)
    rows, index = rng.normal(size=(count, 3)).astype(np.float32), rng.integers(-1, places, count)
    for reduce, of in (("mean", np.mean), ("amax", np.max)):
        expected = np.zeros((places, 3), np.float32)
        for place in range(places):
            mine = rows[index == place]
            if len(mine):
                expected[place] = of(mine, axis=0)
        for gradient in (False, True):
            given_rows = torch.from_numpy(rows).requires_grad_(gradient)
            found = pool_rows(given_rows, torch.from_numpy(index), places, reduce)
            np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-5)
    by_kernel = mean_rows(rows, index, places)
    np.testing.assert_array_equal(by_kernel, pool_rows(torch.from_numpy(rows), torch.from_numpy(index), places, "mean"))


def test_gradients_of_a_mean_are_shared_by_its_rows() -> None:
    rows = torch.ones(4, 1, requires_grad=True)
    pool_rows(rows, torch.tensor([0, 0, 1, -1]), 3, "mean").sum().backward()
    assert rows.grad is not None
    assert rows.grad[:, 0].tolist() == [0.5, 0.5, 1.0, 0.0]


@pytest.mark.parametrize(("helpers", "adds", "calls"), [(0, 10**9, 1), (2, 10**9, 3), (2, threads.LEAST - 1, 1)])
def test_work_is_shared_where_it_is_worth_it(
    monkeypatch: pytest.MonkeyPatch, helpers: int, adds: float, calls: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: helpers + 1)
    begun, lock, barrier = [], threading.Lock(), threading.Barrier(calls)

    def work(name: str) -> None:
        with lock:
            begun.append(name)
        barrier.wait(20)

    executor = threads.ThreadPoolExecutor(4)
    monkeypatch.setattr(threads, "_executor", lambda: executor)
    threads.share(work, ("a",), adds)
    assert begun == ["a"] * calls
    executor.shutdown()


def test_an_error_of_a_helper_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    main, started = threading.current_thread(), threading.Event()

    def work() -> None:
        if threading.current_thread() is main:
            assert started.wait(20)
            return
        started.set()
        raise ValueError("of the helper")

    with pytest.raises(ValueError, match="of the helper"):
        threads.share(work, (), 10**9)
