"""What a network is told of each point, by name; the names are stored in the checkpoint.

========== ======= =====================================================================================
name       columns meaning
========== ======= =====================================================================================
xyz        3       x, y, z in metres, LiDAR frame
height     1       z alone, in metres, LiDAR frame
range      1       distance from the sensor in metres
remission  1       as the scan has it, 0-1
offset     3       from the centre of the point's cell, in cells (-0.5 to 0.5), along the grid's axes
cylinder9  9       Cylinder3D (methods 4): offset from the cell's centre (m, rad, m), rho, phi, z, x, y, remission
========== ======= =====================================================================================
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from kd_seg.errors import ConfigError
from kd_seg.voxels.grids import CylindricalGrid, Grid, as_rows, cylindrical
from kd_seg.voxels.voxelize import Voxels

FEATURE_WIDTHS: dict[str, int] = {"xyz": 3, "height": 1, "range": 1, "remission": 1, "offset": 3, "cylinder9": 9}
"""Columns of each point feature."""


def feature_width(names: tuple[str, ...]) -> int:
    """Columns F of named point features together; ConfigError names an unknown one."""
    for name in names:
        if name not in FEATURE_WIDTHS:
            raise ConfigError(f"There is no point feature {name!r}; known: {', '.join(FEATURE_WIDTHS)}.")
    return sum(FEATURE_WIDTHS[name] for name in names)


def point_features(
    points: npt.NDArray[np.floating], voxels: Voxels, grid: Grid, names: tuple[str, ...]
) -> npt.NDArray[np.float32]:
    """Features [N, F] of points [N, >=4] (x, y, z, remission), columns in the order of ``names``.

    Points outside the grid have offsets of 0; a point with a NaN or infinite coordinate has zeros throughout, as has a
    remission that is not finite. ``voxels`` must come from the same points and grid.
    """
    rows = as_rows(points)
    if ("remission" in names or "cylinder9" in names) and rows.shape[1] < 4:
        raise ValueError(f"remission needs points [N, 4] or wider, got {list(rows.shape)}")
    features = np.empty((len(rows), feature_width(names)), dtype=np.float32)
    column = 0
    for name in names:
        width = FEATURE_WIDTHS[name]
        features[:, column : column + width] = _feature(name, rows, voxels, grid)
        column += width
    finite = np.isfinite(rows[:, 0] + rows[:, 1] + rows[:, 2])
    if not finite.all():
        features[~np.isfinite(rows[:, :3]).all(axis=1)] = 0.0
    return np.nan_to_num(features, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def _feature(name: str, rows: npt.NDArray[np.float32], voxels: Voxels, grid: Grid) -> npt.NDArray[np.floating]:
    if name == "xyz":
        return rows[:, :3]
    if name == "height":
        return rows[:, 2:3]
    if name == "range":
        return np.sqrt(np.einsum("nd,nd->n", rows[:, :3], rows[:, :3]))[:, None]
    if name == "remission":
        return rows[:, 3:4]
    if name == "offset":
        return _offset(_places(rows, grid), voxels, grid)
    turned = cylindrical(rows, grid.lower[1] if isinstance(grid, CylindricalGrid) else -math.pi)
    places = turned if isinstance(grid, CylindricalGrid) else rows[:, :3]
    offset = _offset(places, voxels, grid) * np.array(grid.size)
    return np.concatenate([offset, turned, rows[:, :2], rows[:, 3:4]], axis=1)


def _places(rows: npt.NDArray[np.float32], grid: Grid) -> npt.NDArray[np.floating]:
    """Points in the coordinates of the grid's axes."""
    return cylindrical(rows, grid.lower[1]) if isinstance(grid, CylindricalGrid) else rows[:, :3]


def _offset(places: npt.NDArray[np.floating], voxels: Voxels, grid: Grid) -> npt.NDArray[np.float64]:
    """Offset [N, 3] from the cell's centre in cells; 0 outside the grid."""
    offset = np.zeros((len(places), 3))
    inside = np.flatnonzero(voxels.inverse >= 0)
    cells = voxels.coordinates[voxels.inverse[inside]]
    position = (places[inside].astype(np.float64) - np.array(grid.lower)) / np.array(grid.size)
    offset[inside] = position - cells - 0.5
    return offset
