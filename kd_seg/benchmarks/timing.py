"""Fair times of several implementations: same input, same result, run in turn, best of the repeats."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class BenchRow:
    """One line of a benchmark.

    Attributes:
        name: what was timed.
        ours: whether it is kd_seg's.
        ms: best of the repeats.
        ratio: its ms / our ms in the same run (ours: 1.0).
        peak_share: of the speed of a large matrix product on the same machine; None where it was not measured.
        gmacs: multiply-adds of the network on this input, in thousands of millions; None where there is no network.
    """

    name: str
    ours: bool
    ms: float
    ratio: float
    gmacs: float | None = None
    peak_share: float | None = None


@dataclass(frozen=True)
class Rival:
    """Something to time.

    Attributes:
        name, ours: see BenchRow.
        run: does the work once.
        check: given what ``run`` returned, raises if the result is wrong; called once, before any timing.
    """

    name: str
    run: Callable[[], Any]
    check: Callable[[Any], None]
    ours: bool = False


TURN = 3
"""Calls of one rival in a row: the first finds the caches as the rival before it left them, the others as its own."""


def wait_for(device: str) -> Callable[[], None]:
    """What ends a time taken on a device: nothing on the CPU, on CUDA the end of all work that was queued."""
    if not device.startswith("cuda"):
        return lambda: None
    import torch

    return lambda: torch.cuda.synchronize(device)


def compare(rivals: list[Rival], repeats: int, wait: Callable[[], None] = lambda: None) -> list[BenchRow]:
    """Check every rival's result, then time them in turns; rows in the order given.

    Taking turns lets a busy machine slow all of them alike, and the minimum leaves its disturbances out.
    Exactly one rival must be ours; ``wait`` is part of each time (see ``wait_for``). Raises AssertionError where a
    result is wrong, ValueError on a bad call.
    """
    if repeats < 1 or [r.ours for r in rivals].count(True) != 1:
        raise ValueError("a benchmark needs repeats >= 1 and exactly one rival of ours")
    for rival in rivals:
        rival.check(rival.run())
    best = [math.inf] * len(rivals)
    for _ in range(repeats):
        for i, rival in enumerate(rivals):
            for _ in range(TURN):
                wait()
                start = time.perf_counter()
                rival.run()
                wait()
                best[i] = min(best[i], time.perf_counter() - start)
    ours = next(seconds for seconds, rival in zip(best, rivals, strict=True) if rival.ours)
    return [
        BenchRow(rival.name, rival.ours, 1e3 * seconds, seconds / ours)
        for seconds, rival in zip(best, rivals, strict=True)
    ]
