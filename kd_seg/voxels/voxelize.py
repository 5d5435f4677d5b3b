"""Voxelization: which cells hold points, and which cell each point is in.

The cell of a point is packed into one integer, axis by axis in bits, so that integer order is row order; the number of
the point sits below it. A radix sort of these integers (least significant digit first, over the bits that the cloud
needs) brings the points of a cell together in the order of the rows, without a hash table and without a dense grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_seg.voxels.compiled import kernel
from kd_seg.voxels.grids import CylindricalGrid, Grid, as_rows, cylindrical

_DIGIT = 11
"""Most bits sorted per pass; 2048 counters stay in the first-level cache."""


@dataclass(frozen=True)
class Voxels:
    """Occupied cells of one cloud.

    Attributes:
        coordinates: [V, 3] int32 (x, y, z) or (rho, phi, z), no duplicates, sorted by (x * Y + y) * Z + z.
        inverse: [N] int32, row of each point's voxel; -1 for points outside the grid, NaN or infinite.
        counts: [V] int32, points per voxel, at least 1.
    """

    coordinates: npt.NDArray[np.int32]
    inverse: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.coordinates)


def voxelize(points: npt.NDArray[np.floating], grid: Grid) -> Voxels:
    """Find the occupied cells of points [N, >=3] (x, y, z first; metres; taken as float32) in a grid.

    Deterministic; no dense grid is allocated. Works for fewer than 2^31 points and grids of up to 2^63 cells.
    """
    places: npt.NDArray[np.floating] = as_rows(points)
    if isinstance(grid, CylindricalGrid):
        places = cylindrical(places, grid.lower[1])
    lower = np.array(grid.lower)
    scale = 1.0 / np.array(grid.size)
    cells = np.array(grid.cells, dtype=np.float64)
    keys, bounds = _keys(places, lower, scale, cells, grid.wraps[1])
    if bounds[0, 0] > bounds[1, 0]:
        return Voxels(np.empty((0, 3), np.int32), np.full(len(keys), -1, np.int32), np.empty(0, np.int32))
    bits = np.array([int(side).bit_length() for side in bounds[1] - bounds[0]])
    row_bits = len(keys).bit_length()
    if bits.sum() + row_bits > 64:
        return _voxelize_wide(keys)
    return Voxels(*_group(keys, bounds[0], bits, row_bits, _digits(int(bits.sum()), len(keys))))


def _digits(bits: int, points: int) -> npt.NDArray[np.int64]:
    """How many bits each pass of the sort looks at."""
    passes = max(1, -(-bits // _DIGIT))
    return np.array([bits // passes + (i < bits % passes) for i in range(passes)])


@kernel
def _keys(
    places: np.ndarray, lower: np.ndarray, scale: np.ndarray, cells: np.ndarray, wraps: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Cell of each place [N, >=3] as x << 42 | y << 21 | z, -1 outside; and [2, 3] smallest and largest index."""
    keys = np.empty(len(places), dtype=np.int64)
    bounds = np.empty((2, 3), dtype=np.int64)
    bounds[0] = 1 << 21
    bounds[1] = -1
    x_low = y_low = z_low = np.int64(1 << 21)
    x_high = y_high = z_high = np.int64(-1)
    for i in range(len(places)):
        fx = (np.float64(places[i, 0]) - lower[0]) * scale[0]
        fy = (np.float64(places[i, 1]) - lower[1]) * scale[1]
        fz = (np.float64(places[i, 2]) - lower[2]) * scale[2]
        if wraps and fy == cells[1]:
            fy = 0.0
        # compared as floats: NaN fails, and no float is converted that does not fit an integer
        if fx >= 0.0 and fx < cells[0] and fy >= 0.0 and fy < cells[1] and fz >= 0.0 and fz < cells[2]:
            x, y, z = np.int64(np.int32(fx)), np.int64(np.int32(fy)), np.int64(np.int32(fz))
            keys[i] = x << 42 | y << 21 | z
            x_low, x_high = min(x_low, x), max(x_high, x)
            y_low, y_high = min(y_low, y), max(y_high, y)
            z_low, z_high = min(z_low, z), max(z_high, z)
        else:
            keys[i] = -1
    bounds[0, 0], bounds[0, 1], bounds[0, 2] = x_low, y_low, z_low
    bounds[1, 0], bounds[1, 1], bounds[1, 2] = x_high, y_high, z_high
    return keys, bounds


