"""Where an instance may stand: ground heights and free space of one scan, on a grid seen from above."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from kd_seg.scans import Points

CELL = 0.5
"""Edge of a cell in metres."""

REACH = 82.0
"""Half the side of the grid in metres: a KITTI scan's range."""

HEADROOM = 2.5
"""Points higher than this above the sensor (metres) are in nobody's way."""

FEWEST = 5
"""Ground points under an instance, so that its height is known."""

_SIDE = int(2 * REACH / CELL)


@dataclass(frozen=True)
class Circle:
    """What an instance occupies, seen from above, in metres."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class GroundGrid:
    """One scan's ground.

    Attributes:
        count, height: [S, S] ground points per cell and their mean z.
        gap: [S, S] metres from each cell's centre to that of the nearest cell with an obstacle.
        taken: circles pasted so far.
    """

    count: npt.NDArray[np.float64]
    height: npt.NDArray[np.float64]
    gap: npt.NDArray[np.float64]
    taken: list[Circle] = field(default_factory=list)

    @classmethod
    def survey(cls, points: Points, on_ground: npt.NDArray[np.bool_]) -> GroundGrid:
        """From points [N, 4] and which of them [N] are ground that may be stood on; all others are obstacles."""
        cell = np.floor((points[:, :2] + np.float32(REACH)) / np.float32(CELL)).astype(np.int64)
        inside = ((cell >= 0) & (cell < _SIDE)).all(axis=1)
        code = cell[:, 0] * _SIDE + cell[:, 1]
        ground = inside & on_ground
        count = np.bincount(code[ground], minlength=_SIDE * _SIDE).astype(np.float64)
        total = np.bincount(code[ground], weights=points[ground, 2], minlength=_SIDE * _SIDE)
        standing = np.zeros(_SIDE * _SIDE, dtype=bool)
        standing[code[inside & ~on_ground & (points[:, 2] < HEADROOM)]] = True
        shape = (_SIDE, _SIDE)
        free = ~standing.reshape(shape)
        gap = ndimage.distance_transform_edt(free) * CELL if not free.all() else np.full(shape, np.inf)
        return cls(count.reshape(shape), (total / np.maximum(count, 1.0)).reshape(shape), gap)

    def ground_height(self, circle: Circle) -> float | None:
        """Median height of the ground within the circle (at least 1 m wide); None where too little of it is seen."""
        rows, columns = self._cells(circle.x, circle.y, max(circle.radius, 1.0))
        count = self.count[rows, columns]
        if count.sum() < FEWEST:
            return None
        return float(np.median(self.height[rows, columns][count > 0]))

    def is_free(self, circle: Circle, clearance: float) -> bool:
        """Whether no obstacle and no pasted instance lies within ``clearance`` of the circle."""
        row, column = int((circle.x + REACH) / CELL), int((circle.y + REACH) / CELL)
        if not (0 <= row < _SIDE and 0 <= column < _SIDE):
            return False
        # two points may each be half a diagonal away from their cells' centres
        if self.gap[row, column] < circle.radius + clearance + CELL * np.sqrt(2.0):
            return False
        return all(
            np.hypot(circle.x - other.x, circle.y - other.y) >= circle.radius + other.radius + clearance
            for other in self.taken
        )

    def _cells(self, x: float, y: float, radius: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Rows and columns of the cells whose centres lie within ``radius`` of a place."""
        reach = int(np.ceil(radius / CELL))
        row, column = int(np.floor((x + REACH) / CELL)), int(np.floor((y + REACH) / CELL))
        rows = np.arange(max(row - reach, 0), min(row + reach + 1, _SIDE))
        columns = np.arange(max(column - reach, 0), min(column + reach + 1, _SIDE))
        centre_x, centre_y = (rows + 0.5) * CELL - REACH, (columns + 0.5) * CELL - REACH
        near = np.hypot(centre_x[:, None] - x, centre_y[None, :] - y) <= radius
        found_rows, found_columns = np.nonzero(near)
        return rows[found_rows], columns[found_columns]
