"""Kernel maps on the CPU: which input row meets which output row under which kernel cell.

A batch's voxels come sorted, and stay sorted through strided convolutions here. So a submanifold map is a walk of two
pointers per kernel cell, without a hash table; only half of the cells are walked, the other half is their mirror image.
spconv's convolution then runs on these maps unchanged (field T15).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kd_seg.voxels.compiled import kernel

Rows = npt.NDArray[np.int32]
Triple = tuple[int, int, int]


def submanifold_map(coordinates: Rows, shape: Triple, size: Triple) -> tuple[Rows, Rows]:
    """Map of a submanifold convolution with an odd kernel of ``size`` cells.

    Args:
        coordinates: [V, 4] int32 (batch, x, y, z), sorted, unique, inside ``shape``.

    Returns:
        pairs [2, K, V] int32 (input rows, output rows; -1 where unused) and counts [K] int32. As spconv has it, the
        counts of the centre and of the mirrored half are 0: they follow from the first half.
    """
    cells = size[0] * size[1] * size[2]
    pairs = np.full((2, cells, len(coordinates)), -1, dtype=np.int32)
    counts = np.zeros(cells, dtype=np.int32)
    keys = _padded_keys(coordinates, np.array(shape), np.array(size) // 2)
    _walk(keys, np.array(shape), np.array(size), pairs, counts)
    return pairs, counts


def strided_map(
    coordinates: Rows, shape: Triple, size: Triple, stride: Triple, padding: Triple
) -> tuple[Rows, Triple, Rows, Rows]:
    """Map of a strided convolution.

    Returns:
        coordinates [U, 4] of the output, sorted; its shape; pairs [2, K, V] and counts [K].
    """
    out_shape = tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(shape, size, stride, padding, strict=True))
    cells = size[0] * size[1] * size[2]
    outputs, inputs, offsets = _candidates(
        coordinates, np.array(out_shape), np.array(size), np.array(stride), np.array(padding)
    )
    keys, rows = np.unique(outputs, return_inverse=True)
    pairs = np.full((2, cells, len(coordinates)), -1, dtype=np.int32)
    counts = np.zeros(cells, dtype=np.int32)
    _fill(inputs, rows.astype(np.int32), offsets, pairs, counts)
    made: Triple = (out_shape[0], out_shape[1], out_shape[2])
    return _decode(keys, np.array(made)), made, pairs, counts


@kernel
def _padded_keys(coordinates: np.ndarray, shape: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """64-bit keys in a box with a margin on every side, so that a neighbour beyond the border meets no voxel."""
    y_side = shape[1] + 2 * margin[1]
    z_side = shape[2] + 2 * margin[2]
    x_side = shape[0] + 2 * margin[0]
    keys = np.empty(len(coordinates), dtype=np.int64)
    for i in range(len(coordinates)):
        x = np.int64(coordinates[i, 0]) * x_side + coordinates[i, 1] + margin[0]
        keys[i] = (x * y_side + coordinates[i, 2] + margin[1]) * z_side + coordinates[i, 3] + margin[2]
    return keys


@kernel
def _walk(keys: np.ndarray, shape: np.ndarray, size: np.ndarray, pairs: np.ndarray, counts: np.ndarray) -> None:
    count = len(keys)
    margin = size // 2
    y_side = shape[1] + 2 * margin[1]
    z_side = shape[2] + 2 * margin[2]
    cells = size[0] * size[1] * size[2]
    for cell in range(cells // 2):
        dx = cell // (size[1] * size[2]) - margin[0]
        dy = (cell // size[2]) % size[1] - margin[1]
        dz = cell % size[2] - margin[2]
        delta = (dx * y_side + dy) * z_side + dz
        found = 0
        below = 0
        for row in range(count):
            wanted = keys[row] + delta
            while keys[below] < wanted:
                below += 1
            if keys[below] == wanted:
                pairs[0, cell, found] = below
                pairs[1, cell, found] = row
                pairs[0, cells - 1 - cell, found] = row
                pairs[1, cells - 1 - cell, found] = below
                found += 1
        counts[cell] = found


@kernel
def _candidates(
    coordinates: np.ndarray, out_shape: np.ndarray, size: np.ndarray, stride: np.ndarray, padding: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every (output key, input row, kernel cell) of a strided convolution."""
    reach = 1
    for axis in range(3):
        reach *= -(-size[axis] // stride[axis])
    most = len(coordinates) * reach
    outputs = np.empty(most, dtype=np.int64)
    inputs = np.empty(most, dtype=np.int32)
    offsets = np.empty(most, dtype=np.int32)
    found = 0
    for row in range(len(coordinates)):
        batch = np.int64(coordinates[row, 0])
        for kx in range(size[0]):
            x = coordinates[row, 1] + padding[0] - kx
            if x < 0 or x % stride[0] or x // stride[0] >= out_shape[0]:
                continue
            for ky in range(size[1]):
                y = coordinates[row, 2] + padding[1] - ky
                if y < 0 or y % stride[1] or y // stride[1] >= out_shape[1]:
                    continue
                for kz in range(size[2]):
                    z = coordinates[row, 3] + padding[2] - kz
                    if z < 0 or z % stride[2] or z // stride[2] >= out_shape[2]:
                        continue
                    key = (batch * out_shape[0] + x // stride[0]) * out_shape[1] + y // stride[1]
                    outputs[found] = key * out_shape[2] + z // stride[2]
                    inputs[found] = row
                    offsets[found] = (kx * size[1] + ky) * size[2] + kz
                    found += 1
    return outputs[:found], inputs[:found], offsets[:found]


@kernel
def _fill(inputs: np.ndarray, outputs: np.ndarray, offsets: np.ndarray, pairs: np.ndarray, counts: np.ndarray) -> None:
    for i in range(len(inputs)):
        cell = offsets[i]
        place = counts[cell]
        pairs[0, cell, place] = inputs[i]
        pairs[1, cell, place] = outputs[i]
        counts[cell] = place + 1


@kernel
def _decode(keys: np.ndarray, shape: np.ndarray) -> np.ndarray:
    coordinates = np.empty((len(keys), 4), dtype=np.int32)
    for i in range(len(keys)):
        rest = keys[i]
        coordinates[i, 3] = rest % shape[2]
        rest //= shape[2]
        coordinates[i, 2] = rest % shape[1]
        rest //= shape[1]
        coordinates[i, 1] = rest % shape[0]
        coordinates[i, 0] = rest // shape[0]
    return coordinates
