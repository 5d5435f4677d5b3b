"""Joining the keys of one object whose word changes when it starts or stops to move (off by default)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kd_seg.core.geometry import transform

NEAR_VEHICLE, NEAR_OTHER = 1.0, 0.6
"""Largest distance between the centroids of one object, metres, in the world frame."""

LARGEST_GAP = 3
"""Scans between the last appearance under one key and the first under another."""


def standing_classes(names: tuple[str, ...]) -> npt.NDArray[np.uint8]:
    """Train id [C + 1] of the same class without ``moving-``, for tables that tell moving objects apart."""
    known = {name: column + 1 for column, name in enumerate(names)}
    return np.array([0, *(known.get(name.removeprefix("moving-"), known[name]) for name in names)], dtype=np.uint8)


def link_keys(
    records: npt.NDArray[np.void],
    poses: npt.NDArray[np.float64],
    standing: npt.NDArray[np.uint8],
    large: frozenset[int] = frozenset({1, 4, 5}),
) -> npt.NDArray[np.void]:
    """Records with the keys of linked objects replaced by the smallest one of each object.

    Keys a and b are linked where they have one class, differ in the moving flag, b begins 1 to 3 scans after a
    ends, their world centroids there lie nearer than 1.0 m (vehicles) or 0.6 m, and each is the other's nearest.
    Equal instance numbers are no evidence.

    Args:
        records: RECORD rows of one sequence.
        poses: LiDAR poses [S, 4, 4] by scan number.
        standing: see ``standing_classes``.
        large: train ids of standing classes that the vehicles' distance holds for.
    """
    if len(records) == 0:
        return records
    order = np.lexsort((records["scan"], records["key"]))
    ordered = records[order]
    first = np.flatnonzero(np.r_[True, ordered["key"][1:] != ordered["key"][:-1]])
    last = np.r_[first[1:], len(ordered)] - 1
    real = ordered["key"][first] < (1 << 32)
    first, last = first[real], last[real]
    ends, starts = _world(ordered[last], poses), _world(ordered[first], poses)
    gap = ordered["scan"][first][None, :] - ordered["scan"][last][:, None]
    train = standing[ordered["train"][first]]
    possible = (gap >= 1) & (gap <= LARGEST_GAP) & (train[:, None] == train[None, :])
    possible &= ordered["moving"][first][:, None] != ordered["moving"][first][None, :]
    distance = np.linalg.norm(ends[:, None] - starts[None, :], axis=2)
    limit = np.where(np.isin(train, list(large)), NEAR_VEHICLE, NEAR_OTHER)
    distance = np.where(possible & (distance < limit[:, None]), distance, np.inf)
    parent = np.arange(len(first))
    for a in range(len(first)):
        b = int(distance[a].argmin()) if len(first) else 0
        if np.isfinite(distance[a, b]) and int(distance[:, b].argmin()) == a:
            parent[_root(parent, b)] = _root(parent, a)
    keys = ordered["key"][first]
    joined = records.copy()
    for a in range(len(first)):
        members = [b for b in range(len(first)) if _root(parent, b) == _root(parent, a)]
        if len(members) > 1:
            joined["key"][records["key"] == keys[a]] = keys[members].min()
    return joined


def _root(parent: npt.NDArray[np.int64], node: int) -> int:
    while parent[node] != node:
        node = int(parent[node])
    return node


def _world(records: npt.NDArray[np.void], poses: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.array([transform(poses[r["scan"]], r["centroid"][None])[0] for r in records], dtype=np.float64).reshape(
        -1, 3
    )
