"""Kernel maps: which input row meets which output row under which kernel cell, made on the CPU.

A batch's voxels come sorted, and stay sorted through strided convolutions here. So a submanifold map is a walk of two
pointers per column of kernel cells, without a hash table; only half of the cells are walked, the other half is their
mirror image. A strided map sorts its outputs by radix. spconv's convolution then runs on these maps unchanged, on any
device, where its algorithm is Native.

An axis that wraps around (phi of a cylindrical grid) has its last cell beside its first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.errors import DataError
from kd_seg.core.kernels import kernel
from kd_seg.sparse.tensor import FLAT, Triple, Wraps
from kd_seg.voxels.sorting import sort_columns, sort_digits

Array = npt.NDArray[Any]


Rows = npt.NDArray[np.int32]


def submanifold_map(coordinates: Rows, shape: Triple, size: Triple, wraps: Wraps = FLAT) -> tuple[Rows, Rows]:
    """Map of a submanifold convolution with an odd kernel of ``size`` cells.

    Args:
        coordinates: [V, 4] int32 (batch, x, y, z), sorted, unique, inside ``shape``; else DataError.
        wraps: only the middle axis may wrap around.

    Returns:
        pairs [2, K, V] int32 (input rows, output rows; undefined where unused) and counts [K] int32. As spconv has it,
        the counts of the centre and of the mirrored half are 0: they follow from the first half.
    """
    check_wraps(wraps)
    cells = size[0] * size[1] * size[2]
    keys, fit = _padded_keys(coordinates, shape, (size[0] // 2, size[1] // 2, size[2] // 2))
    check_rows(fit, shape)
    pairs = np.empty((2, cells, len(coordinates)), dtype=np.int32)
    counts = np.zeros(cells, dtype=np.int32)
    _walk(keys, coordinates, shape, size, wraps[1], pairs, counts)
    return pairs, counts


def strided_map(
    coordinates: Rows, shape: Triple, size: Triple, stride: Triple, padding: Triple, wraps: Wraps = FLAT
) -> tuple[Rows, Triple, Rows, Rows]:
    """Map of a strided convolution.

    Along an axis that wraps around, the windows of the outputs continue over the seam; where the side is no multiple of
    the stride, the last window reaches over it by less than a stride.

    Args:
        coordinates: [V, 4] int32 (batch, x, y, z), sorted, unique, inside ``shape``; else DataError.
        wraps: only the middle axis may wrap around.

    Returns:
        coordinates [U, 4] of the output, sorted; its shape; pairs [2, K, V] and counts [K].
    """
    made = strided_shape(shape, size, stride, padding, wraps)
    x, y, z = made
    check_rows(_padded_keys(coordinates, shape, (0, 0, 0))[1], shape)
    bits = (y.bit_length(), z.bit_length())
    batches = int(coordinates[-1, 0]) + 1 if len(coordinates) else 1
    column_bits = (batches * x).bit_length() + bits[0]
    packed, inputs, cells = _candidates(coordinates, shape, made, size, stride, padding, wraps[1], bits)
    row_bits = len(packed).bit_length()
    if column_bits + bits[1] + row_bits > 64:
        raise ValueError(f"{batches} grids of {shape} are too large for a strided map")
    pairs = np.empty((2, size[0] * size[1] * size[2], len(coordinates)), dtype=np.int32)
    counts = np.zeros(pairs.shape[1], dtype=np.int32)
    made_coordinates = _join(packed, inputs, cells, x, bits, column_bits, row_bits, pairs, counts)
    return made_coordinates, made, pairs, counts


def strided_shape(shape: Triple, size: Triple, stride: Triple, padding: Triple, wraps: Wraps) -> Triple:
    """Cells per axis of a strided convolution's output; ValueError where an axis wraps around that may not."""
    check_wraps(wraps)
    x, y, z = ((n + 2 * p - k) // s + 1 for n, k, s, p in zip(shape, size, stride, padding, strict=True))
    return (x, -(-shape[1] // stride[1]) if wraps[1] else y, z)


def check_wraps(wraps: Wraps) -> None:
    """ValueError where an axis wraps around that may not."""
    if wraps[0] or wraps[2]:
        raise ValueError("only the middle axis of a grid may wrap around")


def check_rows(fit: bool, shape: Triple) -> None:
    """DataError where the rows of a sparse tensor do not fit, with the reason."""
    if not fit:
        raise DataError(
            f"Coordinates of a sparse tensor of shape {shape} are not sorted, hold a voxel twice or leave the shape; "
            "make them with voxelize."
        )


@kernel
def _padded_keys(coordinates: Array, shape: Triple, margin: Triple) -> tuple[Array, bool]:
    """64-bit keys in a box with a margin on every side, so that a neighbour beyond the border meets no voxel.

    One more key than voxels: the last is larger than any that is looked for. The second value says whether all voxels
    lie inside the shape and are sorted without repetition.
    """
    fit = True
    before = np.int64(-1)
    x_side = shape[0] + 2 * margin[0]
    y_side = shape[1] + 2 * margin[1]
    z_side = shape[2] + 2 * margin[2]
    keys = np.empty(len(coordinates) + 1, dtype=np.int64)
    keys[len(coordinates)] = np.int64(1) << 62
    for i in range(len(coordinates)):
        b, x, y, z = coordinates[i, 0], coordinates[i, 1], coordinates[i, 2], coordinates[i, 3]
        key = (np.int64(b) * x_side + x + margin[0]) * y_side + y + margin[1]
        keys[i] = key * z_side + z + margin[2]
        fit &= (b >= 0) & (x >= 0) & (x < shape[0]) & (y >= 0) & (y < shape[1]) & (z >= 0) & (z < shape[2])
        fit &= keys[i] > before
        before = keys[i]
    return keys, fit


@kernel
def _walk(
    keys: Array,
    coordinates: Array,
    shape: Triple,
    size: Triple,
    wraps: bool,
    pairs: Array,
    counts: Array,
) -> None:
    """Fill the first half of the map and its mirror image, a column of kernel cells at a time."""
    y_side = shape[1] + size[1] // 2 * 2
    z_side = shape[2] + size[2] // 2 * 2
    around = shape[1] * z_side
    centre = size[0] * size[1] * size[2] // 2
    last = 2 * centre
    for column in range(size[0] * size[1] // 2 + 1):
        dx = column // size[1] - size[0] // 2
        dy = column % size[1] - size[1] // 2
        first = column * size[2]
        cells = min(size[2], centre - first)
        delta = (dx * y_side + dy) * z_side - size[2] // 2
        below = 0
        beyond = 0
        for row in range(len(coordinates)):
            low = keys[row] + delta
            if wraps and dy != 0 and (coordinates[row, 2] + dy < 0 or coordinates[row, 2] + dy >= shape[1]):
                # the neighbour is on the other side of the seam; these rows have a pointer of their own
                low += around if dy < 0 else -around
                while keys[beyond] < low:
                    beyond += 1
                at = beyond
            else:
                while keys[below] < low:
                    below += 1
                at = below
            while keys[at] < low + cells:
                cell = first + keys[at] - low
                found = counts[cell]
                pairs[0, cell, found] = at
                pairs[1, cell, found] = row
                pairs[0, last - cell, found] = row
                pairs[1, last - cell, found] = at
                counts[cell] = found + 1
                at += 1


@kernel
def windows(side: int, made: int, size: int, stride: int, padding: int, wraps: bool) -> tuple[Array, Array]:
    """Along one axis: first[i] .. first[i + 1] are the (output, kernel cell) rows of input cell i."""
    first = np.zeros(side + 1, dtype=np.int32)
    rows = np.empty((made * size, 2), dtype=np.int32)
    found = 0
    for i in range(side):
        for output in range(max(0, (i + padding - size) // stride), min(made, (i + padding) // stride + 1)):
            k = i + padding - output * stride
            if k < size:
                rows[found, 0], rows[found, 1] = output, k
                found += 1
        # windows of the first and last outputs that reach i from the other side of the seam
        if wraps:
            for output in range(made):
                start = output * stride - padding
                if start >= 0 and start + size <= side:
                    continue
                for k in range(size):
                    if start + k != i and (start + k) % side == i:
                        rows[found, 0], rows[found, 1] = output, k
                        found += 1
        first[i + 1] = found
    return first, rows


@kernel
def _candidates(
    coordinates: Array,
    shape: Triple,
    made: Triple,
    size: Triple,
    stride: Triple,
    padding: Triple,
    wraps: bool,
    bits: tuple[int, int],
) -> tuple[Array, Array, Array]:
    """Every (output cell, input row, kernel cell) of a strided convolution, outputs packed as (batch, x), y, z."""
    x_first, x_rows = windows(shape[0], made[0], size[0], stride[0], padding[0], False)
    y_first, y_rows = windows(shape[1], made[1], size[1], stride[1], padding[1], wraps)
    z_first, z_rows = windows(shape[2], made[2], size[2], stride[2], padding[2], False)
    most = 0
    for r in range(len(coordinates)):
        x, y, z = coordinates[r, 1], coordinates[r, 2], coordinates[r, 3]
        most += (x_first[x + 1] - x_first[x]) * (y_first[y + 1] - y_first[y]) * (z_first[z + 1] - z_first[z])
    packed = np.empty(most, dtype=np.uint64)
    inputs = np.empty(most, dtype=np.int32)
    cells = np.empty(most, dtype=np.int32)
    found = 0
    for r in range(len(coordinates)):
        batch = np.int64(coordinates[r, 0]) * made[0]
        x, y, z = coordinates[r, 1], coordinates[r, 2], coordinates[r, 3]
        for i in range(x_first[x], x_first[x + 1]):
            for j in range(y_first[y], y_first[y + 1]):
                column = (batch + x_rows[i, 0]) << bits[0] | y_rows[j, 0]
                cell = (x_rows[i, 1] * size[1] + y_rows[j, 1]) * size[2]
                for k in range(z_first[z], z_first[z + 1]):
                    packed[found] = np.uint64(column << bits[1] | z_rows[k, 0])
                    inputs[found] = r
                    cells[found] = cell + z_rows[k, 1]
                    found += 1
    return packed, inputs, cells


@kernel
def _join(
    packed: Array,
    inputs: Array,
    cells: Array,
    x_side: int,
    bits: tuple[int, int],
    column_bits: int,
    row_bits: int,
    pairs: Array,
    counts: Array,
) -> Array:
    """Sort the candidates' outputs, number them, and fill the map; returns the outputs' coordinates [U, 4]."""
    for i in range(len(packed)):
        packed[i] = packed[i] << np.uint64(row_bits) | np.uint64(i)
    spare = np.empty(len(packed), dtype=np.uint64)
    packed, spare = sort_digits(packed, spare, row_bits + bits[1], column_bits)
    if not sort_columns(packed):
        packed, spare = sort_digits(packed, spare, row_bits, bits[1] + column_bits)
    row_of = np.empty(len(packed), dtype=np.int32)
    mask = (np.uint64(1) << np.uint64(row_bits)) - np.uint64(1)
    row = np.int64(-1)
    before = ~np.uint64(0)
    for j in range(len(packed)):
        output = packed[j] >> np.uint64(row_bits)
        row += np.int64(output != before)
        spare[row] = output
        row_of[packed[j] & mask] = row
        before = output
    for i in range(len(inputs)):
        cell = cells[i]
        found = counts[cell]
        pairs[0, cell, found] = inputs[i]
        pairs[1, cell, found] = row_of[i]
        counts[cell] = found + 1
    coordinates = np.empty((row + 1, 4), dtype=np.int32)
    for r in range(row + 1):
        output = np.int64(spare[r])
        x = output >> (bits[0] + bits[1])
        coordinates[r, 0] = x // x_side
        coordinates[r, 1] = x % x_side
        coordinates[r, 2] = output >> bits[1] & ((1 << bits[0]) - 1)
        coordinates[r, 3] = output & ((1 << bits[1]) - 1)
    return coordinates
