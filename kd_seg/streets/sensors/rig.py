"""Where the cameras sit beside the LiDAR: KITTI's calibration of sequences 00-02, and rays through pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.geometry import Matrix, invert

WIDTH, HEIGHT = 1241, 376
"""Pixels of a picture."""
_FOCAL, _CX, _CY = 718.856, 607.1928, 185.2157
_SHIFTS = {
    0: (0.0, 0.0, 0.0),
    1: (-386.1448, 0.0, 0.0),
    2: (45.38225, -0.1130887, 0.003779761),
    3: (-337.2877, 2.369057, 0.004915215),
}
PROJECTIONS: dict[int, Matrix] = {
    number: np.array([[_FOCAL, 0.0, _CX, t[0]], [0.0, _FOCAL, _CY, t[1]], [0.0, 0.0, 1.0, t[2]]])
    for number, t in _SHIFTS.items()
}
"""P0 to P3 [3, 4]: rectified camera 0 to pixels, as in KITTI's sequences 00 to 02."""
TR: Matrix = np.array([
    [4.276802385584e-04, -9.999672484946e-01, -8.084491683471e-03, -1.198459927713e-02],
    [-7.210626507497e-03, 8.081198471645e-03, -9.999413164504e-01, -5.403984729748e-02],
    [9.999738645903e-01, 4.859485810390e-04, -7.206933692422e-03, -2.921968648686e-01],
    [0.0, 0.0, 0.0, 1.0],
])  # fmt: skip
"""LiDAR to camera 0 [4, 4]."""


def mounted(shift: tuple[float, float, float]) -> Matrix:
    """LiDAR to camera 0 [4, 4] where the cameras sit ``shift`` metres (forward, left, up) from KITTI's place."""
    moved = TR.copy()
    moved[:3, 3] -= TR[:3, :3] @ np.asarray(shift, dtype=np.float64)
    return moved


def camera_centre(number: int = 2, tr: Matrix = TR) -> npt.NDArray[np.float64]:
    """Optical centre [3] of a camera in the LiDAR frame; ``tr`` is LiDAR to camera 0."""
    projection = PROJECTIONS[number]
    centre = -np.linalg.solve(projection[:, :3], projection[:, 3])
    return np.asarray((invert(tr) @ np.append(centre, 1.0))[:3])


def pixel_rays(number: int = 2) -> npt.NDArray[np.float64]:
    """Unit directions [HEIGHT, WIDTH, 3] in the LiDAR frame through pixel centres (column + 0.5, row + 0.5)."""
    column, row = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    pixels = np.stack([column, row, np.ones_like(column)], axis=-1)
    directions = pixels @ np.linalg.inv(PROJECTIONS[number][:, :3]).T @ TR[:3, :3]
    return np.asarray(directions / np.linalg.norm(directions, axis=-1, keepdims=True))


def project(
    points: npt.NDArray[np.floating[Any]], number: int = 2, tr: Matrix = TR
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Pixel places [N, 2] (column, row) of LiDAR points [N, 3], and which are more than 1 m ahead and in the
    picture.
    """
    matrix = PROJECTIONS[number] @ tr
    homogeneous = np.asarray(points, dtype=np.float64) @ matrix[:, :3].T + matrix[:, 3]
    depth = homogeneous[:, 2]
    place = homogeneous[:, :2] / np.where(np.abs(depth) > 1e-9, depth, 1.0)[:, None]
    inside = (depth > 1.0) & (place >= 0).all(axis=1) & (place < [WIDTH, HEIGHT]).all(axis=1)
    return place, inside
