"""Voxelization, pooling and features in plain NumPy and Python, to hold the kernels against."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from kd_seg.voxels import CylindricalGrid, Grid, cylindrical


def reference(points: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates, inverse and counts."""
    places = points[:, :3].astype(np.float32).astype(np.float64)
    if isinstance(grid, CylindricalGrid):
        places = cylindrical(points, grid.lower[1])
    with np.errstate(invalid="ignore", over="ignore"):
        cells = np.floor((places - np.array(grid.lower)) * (1.0 / np.array(grid.size)))
        if grid.wraps[1]:
            cells[cells[:, 1] == grid.cells[1], 1] = 0
        inside = ((cells >= 0) & (cells < np.array(grid.cells))).all(axis=1)
    inverse = np.full(len(points), -1, dtype=np.int32)
    kept = cells[inside].astype(np.int64)
    coordinates, back, counts = np.unique(kept, axis=0, return_inverse=True, return_counts=True)
    inverse[inside] = back.reshape(-1)
    return coordinates.astype(np.int32).reshape(-1, 3), inverse, counts.astype(np.int32)


def shuffled(points: np.ndarray) -> np.ndarray:
    """The same points in an order without runs."""
    return points[np.random.default_rng(0).permutation(len(points))]


def majority(inverse: np.ndarray, voxels: int, labels: np.ndarray) -> np.ndarray:
    """Majority label per voxel: 0 does not vote, ties go to the smallest."""
    votes = np.zeros((voxels, 256), dtype=np.int64)
    np.add.at(votes, (inverse[inverse >= 0], labels[inverse >= 0]), 1)
    votes[:, 0] = 0
    return votes.argmax(axis=1).astype(np.uint8)


def real_scan() -> np.ndarray:
    """Points [N, 4] of a real scan; skips where there is none."""
    default = Path(__file__).parents[2] / ".." / "shared" / "data" / "semantic_kitti_mini"
    root = Path(os.environ.get("KD_SEG_REAL_DATA", default))
    scans = sorted(root.glob("sequences/*/velodyne/*.bin"))
    if not scans:
        pytest.skip(f"no real scans in {root} (set KD_SEG_REAL_DATA)")
    return np.fromfile(scans[0], dtype="<f4").reshape(-1, 4)
