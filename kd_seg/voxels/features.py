"""What a network is told of each point, by name; the names are stored in the checkpoint.

========== ======= =====================================================================================
name       columns meaning
========== ======= =====================================================================================
xyz        3       x, y, z in metres, LiDAR frame
height     1       z alone, in metres, LiDAR frame
range      1       distance from the sensor in metres
remission  1       as the scan has it, 0-1
rank       1       share of the scan's points with a lower remission, equal ones counted half, 0-1
offset     3       from the centre of the point's cell, in cells (-0.5 to 0.5), along the grid's axes
cylinder9  9       Cylinder3D: offset from the cell's centre (m, rad, m), rho, phi, z, x, y, remission
clamped    3       x, y, z in metres, moved into the range of a Cartesian grid (Pointcept's PointClip)
========== ======= =====================================================================================
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.errors import ConfigError
from kd_seg.core.kernels import kernel
from kd_seg.voxels.grids import CylindricalGrid, Grid, as_rows, cylindrical
from kd_seg.voxels.voxelize import Voxels

Array = npt.NDArray[Any]


FEATURE_WIDTHS: dict[str, int] = {
    "xyz": 3,
    "height": 1,
    "range": 1,
    "remission": 1,
    "rank": 1,
    "offset": 3,
    "cylinder9": 9,
    "clamped": 3,
}
"""Columns of each point feature."""


def feature_width(names: tuple[str, ...]) -> int:
    """Columns F of named point features together; ConfigError names an unknown or repeated one."""
    for name in names:
        if name not in FEATURE_WIDTHS:
            raise ConfigError(f"There is no point feature {name!r}; known: {', '.join(FEATURE_WIDTHS)}.")
        if names.count(name) > 1:
            raise ConfigError(f"The point feature {name!r} is named twice; once is enough.")
    return sum(FEATURE_WIDTHS[name] for name in names)


def point_features(
    points: npt.NDArray[np.floating[Any]], voxels: Voxels, grid: Grid, names: tuple[str, ...]
) -> npt.NDArray[np.float32]:
    """Features [N, F] of points [N, >=4] (x, y, z, remission), columns in the order of ``names``.

    Points outside the grid have offsets of 0; a point with a NaN or infinite coordinate has zeros throughout, as has a
    remission that is not finite. ``voxels`` must come from the same points and grid.
    """
    rows = as_rows(points)
    if {"remission", "rank", "cylinder9"} & set(names) and rows.shape[1] < 4:
        raise ValueError(f"remission needs points [N, 4] or wider, got {list(rows.shape)}")
    features = np.empty((len(rows), feature_width(names)), dtype=np.float32)
    turned = isinstance(grid, CylindricalGrid)
    if names == _USUAL and rows.shape[1] == 4 and not turned:
        _write_usual(rows.reshape(-1), voxels.inverse, grid.lower, grid.size, features.reshape(-1))
        return features
    nine = "cylinder9" in names
    polar = cylindrical(rows, _seam(grid)) if turned or nine else np.empty((0, 3))
    places = polar if turned else rows
    at = _first_columns(names)
    columns = (at["xyz"], at["height"], at["range"], at["remission"], at["offset"])
    _write(rows, places, voxels.inverse, grid.lower, grid.size, columns, features)
    if nine:
        _write_nine(rows, places, polar, voxels.inverse, _frame(grid), at["cylinder9"], features)
    if "clamped" in names:
        features[:, at["clamped"] : at["clamped"] + 3] = _clamped(rows, grid)
    if "rank" in names:
        features[:, at["rank"]] = remission_ranks(rows)
    return features


def _seam(grid: Grid) -> float:
    return grid.seam if isinstance(grid, CylindricalGrid) else -math.pi


def _frame(grid: Grid) -> tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]:
    """Lower corner, cell size, and the last cell that points beyond count to (infinite where none do)."""
    x, y, z = grid.cells
    last = (float(x - 1), float(y - 1), float(z - 1)) if grid.clamp else (math.inf, math.inf, math.inf)
    return grid.lower, grid.size, last


_USUAL = ("xyz", "remission", "offset")
"""What students get unless another set is asked for."""


def _first_columns(names: tuple[str, ...]) -> dict[str, int]:
    """Where each feature begins; -1 for those not wanted."""
    found = dict.fromkeys(FEATURE_WIDTHS, -1)
    column = 0
    for name in names:
        found[name] = column
        column += FEATURE_WIDTHS[name]
    return found


RANK_STEPS = 65536
"""Remissions of 0 to 1 are ranked in so many steps: no sensor reports more."""


def remission_ranks(rows: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """Share of the points [N, >=4] with a lower remission, equal ones counted half [N]; 0 where a number is not finite.

    It does not change when a sensor reports intensity by another gain or curve. Without intensity all have 0.5.
    """
    finite = np.isfinite(rows[:, :4]).all(axis=1)
    step = (np.clip(rows[finite, 3], 0.0, 1.0) * (RANK_STEPS - 1)).astype(np.int64)
    counts = np.bincount(step, minlength=RANK_STEPS)
    table = (np.cumsum(counts) - 0.5 * counts) / max(len(step), 1)
    ranks = np.zeros(len(rows), np.float32)
    ranks[finite] = table[step]
    return ranks


@kernel
def _known(value: np.floating[Any]) -> np.float32:
    """A number as float32, 0 for one that is not finite."""
    return np.float32(value) if math.isfinite(value) else np.float32(0.0)


@kernel
def _is_broken(rows: Array, i: int) -> bool:
    return not (math.isfinite(rows[i, 0]) and math.isfinite(rows[i, 1]) and math.isfinite(rows[i, 2]))


@kernel
def _offset(position: np.floating[Any], lower: float, scale: float) -> np.float64:
    """From the centre of the cell along one axis, in cells."""
    place = (np.float64(position) - lower) * scale
    offset: np.float64 = place - np.floor(place) - 0.5
    return offset


@kernel
def _write(
    rows: Array,
    places: Array,
    inverse: Array,
    lower: tuple[float, float, float],
    size: tuple[float, float, float],
    columns: tuple[int, int, int, int, int],
    out: Array,
) -> None:
    """All features but the last, in one pass, as the points are read from memory once."""
    xyz, height, distance, remission, offset = columns
    scale = (1.0 / size[0], 1.0 / size[1], 1.0 / size[2])
    for i in range(len(rows)):
        if _is_broken(rows, i):
            out[i] = 0.0
            continue
        x, y, z = rows[i, 0], rows[i, 1], rows[i, 2]
        if xyz >= 0:
            out[i, xyz], out[i, xyz + 1], out[i, xyz + 2] = x, y, z
        if height >= 0:
            out[i, height] = z
        if distance >= 0:
            out[i, distance] = _known(np.float32(math.sqrt(x * x + y * y + z * z)))
        if remission >= 0:
            out[i, remission] = _known(rows[i, 3])
        if offset >= 0:
            inside = inverse[i] >= 0
            for a in range(3):
                out[i, offset + a] = _offset(places[i, a], lower[a], scale[a]) if inside else 0.0


# Unsigned places with a constant distance from point to point, because Numba looks out for negative ones.
_ONE, _TWO, _THREE, _FOUR = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
_FIVE, _SIX, _SEVEN = np.uint64(5), np.uint64(6), np.uint64(7)


@kernel
def _write_usual(
    rows: Array,
    inverse: Array,
    lower: tuple[float, float, float],
    size: tuple[float, float, float],
    out: Array,
) -> None:
    """``_write`` for the usual features of points with four numbers in a Cartesian grid; rows [4 N], out [7 N]."""
    scale = (1.0 / size[0], 1.0 / size[1], 1.0 / size[2])
    nothing = np.float32(0.0)
    for i in range(np.uint64(len(inverse))):
        at, to = _FOUR * i, _SEVEN * i
        x, y, z = rows[at], rows[at + _ONE], rows[at + _TWO]
        a = np.float32(_offset(x, lower[0], scale[0]))
        b = np.float32(_offset(y, lower[1], scale[1]))
        c = np.float32(_offset(z, lower[2], scale[2]))
        remission = _known(rows[at + _THREE])
        if inverse[i] < 0:
            a = b = c = nothing
            if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
                x = y = z = remission = nothing
        out[to], out[to + _ONE], out[to + _TWO], out[to + _THREE] = x, y, z, remission
        out[to + _FOUR], out[to + _FIVE], out[to + _SIX] = a, b, c


@kernel
def _write_nine(
    rows: Array,
    places: Array,
    polar: Array,
    inverse: Array,
    frame: tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]],
    column: int,
    out: Array,
) -> None:
    """The nine of Cylinder3D, the offsets in the units of the grid's axes; ``frame`` as ``_frame`` gives it."""
    lower, size, last = frame
    scale = (1.0 / size[0], 1.0 / size[1], 1.0 / size[2])
    for i in range(len(rows)):
        if _is_broken(rows, i):
            out[i] = 0.0
            continue
        inside = inverse[i] >= 0
        for a in range(3):
            place = (np.float64(places[i, a]) - lower[a]) * scale[a]
            cell = min(max(np.floor(place), 0.0), last[a])
            out[i, column + a] = (place - cell - 0.5) * size[a] if inside else 0.0
            out[i, column + 3 + a] = _known(polar[i, a])
        out[i, column + 6] = rows[i, 0]
        out[i, column + 7] = rows[i, 1]
        out[i, column + 8] = _known(rows[i, 3])


def _clamped(rows: npt.NDArray[np.float32], grid: Grid) -> npt.NDArray[np.float32]:
    """Positions [N, 3] moved into the range of a Cartesian grid; zeros where one is not finite."""
    if isinstance(grid, CylindricalGrid):
        raise ConfigError("The point feature 'clamped' needs a grid of kind cartesian, not a cylindrical one.")
    moved = np.clip(rows[:, :3], np.array(grid.lower, np.float32), np.array(grid.upper, np.float32))
    moved[~np.isfinite(rows[:, :3]).all(axis=1)] = 0.0
    return moved
