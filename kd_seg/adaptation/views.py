"""Views of a cloud: turned and mirrored copies that show the same world."""

from __future__ import annotations

import numpy as np

from kd_seg.core.geometry import rotation_z
from kd_seg.scans import Points


def turned(points: Points, view: int, views: int) -> Points:
    """Points [N, 4] turned by ``view`` of ``views`` parts of a circle, every second view mirrored; 0 is as it is."""
    if view == 0:
        return points
    out = points.copy()
    out[:, :2] = points[:, :2] @ rotation_z(2 * np.pi * view / views)[:2, :2].T.astype(np.float32)
    if view % 2:
        out[:, 1] *= -1.0
    return out
