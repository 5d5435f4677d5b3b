"""Helper threads for a kernel that takes its work from a counter: idle cores help, busy ones are not waited for."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

LEAST = 4_000_000
"""Multiply-adds from which a helper is called; starting it costs about as much as half of them."""


@lru_cache(maxsize=1)
def _executor() -> ThreadPoolExecutor:
    """Threads that sleep while they have nothing to do."""
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 2) - 1), thread_name_prefix="kd_seg convolution")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_executor.cache_clear)  # a forked child has none of its parent's threads


def offer(work: Callable[[bool], None], states: npt.NDArray[np.int64], written: int, multiply_adds: float) -> None:
    """Run ``work(False)`` here and, if it is worth it, ``work(True)`` in as many threads as torch may use.

    What helpers have not finished in the end, ``work(False)`` does itself; only one that is about to write (a state is
    ``written``) is waited for. ``work`` must keep alive what a helper that comes late still reads.
    """
    helpers = torch.get_num_threads() - 1 if multiply_adds >= LEAST else 0
    started: list[Future[None]] = [_executor().submit(work, True) for _ in range(helpers)]
    work(False)
    late = [future for future in started if not future.cancel()]
    if late and (states == written).any():
        wait(late)


def share(work: Callable[..., Any], arguments: tuple[Any, ...], multiply_adds: float) -> None:
    """Run ``work(*arguments)`` here and, if it is worth it, in as many threads as torch may use on the CPU.

    All calls take from one counter. A helper that has not begun when the work is done is called off; one that has begun
    is waited for, as it may be at the last piece.
    """
    helpers = torch.get_num_threads() - 1 if multiply_adds >= LEAST else 0
    started: list[Future[Any]] = [_executor().submit(work, *arguments) for _ in range(helpers)]
    work(*arguments)
    for future in started:
        if not future.cancel():
            future.result()
