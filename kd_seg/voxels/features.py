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
        _write(name, rows, voxels.inverse, grid, column, features)
        column += FEATURE_WIDTHS[name]
    _clear_broken(rows, features)
    return features


def _write(
    name: str,
    rows: npt.NDArray[np.float32],
    inverse: npt.NDArray[np.int32],
    grid: Grid,
    column: int,
    out: npt.NDArray[np.float32],
) -> None:
    """Write one feature of all points into its columns, the first of which is ``column``."""
    turned = isinstance(grid, CylindricalGrid)
    if name == "xyz":
        _copy(rows, (0, 1, 2), out, column)
    elif name == "height":
        _copy(rows, (2,), out, column)
    elif name == "range":
        _write_range(rows, out, column)
    elif name == "remission":
        _copy(rows, (3,), out, column)
    elif name == "offset":
        places = cylindrical(rows, grid.lower[1]) if turned else rows
        _write_offset(places, inverse, grid.lower, grid.size, (1.0, 1.0, 1.0), out, column)
    else:
        polar = cylindrical(rows, grid.lower[1] if turned else -math.pi)
        places = polar if turned else rows
        _write_offset(places, inverse, grid.lower, grid.size, grid.size, out, column)
        _copy(polar, (0, 1, 2), out, column + 3)
        _copy(rows, (0, 1), out, column + 6)
        _copy(rows, (3,), out, column + 8)


def _copy(values: npt.NDArray[np.floating], taken: tuple[int, ...], out: npt.NDArray[np.float32], column: int) -> None:
    """Copy the columns ``taken`` of all points; 0 for what is not finite."""
    for k, source in enumerate(taken):
        _copy_column(values, source, out, column + k)


@kernel
def _copy_column(values: np.ndarray, source: int, out: np.ndarray, column: int) -> None:
    for i in range(len(values)):
        value = np.float32(values[i, source])
        out[i, column] = value if math.isfinite(value) else np.float32(0.0)


@kernel
def _write_range(rows: np.ndarray, out: np.ndarray, column: int) -> None:
    """Distance from the sensor; 0 where it is not finite."""
    for i in range(len(rows)):
        x, y, z = rows[i, 0], rows[i, 1], rows[i, 2]
        distance = np.float32(math.sqrt(x * x + y * y + z * z))
        out[i, column] = distance if math.isfinite(distance) else np.float32(0.0)


@kernel
def _write_offset(
    places: np.ndarray,
    inverse: np.ndarray,
    lower: tuple[float, float, float],
    size: tuple[float, float, float],
    unit: tuple[float, float, float],
    out: np.ndarray,
    column: int,
) -> None:
    """Offset from the cell's centre, in cells times ``unit``; 0 outside the grid."""
    scale = (1.0 / size[0], 1.0 / size[1], 1.0 / size[2])
    for i in range(len(places)):
        inside = inverse[i] >= 0
        for a in range(3):
            position = (np.float64(places[i, a]) - lower[a]) * scale[a]
            offset = (position - np.floor(position) - 0.5) * unit[a]
            out[i, column + a] = np.float32(offset) if inside else np.float32(0.0)


@kernel
def _clear_broken(rows: np.ndarray, features: np.ndarray) -> None:
    """Zero all features of points with a coordinate that is not finite."""
    for i in range(len(rows)):
        if not (math.isfinite(rows[i, 0]) and math.isfinite(rows[i, 1]) and math.isfinite(rows[i, 2])):
            features[i] = 0.0
