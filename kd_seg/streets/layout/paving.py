"""The ground about a stretch of the path: a raster of covers, and the mesh that the rays meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.streets.layout.covers import LOT
from kd_seg.streets.layout.ground import STEPS, Covers, Plan
from kd_seg.streets.objects.materials import Material
from kd_seg.streets.objects.mesh import Floats, Mesh, build, merge

CELL = 0.1
"""Metres per cell of the cover raster."""


@dataclass(frozen=True)
class GroundMap:
    """Covers of a rectangle as a raster, and the mesh of its surface."""

    lower: Floats
    cover: Covers
    mesh: Mesh

    def at(self, x: npt.NDArray[np.floating[Any]], y: npt.NDArray[np.floating[Any]]) -> Covers:
        """Cover [N] at places in world coordinates; outside the raster the nearest cell."""
        i = np.clip(((x - self.lower[0]) / CELL).astype(np.int32), 0, self.cover.shape[0] - 1)
        j = np.clip(((y - self.lower[1]) / CELL).astype(np.int32), 0, self.cover.shape[1] - 1)
        return np.asarray(self.cover[i, j])


def pave(plan: Plan, near: Floats, margin: float = 90.0) -> GroundMap:
    """Raster and mesh of the ground within ``margin`` metres of places ``near`` [K, 2]."""
    block = 3.0
    lower = np.floor((near.min(axis=0) - margin) / block) * block
    counts = np.ceil((near.max(axis=0) + margin - lower) / block).astype(int)
    cover = _raster(plan, lower, counts * round(block / CELL), near, margin + 3 * block)
    ground = GroundMap(lower, cover, build(np.zeros((3, 3)), [[0, 1, 2]], Material.GROUND))
    corner = lower + block * np.stack(np.meshgrid(*(np.arange(c) for c in counts), indexing="ij"), -1).reshape(-1, 2)
    gap = np.min(np.linalg.norm(corner[:, None] + block / 2 - near[None, :: max(len(near) // 40, 1)], axis=2), axis=1)
    reach = gap < margin + block
    close = gap < 42.0
    parts = [_tiles(plan, ground, corner[reach & ~close], block)]
    fine = (corner[close][:, None] + np.stack(np.meshgrid(*(np.arange(3),) * 2), -1).reshape(1, 9, 2)).reshape(-1, 2)
    stepped = _stepped(ground, fine, 1.0)
    parts.append(_tiles(plan, ground, fine[~stepped], 1.0))
    sub = np.stack(np.meshgrid(*(np.arange(5) * 0.2,) * 2), -1).reshape(1, 25, 2)
    parts.append(_tiles(plan, ground, (fine[stepped][:, None] + sub).reshape(-1, 2), 0.2))
    under = _tiles(plan, ground, corner[reach], block)
    parts.append(build(under.vertices - np.array([0, 0, 0.3], dtype=np.float32), under.triangles, Material.GROUND))
    return GroundMap(lower, cover, merge(parts))


def _raster(plan: Plan, lower: Floats, shape: npt.NDArray[np.int64], near: Floats, reach: float) -> Covers:
    """Covers [shape] of cells from ``lower`` on; beyond ``reach`` metres of the places ``near``, where no mesh lies,
    they may stay lots.
    """
    cover = np.full(tuple(shape), LOT, dtype=np.uint8)
    y = lower[1] + (np.arange(shape[1]) + 0.5) * CELL
    band = 64
    for first in range(0, shape[0], band):
        x = lower[0] + (np.arange(first, min(first + band, shape[0])) + 0.5) * CELL
        aside = np.abs(near[:, 0] - np.clip(near[:, 0], x[0], x[-1]))
        wide = np.sqrt(np.maximum(reach**2 - aside**2, 0.0))
        low, high = np.searchsorted(y, [np.min(near[:, 1] - wide), np.max(near[:, 1] + wide)])
        points = np.stack(np.meshgrid(x, y[low:high], indexing="ij"), -1).reshape(-1, 2)
        cover[first : first + band, low:high] = plan.at(points).cover.reshape(len(x), -1)
    for p in plan.patches:
        radius = np.hypot(p.length, p.width) / 2
        low = np.maximum(np.floor((np.array([p.x, p.y]) - radius - lower) / CELL).astype(int), 0)
        high = np.minimum(np.ceil((np.array([p.x, p.y]) + radius - lower) / CELL).astype(int), shape)
        if (high <= low).any():
            continue
        dx = lower[0] + (np.arange(low[0], high[0]) + 0.5) * CELL - p.x
        dy = lower[1] + (np.arange(low[1], high[1]) + 0.5) * CELL - p.y
        c, s = np.cos(p.yaw), np.sin(p.yaw)
        inside = np.abs(c * dx[:, None] + s * dy) < p.length / 2
        inside &= np.abs(c * dy - s * dx[:, None]) < p.width / 2
        part = cover[low[0] : high[0], low[1] : high[1]]
        part[inside & (part >= LOT)] = p.cover + LOT
    cover[cover >= LOT] -= LOT
    return cover


def _stepped(ground: GroundMap, corner: Floats, size: float) -> npt.NDArray[np.bool_]:
    """Tiles [K] in which the height over the road is not the same everywhere."""
    probe = np.stack(np.meshgrid(*(np.linspace(0.02, size - 0.02, 7),) * 2), -1).reshape(1, -1, 2)
    places = (corner[:, None] + probe).reshape(-1, 2)
    step = STEPS[ground.at(*places.T)].reshape(len(corner), -1)
    return np.asarray(np.ptp(step, axis=1) > 0.03)


def _tiles(plan: Plan, ground: GroundMap, corner: Floats, size: float) -> Mesh:
    """Square tiles at corners [K, 2], vertices shared, heights from the plan and the raster's cover."""
    key = np.round((corner - ground.lower) / size).astype(np.int64)
    offsets = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    wide = 1 << 20
    ids = ((key[:, None] + offsets) * [wide, 1]).sum(axis=2)
    unique, inverse = np.unique(ids.ravel(), return_inverse=True)
    xy = ground.lower + np.stack([unique // wide, unique % wide], 1) * size
    _, edge, bank, kerb = plan.at(xy)
    z = plan.surface(xy, ground.at(*xy.T), edge, bank, kerb)
    quads = inverse.reshape(-1, 4)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return build(np.column_stack([xy, z]), faces, Material.GROUND)
