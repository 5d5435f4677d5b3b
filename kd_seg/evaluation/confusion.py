"""Confusion matrices: rows are what was predicted, columns what is true, both as train ids; they add."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kd_seg.core.errors import DataError

Matrix = npt.NDArray[np.int64]
TrainIds = npt.NDArray[np.uint8]

DISTANCES: tuple[tuple[float, float], ...] = ((1e-8, 10.0), (10.0, 20.0), (20.0, 30.0), (30.0, 40.0), (40.0, 50.0))
"""Open intervals of 3D range in metres of the per-distance evaluation in semantic-kitti-api."""


def confusion(predicted: TrainIds, truth: TrainIds, classes: int) -> Matrix:
    """Count pairs of train ids: matrix [C + 1, C + 1] int64 with M[predicted, truth], 0 = ignored or not predicted.

    Args:
        predicted, truth: train ids [N], each at most ``classes``.
        classes: number of classes C, without the ignored one.

    Raises:
        DataError: lengths differ or an id is larger than ``classes``.
    """
    if predicted.shape != truth.shape:
        raise DataError(f"{predicted.size} predictions cannot be compared with {truth.size} labels; they must match.")
    side = classes + 1
    largest = max(int(predicted.max(initial=0)), int(truth.max(initial=0)))
    if largest > classes:
        raise DataError(f"train id {largest} is larger than the class table's {classes}; use one class table for both.")
    pairs = predicted.astype(np.int64) * side + truth
    return np.bincount(pairs, minlength=side * side).reshape(side, side).astype(np.int64, copy=False)


def confusion_by_distance(
    predicted: TrainIds,
    truth: TrainIds,
    xyz: npt.NDArray[np.float32],
    classes: int,
    intervals: Sequence[tuple[float, float]] = DISTANCES,
) -> Matrix:
    """One confusion matrix per interval of range [D, C + 1, C + 1].

    Range is taken in float32 and both ends are excluded, as the official tool does; points without a finite range
    belong to no interval.

    Args:
        xyz: [N, >= 3] metres in the LiDAR frame.
    """
    depth = np.linalg.norm(xyz[:, :3], 2, axis=1)
    matrices = []
    for near, far in intervals:
        rows = (depth > near) & (depth < far)
        matrices.append(confusion(predicted[rows], truth[rows], classes))
    return np.stack(matrices)
