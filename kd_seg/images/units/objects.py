"""Objects that touch in a picture: the points of one component of a class with instances, told apart in space.

One car behind another is one component of a semantic map. Seen from above their points lie apart, as things of a street
stand beside and behind each other, never on one another.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field

from kd_seg.core.config import Settings
from kd_seg.core.kernels import kernel
from kd_seg.scans import Points
from kd_seg.voxels.disjoint import join, settle

Labels = npt.NDArray[np.int32]


class ObjectSettings(Settings):
    """How a component of a class with instances falls into objects.

    The link's range is that of the nearer point. What is seen through the windows of a car makes clusters too, smaller
    than ``least_share``.
    """

    split: bool = Field(True, description="false: one object per component, the depth cluster amid its box")
    link_m: float = Field(0.4, gt=0, description="points closer than this in plan view belong together")
    link_relative: float = Field(0.02, ge=0, description="the same as a share of the range; the larger counts")
    least_points: int = Field(5, ge=1, description="smaller clusters are dropped")
    least_share: float = Field(0.05, ge=0, le=1, description="the same as a share of the component's points")


def split_objects(points: Points, settings: ObjectSettings) -> Labels:
    """Object of each point [n, >= 3] (LiDAR frame), from 0 by size, the largest first; -1 where it is too small.

    Equally large ones keep the order of their first points.
    """
    count = len(points)
    if count == 0:
        return np.zeros(0, dtype=np.int32)
    x, y = points[:, 0].astype(np.float64), points[:, 1].astype(np.float64)
    reach = np.maximum(settings.link_m, settings.link_relative * np.hypot(x, y))
    order = np.argsort(x, kind="stable")
    root = _linked(x[order], y[order], reach[order])
    first_of = np.full(count, count, dtype=np.int64)
    np.minimum.at(first_of, root, order)  # name every object by its first row, whatever the order along x
    cluster = np.empty(count, dtype=np.int64)
    cluster[order] = first_of[root]
    names, sizes = np.unique(cluster, return_counts=True)
    kept = sizes >= max(settings.least_points, settings.least_share * count)
    ranked = np.flatnonzero(kept)[np.argsort(-sizes[kept], kind="stable")]
    number = np.full(len(names), -1, dtype=np.int32)
    number[ranked] = np.arange(len(ranked), dtype=np.int32)
    return np.asarray(number[np.searchsorted(names, cluster)])


@kernel
def _linked(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], reach: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Representative of each point's cluster; ``x`` rises, so that only a window behind each point is looked at."""
    count = len(x)
    parent = np.arange(count)
    widest = reach.max()
    start = 0
    for i in range(count):
        while x[i] - x[start] > widest:
            start += 1
        for j in range(start, i):
            near = min(reach[i], reach[j])
            dx, dy = x[i] - x[j], y[i] - y[j]
            if dx * dx + dy * dy <= near * near:
                join(parent, i, j)
    settle(parent)
    return parent