@kernel
def _group(
    keys: np.ndarray, corner: np.ndarray, bits: np.ndarray, row_bits: int, digits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates, inverse and counts from keys whose indices above ``corner`` fit ``bits`` per axis."""
    count = len(keys)
    mask = np.int64((1 << 21) - 1)
    y_shift, z_shift = row_bits + bits[2], np.int64(row_bits)
    x_shift = y_shift + bits[1]
    packed = np.empty(count, dtype=np.uint64)
    spare = np.empty(count, dtype=np.uint64)
    inverse = np.empty(count, dtype=np.int32)
    histograms = np.zeros((len(digits), 1 << digits.max()), dtype=np.int32)
    inside = 0
    for i in range(count):
        key = keys[i]
        if key < 0:
            inverse[i] = -1
            continue
        x, y, z = (key >> 42) - corner[0], (key >> 21 & mask) - corner[1], (key & mask) - corner[2]
        value = np.uint64(x << x_shift | y << y_shift | z << z_shift | i)
        packed[inside] = value
        inside += 1
        shift = np.uint64(row_bits)
        for p in range(len(digits)):
            width = np.uint64(digits[p])
            histograms[p, value >> shift & ((np.uint64(1) << width) - np.uint64(1))] += 1
            shift += width
    shift = np.uint64(row_bits)
    for p in range(len(digits)):
        _scatter(packed[:inside], spare, histograms[p], shift, np.uint64(digits[p]))
        packed, spare = spare, packed
        shift += np.uint64(digits[p])
    rows_mask = (np.uint64(1) << np.uint64(row_bits)) - np.uint64(1)
    voxels = 0
    before = ~np.uint64(0)
    for j in range(inside):
        value = packed[j] >> np.uint64(row_bits)
        if value != before:
            before = value
            spare[voxels] = np.uint64(j)
            voxels += 1
        inverse[packed[j] & rows_mask] = voxels - 1
    coordinates = np.empty((voxels, 3), dtype=np.int32)
    counts = np.empty(voxels, dtype=np.int32)
    for v in range(voxels):
        first = spare[v]
        value = packed[first]
        end = spare[v + 1] if v + 1 < voxels else np.uint64(inside)
        counts[v] = end - first
        coordinates[v, 0] = np.int64(value >> np.uint64(x_shift)) + corner[0]
        coordinates[v, 1] = (np.int64(value >> np.uint64(y_shift)) & ((1 << bits[1]) - 1)) + corner[1]
        coordinates[v, 2] = (np.int64(value >> np.uint64(z_shift)) & ((1 << bits[2]) - 1)) + corner[2]
    return coordinates, inverse, counts


@kernel
def _scatter(source: np.ndarray, target: np.ndarray, histogram: np.ndarray, shift: np.uint64, width: np.uint64) -> None:
    """One stable pass of the sort: ``source`` into ``target`` by the digit at ``shift``."""
    total = 0
    for d in range(len(histogram)):
        here = histogram[d]
        histogram[d] = total
        total += here
    mask = (np.uint64(1) << width) - np.uint64(1)
    for j in range(len(source)):
        value = source[j]
        digit = value >> shift & mask
        target[histogram[digit]] = value
        histogram[digit] += 1


def _voxelize_wide(keys: npt.NDArray[np.int64]) -> Voxels:
    """The same by NumPy's sort, where cell and point number do not fit 64 bits together."""
    inverse = np.full(len(keys), -1, dtype=np.int32)
    rows = np.flatnonzero(keys >= 0)
    unique, back, counts = np.unique(keys[rows], return_inverse=True, return_counts=True)
    inverse[rows] = back
    mask = (1 << 21) - 1
    coordinates = np.stack([unique >> 42, unique >> 21 & mask, unique & mask], axis=1).astype(np.int32)
    return Voxels(coordinates, inverse, counts.astype(np.int32))
