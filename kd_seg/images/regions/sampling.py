"""Feature maps read at pixels or averaged over parts, as sparse weights on cells (align_corners=False).

Cell (v, u) of a map [H', W'] has its centre at pixel ``((u + 0.5) W / W', (v + 0.5) H / H')``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.images.regions.partitions import PartMap


@dataclass(frozen=True)
class CellWeights:
    """A sparse matrix from cells to targets, COO; the weights of each target sum to 1.

    Attributes:
        target: [m] int32. cell: [m] int32, row-major index into the map. weight: [m] float32.
    """

    target: npt.NDArray[np.int32]
    cell: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float32]


def at_pixels(pixels: npt.NDArray[np.float32], picture: tuple[int, int], grid: tuple[int, int]) -> CellWeights:
    """Bilinear weights of places [n, 2] (column, row): four cells each.

    Args:
        picture: (height, width). grid: (H', W') of the map.
    """
    (rows, row_share), (columns, column_share) = (
        _taps(pixels[:, 1], picture[0], grid[0]),
        _taps(pixels[:, 0], picture[1], grid[1]),
    )
    cell = rows[:, :, None] * grid[1] + columns[:, None, :]
    weight = row_share[:, :, None] * column_share[:, None, :]
    target = np.repeat(np.arange(len(pixels), dtype=np.int32), 4)
    return CellWeights(target, cell.reshape(-1).astype(np.int32), weight.reshape(-1).astype(np.float32))


def _taps(
    place: npt.NDArray[np.floating[Any]], size: int, cells: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The two nearest cells [n, 2] along one axis and their shares; beyond the outer centres the border cell counts."""
    index = np.clip(np.asarray(place, dtype=np.float64) * cells / size - 0.5, 0.0, cells - 1.0)
    first = np.floor(index).astype(np.int64)
    share = index - first
    return np.stack([first, np.minimum(first + 1, cells - 1)], axis=1), np.stack([1.0 - share, share], axis=1)


def over_parts(parts: PartMap, count: int, grid: tuple[int, int]) -> CellWeights:
    """Mean of the bilinearly enlarged map over the pixels of each part 0..count-1; an empty part has no rows."""
    height, width = parts.shape
    rows, row_share = _taps(np.arange(height) + 0.5, height, grid[0])
    columns, column_share = _taps(np.arange(width) + 0.5, width, grid[1])
    cells = grid[0] * grid[1]
    lines, places = np.nonzero(parts >= 0)
    part = parts[lines, places].astype(np.int64)
    total = np.zeros(count * cells)
    for a in range(2):
        for b in range(2):
            code = part * cells + rows[lines, a] * grid[1] + columns[places, b]
            total += np.bincount(code, weights=row_share[lines, a] * column_share[places, b], minlength=count * cells)
    code = np.flatnonzero(total > 0)
    sizes = np.bincount(part, minlength=count)
    target = code // cells
    return CellWeights(
        target.astype(np.int32), (code % cells).astype(np.int32), (total[code] / sizes[target]).astype(np.float32)
    )
