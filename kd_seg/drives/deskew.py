"""Undoing the sensor's motion during one sweep."""

from __future__ import annotations

import numpy as np

from kd_seg.core.geometry import invert
from kd_seg.drives.trajectory import Times, Trajectory
from kd_seg.scans import Points

STEP_S = 5e-4
"""Points within this time share one pose; at 20 m/s that is 1 cm."""


def deskew(points: Points, times: Times, stamp: float, trajectory: Trajectory) -> Points:
    """Points [N, 4] as the sensor would have seen them all at ``stamp``.

    Args:
        times: [N] seconds relative to the stamp.
        trajectory: of the sensor; must cover the sweep.

    A point p seen at time t becomes ``T(stamp)^-1 T(t) p``.
    """
    if len(points) == 0:
        return points
    step = np.floor(times / STEP_S).astype(np.int64)
    moments, inverse = np.unique(step, return_inverse=True)
    poses = trajectory.at(stamp + (moments + 0.5) * STEP_S)
    motions = (invert(trajectory.at(np.array([stamp]))[0]) @ poses)[inverse]
    out = points.copy()
    moved = np.einsum("nij,nj->ni", motions[:, :3, :3], points[:, :3].astype(np.float64)) + motions[:, :3, 3]
    out[:, :3] = moved
    return out
