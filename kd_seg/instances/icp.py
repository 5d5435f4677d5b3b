"""ICP over yaw and translation: objects on a road neither roll, pitch nor change their size.

Point-to-point after Besl and McKay, "A method for registration of 3-D shapes" (PAMI 1992), point-to-plane after Chen
and Medioni, "Object modelling by registration of multiple range images" (IVC 1992), the share of pairs that is kept
after Chetverikov et al., "The trimmed iterative closest point algorithm" (ICPR 2002).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from kd_seg.core.kernels import kernel

Array = npt.NDArray[Any]


Xyz = npt.NDArray[np.float64]

NEIGHBOURS = 10
"""Points that a normal is fitted to."""

PLANE_PRIOR = (0.003, 0.003, 0.03, 0.05)
"""How strongly point-to-plane is held at its start, per pair: x, y, z (no unit) and yaw (m^2 / rad^2).

A surface that holds a direction has a mean squared row of 0.2 to 0.5 there, so it is hardly biased; a direction that
nothing holds, such as along a truck's side or up its wall, stays where the start put it instead of drifting.
"""

POINT_PRIOR = (0.01, 0.01, 3.0, 0.3)
"""The same for point-to-point. Few points lie on few rings, and rings of two scans attract each other: z is held."""


@dataclass(frozen=True)
class Motion:
    """A rotation about the up axis, then a translation: ``p -> R_z(yaw) p + shift``."""

    yaw: float
    shift: Xyz

    def apply(self, xyz: npt.NDArray[np.floating[Any]]) -> Xyz:
        """Points [N, 3] moved, float64."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        moved = np.empty((len(xyz), 3))
        moved[:, 0] = c * xyz[:, 0] - s * xyz[:, 1] + self.shift[0]
        moved[:, 1] = s * xyz[:, 0] + c * xyz[:, 1] + self.shift[1]
        moved[:, 2] = xyz[:, 2] + self.shift[2]
        return moved

    def displacement(self, xyz: npt.NDArray[np.floating[Any]]) -> float:
        """How far the mean of points [N, 3] moves, metres."""
        centre = np.asarray(xyz, dtype=np.float64).mean(axis=0, keepdims=True)
        return float(np.linalg.norm(self.apply(centre) - centre))

    def after(self, earlier: Motion) -> Motion:
        """``earlier`` first, then this one."""
        return Motion(self.yaw + earlier.yaw, self.apply(earlier.shift[None])[0])

    @classmethod
    def none(cls) -> Motion:
        """No motion."""
        return cls(0.0, np.zeros(3))


@dataclass(frozen=True)
class Fit:
    """Where ICP ended.

    Attributes:
        motion: of the source onto the target.
        rms: of the kept pairs' residuals (to the plane where planes were used), metres; infinite without pairs.
        inliers: share of the source within the inlier radius of the target.
    """

    motion: Motion
    rms: float
    inliers: float


class Target:
    """Points that others are aligned to, with their search tree and, when first asked for, normals."""

    def __init__(self, xyz: Xyz) -> None:
        self.xyz = np.ascontiguousarray(xyz, dtype=np.float64)
        self.tree = cKDTree(self.xyz)
        self._normals: Xyz | None = None

    def normals(self) -> Xyz:
        """Unit normals [N, 3] from the nearest neighbours of each point (sign is of no matter)."""
        if self._normals is None:
            self._normals = normals(self.xyz, self.tree)
        return self._normals


def normals(xyz: Xyz, tree: cKDTree) -> Xyz:
    """Direction of least spread of each point's neighbourhood, unit rows [N, 3]."""
    count = min(NEIGHBOURS, len(xyz))
    _, near = tree.query(xyz, k=count)
    near = near.reshape(len(xyz), count)
    patch = xyz[near] - xyz[near].mean(axis=1, keepdims=True)
    _, vectors = np.linalg.eigh(np.einsum("nki,nkj->nij", patch, patch))
    return np.ascontiguousarray(vectors[:, :, 0])


def icp(
    source: Xyz,
    target: Target,
    start: Motion,
    iterations: int = 20,
    trim: float = 0.8,
    radius: tuple[float, float] = (1.0, 0.3),
    plane: bool = True,
    turn: bool = True,
    inlier_radius: float = 0.3,
) -> Fit:
    """Align ``source`` [n, 3] to ``target``, from ``start``.

    Args:
        iterations: at most; it stops below 1 mm and 1 mrad at the smallest radius.
        trim: share of the nearest pairs kept.
        radius: largest pair distance in the first and the last iterations, metres; it shrinks by a fifth each time.
        plane: point-to-plane by a 4x4 solve (normals of the denser side), else point-to-point; either is held at the
            start where nothing else holds it.
        turn: False holds the yaw of ``start``.
        inlier_radius: for the share of inliers.
    """
    motion, limit = start, radius[0]
    centre = source.mean(axis=0, keepdims=True)
    from_target = len(target.xyz) >= len(source)
    own = normals(source, cKDTree(source)) if plane and not from_target else None
    rms = np.inf
    for _ in range(iterations):
        moved = motion.apply(source)
        rows, partners = _pairs(moved, target.tree, limit, trim)
        if len(rows) < 3:
            break
        a, b = moved[rows], target.xyz[partners]
        held = np.array([*(start.apply(centre) - motion.apply(centre))[0], start.yaw - motion.yaw])
        if plane:
            n = target.normals()[partners] if own is None else Motion(motion.yaw, np.zeros(3)).apply(own[rows])
            step, rms = _plane_step(a, b, n, held, np.array(PLANE_PRIOR), turn)
        else:
            step, rms = _point_step(a, b, held, np.array(POINT_PRIOR), turn)
        update = Motion(float(step[3]), step[:3])
        moved_by = np.linalg.norm(update.apply(a.mean(axis=0, keepdims=True)) - a.mean(axis=0, keepdims=True))
        motion = update.after(motion)
        if limit <= radius[1] and moved_by < 1e-3 and abs(update.yaw) < 1e-3:
            break
        limit = max(radius[1], 0.8 * limit)
    distance, _ = target.tree.query(motion.apply(source), distance_upper_bound=inlier_radius)
    return Fit(motion, float(rms), float(np.isfinite(distance).mean()))


