"""From points to voxels: majority label, mean and maximum of values."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.kernels import kernel
from kd_seg.voxels.voxelize import Voxels

Array = npt.NDArray[Any]


def majority_labels(voxels: Voxels, labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Most frequent label per voxel [V] of train ids [N] uint8.

    Ties go to the smallest id; 0 (ignored) does not vote, and wins only where a voxel holds nothing else.
    """
    _check(voxels, labels)
    if labels.dtype != np.uint8:
        raise ValueError(f"labels are train ids of type uint8, got {labels.dtype}")
    return _majority(voxels.inverse, voxels.counts, np.ascontiguousarray(labels))


def mean_features(voxels: Voxels, values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """Mean per voxel [V, F] of values [N, F], summed in float64 in the order of the points."""
    _check(voxels, values)
    return _mean(voxels.inverse, voxels.counts, _matrix(values))


def max_features(voxels: Voxels, values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """Maximum per voxel [V, F] of values [N, F]; NaN values are passed over, a voxel of nothing else gets -inf."""
    _check(voxels, values)
    return _max(voxels.inverse, len(voxels), _matrix(values))


def _check(voxels: Voxels, values: Array) -> None:
    if len(values) != len(voxels.inverse):
        raise ValueError(f"{len(values)} rows for a cloud of {len(voxels.inverse)} points")


def _matrix(values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    if values.ndim != 2:
        raise ValueError(f"values must be [N, F], got {list(values.shape)}")
    return np.ascontiguousarray(values, dtype=np.float32)


@kernel
def _majority(inverse: Array, counts: Array, labels: Array) -> Array:
    # labels of a voxel side by side, then one small histogram per voxel
    place = np.empty(len(counts) + 1, dtype=np.int64)
    place[0] = 0
    for v in range(len(counts)):
        place[v + 1] = place[v] + counts[v]
    total = place[len(counts)]
    grouped = np.empty(total, dtype=np.uint8)
    for i in range(len(inverse)):
        v = inverse[i]
        if v >= 0:
            grouped[place[v]] = labels[i]
            place[v] += 1
    winners = np.empty(len(counts), dtype=np.uint8)
    votes = np.zeros(256, dtype=np.int32)
    start = 0
    for v in range(len(counts)):
        end = start + counts[v]
        best = grouped[start]
        if counts[v] > 1:
            best = np.uint8(0)
            most = 0
            for j in range(start, end):
                label = grouped[j]
                if label == 0:
                    continue
                votes[label] += 1
                if votes[label] > most or (votes[label] == most and label < best):
                    most = votes[label]
                    best = label
            for j in range(start, end):
                votes[grouped[j]] = 0
        winners[v] = best
        start = end
    return winners


@kernel
def _mean(inverse: Array, counts: Array, values: Array) -> Array:
    width = values.shape[1]
    sums = np.zeros((len(counts), width), dtype=np.float64)
    for i in range(len(inverse)):
        v = inverse[i]
        if v >= 0:
            for f in range(width):
                sums[v, f] += values[i, f]
    means = np.empty((len(counts), width), dtype=np.float32)
    for v in range(len(counts)):
        for f in range(width):
            means[v, f] = sums[v, f] / counts[v]
    return means


@kernel
def _max(inverse: Array, voxels: int, values: Array) -> Array:
    width = values.shape[1]
    largest = np.full((voxels, width), -np.inf, dtype=np.float32)
    for i in range(len(inverse)):
        v = inverse[i]
        if v >= 0:
            for f in range(width):
                if values[i, f] > largest[v, f]:
                    largest[v, f] = values[i, f]
    return largest
