"""The regions of each sample of a batch: which points, and which cells of the feature maps with which weights."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kd_seg.caches import Cache
from kd_seg.images.regions.cache import RegionView, read_regions
from kd_seg.images.regions.sampling import at_pixels
from kd_seg.networks import Batch, move
from kd_seg.objectives.interface import Sample, View
from kd_seg.objectives.shared.image_rows import check_points, rows_of_scan


@dataclass(frozen=True)
class RegionBatch:
    """Regions of a batch in COO form.

    Attributes:
        point: [P] rows of the batch's points. region: [P], 0..R-1.
        features: [K, D] float16, cells of all feature maps.
        target, cell, weight: [m] sparse weights from cells to regions.
        count: R. without: scans of the batch without a view.
    """

    point: Tensor
    region: Tensor
    features: Tensor
    target: Tensor
    cell: Tensor
    weight: Tensor
    count: int
    without: int

    def to(self, device: torch.device | str) -> RegionBatch:
        """The same on another device."""
        moved: dict[str, Any] = {f.name: move(getattr(self, f.name), device) for f in fields(self)}
        return RegionBatch(**moved)


@dataclass(frozen=True)
class _Item:
    point: npt.NDArray[np.int64]
    region: npt.NDArray[np.int64]
    features: npt.NDArray[np.float16]
    target: npt.NDArray[np.int64]
    cell: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32]
    count: int


class RegionsView(View):
    """Reads regions from the cache; a scan without a picture has none.

    Args:
        name: of the view. store: the cache. points: regions are single points.
        samples: pairs drawn per scan where regions are points; 0 = all.
    """

    def __init__(self, name: str, store: Cache, points: bool, samples: int) -> None:
        self.name, self.store, self.points, self.samples = name, store, points, samples

    def build(self, sample: Sample) -> Any:
        """Regions of the sample's own scan, as far as their points are still in the cloud."""
        key = (sample.scan.sequence, sample.scan.index)
        where = rows_of_scan(sample.cloud, check_points(self.store, key, sample.scan))
        views = read_regions(self.store, key)
        parts = [self._points(v, where, len(views), sample.rng) if self.points else _regions(v, where) for v in views]
        return _joined(parts, self.store.width("features"))

    def _points(self, view: RegionView, where: npt.NDArray[np.int64], views: int, rng: np.random.Generator) -> _Item:
        point = where[view.rows]
        kept = np.flatnonzero(point >= 0)
        share = self.samples // views if self.samples else 0
        if share and len(kept) > share:
            kept = np.sort(rng.choice(kept, share, replace=False))
        weights = at_pixels(view.pixels[kept], view.picture, view.grid)
        return _Item(
            point=point[kept],
            region=np.arange(len(kept)),
            features=view.features,
            target=weights.target.astype(np.int64),
            cell=weights.cell.astype(np.int64),
            weight=weights.weight,
            count=len(kept),
        )

    def collate(self, items: list[Any], batch: Batch) -> RegionBatch:
        """All samples, numbered through the batch."""
        shifted = [replace(i, point=i.point + s) for i, s in zip(items, batch.point_offsets.tolist(), strict=False)]
        whole = _joined(shifted, self.store.width("features"))
        return RegionBatch(
            point=torch.from_numpy(whole.point),
            region=torch.from_numpy(whole.region),
            features=torch.from_numpy(whole.features),
            target=torch.from_numpy(whole.target),
            cell=torch.from_numpy(whole.cell),
            weight=torch.from_numpy(whole.weight),
            count=whole.count,
            without=sum(len(item.features) == 0 for item in items),
        )


def _regions(view: RegionView, where: npt.NDArray[np.int64]) -> _Item:
    point = where[view.rows]
    kept = (point >= 0) & (view.region >= 0)
    return _Item(
        point=point[kept],
        region=view.region[kept].astype(np.int64),
        features=view.features,
        target=view.target.astype(np.int64),
        cell=view.cell.astype(np.int64),
        weight=view.weight,
        count=view.regions,
    )


def _joined(parts: list[_Item], width: int) -> _Item:
    """Parts side by side, regions and cells renumbered."""
    regions = np.cumsum([0] + [p.count for p in parts])
    cells = np.cumsum([0] + [len(p.features) for p in parts])
    nothing = np.zeros(0, dtype=np.int64)
    return _Item(
        point=np.concatenate([nothing, *(p.point for p in parts)]),
        region=np.concatenate([nothing, *(p.region + r for p, r in zip(parts, regions, strict=False))]),
        features=np.concatenate([np.zeros((0, width), dtype=np.float16), *(p.features for p in parts)]),
        target=np.concatenate([nothing, *(p.target + r for p, r in zip(parts, regions, strict=False))]),
        cell=np.concatenate([nothing, *(p.cell + c for p, c in zip(parts, cells, strict=False))]),
        weight=np.concatenate([np.zeros(0, dtype=np.float32), *(p.weight for p in parts)]),
        count=int(regions[-1]),
    )
