"""The units of each sample of a batch, as pairs of point rows and units."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kd_seg.caches import Cache
from kd_seg.images.units.cache import read_units
from kd_seg.networks import Batch, move
from kd_seg.objectives.interface import Sample, View
from kd_seg.objectives.shared.image_rows import check_points, rows_of_scan
from kd_seg.scans import Key


@dataclass(frozen=True)
class UnitBatch:
    """Units of a batch in COO form.

    Attributes:
        point: [P] rows of the batch's points. unit: [P], 0..U-1.
        identity: [U] number of each unit in the whole data set.
        teacher_class: [U]. confidence: [U]. distribution: [U, C2] (C2 = 0 where there is none).
        without: scans of the batch without any unit.
    """

    point: Tensor
    unit: Tensor
    identity: Tensor
    teacher_class: Tensor
    confidence: Tensor
    distribution: Tensor
    without: int

    def to(self, device: torch.device | str) -> UnitBatch:
        """The same on another device."""
        moved: dict[str, Any] = {f.name: move(getattr(self, f.name), device) for f in fields(self)}
        return UnitBatch(**moved)


@dataclass(frozen=True)
class _Item:
    point: npt.NDArray[np.int64]
    unit: npt.NDArray[np.int64]
    identity: npt.NDArray[np.int64]
    teacher_class: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float32]
    distribution: npt.NDArray[np.float32]


class UnitsView(View):
    """Reads units from the cache; a scan without a picture has none.

    Args:
        name: of the view. store: the cache. first: number of each scan's first unit in the whole data set.
    """

    def __init__(self, name: str, store: Cache, first: dict[Key, int]) -> None:
        self.name, self.store, self.first = name, store, first

    def build(self, sample: Sample) -> Any:
        """Units of the sample's own scan, as far as their points are still in the cloud."""
        key = (sample.scan.sequence, sample.scan.index)
        units = read_units(self.store, key)
        where = rows_of_scan(sample.cloud, check_points(self.store, key, sample.scan))
        point = where[units.points]
        kept = point >= 0
        return _Item(
            point=point[kept],
            unit=units.unit_of_pair()[kept],
            identity=self.first[key] + np.arange(len(units)),
            teacher_class=units.teacher_class.astype(np.int64),
            confidence=units.confidence.astype(np.float32),
            distribution=units.probabilities.astype(np.float32),
        )

    def collate(self, items: list[Any], batch: Batch) -> UnitBatch:
        """Pairs of all samples, points and units numbered through the batch."""
        starts = batch.point_offsets.tolist()
        units = np.cumsum([0] + [len(item.teacher_class) for item in items])

        def joined(name: str, shift: list[int]) -> Tensor:
            return torch.from_numpy(np.concatenate([getattr(i, name) + s for i, s in zip(items, shift, strict=True)]))

        none = [0] * len(items)
        return UnitBatch(
            point=joined("point", starts[:-1]),
            unit=joined("unit", units[:-1].tolist()),
            identity=joined("identity", none),
            teacher_class=joined("teacher_class", none),
            confidence=torch.from_numpy(np.concatenate([i.confidence for i in items])),
            distribution=torch.from_numpy(np.concatenate([i.distribution for i in items])),
            without=sum(len(item.teacher_class) == 0 for item in items),
        )
