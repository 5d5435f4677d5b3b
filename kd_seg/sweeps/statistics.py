"""Means with their 95 % intervals over few seeds, and differences paired by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean over seeds.

    Attributes:
        mean: of the values.
        half: half the width of the 95 % Student t interval; None with fewer than two values.
        count: number of values.
    """

    mean: float
    half: float | None
    count: int


def interval(values: Sequence[float]) -> Interval | None:
    """Mean and 95 % t-interval: ``mean +- t(0.975, n - 1) s / sqrt(n)``; None without values."""
    if not values:
        return None
    count = len(values)
    mean = float(np.mean(values))
    if count < 2:
        return Interval(mean, None, count)
    from scipy.stats import t

    half = float(t.ppf(0.975, count - 1)) * float(np.std(values, ddof=1)) / math.sqrt(count)
    return Interval(mean, half, count)


def paired(ours: Mapping[int, float], baseline: Mapping[int, float]) -> Interval | None:
    """Interval of ``ours - baseline`` over the seeds that both have."""
    return interval([ours[seed] - baseline[seed] for seed in sorted(ours.keys() & baseline.keys())])
