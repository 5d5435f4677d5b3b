"""The view "fused": the teacher's batch beside the student's, and the instance of each student voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kd_seg.instances.fusion import Fuser
from kd_seg.networks import Batch, Encoded, Encoding, collate, encode
from kd_seg.objectives.interface import Sample, View
from kd_seg.scans import Cloud, Scan, Words


@dataclass(frozen=True)
class FusedSample:
    """One sample: all rows encoded for the teacher, and the key of each student voxel (0 = none)."""

    encoded: Encoded
    key: npt.NDArray[np.int64]


@dataclass(frozen=True)
class FusedBatch:
    """The view of a batch.

    Attributes:
        teacher: the fused clouds; its labels are majorities over all rows.
        key: [V] int64 instance of each student voxel, unique over the batch; 0 = none.
    """

    teacher: Batch
    key: Tensor

    def to(self, device: torch.device | str) -> FusedBatch:
        """The same on another device."""
        return FusedBatch(self.teacher.to(device), self.key.to(device))


@dataclass(frozen=True)
class FusedView(View):
    """Builds it.

    Attributes:
        fuser: adds the fused rows. encoding: the teacher's, on the student's grid.
    """

    fuser: Fuser
    encoding: Encoding
    name: str = "fused"
    adds_fused: bool = True

    def extend(self, scan: Scan, cloud: Cloud, rng: np.random.Generator) -> Cloud:
        """The cloud with fused rows and decoys after the student's."""
        return self.fuser.fuse(scan, cloud, rng)

    def build(self, sample: Sample) -> FusedSample:
        """Encode all rows; the student's own rows are among them, under the same transform and grid."""
        cloud = sample.cloud
        encoded = encode(cloud.points, sample.labels, self.encoding)
        voxels, labels = sample.encoded.voxels, sample.labels[: cloud.own]
        inside = np.flatnonzero(voxels.inverse >= 0)
        # a point speaks for its voxel's instance only where it is of the voxel's class
        agreeing = inside[labels[inside] == sample.encoded.labels[voxels.inverse[inside]]]
        inverse = np.full_like(voxels.inverse, -1)
        inverse[agreeing] = voxels.inverse[agreeing]
        return FusedSample(encoded, voxel_keys(cloud.words[: cloud.own], inverse, len(voxels.coordinates)))

    def collate(self, items: list[FusedSample], batch: Batch) -> FusedBatch:
        """The teacher's batch; keys of different samples differ."""
        teacher = collate([item.encoded for item in items], self.encoding.grid)
        keys = [np.where(item.key > 0, item.key + (b << 32), 0) for b, item in enumerate(items)]
        return FusedBatch(teacher, torch.from_numpy(np.concatenate(keys)))


def voxel_keys(words: Words, inverse: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.int64]:
    """The word [V] that most points with an instance have in each voxel (ties: smallest); 0 where none has one.

    Args:
        words: [N] label words. inverse: [N] voxel of each, -1 outside. count: V.
    """
    keys = np.zeros(count, dtype=np.int64)
    rows = np.flatnonzero((words >> 16 > 0) & (inverse >= 0))
    if len(rows) == 0:
        return keys
    pairs, votes = np.unique(inverse[rows].astype(np.int64) << 32 | words[rows].astype(np.int64), return_counts=True)
    voxel, word = pairs >> 32, pairs & 0xFFFFFFFF
    order = np.lexsort((-word, votes, voxel))  # the last of each voxel has most votes, then the smallest word
    last = np.flatnonzero(np.append(np.diff(voxel[order]) > 0, True))
    keys[voxel[order][last]] = word[order][last]
    return keys
