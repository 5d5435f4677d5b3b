"""``kd-seg bench voxelize``: coordinates and inverse of a scan, ours and its peers.

Every peer is given the part of the work that it is best at: PointToVoxel a dense grid that fits the cloud tightly and
is allocated beforehand, the ``unique`` functions and Open3D ready cell indices. Ours starts from points.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.benchmarks.timing import BenchRow, Rival, compare
from kd_seg.core.errors import DataError
from kd_seg.voxels import CartesianGrid, Voxels, voxelize

HEIGHT = (-6.4, 6.4)
"""Metres kept in z: a few stray returns far below the road would make PointToVoxel's dense grid much larger."""


def rows(points: npt.NDArray[np.float32], voxel_size: float, repeats: int) -> list[BenchRow]:
    """Times of kd_seg, spconv's PointToVoxel, np.unique and torch.unique on packed cells, and Open3D's HashSet.

    Args:
        points: [N, 4]; rows that are not finite or leave 6.4 m above or below the sensor are left out first.
        voxel_size: edge length in metres.
        repeats: turns taken.

    Results are compared before timing: ours, the ``unique`` functions and Open3D exactly, PointToVoxel to 0.1 % of the
    voxels, as it computes cells in float32. Raises DataError for a cloud of which nothing is left.
    """
    xyz = points[:, :3]
    kept = np.isfinite(xyz).all(axis=1) & (xyz[:, 2] > HEIGHT[0]) & (xyz[:, 2] < HEIGHT[1])
    points = np.ascontiguousarray(points[kept, :4], dtype=np.float32)
    if len(points) == 0:
        raise DataError("The cloud to voxelize has no finite point within 6.4 m of the sensor's height; take another.")
    grid = _tight_grid(points, voxel_size)
    expected = voxelize(points, grid)
    cells = expected.coordinates[expected.inverse]
    rivals = [
        Rival("kd_seg voxelize", lambda: voxelize(points, grid), lambda found: _check_ours(found, points, grid), True),
        *_point_to_voxel(points, grid, len(expected)),
        *_uniques(cells, grid, expected),
        *_open3d(cells, len(expected)),
    ]
    return compare(rivals, repeats)


def _tight_grid(points: npt.NDArray[np.float32], voxel_size: float) -> CartesianGrid:
    low = np.floor(points[:, :3].min(axis=0) / voxel_size - 1).astype(int) * voxel_size
    high = np.ceil(points[:, :3].max(axis=0) / voxel_size + 1).astype(int) * voxel_size
    size = (voxel_size, voxel_size, voxel_size)
    return CartesianGrid(size, (low[0], low[1], low[2]), (high[0], high[1], high[2]))


def _check_ours(found: Voxels, points: npt.NDArray[np.float32], grid: CartesianGrid) -> None:
    position = (points[:, :3].astype(np.float64) - np.array(grid.lower)) * (1.0 / np.array(grid.size))
    coordinates, inverse = np.unique(np.floor(position).astype(np.int32), axis=0, return_inverse=True)
    assert np.array_equal(found.coordinates, coordinates)
    assert np.array_equal(found.inverse, inverse.reshape(-1))


def _point_to_voxel(points: npt.NDArray[np.float32], grid: CartesianGrid, voxels: int) -> list[Rival]:
    """spconv's voxelizer; left out with a warning where its dense grid does not fit the memory."""
    import torch

    from kd_seg.sparse.backend import spconv

    dense = 4 * np.prod([float(n) for n in grid.cells])
    if dense > 0.6 * _free_memory():
        warnings.warn(f"PointToVoxel is left out: its dense grid needs {dense / 2**30:.1f} GiB.", stacklevel=2)
        return []
    spconv()
    from spconv.pytorch.utils import PointToVoxel

    made = PointToVoxel(list(grid.voxel_size), [*grid.lower, *grid.upper], points.shape[1], len(points), 1)
    tensor = torch.from_numpy(points)

    def check(found: Any) -> None:
        coordinates, inverse = found[1], found[3]
        assert abs(len(coordinates) - voxels) <= 1e-3 * voxels, f"{len(coordinates)} voxels, expected {voxels}"
        assert int((inverse < 0).sum()) <= 1e-3 * len(points)

    return [Rival("spconv PointToVoxel", lambda: made.generate_voxel_with_id(tensor), check)]


def _uniques(cells: npt.NDArray[np.int32], grid: CartesianGrid, expected: Voxels) -> list[Rival]:
    """NumPy's and torch's unique with inverse on packed cells."""
    import torch

    x, y, z = cells.astype(np.int64).T
    keys = (x * grid.shape[1] + y) * grid.shape[2] + z
    tensor = torch.from_numpy(keys)

    def check(found: Any) -> None:
        assert len(found[0]) == len(expected)
        assert np.array_equal(np.asarray(found[1]).reshape(-1), expected.inverse)

    return [
        Rival("np.unique on packed cells", lambda: np.unique(keys, return_inverse=True), check),
        Rival("torch.unique on packed cells", lambda: torch.unique(tensor, return_inverse=True), check),
    ]


def _open3d(cells: npt.NDArray[np.int32], voxels: int) -> list[Rival]:
    """Open3D's hash set of cells; left out with a warning where Open3D is missing."""
    from kd_seg.core.errors import MissingDependencyError
    from kd_seg.core.open3d import open3d

    try:
        core = open3d().core
    except MissingDependencyError as error:
        warnings.warn(f"Open3D is left out: {error}", stacklevel=2)
        return []
    tensor = core.Tensor(np.ascontiguousarray(cells))

    def run() -> Any:
        table = core.HashSet(len(cells), core.int32, (3,), core.Device("CPU:0"))
        table.insert(tensor)
        return table, table.find(tensor)[0]

    def check(found: Any) -> None:
        assert found[0].size() == voxels
        assert len(np.unique(found[1].numpy())) == voxels

    return [Rival("Open3D HashSet of cells", run, check)]


def _free_memory() -> float:
    """Bytes of memory that a program may take without swapping; unlimited where the system sets no limit."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            line = next(line for line in file if line.startswith("MemAvailable"))
        return 1024.0 * int(line.split()[1])
    except (OSError, StopIteration):
        return float("inf")
