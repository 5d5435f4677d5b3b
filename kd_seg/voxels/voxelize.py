"""Voxelization: which cells hold points, and which cell each point is in.

A LiDAR writes neighbouring returns one after the other, so consecutive points often share a cell: they are joined to
runs first. The cell of a run is packed into one integer, axis by axis in bits, so that integer order is row order, with
the number of the run below it. A radix sort by the first two axes brings the runs of a column together, in which they
mostly have their order already; where they do not, columns are sorted by insertion, or all bits are sorted. There is no
hash table and no dense grid, and shuffled points cost no more than one run per point.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.kernels import kernel
from kd_seg.voxels.grids import CylindricalGrid, Grid, as_rows, cylindrical
from kd_seg.voxels.sorting import sort_columns, sort_digits

Array = npt.NDArray[Any]


_BLOCK = 1024
"""Points whose cells are computed at a time, so that they are read again from the first-level cache."""


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


def voxelize(points: npt.NDArray[np.floating[Any]], grid: Grid) -> Voxels:
    """Find the occupied cells of points [N, >=3] (x, y, z first; metres; taken as float32) in a grid.

    Deterministic; no dense grid is allocated. Works for fewer than 2^31 points and grids of up to 2^63 cells.
    """
    places: npt.NDArray[np.floating[Any]] = as_rows(points)
    if isinstance(grid, CylindricalGrid):
        places = cylindrical(places, grid.seam)
    x_size, y_size, z_size = grid.size
    scale = (1.0 / x_size, 1.0 / y_size, 1.0 / z_size)
    cells = (float(grid.cells[0]), float(grid.cells[1]), float(grid.cells[2]))
    bits = (grid.shape[0].bit_length(), (grid.shape[1] - 1).bit_length(), (grid.shape[2] - 1).bit_length())
    run_bits = len(places).bit_length()
    wide = sum(bits) + run_bits > 64
    layout = (bits[1], bits[2], 0 if wide else run_bits)
    outside = grid.shape[0] << (bits[1] + bits[2])
    space = _workspace(len(places))
    inverse = np.empty(len(places), dtype=np.int32)
    packed = space.packed[: len(places)]
    runs = _runs(
        places.reshape(-1), places.shape[1], grid.lower, scale, cells, (grid.wraps[1], grid.clamp), layout, outside,
        packed, space.ends, inverse,
    )  # fmt: skip
    packed = packed[len(places) - runs :]
    if wide:
        coordinates, counts = _group_wide(packed[::-1], space.ends[:runs], layout, outside, inverse)
    else:
        coordinates, counts = _group(
            packed, space.spare[:runs], space.voxel_of, space.ends, bits, run_bits, outside, inverse
        )
    return Voxels(coordinates, inverse, counts)


class _Workspace:
    """Room for the intermediate results of clouds of up to ``capacity`` points."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.packed = np.empty(capacity, dtype=np.uint64)
        self.spare = np.empty(capacity, dtype=np.uint64)
        self.ends = np.empty(capacity, dtype=np.int32)
        self.voxel_of = np.empty(capacity, dtype=np.int32)


_LOCAL = threading.local()

_KEEP = 1 << 20
"""Largest workspace that a thread keeps for its next call, in points (24 MiB)."""


