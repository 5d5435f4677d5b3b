"""Which row is which: rows of a scan's file among a sample's points, and voxels among the rows of a level."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kd_seg.caches import Cache
from kd_seg.core.errors import DataError
from kd_seg.networks import Batch, Level
from kd_seg.networks.correspondence import find_rows
from kd_seg.scans import Cloud, Key, Scan


def rows_of_scan(cloud: Cloud, count: int) -> npt.NDArray[np.int64]:
    """Where each row of the unaugmented scan [count] is among the cloud's own rows now, -1 where it is gone."""
    rows = np.full(count, -1, dtype=np.int64)
    source = cloud.source[: cloud.own]
    here = np.flatnonzero(source >= 0)
    rows[source[here]] = here
    return rows


def check_points(store: Cache, key: Key, scan: Scan) -> int:
    """Points of the scan; DataError where the cache was made from another number of them."""
    count = int(store.record(key, ("counts",))["counts"][0])
    if count != len(scan.points):
        raise DataError(
            f"The {store.plan.kind.name} {store.folder} was made when {scan.points_path} had {count} points, it has "
            f"{len(scan.points)}; rebuild it with: {store.fix_command} --rebuild"
        )
    return count


def level_rows(batch: Batch, level: Level) -> Tensor:
    """Row of each stride-1 voxel [V] among the rows of a level (every voxel has a parent at every stride).

    Raises:
        ValueError: the level's coordinates are not those of the batch.
    """
    if level.stride == (1, 1, 1) and len(level.features) == len(batch.coordinates):
        return torch.arange(len(batch.coordinates), device=batch.coordinates.device)
    stride = torch.tensor((1, *level.stride), device=batch.coordinates.device)
    rows = find_rows(torch.div(batch.coordinates, stride, rounding_mode="floor"), level.coordinates)
    if not bool((rows >= 0).all()):
        raise ValueError("a level lacks the parent of a voxel; its coordinates are not those of this batch")
    return rows
