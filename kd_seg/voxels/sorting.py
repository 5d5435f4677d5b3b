"""Sorting of packed integers: a radix sort, and a repair of what is sorted but for its lowest part."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.kernels import kernel

Array = npt.NDArray[Any]


_DIGIT = 14
"""Most bits sorted per pass: 16384 counters stay in the second-level cache."""


@kernel
def sort_digits(packed: Array, spare: Array, shift: int, bits: int) -> tuple[Array, Array]:
    """Stable radix sort by ``bits`` bits from ``shift`` upwards; the sorted array first, then the other."""
    passes = max(1, -(-bits // _DIGIT))
    width = -(-bits // passes)
    histogram = np.empty(1 << width, dtype=np.int32)
    mask = np.uint64(len(histogram) - 1)
    for p in range(passes):
        down = np.uint64(shift + p * width)
        histogram[:] = 0
        for j in range(len(packed)):
            histogram[packed[j] >> down & mask] += 1
        total = 0
        for d in range(len(histogram)):
            here = histogram[d]
            histogram[d] = total
            total += here
        for j in range(len(packed)):
            value = packed[j]
            digit = value >> down & mask
            spare[histogram[digit]] = value
            histogram[digit] += 1
        packed, spare = spare, packed
    return packed, spare


@kernel
def sort_columns(packed: Array) -> bool:
    """Insertion sort of what is sorted but for the order within columns; gives up (False) on long mixed columns."""
    budget = len(packed)
    last = np.uint64(0)
    for j in range(len(packed)):
        value = packed[j]
        if value >= last:
            last = value
            continue
        i = j
        while i > 0 and packed[i - 1] > value:
            packed[i] = packed[i - 1]
            i -= 1
        packed[i] = value
        budget -= j - i
        if budget < 0:
            return False
    return True
