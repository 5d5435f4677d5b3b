"""Votes of whole objects: a thing's class is what the scans that saw it say together, moving or not.

Votes for places of the world cannot help what moves. Things are clustered in each scan and linked over time instead;
which class of its kind a thing has is decided once, for all its points in all scans.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kd_seg.adaptation.kinds import kinds
from kd_seg.adaptation.tracks import Tracker, clusters
from kd_seg.adaptation.vote import Vote
from kd_seg.classes import ClassTable
from kd_seg.core.files import write_array
from kd_seg.core.geometry import transform
from kd_seg.scans import KittiSequence, Scan

DECISIVE = (0.7, 0.0)
"""Share of the votes from which an object has one class, per kind: vehicles, smaller things.

A bus beside a car may be one cluster: on real scans of a Pandar64 calling such a cluster by its
first choice cost three quarters of the points of buses.
"""

Identity = npt.NDArray[np.int32]
"""[N] number of the object that a point belongs to, 1 .. K; 0 = none."""


@dataclass(frozen=True)
class ObjectVotes:
    """What the scans say together about each object.

    Attributes:
        folder: holds a file per scan with the identities of its points.
        class_id: [K] class of each object. share: [K] its share of the votes for classes of that kind.
        kinds: class ids that are taken for each other.
    """

    folder: Path
    class_id: npt.NDArray[np.int64]
    share: npt.NDArray[np.float32]
    kinds: tuple[tuple[int, ...], ...]

    def identity(self, sequence: str, index: int) -> Identity:
        """Identities of a scan's points."""
        found: Identity = np.load(_path(self.folder, sequence, index))
        return found

    def apply(self, found: Vote, identity: Identity) -> Vote:
        """The vote with every object's points of one class, where its scans decide.

        What a point holds for classes of the kind goes to the object's class; agreement is the object's share.
        """
        distribution, agreement = found.distribution.copy(), found.agreement.copy()
        share = np.concatenate([[-1.0], self.share])  # of identity 0, which is no object
        for kind, least in zip(self.kinds, DECISIVE, strict=True):
            rows = np.flatnonzero((share[identity] >= least) & np.isin(found.distribution.argmax(axis=1), kind))
            which = identity[rows] - 1
            mass = found.distribution[rows][:, kind].sum(axis=1)
            distribution[rows[:, None], list(kind)] = 0.0
            distribution[rows, self.class_id[which]] = mass
            agreement[rows] = self.share[which]
        return replace(found, distribution=distribution, agreement=agreement)


def object_votes(
    votes: Iterable[tuple[str, KittiSequence, int, Vote]], classes: ClassTable, folder: Path
) -> ObjectVotes:
    """Find the objects of a drive and what the scans say together about each.

    Args:
        votes: (sequence's name, sequence, scan number, vote) of every scan, in order.
        folder: for the identities of the points.
    """
    groups = kinds(classes)
    trackers: defaultdict[tuple[str, int], Tracker] = defaultdict(Tracker)
    table = _Table(len(classes))
    for name, sequence, index, found in votes:
        identity = np.zeros(len(found.distribution), np.int32)
        for group, kind in enumerate(groups):
            seen = _clusters(sequence.scan(index), found, kind)
            tracks = trackers[name, group].link(index, seen.centroids, np.full(len(seen.votes), group))
            numbers = table.add([(name, group, track) for track in tracks.tolist()], seen.votes)
            identity[seen.rows] = numbers[seen.cluster]
        write_array(_path(folder, name, index), identity)
    share = table.shares()
    return ObjectVotes(folder, share.argmax(axis=1), share.max(axis=1, initial=0.0), groups)


@dataclass(frozen=True)
class _Clusters:
    """Things of one kind in one scan.

    Attributes:
        rows: [m] their points. cluster: [m] of each, 0 .. M-1.
        centroids: [M, 3] in the world. votes: [M, C].
    """

    rows: npt.NDArray[np.int64]
    cluster: npt.NDArray[np.int64]
    centroids: npt.NDArray[np.float64]
    votes: npt.NDArray[np.float64]


def _clusters(scan: Scan, found: Vote, kind: Sequence[int]) -> _Clusters:
    xyz = scan.points[:, :3].astype(np.float64)
    known = found.distribution.sum(axis=1) > 0
    member = known & np.isin(found.distribution.argmax(axis=1), kind)
    number = clusters(xyz, np.where(member, 0, -1), (0,))
    rows = np.flatnonzero(number)
    cluster, count = number[rows].astype(np.int64) - 1, int(number.max(initial=0))
    world = transform(scan.pose, xyz[rows]) if scan.pose is not None else xyz[rows]
    sizes = np.bincount(cluster, minlength=count)
    centroids = np.stack([np.bincount(cluster, world[:, axis], count) for axis in range(3)], axis=1) / sizes[:, None]
    votes = np.zeros((count, found.distribution.shape[1]))
    for c in kind:
        votes[:, c] = np.bincount(cluster, found.distribution[rows, c], count)
    # by the root of its points' number, because the points of one cluster err together
    return _Clusters(rows, cluster, centroids, votes / np.sqrt(sizes)[:, None])


class _Table:
    """Votes [K, C] of objects, which are numbered from 1 in the order of their first scan."""

    def __init__(self, classes: int) -> None:
        self._numbers: dict[tuple[str, int, int], int] = {}
        self._votes: list[npt.NDArray[np.float64]] = []
        self._classes = classes

    def add(self, objects: Sequence[tuple[str, int, int]], votes: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
        """Add the votes [M, C] of a scan's objects; their numbers [M]."""
        for key, vote in zip(objects, votes, strict=True):
            if key not in self._numbers:
                self._votes.append(np.zeros(self._classes))
                self._numbers[key] = len(self._votes)
            self._votes[self._numbers[key] - 1] += vote
        return np.array([self._numbers[key] for key in objects], np.int32)

    def shares(self) -> npt.NDArray[np.float32]:
        """Share of each class in each object's votes [K, C]."""
        table = np.array(self._votes).reshape(-1, self._classes)
        result: npt.NDArray[np.float32] = (table / table.sum(axis=1, keepdims=True)).astype(np.float32)
        return result


def _path(folder: Path, sequence: str, index: int) -> Path:
    return folder / sequence / f"{index:06d}.npy"
