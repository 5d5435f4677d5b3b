"""calib.txt, poses.txt and times.txt of a SemanticKITTI sequence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kd_seg.core.errors import DataError
from kd_seg.core.geometry import Matrix, check_rigid, invert
from kd_seg.scans.content import excerpt, read_lines


@dataclass(frozen=True)
class Calibration:
    """Cameras and LiDAR of one sequence.

    Attributes:
        projections: P0..P3 by camera number, each [3, 4].
        tr: LiDAR to camera 0, [4, 4].
    """

    projections: dict[int, Matrix]
    tr: Matrix


def read_calibration(path: Path) -> Calibration:
    """Read ``calib.txt``; DataError if it is missing, has no Tr, or a row is not 12 numbers."""
    rows: dict[str, Matrix] = {}
    for number, line in read_lines(path):
        name, colon, text = line.partition(":")
        if colon:
            rows[name.strip()] = _row(text, f"{path}, line {number} ({name.strip()})")
    if "Tr" not in rows:
        raise DataError(f"{path} has no Tr row (LiDAR to camera 0); take calib.txt from the KITTI odometry download.")
    tr = check_rigid(rows["Tr"], f"{path}, Tr")
    return Calibration({number: rows[f"P{number}"] for number in range(10) if f"P{number}" in rows}, tr)


def read_poses(path: Path, tr: Matrix) -> npt.NDArray[np.float64]:
    """LiDAR poses [S, 4, 4] from ``poses.txt`` (camera frame): ``Tr^-1 P Tr``; DataError names file and line."""
    inverse = invert(tr)
    poses = []
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        poses.append(inverse @ check_rigid(_row(line, where), where) @ tr)
    return np.array(poses).reshape(-1, 4, 4)


def read_times(path: Path) -> npt.NDArray[np.float64]:
    """Seconds [S] of each scan from ``times.txt``; DataError names file and line."""
    times = []
    for number, line in read_lines(path):
        try:
            seconds = float(line)
        except ValueError:
            seconds = math.nan
        if not math.isfinite(seconds):
            raise DataError(f"{path}, line {number}: {excerpt(line.strip())} is not a time in seconds.")
        times.append(seconds)
    return np.array(times)


def _row(text: str, where: str) -> Matrix:
    try:
        values = np.array([float(word) for word in text.split()])
    except ValueError:
        raise DataError(f"{where} holds something that is not a number; write the row again.") from None
    if not np.isfinite(values).all():
        raise DataError(f"{where} holds NaN or infinity; write the row again.")
    if values.size != 12:
        raise DataError(f"{where} holds {values.size} numbers, 12 are needed (a row-major 3x4 matrix).")
    return values.reshape(3, 4)
