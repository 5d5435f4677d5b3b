"""Rows of strided convolutions with any kernel, stride and padding: no sort, no hash table."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.sparse.compiled import versioned_kernel
from kd_seg.sparse.kernel_maps import windows
from kd_seg.sparse.tensor import Triple
from kd_seg.sparse.vectors import lowest_bit, popcount

Array = npt.NDArray[Any]

_ONE = np.uint64(1)


@versioned_kernel
def stride_rows(
    coordinates: npt.NDArray[np.int32],
    shape: Triple,
    made: Triple,
    size: Triple,
    stride: Triple,
    padding: Triple,
    wraps: bool,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Output voxels of a strided convolution and its pairs, slab of outputs by slab; occupied cells of one are bits.

    Args:
        coordinates: [V, 4] (batch, x, y, z), sorted and unique. shape, made: cells per axis of input and output.
        size, stride, padding: of the kernel. wraps: whether y wraps around.

    Returns:
        Coordinates [U, 4] of the outputs, sorted; of each pair the input row, the output row and the kernel's cell.
    """
    y_first, y_rows = windows(shape[1], made[1], size[1], stride[1], padding[1], wraps)
    z_first, z_rows = windows(shape[2], made[2], size[2], stride[2], padding[2], False)
    most = _most_pairs(
        coordinates, windows(shape[0], made[0], size[0], stride[0], padding[0], False)[0], y_first, z_first
    )
    words = (made[2] >> 6) + 1
    masks, starts = np.zeros(made[1] * words, dtype=np.uint64), np.zeros(made[1] * words, dtype=np.int32)
    coarse = np.empty((most, 4), dtype=np.int32)
    inputs, outputs, cells = np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32)
    slabs = np.empty(shape[0] + 1, dtype=np.int64)
    row, rows_out, pairs = 0, 0, 0
    while row < len(coordinates):
        batch = coordinates[row, 0]
        row = _find_slabs(coordinates, row, slabs)
        for x in range(made[0]):
            corner = x * stride[0] - padding[0]
            lower, upper = max(0, corner), min(shape[0], corner + size[0])
            if lower >= upper or slabs[lower] == slabs[upper]:
                continue
            near = coordinates[slabs[lower] : slabs[upper]]
            low, high = _mark(near, y_first, y_rows, z_first, z_rows, words, masks)
            rows_out = _number(masks, starts, low, high, words, batch, x, coarse, rows_out)
            for r in range(len(near)):
                cell_x = (near[r, 1] - corner) * size[1]
                y, z = near[r, 2], near[r, 3]
                for j in range(y_first[y], y_first[y + 1]):
                    column = y_rows[j, 0] * words
                    cell = (cell_x + y_rows[j, 1]) * size[2]
                    for k in range(z_first[z], z_first[z + 1]):
                        at = column + (z_rows[k, 0] >> 6)
                        below = (_ONE << np.uint64(z_rows[k, 0] & 63)) - _ONE
                        inputs[pairs] = slabs[lower] + r
                        outputs[pairs] = starts[at] + np.int32(popcount(masks[at] & below))
                        cells[pairs] = cell + z_rows[k, 1]
                        pairs += 1
            masks[low * words : (high + 1) * words] = 0
    return coarse[:rows_out].copy(), inputs[:pairs], outputs[:pairs], cells[:pairs]


@versioned_kernel
def _most_pairs(coordinates: Array, x_first: Array, y_first: Array, z_first: Array) -> int:
    """Pairs of all voxels; at most so many outputs there are."""
    most = 0
    for r in range(len(coordinates)):
        x, y, z = coordinates[r, 1], coordinates[r, 2], coordinates[r, 3]
        most += (x_first[x + 1] - x_first[x]) * (y_first[y + 1] - y_first[y]) * (z_first[z + 1] - z_first[z])
    return most


@versioned_kernel
def _find_slabs(coordinates: Array, row: int, slabs: Array) -> int:
    """First row of each x of the cloud that begins at ``row``, into ``slabs``; returns the first row behind it."""
    batch = coordinates[row, 0]
    for x in range(len(slabs)):
        slabs[x] = row
        while row < len(coordinates) and coordinates[row, 0] == batch and coordinates[row, 1] == x:
            row += 1
    return row


@versioned_kernel
def _mark(
    near: Array, y_first: Array, y_rows: Array, z_first: Array, z_rows: Array, words: int,
    masks: Array,
) -> tuple[int, int]:  # fmt: skip
    """Set the bits of the outputs that voxels ``near`` an output slab reach; returns the first and last y of these."""
    low, high = len(masks) // words, -1
    for r in range(len(near)):
        y, z = near[r, 2], near[r, 3]
        for j in range(y_first[y], y_first[y + 1]):
            low, high = min(low, y_rows[j, 0]), max(high, y_rows[j, 0])
            for k in range(z_first[z], z_first[z + 1]):
                masks[y_rows[j, 0] * words + (z_rows[k, 0] >> 6)] |= _ONE << np.uint64(z_rows[k, 0] & 63)
    return low, high


@versioned_kernel
def _number(
    masks: Array, starts: Array, low: int, high: int, words: int, batch: int, x: int, coarse: Array,
    made: int,
) -> int:  # fmt: skip
    """Write coordinates of the marked outputs behind ``made`` rows, and each word's first row; returns the new end."""
    for y in range(low, high + 1):
        for word in range(words):
            mask = masks[y * words + word]
            starts[y * words + word] = made
            while mask != 0:
                coarse[made, 0], coarse[made, 1], coarse[made, 2] = batch, x, y
                coarse[made, 3] = (word << 6) + lowest_bit(mask)
                made += 1
                mask &= mask - _ONE
    return made
