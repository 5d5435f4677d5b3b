"""What the loader builds for a teacher of points: its stored probabilities per student voxel, or its own input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kd_seg.caches import Cache
from kd_seg.instances.fusion import Fuser
from kd_seg.networks import Batch, Encoded, Encoding, collate, encode
from kd_seg.objectives.interface import Sample, View
from kd_seg.objectives.point_teacher.cache import average
from kd_seg.objectives.shared.image_rows import check_points
from kd_seg.scans import Cloud, Scan


@dataclass(frozen=True)
class Targets:
    """Stored probabilities of a batch.

    Attributes:
        probabilities: [V, C] float16 per student voxel, means over its points. known: [V] whether any point had some.
    """

    probabilities: Tensor
    known: Tensor

    def to(self, device: torch.device | str) -> Targets:
        """The same on another device."""
        return Targets(self.probabilities.to(device), self.known.to(device))


class StoredView(View):
    """Averages a scan's stored probabilities over the student's voxels, whatever the augmentation.

    Points of other scans (fused, pasted, mixed in) have none.
    """

    def __init__(self, name: str, store: Cache, classes: int) -> None:
        self.name, self.store, self.classes = name, store, classes

    def build(self, sample: Sample) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]:
        """Probabilities [V, C] and whether there are any [V], per student voxel."""
        key = (sample.scan.sequence, sample.scan.index)
        check_points(self.store, key, sample.scan)
        stored = self.store.record(key, ("classes", "shares"))
        voxels, own = sample.encoded.voxels, sample.cloud.own
        source = sample.cloud.source[:own]
        total, number = average(stored["classes"], stored["shares"], source, voxels.inverse, len(voxels), self.classes)
        return total.astype(np.float16), number > 0

    def collate(self, items: list[Any], batch: Batch) -> Targets:
        """All samples' voxels, in the order of the batch."""
        probabilities = torch.from_numpy(np.concatenate([item[0] for item in items]))
        return Targets(probabilities, torch.from_numpy(np.concatenate([item[1] for item in items])))


@dataclass(frozen=True)
class TeacherInput:
    """What a live teacher runs on.

    Attributes:
        batch: the clouds in the teacher's grid. own: [N] rows of the student's points among the batch's points.
    """

    batch: Batch
    own: Tensor

    def to(self, device: torch.device | str) -> TeacherInput:
        """The same on another device."""
        return TeacherInput(self.batch.to(device), self.own.to(device))


class LiveView(View):
    """Encodes the augmented points for the teacher, intensities in the range that it was trained with.

    Args:
        scale: what intensities of 0-1 are multiplied with. fuser: adds the rows of other scans that the teacher sees.
    """

    def __init__(self, name: str, encoding: Encoding, scale: float, fuser: Fuser | None) -> None:
        self.name, self.encoding, self.scale, self.fuser = name, encoding, scale, fuser
        self.adds_fused = fuser is not None

    def extend(self, scan: Scan, cloud: Cloud, rng: np.random.Generator) -> Cloud:
        """The cloud with the rows of other scans after the student's, where the teacher sees them."""
        return cloud if self.fuser is None else self.fuser.fuse(scan, cloud, rng)

    def build(self, sample: Sample) -> tuple[Encoded, int]:
        """The teacher's cloud, and how many of its first rows are the student's."""
        cloud = sample.cloud
        points = cloud.points if self.fuser is not None else cloud.points[: cloud.own]
        if self.scale != 1.0:
            points = points * np.array([1.0, 1.0, 1.0, self.scale], np.float32)
        return encode(points, None, self.encoding), cloud.own

    def collate(self, items: list[Any], batch: Batch) -> TeacherInput:
        """The teacher's batch."""
        made = collate([encoded for encoded, _ in items], self.encoding.grid)
        starts = made.point_offsets.tolist()
        own = [torch.arange(start, start + count) for start, (_, count) in zip(starts, items, strict=False)]
        return TeacherInput(made, torch.cat(own))