def _workspace(points: int) -> _Workspace:
    """This thread's workspace; kept between calls, as touching fresh memory costs as much as sorting in it."""
    kept: _Workspace | None = getattr(_LOCAL, "workspace", None)
    if kept is not None and kept.capacity >= points:
        return kept
    made = _Workspace(max(points + points // 8, 1024))
    if made.capacity <= _KEEP:
        _LOCAL.workspace = made
    return made


@kernel
def _clamped(place: np.floating[Any], cells: float) -> np.float64:
    """A position within the cells of an axis: the nearest of those beyond; what is not finite stays outside."""
    if math.isinf(place):
        return np.float64(-1.0)
    if place < 0.0:
        return np.float64(0.0)
    return np.float64(cells - 0.5) if place >= cells else np.float64(place)


@kernel
def _cell(
    x: np.floating[Any],
    y: np.floating[Any],
    z: np.floating[Any],
    cells: tuple[float, float, float],
    border: tuple[bool, bool],
    y_bits: int,
    z_bits: int,
    outside: int,
) -> np.int64:
    """Packed cell of a position measured in cells. Compared as floats, so that NaN is outside.

    ``border``: whether the second axis wraps around, and whether points beyond the grid count to its border cells.
    """
    wraps, clamp = border
    if wraps and y >= cells[1]:  # just below a whole turn, rounded up
        y = np.float64(0.0)
    if clamp:
        x, y, z = _clamped(x, cells[0]), _clamped(y, cells[1]), _clamped(z, cells[2])
    inside = (x >= 0.0) & (x < cells[0]) & (y >= 0.0) & (y < cells[1]) & (z >= 0.0) & (z < cells[2])
    i, j, k = np.int64(np.int32(x)), np.int64(np.int32(y)), np.int64(np.int32(z))
    return (i << y_bits | j) << z_bits | k if inside else np.int64(outside)


@kernel
def _cells(
    flat: Array,
    width: int,
    lower: tuple[float, float, float],
    scale: tuple[float, float, float],
    cells: tuple[float, float, float],
    border: tuple[bool, bool],
    y_bits: int,
    z_bits: int,
    outside: int,
    found: Array,
) -> None:
    """Packed cells of at most _BLOCK points, laid out ``width`` numbers apart."""
    # 32-bit numbering and a constant stride let the compiler work on several points at once
    one, two, four = np.uint32(1), np.uint32(2), np.uint32(4)
    if width == 4:
        for i in range(np.uint32(len(found))):
            at = four * np.uint32(i)
            x = (np.float64(flat[at]) - lower[0]) * scale[0]
            y = (np.float64(flat[at + one]) - lower[1]) * scale[1]
            z = (np.float64(flat[at + two]) - lower[2]) * scale[2]
            found[i] = _cell(x, y, z, cells, border, y_bits, z_bits, outside)
    else:
        for i in range(np.uint32(len(found))):
            at = np.uint32(width) * np.uint32(i)
            x = (np.float64(flat[at]) - lower[0]) * scale[0]
            y = (np.float64(flat[at + one]) - lower[1]) * scale[1]
            z = (np.float64(flat[at + two]) - lower[2]) * scale[2]
            found[i] = _cell(x, y, z, cells, border, y_bits, z_bits, outside)


@kernel
def _runs(
    flat: Array,
    width: int,
    lower: tuple[float, float, float],
    scale: tuple[float, float, float],
    cells: tuple[float, float, float],
    border: tuple[bool, bool],
    layout: tuple[int, int, int],
    outside: int,
    packed: Array,
    ends: Array,
    run_of: Array,
) -> np.int64:
    """Find the runs of consecutive points in one cell; returns how many.

    ``layout`` holds the bits of y, z and run number; without bits for it the run number is left out of ``packed``,
    which is filled from its end: a scan that starts with its upper rings then comes upwards within a column.
    """
    y_bits, z_bits, run_bits = layout
    run_mask = (np.int64(1) << run_bits) - 1
    count = len(run_of)
    block = np.empty(_BLOCK, dtype=np.int64)
    run = np.int64(-1)
    before = np.int64(-1)
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        part = flat[start * width : (start + size) * width]
        _cells(part, width, lower, scale, cells, border, y_bits, z_bits, outside, block[:size])
        runs_here = run_of[start:]
        for i in range(np.uint64(size)):  # unsigned places, because Numba looks out for negative ones
            cell = block[i]
            run += np.int64(cell != before)
            packed[np.uint64(count - 1 - run)] = cell << run_bits | run & run_mask
            ends[np.uint64(run)] = start + np.int64(i) + 1
            runs_here[i] = run
            before = cell
    return run + 1


@kernel
def _group(
    packed: Array,
    spare: Array,
    voxel_of: Array,
    ends: Array,
    bits: tuple[int, int, int],
    run_bits: int,
    outside: int,
    inverse: Array,
) -> tuple[Array, Array]:
    """Coordinates and counts of the voxels; ``inverse`` holds each point's run and gets its voxel."""
    x_bits, y_bits, z_bits = bits
    runs = len(packed)
    packed, spare = sort_digits(packed, spare, run_bits + z_bits, x_bits + y_bits)
    if not sort_columns(packed):
        packed, spare = sort_digits(packed, spare, run_bits, x_bits + y_bits + z_bits)

    voxel = np.int64(-1)
    before = ~np.uint64(0)
    run_mask = (np.uint64(1) << np.uint64(run_bits)) - np.uint64(1)
    for j in range(runs):
        cell = packed[j] >> np.uint64(run_bits)
        voxel += np.int64(cell != before)
        spare[voxel] = cell
        voxel_of[packed[j] & run_mask] = voxel
        before = cell
    counts = np.zeros(voxel + 1, dtype=np.int32)
    start = np.int32(0)
    for r in range(runs):
        counts[voxel_of[r]] += ends[r] - start
        start = ends[r]
    if before == np.uint64(outside):  # the last voxel of all is none
        counts = counts[:voxel].copy()
        for j in range(runs - 1, -1, -1):
            if packed[j] >> np.uint64(run_bits) != before:
                break
            voxel_of[packed[j] & run_mask] = -1
    for i in range(len(inverse)):
        inverse[i] = voxel_of[inverse[i]]

    coordinates = np.empty((len(counts), 3), dtype=np.int32)
    for v in range(len(counts)):
        cell = np.int64(spare[v])
        coordinates[v, 0] = cell >> (y_bits + z_bits)
        coordinates[v, 1] = cell >> z_bits & ((1 << y_bits) - 1)
        coordinates[v, 2] = cell & ((1 << z_bits) - 1)
    return coordinates, counts


def _group_wide(
    cells: npt.NDArray[np.uint64],
    ends: npt.NDArray[np.int32],
    layout: tuple[int, int, int],
    outside: int,
    inverse: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The same with NumPy's sort, where a cell and the number of a run do not fit 64 bits together."""
    y_bits, z_bits, _ = layout
    voxel_of = np.full(len(cells), -1, dtype=np.int32)
    runs = np.flatnonzero(cells != outside)
    unique, rows = np.unique(cells[runs].astype(np.int64), return_inverse=True)
    voxel_of[runs] = rows
    counts = np.zeros(len(unique), dtype=np.int32)
    np.add.at(counts, rows, np.diff(ends, prepend=0)[runs])
    inverse[:] = voxel_of[inverse]
    x, y, z = unique >> (y_bits + z_bits), unique >> z_bits & ((1 << y_bits) - 1), unique & ((1 << z_bits) - 1)
    return np.stack([x, y, z], axis=1).astype(np.int32), counts
