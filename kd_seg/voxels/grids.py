"""Grids: which cell a point falls into. Values, stored in checkpoints as JSON.

A cell index is ``floor((p - lower) * (1 / size))`` in float64, per axis, everywhere; a point is inside where
``0 <= index < cells``, so lower borders belong to a grid and upper borders do not.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.errors import ConfigError
from kd_seg.core.kernels import kernel

Triple = tuple[float, float, float]
Cells = tuple[int, int, int]

PAD = 16
"""Every padded side of a grid is a multiple of this, so that four strides of 2 lose no voxel."""

LARGEST = (1 << 21) - PAD
"""Most cells per axis: three indices, and one past the last, fit into a 63-bit integer."""


@dataclass(frozen=True)
class CartesianGrid:
    """Boxes of one size. The default range, 400 m around and 51 m up and down, holds every return of a vehicle's LiDAR.

    A range costs nothing, as no dense grid is allocated. Its corners lie whole cells of 3.2 m from those of 0.1.0
    (81.6 m), so that voxels of 0.1 and 0.2 m and their halvings are the same cubes.

    Attributes:
        voxel_size: edge lengths (x, y, z) in metres.
        lower, upper: corners in metres, LiDAR frame; the range is half-open and ends at the last whole or cut voxel.
        clamp: a point beyond the range counts to the border cell beside it, and the last cell begins at ``upper``, as
            where points are clipped to the range before they are voxelized (Pointcept's PointClip).
    """

    voxel_size: Triple
    lower: Triple = (-401.6, -401.6, -51.2)
    upper: Triple = (401.6, 401.6, 51.2)
    clamp: bool = False

    def __post_init__(self) -> None:
        for name in ("voxel_size", "lower", "upper"):
            object.__setattr__(self, name, _triple(getattr(self, name), f"grid.{name}"))
        if min(self.voxel_size) <= 0:
            raise ConfigError(f"grid.voxel_size {self.voxel_size} must be positive on every axis.")
        spans = (h - low for low, h in zip(self.lower, self.upper, strict=True))
        if not all(math.isfinite(span / size) for span, size in zip(spans, self.voxel_size, strict=True)):
            raise ConfigError(f"grid.voxel_size {self.voxel_size} is too small for {self.lower} to {self.upper}.")
        _check_range(self.lower, self.upper, self.shape)

    @property
    def cells(self) -> Cells:
        """Cells per axis that hold points."""
        x, y, z = (
            math.ceil(round((high - low) / size, 6))
            for low, high, size in zip(self.lower, self.upper, self.voxel_size, strict=True)
        )
        return (x + 1, y + 1, z + 1) if self.clamp else (x, y, z)

    @property
    def shape(self) -> Cells:
        """Cells per axis, padded upwards to multiples of 16: the spatial shape of a sparse tensor."""
        x, y, z = (_padded(n) for n in self.cells)
        return x, y, z

    @property
    def wraps(self) -> tuple[bool, bool, bool]:
        """Axes whose last cell neighbours the first: none."""
        return (False, False, False)

    @property
    def size(self) -> Triple:
        """Edge lengths of a cell in the units of the axes."""
        return self.voxel_size

    def to_json(self) -> dict[str, Any]:
        """Plain data for a checkpoint; see grid_from_json."""
        return _plain("cartesian", self)


@dataclass(frozen=True)
class CylindricalGrid:
    """Cells of equal steps in distance from the sensor's axis, azimuth and height.

    The default keeps Cylinder3D's resolution (0.1 m, 1 degree, 0.2 m) over every KITTI return but stray ones far below
    the road; ``cylinder3d()`` is the published 50 m grid.

    Attributes:
        cells: (rho, phi, z).
        lower, upper: (rho in metres, phi in radians, z in metres). A range of 2 pi in phi wraps around.
        clamp: a point beyond the range counts to the border cell beside it, the last cell begins at ``upper``, so that
            a step is range / (cells - 1), and phi does not wrap around: the partition of Cylinder3D's released code.
    """

    cells: Cells = (816, 368, 48)
    lower: Triple = (0.0, -math.pi, -6.4)
    upper: Triple = (81.6, math.pi, 3.2)
    clamp: bool = False

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            object.__setattr__(self, name, _triple(getattr(self, name), f"grid.{name}"))
        if len(self.cells) != 3 or any(int(n) != n or n < 1 for n in self.cells):
            raise ConfigError(f"grid.cells {self.cells} must be three whole numbers of at least 1 (rho, phi, z).")
        object.__setattr__(self, "cells", tuple(int(n) for n in self.cells))
        if self.lower[0] < 0 or self.upper[1] - self.lower[1] > 2 * math.pi + 1e-9:
            raise ConfigError(
                f"grid from {self.lower} to {self.upper}: rho starts at 0 or above and phi spans at most 2 pi."
            )
        if self.clamp and min(self.cells) < 2:
            raise ConfigError(f"grid.cells {self.cells}: with clamp there must be at least 2 per axis.")
        _check_range(self.lower, self.upper, self.shape)

    @classmethod
    def cylinder3d(cls) -> CylindricalGrid:
        """The range of Cylinder3D (Zhu et al., CVPR 2021): 480 x 360 x 32 over 50 m, a turn, and -4 to 2 m."""
        return cls((480, 360, 32), (0.0, -math.pi, -4.0), (50.0, math.pi, 2.0))

    @property
    def shape(self) -> Cells:
        """Cells per axis, padded upwards to multiples of 16; neither an axis that wraps around nor clamp's are."""
        rho, phi, z = self.cells
        if self.clamp:
            return rho, phi, z
        return _padded(rho), phi if self.wraps[1] else _padded(phi), _padded(z)

    @property
    def wraps(self) -> tuple[bool, bool, bool]:
        """Axes whose last cell neighbours the first: phi, where it spans a whole turn."""
        return (False, not self.clamp and self.upper[1] - self.lower[1] > 2 * math.pi - 1e-6, False)

    @property
    def seam(self) -> float:
        """Azimuth at which phi begins; NaN where it is taken as atan2 gives it."""
        return math.nan if self.clamp else self.lower[1]

    @property
    def size(self) -> Triple:
        """Steps of a cell (m, rad, m)."""
        steps = (n - 1 if self.clamp else n for n in self.cells)
        rho, phi, z = ((high - low) / n for low, high, n in zip(self.lower, self.upper, steps, strict=True))
        return rho, phi, z

    def to_json(self) -> dict[str, Any]:
        """Plain data for a checkpoint; see grid_from_json."""
        return _plain("cylindrical", self)


Grid = CartesianGrid | CylindricalGrid

_KINDS: dict[str, type[CartesianGrid] | type[CylindricalGrid]] = {
    "cartesian": CartesianGrid,
    "cylindrical": CylindricalGrid,
}


def grid_from_json(content: dict[str, Any]) -> Grid:
    """The grid that ``to_json`` wrote; unknown kinds, missing or extra entries raise ConfigError."""
    settings = dict(content)
    kind = settings.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ConfigError(f"grid.kind is {kind!r}; it must be one of {', '.join(sorted(_KINDS))}.")
    try:
        values: dict[str, Any] = {k: v if isinstance(v, bool) else tuple(v) for k, v in settings.items()}
        return _KINDS[kind](**values)
    except TypeError as error:
        raise ConfigError(f"grid of kind {kind!r} cannot be read from {settings} ({error}).") from None


def cylindrical(points: npt.NDArray[np.floating[Any]], lower: float = -math.pi) -> npt.NDArray[np.float64]:
    """Points [N, >=3] (x, y, z) as [N, 3] float64 (rho, phi, z), phi in [lower, lower + 2 pi).

    Where ``lower`` is NaN, phi is as atan2 gives it, from -pi to pi, both included.
    """
    return _cylindrical(as_rows(points), lower)


@kernel
def _cylindrical(points: npt.NDArray[Any], lower: float) -> npt.NDArray[Any]:
    turned = np.empty((len(points), 3), dtype=np.float64)
    for i in range(len(points)):
        x, y = np.float64(points[i, 0]), np.float64(points[i, 1])
        phi = math.atan2(y, x)
        if phi < lower:
            phi += 2.0 * math.pi
        elif phi >= lower + 2.0 * math.pi:
            phi -= 2.0 * math.pi
        turned[i, 0] = math.sqrt(x * x + y * y)
        turned[i, 1] = phi
        turned[i, 2] = np.float64(points[i, 2])
    return turned


def as_rows(points: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """Points [N, 3+] as the kernels take them: float32, C order; ValueError with fewer columns."""
    if points.ndim != 2 or points.shape[1] < 3:
        raise ValueError(f"points must be [N, 3] or wider, got {list(points.shape)}")
    return np.ascontiguousarray(points, dtype=np.float32)


def _plain(kind: str, grid: Grid) -> dict[str, Any]:
    content = asdict(grid)
    clamp = {"clamp": True} if content.pop("clamp") else {}
    return {"kind": kind, **{key: list(value) for key, value in content.items()}, **clamp}


def _padded(n: int) -> int:
    return -(-n // PAD) * PAD


def _triple(value: Any, where: str) -> Triple:
    try:
        x, y, z = (float(v) for v in value)
    except (TypeError, ValueError):
        raise ConfigError(f"{where} is {value!r}; it must be three numbers.") from None
    if not all(math.isfinite(v) for v in (x, y, z)):
        raise ConfigError(f"{where} is {value!r}; its numbers must be finite.")
    return x, y, z


def _check_range(lower: Triple, upper: Triple, shape: Cells) -> None:
    if any(low >= high for low, high in zip(lower, upper, strict=True)):
        raise ConfigError(f"grid.lower {lower} must lie below grid.upper {upper} on every axis.")
    if max(shape) > LARGEST:
        raise ConfigError(f"A grid of {' x '.join(map(str, shape))} cells is too large; at most {LARGEST} per axis.")
