"""Rigid motions, projection matrices and angles. Matrices are float64, points keep their dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.errors import DataError

Matrix = npt.NDArray[np.float64]


def invert(pose: Matrix) -> Matrix:
    """Inverse of a rigid motion [4, 4] (transpose of the rotation, no general solve)."""
    inverse = np.eye(4)
    inverse[:3, :3] = pose[:3, :3].T
    inverse[:3, 3] = -pose[:3, :3].T @ pose[:3, 3]
    return inverse


def transform(pose: Matrix, xyz: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Apply a rigid motion [4, 4] to points [N, 3] in float64."""
    moved: npt.NDArray[np.float64] = np.asarray(xyz, dtype=np.float64) @ pose[:3, :3].T + pose[:3, 3]
    return moved


def rotation_z(yaw: float) -> Matrix:
    """Rotation [3, 3] by ``yaw`` radians about the up axis."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def rigid(rotation: Matrix, translation: npt.ArrayLike) -> Matrix:
    """Rigid motion [4, 4] from a rotation [3, 3] and a translation [3]."""
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = translation
    return pose


def yaw_of(pose: Matrix) -> float:
    """Yaw in radians of a rigid motion [4, 4] or rotation [3, 3]."""
    return float(np.arctan2(pose[1, 0], pose[0, 0]))


def check_rigid(pose: Matrix, where: str, tolerance: float = 1e-3) -> Matrix:
    """Return ``pose`` if its rotation is orthonormal and right-handed within ``tolerance``; raise DataError if not.

    Args:
        pose: [4, 4] or [3, 4].
        where: file and row, for the message.
    """
    rotation = pose[:3, :3]
    if not np.all(np.isfinite(pose)):
        raise DataError(f"{where} holds NaN or infinity; write the file again.")
    with np.errstate(over="ignore", invalid="ignore"):
        error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    if not error <= tolerance or np.linalg.det(rotation) < 0:  # an overflow makes the error NaN
        raise DataError(
            f"{where} is not a rigid motion (its rotation is off by {error:.2g}); check that the row holds a "
            "row-major 3x4 matrix and was not scaled."
        )
    full = np.eye(4)
    full[:3] = pose[:3]
    return full
