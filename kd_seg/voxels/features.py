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
from kd_seg.voxels.compiled import kernel
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
        _write(name, rows, voxels, grid, features[:, column : column + width])
        column += width
    _clean(rows, features)
    return features


def _write(name: str, rows: npt.NDArray[np.float32], voxels: Voxels, grid: Grid, out: npt.NDArray[np.float32]) -> None:
    """Write one feature of all points into its columns."""
    turned = isinstance(grid, CylindricalGrid)
    if name == "xyz":
        out[:] = rows[:, :3]
    elif name == "height":
        out[:] = rows[:, 2:3]
    elif name == "range":
        out[:, 0] = np.sqrt(np.einsum("nd,nd->n", rows[:, :3], rows[:, :3]))
    elif name == "remission":
        out[:] = rows[:, 3:4]
    elif name == "offset":
        places = cylindrical(rows, grid.lower[1]) if turned else rows
        _write_offset(places, voxels.inverse, voxels.coordinates, grid.lower, grid.size, (1.0, 1.0, 1.0), out)
    else:
        polar = cylindrical(rows, grid.lower[1] if turned else -math.pi)
        places = polar if turned else rows
        _write_offset(places, voxels.inverse, voxels.coordinates, grid.lower, grid.size, grid.size, out[:, :3])
        out[:, 3:6] = polar
        out[:, 6:8] = rows[:, :2]
        out[:, 8] = rows[:, 3]


@kernel
def _write_offset(
    places: np.ndarray,
    inverse: np.ndarray,
    coordinates: np.ndarray,
    lower: tuple[float, float, float],
    size: tuple[float, float, float],
    unit: tuple[float, float, float],
    out: np.ndarray,
) -> None:
    """Offset [N, 3] from the cell's centre, in cells times ``unit``; 0 outside the grid."""
    for i in range(len(places)):
        v = inverse[i]
        for a in range(3):
            if v >= 0:
                position = (np.float64(places[i, a]) - lower[a]) * (1.0 / size[a])
                out[i, a] = (position - coordinates[v, a] - 0.5) * unit[a]
            else:
                out[i, a] = 0.0


@kernel
def _clean(rows: np.ndarray, features: np.ndarray) -> None:
    """Zero the features of points with a coordinate that is not finite, and single values that are not."""
    for i in range(len(rows)):
        if not (math.isfinite(rows[i, 0]) and math.isfinite(rows[i, 1]) and math.isfinite(rows[i, 2])):
            features[i] = 0.0
            continue
        for f in range(features.shape[1]):
            if not math.isfinite(features[i, f]):
                features[i, f] = 0.0