def _pairs(moved: Xyz, tree: cKDTree, limit: float, trim: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of the source that have a partner within the radius, nearest ``trim`` of them, and the partners."""
    distance, partner = tree.query(moved, distance_upper_bound=limit)
    rows = np.flatnonzero(np.isfinite(distance))
    keep = int(np.ceil(trim * len(rows)))
    if 0 < keep < len(rows):
        rows = rows[np.argpartition(distance[rows], keep - 1)[:keep]]
    return rows, partner[rows]


@kernel
def _plane_step(
    a: Array,
    b: Array,
    n: Array,
    held: Array,
    prior: Array,
    turn: bool,
) -> tuple[Array, float]:
    """Motion (shift, yaw) that lowers ``sum (n . (b - R a - t))^2``, linearised, and the RMS residual before it.

    ``held`` [4] leads back to the start, ``prior`` [4] is how strongly.
    """
    count = len(a)
    cx, cy = a[:, 0].mean(), a[:, 1].mean()
    unknowns = 4 if turn else 3
    normal = np.zeros((unknowns, unknowns))
    right = np.zeros(unknowns)
    row = np.empty(4)
    total = 0.0
    for i in range(count):
        row[0], row[1], row[2] = n[i, 0], n[i, 1], n[i, 2]
        row[3] = n[i, 1] * (a[i, 0] - cx) - n[i, 0] * (a[i, 1] - cy)
        residual = n[i, 0] * (b[i, 0] - a[i, 0]) + n[i, 1] * (b[i, 1] - a[i, 1]) + n[i, 2] * (b[i, 2] - a[i, 2])
        total += residual * residual
        for j in range(unknowns):
            right[j] += row[j] * residual
            for k in range(unknowns):
                normal[j, k] += row[j] * row[k]
    for j in range(unknowns):
        normal[j, j] += prior[j] * count
        right[j] += prior[j] * count * held[j]
    solved = np.linalg.solve(normal, right)
    yaw = solved[3] if turn else 0.0
    c, s = np.cos(yaw), np.sin(yaw)
    step = np.empty(4)
    # solved about the mean of the pairs; given about the origin
    step[0] = solved[0] + cx - (c * cx - s * cy)
    step[1] = solved[1] + cy - (s * cx + c * cy)
    step[2] = solved[2]
    step[3] = yaw
    return step, np.sqrt(total / count)


@kernel
def _point_step(a: Array, b: Array, held: Array, prior: Array, turn: bool) -> tuple[Array, float]:
    """Motion (shift, yaw) that lowers ``sum |b - R a - t|^2``, centred in yaw, and the RMS distance before it.

    ``held`` [4] leads back to the start, ``prior`` [4] is how strongly; without it this is the closed form.
    """
    count = len(a)
    ma = np.array([a[:, 0].mean(), a[:, 1].mean(), a[:, 2].mean()])
    mb = np.array([b[:, 0].mean(), b[:, 1].mean(), b[:, 2].mean()])
    cross, dot, total = 0.0, 0.0, 0.0
    for i in range(count):
        ax, ay = a[i, 0] - ma[0], a[i, 1] - ma[1]
        bx, by = b[i, 0] - mb[0], b[i, 1] - mb[1]
        cross += ax * by - ay * bx
        dot += ax * bx + ay * by
        total += (a[i, 0] - b[i, 0]) ** 2 + (a[i, 1] - b[i, 1]) ** 2 + (a[i, 2] - b[i, 2]) ** 2
    weight = prior[3] * count
    yaw = np.arctan2(cross + weight * np.sin(held[3]), dot + weight * np.cos(held[3])) if turn else 0.0
    c, s = np.cos(yaw), np.sin(yaw)
    moved = np.empty(3)
    for j in range(3):
        moved[j] = ma[j] + (mb[j] - ma[j] + prior[j] * held[j]) / (1.0 + prior[j])
    step = np.empty(4)
    step[0] = moved[0] - (c * ma[0] - s * ma[1])
    step[1] = moved[1] - (s * ma[0] + c * ma[1])
    step[2] = moved[2] - ma[2]
    step[3] = yaw
    return step, np.sqrt(total / count)
