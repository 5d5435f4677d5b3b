"""Pseudo-instances of static classes that have no ids: connected cells of the whole sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.geometry import transform
from kd_seg.core.kernels import kernel
from kd_seg.scans import KittiSequence, Scan
from kd_seg.voxels.disjoint import join, settle

CELL = 0.3
"""Edge of a cell, metres, in the world frame of the sequence."""

STUFF = 1 << 56
"""Keys of pseudo-instances start here, above every label word."""

_HALF = 1 << 17

_MERGED = 1 << 17
"""Cells of single scans that are kept before they are merged."""


class Clusters:
    """Connected components of the 0.3 m world cells that points of given raw classes occupy in one sequence.

    Attributes:
        cells: sorted codes of occupied cells, raw class included.
        component: number of each cell's component.
    """

    def __init__(self, cells: npt.NDArray[np.int64], component: npt.NDArray[np.int64]) -> None:
        self.cells = cells
        self.component = component

    @classmethod
    def of_sequence(cls, sequence: KittiSequence, raw: tuple[int, ...]) -> Clusters:
        """Read every scan of a sequence once and join touching cells (26 neighbours) of one raw class."""
        cells = np.zeros(0, dtype=np.int64)
        pending: list[npt.NDArray[np.int64]] = []
        for index in sequence.indices:
            scan = sequence.scan(index)
            rows, classes = stuff_rows(scan, raw)
            pending.append(np.unique(_codes(scan, rows, classes)))
            # most cells are seen again and again; merged only now and then, as a merge sorts them all
            if sum(map(len, pending)) > max(len(cells), _MERGED):
                cells, pending = np.unique(np.concatenate([cells, *pending])), []
        cells = np.unique(np.concatenate([cells, *pending]))
        return cls(cells, _components(cells))

    def keys(self, scan: Scan, rows: npt.NDArray[np.int64], classes: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint64]:
        """Key [K] of the pseudo-instance of each given row [K] of a scan of this sequence, raw classes [K]."""
        place = np.searchsorted(self.cells, _codes(scan, rows, classes))
        component = self.component[place].astype(np.uint64)
        return np.uint64(STUFF) | (classes.astype(np.uint64) << np.uint64(40)) | component


def stuff_rows(scan: Scan, raw: tuple[int, ...]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint16]]:
    """Rows [K] of a scan whose raw class is asked for and whose coordinates are finite, and their raw classes [K]."""
    if scan.labels is None:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint16)
    classes = (scan.labels & 0xFFFF).astype(np.uint16)
    rows = np.flatnonzero(np.isin(classes, raw) & np.isfinite(scan.points[:, :3]).all(axis=1))
    return rows, classes[rows]


def _codes(scan: Scan, rows: npt.NDArray[np.int64], classes: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    """raw class << 46 | x << 28 | y << 10 | z of world cells: 78 km along x and y, 307 m along z."""
    pose = scan.pose if scan.pose is not None else np.eye(4)
    cell = np.floor(transform(pose, scan.points[rows, :3]) / CELL).astype(np.int64)
    x, y, z = (cell[:, 0] + _HALF) & 0x3FFFF, (cell[:, 1] + _HALF) & 0x3FFFF, (cell[:, 2] + 512) & 0x3FF
    codes: npt.NDArray[np.int64] = (classes.astype(np.int64) << 46) | (x << 28) | (y << 10) | z
    return codes


@kernel
def _components(cells: npt.NDArray[Any]) -> npt.NDArray[Any]:
    parent = np.arange(len(cells))
    for i in range(len(cells)):
        for dx in range(2):
            for dy in range(-1, 2):
                for dz in range(-1, 2):
                    step = (dx << 28) + dy * 1024 + dz
                    if step <= 0:
                        continue
                    j = np.searchsorted(cells, cells[i] + step)
                    if j < len(cells) and cells[j] == cells[i] + step:
                        join(parent, i, j)
    settle(parent)
    return parent
