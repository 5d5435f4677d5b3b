"""Packed weights against a plain statement of their order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from kd_seg.sparse.packing import blocks_together, pack, pack_transposed
from kd_seg.sparse.widths import BLOCKS, LANES


def plainly(weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Weights [out, cells, in], outputs padded to blocks, group of blocks by group of blocks."""
    width_out, cells, width_in = weight.shape
    blocks = -(-width_out // LANES)
    padded = np.zeros((blocks * LANES, cells, width_in), np.float32)
    padded[:width_out] = weight
    parts = []
    first = 0
    while first < blocks:
        wide = blocks_together(blocks - first)
        group = padded[first * LANES : (first + wide) * LANES]
        parts.append(group.transpose(1, 2, 0).reshape(cells, -1))
        first += wide
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("shape", [(1, 1, 1), (16, 27, 7), (24, 8, 33), (48, 27, 16), (64, 2, 5), (100, 3, 40)])
def test_weights_are_packed_both_ways(shape: tuple[int, int, int]) -> None:
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    packed = np.zeros((shape[1], shape[2] * -(-shape[0] // LANES) * LANES), np.float32)
    pack(weight, packed)
    np.testing.assert_array_equal(packed, plainly(weight))
    back = np.zeros((shape[1], shape[0] * -(-shape[2] // LANES) * LANES), np.float32)
    pack_transposed(weight, back)
    np.testing.assert_array_equal(back, plainly(weight.transpose(2, 1, 0)))


def test_blocks_go_together_as_the_registers_allow() -> None:
    taken = [blocks_together(left) for left in range(1, 8)]
    assert all(1 <= wide <= max(BLOCKS) for wide in taken)
    if max(BLOCKS) == 3:
        assert taken == [1, 2, 3, 2, 3, 3, 3]
