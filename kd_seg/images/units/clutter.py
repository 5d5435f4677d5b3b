"""Frustum clutter: what a box or mask holds besides the object, cut by depth and ground (docs/image_teachers.md)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field

from kd_seg.core.config import Settings

Mask = npt.NDArray[np.bool_]


class ClutterSettings(Settings):
    """How the object's points are told from road before it and background behind it.

    Attributes:
        gap_m, gap_relative: depths are cut where the gap exceeds max(gap_m, gap_relative * depth).
        spread: standard deviation of the centre weight, in half-sizes of the box.
        least_points, least_share: smallest cluster, max(points, share of the unit's points).
        ground_m: points of a box lower than this above the local ground plane go.
        reach_m: the plane is fitted on the scan's points within this margin around the cluster.
    """

    gap_m: float = Field(0.5, gt=0)
    gap_relative: float = Field(0.05, ge=0)
    spread: float = Field(0.25, gt=0)
    least_points: int = Field(5, ge=1)
    least_share: float = Field(0.15, ge=0, le=1)
    ground_m: float = Field(0.2, ge=0)
    reach_m: float = Field(2.0, gt=0)


def cut_depth(
    depth: npt.NDArray[np.float32],
    pixels: npt.NDArray[np.float32],
    box: npt.NDArray[np.float32],
    settings: ClutterSettings,
) -> Mask:
    """The depth cluster that is the object, as a mask [n]; all False where no cluster is large enough.

    Args:
        depth: [n] metres. pixels: [n, 2]. box: [4] left, top, right, bottom in pixels.

    Clusters are compared by the sum of ``exp(-d^2 / (2 spread^2))``, d = offset from the box's centre in half-sizes;
    equal ones go to the nearer.
    """
    count = len(depth)
    if count == 0:
        return np.zeros(0, dtype=bool)
    order = np.argsort(depth, kind="stable")
    sorted_depth = depth[order].astype(np.float64)
    gap = np.diff(sorted_depth)
    cut = gap > np.maximum(settings.gap_m, settings.gap_relative * sorted_depth[:-1])
    cluster = np.concatenate([[0], np.cumsum(cut)])
    centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2.0
    half = np.maximum(np.array([box[2] - box[0], box[3] - box[1]]) / 2.0, 0.5)
    offset = ((pixels[order] - centre) / half) ** 2
    weight = np.exp(-offset.sum(axis=1) / (2.0 * settings.spread**2))
    sizes = np.bincount(cluster)
    score = np.bincount(cluster, weights=weight)
    score[sizes < max(settings.least_points, settings.least_share * count)] = -1.0
    best = int(np.argmax(score))
    kept = np.zeros(count, dtype=bool)
    if score[best] >= 0:
        kept[order[cluster == best]] = True
    return kept


def above_ground(cluster: npt.NDArray[np.float32], scan: npt.NDArray[np.float32], settings: ClutterSettings) -> Mask:
    """Mask [n] of the cluster's points more than ``ground_m`` above the ground plane around them.

    Args:
        cluster: [n, 3] the object's points. scan: [N, 3] the whole scan, LiDAR frame (z up).

    Where too little ground is seen to fit a plane, all points stay.
    """
    if len(cluster) == 0:
        return np.zeros(0, dtype=bool)
    lower = cluster[:, :2].min(axis=0) - settings.reach_m
    upper = cluster[:, :2].max(axis=0) + settings.reach_m
    near = ((scan[:, :2] >= lower) & (scan[:, :2] <= upper)).all(axis=1)
    plane = fit_ground(scan[near, :3])
    if plane is None:
        return np.ones(len(cluster), dtype=bool)
    height = cluster[:, 2] - (cluster[:, :2] @ plane[:2] + plane[2])
    kept: Mask = height > settings.ground_m
    return kept


def fit_ground(points: npt.NDArray[np.float32], cell_m: float = 0.5, rounds: int = 4) -> npt.NDArray[np.float64] | None:
    """Plane z = a x + b y + c through the lowest points of occupied cells, as (a, b, c), or None.

    Cells whose lowest point stands above the plane of the round before (walls, cars) are left out; a slope above 30
    degrees, or fewer than 6 cells, is no ground.
    """
    if len(points) < 6:
        return None
    cells = np.floor(points[:, :2] / cell_m).astype(np.int64)
    cells -= cells.min(axis=0)
    key = cells[:, 0] * (cells[:, 1].max() + 1) + cells[:, 1]
    order = np.lexsort((points[:, 2], key))
    first = np.concatenate([[True], np.diff(key[order]) > 0])
    low = points[order[first]].astype(np.float64)
    if len(low) < 6:
        return None
    use = low[:, 2] <= np.quantile(low[:, 2], 0.5) + 0.1
    centre = low[:, :2].mean(axis=0)
    plane = None
    for _ in range(rounds):
        if use.sum() < 6:
            return None
        design = np.column_stack([low[use, :2] - centre, np.ones(int(use.sum()))])
        # A slight pull towards level ground keeps a plane through nearly collinear cells from tilting at will.
        pull = np.diag([0.5, 0.5, 0.0])
        plane = np.linalg.solve(design.T @ design + pull, design.T @ low[use, 2])
        residual = low[:, 2] - ((low[:, :2] - centre) @ plane[:2] + plane[2])
        use = np.abs(residual) < 0.15
    if plane is None or np.hypot(plane[0], plane[1]) > np.tan(np.pi / 6):
        return None
    return np.array([plane[0], plane[1], plane[2] - plane[:2] @ centre])
