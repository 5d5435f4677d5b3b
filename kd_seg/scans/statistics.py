"""What a set of scans looks like in figures, so that simulated and real ones can be laid side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kd_seg.classes import ClassTable, load_classes
from kd_seg.core.errors import DataError
from kd_seg.scans.arrays import Points, Words
from kd_seg.scans.scan import Scan
from kd_seg.scans.semantic_kitti import SemanticKitti

Floats = npt.NDArray[np.float64]

VOXEL_SIZES = (0.05, 0.1, 0.2)
"""Metres at which occupied voxels per point are counted."""
RANGE_EDGES = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0)
"""Metres; bins of the table of points per instance."""
HISTOGRAM_EDGES = np.arange(0.0, 82.0, 1.0)
"""Metres; bins of the range histogram."""
RAYS = 64 * 2009
"""Rays of one turn of an HDL-64E: 64 rings, steps of 0.179 degrees."""
LEVELS = 100
"""Levels of remission of an HDL-64E as KITTI stores it."""


_FINE = 0.02
"""Metres; bins from which range percentiles are read."""


@dataclass(frozen=True)
class ScanStatistics:
    """Figures over a set of scans.

    Attributes:
        points: points of each scan [S].
        range_histogram: share of points per bin of HISTOGRAM_EDGES.
        range_percentiles: metres at 1, 50, 90 and 99 %, over all points of all scans.
        range_max: metres.
        remission_histogram: share of points per hundredth [100].
        remission_percentiles: at 25, 50, 75 and 99 %.
        remission_levels: different values of remission.
        remission_zeros: share of exact zeros.
        class_names: names of train ids 0..C.
        class_shares: share of points per train id, 0 = without a class.
        class_remission: median remission per train id, nan where a class has no point.
        raw_shares: share of points per raw id that occurs.
        ring_points: points per ring, median over scans; rings from the top, as far as file order gives 64 of them.
        ring_elevation: degrees per ring, median over scans of the median.
        missing: share of RAYS without a return.
        occupancy: occupied voxels per point, by voxel size in metres.
        instances: per thing class, per bin of RANGE_EDGES, (appearances, median points, mean points).
    """

    points: npt.NDArray[np.int64]
    range_histogram: Floats
    range_percentiles: tuple[float, float, float, float]
    range_max: float
    remission_histogram: Floats
    remission_percentiles: tuple[float, float, float, float]
    remission_levels: int
    remission_zeros: float
    class_names: tuple[str, ...]
    class_shares: Floats
    class_remission: Floats
    raw_shares: dict[int, float]
    ring_points: Floats
    ring_elevation: Floats
    missing: float
    occupancy: dict[float, float]
    instances: dict[str, tuple[tuple[int, float, float], ...]]


def statistics(
    source: str | Path | Iterable[Scan], classes: str = "semantic_kitti_19", every: int = 1
) -> ScanStatistics:
    """Figures over the scans of a data root, or over scans given; every ``every``-th of them.

    Raises DataError where there is no scan at all. Scans without labels count as unlabelled.
    """
    if isinstance(source, (str, Path)):
        data = SemanticKitti(source)
        scans: Sequence[Scan] = [data[k] for k in range(0, len(data), every)]
    else:
        scans = list(source)[::every]
    table = load_classes(classes)
    parts = [_of_scan(scan.points, scan.labels, table, scan.name) for scan in scans]
    if not parts:
        raise DataError(f"{source} holds no scan to measure; give a data root with sequences/NN/velodyne.")
    return _together(parts, table)


def rings_of(points: Points) -> npt.NDArray[np.int16]:
    """Ring [N] of each point from the order of the file: azimuth falls back where a new ring begins. -1 if not 64
    rings.
    """
    azimuth = np.arctan2(points[:, 1], points[:, 0]) % (2 * np.pi)
    ring = np.concatenate([[0], np.cumsum(np.diff(azimuth) < -np.pi)]) if len(points) else np.zeros(0)
    if len(points) == 0 or ring[-1] != 63:
        return np.full(len(points), -1, dtype=np.int16)
    return ring.astype(np.int16)


def occupied(points: Points, size: float) -> int:
    """Number of cubes of ``size`` metres that hold one of the points [N, 3+]."""
    cell = np.floor(points[:, :3].astype(np.float64) / size).astype(np.int64) + (1 << 20)
    return len(np.unique((cell[:, 0] << 42) | (cell[:, 1] << 21) | cell[:, 2]))


@dataclass(frozen=True)
class _Part:
    count: int
    ranges: npt.NDArray[np.int64]
    fine: npt.NDArray[np.int64]
    farthest: float
    remission: npt.NDArray[np.int64]
    values: Floats
    zeros: int
    by_class: npt.NDArray[np.int64]
    raw: dict[int, int]
    rings: tuple[Floats, Floats] | None
    voxels: tuple[int, ...]
    objects: tuple[tuple[int, float, int], ...]


def _of_scan(points: Points, words: Words | None, table: ClassTable, where: str) -> _Part:
    finite = np.isfinite(points).all(axis=1)
    labels = words[finite] if words is not None else np.zeros(int(finite.sum()), dtype=np.uint32)
    points = points[finite]
    reach = np.linalg.norm(points[:, :3].astype(np.float64), axis=1)
    level = np.clip(np.round(points[:, 3] * LEVELS), 0, LEVELS - 1).astype(np.int64)
    train = table.to_train(labels, where).astype(np.int64)
    width = len(table) + 1
    ids, counts = np.unique(labels & 0xFFFF, return_counts=True)
    return _Part(
        count=len(points),
        ranges=np.histogram(reach, HISTOGRAM_EDGES)[0],
        fine=np.bincount((reach[reach < 200.0] / _FINE).astype(np.int64), minlength=round(200.0 / _FINE)),
        farthest=float(reach.max(initial=0.0)),
        remission=np.bincount(level, minlength=LEVELS),
        values=np.unique(points[:, 3]).astype(np.float64),
        zeros=int(np.count_nonzero(points[:, 3] == 0)),
        by_class=np.bincount(train * LEVELS + level, minlength=width * LEVELS).reshape(width, LEVELS),
        raw=dict(zip(ids.tolist(), counts.tolist(), strict=True)),
        rings=_rings(points),
        voxels=tuple(occupied(points, size) for size in VOXEL_SIZES),
        objects=_objects(points, labels, train, table),
    )


def _rings(points: Points) -> tuple[Floats, Floats] | None:
    ring = rings_of(points)
    if len(ring) == 0 or ring[0] < 0:
        return None
    flat = np.hypot(points[:, 0], points[:, 1])
    elevation = np.degrees(np.arctan2(points[:, 2], flat)).astype(np.float64)
    ends = np.searchsorted(ring, np.arange(65))
    middle = [float(np.median(elevation[a:b])) for a, b in zip(ends[:-1], ends[1:], strict=True)]  # noqa: RUF007
    return np.diff(ends).astype(np.float64), np.array(middle)


def _objects(
    points: Points, words: Words, train: npt.NDArray[np.int64], table: ClassTable
) -> tuple[tuple[int, float, int], ...]:
    """(train id, metres, points) of every thing instance."""
    rows = np.flatnonzero((words >> 16 > 0) & np.isin(train, np.array(table.things) + 1))
    ids, inverse, counts = np.unique(words[rows], return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(inverse, points[rows, k], minlength=len(ids)) for k in range(2)], 1)
    gap = np.linalg.norm(sums / np.maximum(counts, 1)[:, None], axis=1)
    kind = table.to_train(ids, "instances")
    return tuple(zip(kind.tolist(), gap.tolist(), counts.tolist(), strict=True))


def _together(parts: list[_Part], table: ClassTable) -> ScanStatistics:
    points = np.array([p.count for p in parts], dtype=np.int64)
    total = max(int(points.sum()), 1)
    remission = np.sum([p.remission for p in parts], axis=0)
    by_class = np.sum([p.by_class for p in parts], axis=0)
    ranges = np.sum([p.ranges for p in parts], axis=0)
    rings = [p.rings for p in parts if p.rings is not None]
    raw: dict[int, int] = {}
    for part in parts:
        for key, count in part.raw.items():
            raw[key] = raw.get(key, 0) + count
    fine = np.sum([p.fine for p in parts], axis=0)
    a, b, c, d = (_quantile(fine, q) * LEVELS * _FINE for q in (0.01, 0.5, 0.9, 0.99))
    e, f, g, h = (_quantile(remission, q) for q in (0.25, 0.5, 0.75, 0.99))
    return ScanStatistics(
        points=points,
        range_histogram=ranges / total,
        range_percentiles=(a, b, c, d),
        range_max=max(p.farthest for p in parts),
        remission_histogram=remission / total,
        remission_percentiles=(e, f, g, h),
        remission_levels=len(np.unique(np.concatenate([p.values for p in parts]))),
        remission_zeros=sum(p.zeros for p in parts) / total,
        class_names=("unlabelled", *table.names),
        class_shares=by_class.sum(axis=1) / total,
        class_remission=np.array([_quantile(row, 0.5) for row in by_class]),
        raw_shares={key: raw[key] / total for key in sorted(raw)},
        ring_points=np.median([r[0] for r in rings], axis=0) if rings else np.zeros(0),
        ring_elevation=np.median([r[1] for r in rings], axis=0) if rings else np.zeros(0),
        missing=1.0 - total / (RAYS * len(parts)),
        occupancy={s: sum(p.voxels[k] for p in parts) / total for k, s in enumerate(VOXEL_SIZES)},
        instances=_by_range(parts, table),
    )


def _quantile(histogram: npt.NDArray[np.int64], q: float) -> float:
    """Quantile of hundredths; nan where nothing was counted."""
    count = np.cumsum(histogram)
    if count[-1] == 0:
        return float("nan")
    return float(np.searchsorted(count, q * count[-1])) / LEVELS


def _by_range(parts: list[_Part], table: ClassTable) -> dict[str, tuple[tuple[int, float, float], ...]]:
    rows = np.array([o for p in parts for o in p.objects]).reshape(-1, 3)
    answer = {}
    for thing in table.things:
        mine = rows[rows[:, 0] == thing + 1]
        cells = []
        for low, high in zip(RANGE_EDGES[:-1], RANGE_EDGES[1:], strict=True):  # noqa: RUF007
            counts = mine[(mine[:, 1] >= low) & (mine[:, 1] < high), 2]
            cells.append(
                (len(counts), float(np.median(counts)), float(counts.mean())) if len(counts) else (0, 0.0, 0.0)
            )
        answer[table.names[thing]] = tuple(cells)
    return answer
