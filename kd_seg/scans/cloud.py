"""Cloud: points and what is known of each; a fused cloud holds own points first, others after."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.errors import DataError
from kd_seg.scans.arrays import Points, Words
from kd_seg.scans.scan import Scan


class Kind(IntEnum):
    """Where a point of a cloud comes from."""

    OWN = 0
    FUSED = 1
    DECOY = 2
    PASTED = 3


@dataclass(frozen=True)
class Cloud:
    """Points of one sample before voxelization.

    The first ``own`` rows are the student's points (pasted ones included), the rest are seen by a teacher only.

    Attributes:
        points: [N, 4] float32, LiDAR frame of the sample's scan, remission 0-1.
        words: label words [N] uint32 (0 = unlabelled).
        origin: [N] int8, t - s of the scan s a point came from; 0 = own, negative = a later scan.
        kind: [N] uint8, see Kind.
        source: [N] int32, row in the unaugmented scan, -1 for a point that is not of this scan.
        own: number of the student's rows.
    """

    points: Points
    words: Words
    origin: npt.NDArray[np.int8]
    kind: npt.NDArray[np.uint8]
    source: npt.NDArray[np.int32]
    own: int

    def __len__(self) -> int:
        return len(self.points)

    @classmethod
    def of_scan(cls, scan: Scan, with_labels: bool = True) -> Cloud:
        """The cloud of one scan; rows with a NaN or infinite coordinate are left out, a NaN remission becomes 0.

        ``with_labels=False`` never opens the labels file (all words are then 0). DataError if no row is left: there is
        nothing to learn from. (Prediction reads ``scan.points`` and takes an empty scan as it is.)
        """
        points = scan.points
        words = scan.labels if with_labels else None
        if words is None:
            words = np.zeros(len(points), dtype=np.uint32)
        rows = np.flatnonzero(np.isfinite(points[:, :3]).all(axis=1))
        if len(rows) == 0:
            raise DataError(
                f"{scan.points_path} holds no usable point ({len(points)} rows, none of them finite); take it out of "
                "the data set or copy it again."
            )
        points = points[rows]
        np.nan_to_num(points[:, 3], copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        count = len(rows)
        return cls(
            points=points,
            words=words[rows],
            origin=np.zeros(count, dtype=np.int8),
            kind=np.zeros(count, dtype=np.uint8),
            source=rows.astype(np.int32),
            own=count,
        )

    def take(self, rows: npt.NDArray[np.integer[Any]] | npt.NDArray[np.bool_]) -> Cloud:
        """The rows asked for (mask [N] or ascending numbers [K]), own rows still first."""
        if rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        return Cloud(
            points=self.points[rows],
            words=self.words[rows],
            origin=self.origin[rows],
            kind=self.kind[rows],
            source=self.source[rows],
            own=int(np.count_nonzero(rows < self.own)),
        )

    def with_points(self, points: Points) -> Cloud:
        """The same rows at other places: points [N, 4]."""
        return replace(self, points=points)


def stack(own: list[Cloud], others: list[Cloud]) -> Cloud:
    """One cloud from parts: every part's own rows first, in order, then all other rows, then ``others`` whole."""
    parts = [c.take(np.arange(c.own)) for c in own]
    parts += [c.take(np.arange(c.own, len(c))) for c in own] + others
    return Cloud(
        points=np.concatenate([p.points for p in parts]),
        words=np.concatenate([p.words for p in parts]),
        origin=np.concatenate([p.origin for p in parts]),
        kind=np.concatenate([p.kind for p in parts]),
        source=np.concatenate([p.source for p in parts]),
        own=sum(c.own for c in own),
    )
