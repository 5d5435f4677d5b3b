"""Sorting of packed integers, against NumPy."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kd_seg.voxels.sorting import sort_columns, sort_digits


@given(st.integers(0, 10**6), st.integers(0, 400), st.integers(0, 20), st.integers(1, 40))
def test_digits_are_sorted_and_equal_ones_keep_their_order(seed: int, count: int, shift: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 1 << 63, count, dtype=np.uint64)
    values &= np.uint64((1 << min(shift + bits, 63)) - 1)
    key = values >> np.uint64(shift)
    found, _ = sort_digits(values.copy(), np.empty_like(values), shift, bits)
    np.testing.assert_array_equal(found, values[np.argsort(key, kind="stable")])


@given(st.integers(0, 10**6), st.integers(0, 300), st.integers(1, 6))
def test_short_columns_are_repaired_and_long_ones_given_up_unlost(seed: int, count: int, mixed: int) -> None:
    """What is sorted but for swaps of near neighbours is sorted; any other order keeps every value."""
    rng = np.random.default_rng(seed)
    values = np.sort(rng.integers(0, 1 << 40, count, dtype=np.uint64))
    near = values[np.argsort(np.arange(count) + rng.uniform(0, mixed * 0.3, count), kind="stable")]
    for given_order in (near, rng.permutation(values)):
        sorted_here = given_order.copy()
        if sort_columns(sorted_here):
            np.testing.assert_array_equal(sorted_here, values)
        else:
            np.testing.assert_array_equal(np.sort(sorted_here), values)


def test_what_is_sorted_stays_and_what_is_reversed_is_given_up() -> None:
    values = np.arange(1000, dtype=np.uint64)
    kept = values.copy()
    assert sort_columns(kept)
    np.testing.assert_array_equal(kept, values)
    assert not sort_columns(values[::-1].copy())
