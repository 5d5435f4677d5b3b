"""Rows of convolutions with kernel 2, stride 2 and even sides: every fine voxel has one coarse one and one cell."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kd_seg.sparse.compiled import versioned_kernel
from kd_seg.sparse.vectors import lowest_bit, popcount

_ONE = np.uint64(1)


@versioned_kernel
def halve(
    coordinates: npt.NDArray[np.int32], side: int, height: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Coarse voxels of sorted fine ones [V, 4]: their coordinates [U, 4], sorted, and each fine row's coarse row, cell.

    ``side`` and ``height`` are the fine cells along y and z. Occupied coarse cells of a slab are kept as bits.
    """
    voxels = len(coordinates)
    words = (height // 2 + 63) // 64 + 1
    masks = np.zeros((side // 2 + 1) * words, dtype=np.uint64)
    starts = np.zeros((side // 2 + 1) * words, dtype=np.int32)
    coarse = np.empty((voxels, 4), dtype=np.int32)
    row_of = np.empty(voxels, dtype=np.int32)
    cell_of = np.empty(voxels, dtype=np.int32)
    made, row = 0, 0
    while row < voxels:
        batch, x = coordinates[row, 0], coordinates[row, 1] >> 1
        last = row
        low, high = side, -1
        while last < voxels and coordinates[last, 0] == batch and coordinates[last, 1] >> 1 == x:
            y, z = coordinates[last, 2] >> 1, coordinates[last, 3] >> 1
            masks[y * words + (z >> 6)] |= _ONE << np.uint64(z & 63)
            low, high = min(low, y), max(high, y)
            last += 1
        for y in range(low, high + 1):
            for word in range(words):
                mask = masks[y * words + word]
                starts[y * words + word] = made
                while mask != 0:
                    z = (word << 6) + lowest_bit(mask)
                    coarse[made, 0], coarse[made, 1], coarse[made, 2], coarse[made, 3] = batch, x, y, z
                    made += 1
                    mask &= mask - _ONE
        for r in range(row, last):
            y, z = coordinates[r, 2], coordinates[r, 3]
            at = (y >> 1) * words + (z >> 7)
            below = (_ONE << np.uint64(z >> 1 & 63)) - _ONE
            row_of[r] = starts[at] + np.int32(popcount(masks[at] & below))
            cell_of[r] = (coordinates[r, 1] & 1) * 4 + (y & 1) * 2 + (z & 1)
        masks[low * words : (high + 1) * words] = 0
        row = last
    return coarse[:made].copy(), row_of, cell_of
