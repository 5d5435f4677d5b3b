"""Instances that the teacher found itself: predicted things, clustered in each scan and linked over time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

CELL_M = 0.4
LEAST_POINTS = 8
REACH_M = 80.0
GAP = 2
"""A track that was last seen more scans ago than this ends: it survives one scan without it."""

NEAR_M, SPEED_M = 1.0, 2.5
"""How far a cluster may lie from where its track is expected, and from where it was while its speed is unknown."""


def clusters(
    xyz: npt.NDArray[np.float64], class_id: npt.NDArray[np.int64], things: Iterable[int]
) -> npt.NDArray[np.int32]:
    """Number of the cluster of every point [N], 0 = none: touching cells of 0.4 m, seen from above, of one class.

    Clusters of fewer than 8 points are none.
    """
    number = np.zeros(len(xyz), np.int32)
    last = 0
    side = int(2 * REACH_M / CELL_M)
    cell = np.floor((np.nan_to_num(xyz[:, :2], nan=1e9) + REACH_M) / CELL_M)
    inside = ((cell >= 0) & (cell < side)).all(axis=1)
    for thing in things:
        rows = np.flatnonzero(inside & (class_id == thing))
        if len(rows) < LEAST_POINTS:
            continue
        at = cell[rows].astype(np.int64)
        taken = np.zeros((side, side), bool)
        taken[at[:, 0], at[:, 1]] = True
        parts, count = ndimage.label(taken, structure=np.ones((3, 3)))
        own = parts[at[:, 0], at[:, 1]]
        sizes = np.bincount(own, minlength=count + 1)
        renumbered = np.cumsum(sizes >= LEAST_POINTS) - (sizes[0] >= LEAST_POINTS)
        number[rows] = np.where(sizes[own] >= LEAST_POINTS, last + renumbered[own], 0)
        last = int(number.max(initial=last))
    return number


@dataclass
class _Track:
    identity: int
    class_id: int
    place: npt.NDArray[np.float64]
    velocity: npt.NDArray[np.float64] | None
    scan: int


@dataclass
class Tracker:
    """Gives clusters of successive scans one identity per object.

    A cluster goes to the track of its class that is expected nearest to it (constant velocity, at most 1 m off; 2.5 m
    from the last place while a track has no velocity), by the assignment of least total distance.
    """

    _tracks: list[_Track] = field(default_factory=list)
    _next: int = 1

    def link(
        self, scan: int, centroids: npt.NDArray[np.float64], class_id: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Identity [M] of each cluster of one scan; scans come in order.

        Args:
            centroids: [M, 3] in the world. class_id: [M].
        """
        self._tracks = [t for t in self._tracks if scan - t.scan <= GAP]
        identity = np.zeros(len(centroids), np.int64)
        for cluster, track in self._assigned(scan, centroids, class_id):
            elapsed = scan - track.scan
            track.velocity = (centroids[cluster] - track.place) / elapsed
            track.place, track.scan = centroids[cluster], scan
            identity[cluster] = track.identity
        for cluster in np.flatnonzero(identity == 0).tolist():
            self._tracks.append(_Track(self._next, int(class_id[cluster]), centroids[cluster], None, scan))
            identity[cluster] = self._next
            self._next += 1
        return identity

    def _assigned(
        self, scan: int, centroids: npt.NDArray[np.float64], class_id: npt.NDArray[np.int64]
    ) -> Iterator[tuple[int, _Track]]:
        if not self._tracks or len(centroids) == 0:
            return
        cost = np.full((len(centroids), len(self._tracks)), 1e6)
        for column, track in enumerate(self._tracks):
            elapsed = scan - track.scan
            expected = track.place if track.velocity is None else track.place + elapsed * track.velocity
            distance = np.linalg.norm(centroids - expected, axis=1)
            limit = SPEED_M * elapsed if track.velocity is None else NEAR_M * elapsed
            fits = (class_id == track.class_id) & (distance <= limit)
            cost[fits, column] = distance[fits]
        for row, column in zip(*linear_sum_assignment(cost), strict=True):
            if cost[row, column] < 1e6:
                yield int(row), self._tracks[column]
