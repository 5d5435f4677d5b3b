"""The ground below a sensor: height, roll and pitch, from many clouds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_seg.scans import Points

RANGE_M = (3.0, 20.0)
SECTORS, RINGS = 72, 9
TOLERANCE_M = 0.08
TRIALS = 200
STEEPEST = 0.35
"""Sine of the largest tilt believed: 20 degrees."""


@dataclass(frozen=True)
class GroundPlane:
    """The ground plane in the sensor's frame, as the median over clouds.

    Attributes:
        height_m: of the sensor above it.
        roll_deg, pitch_deg: of the sensor against it; right side down and nose down are positive.
        spread_m, spread_deg: median deviation from cloud to cloud.
        share: of the lowest returns that lie on the plane, median.
        clouds: that showed a plane.
    """

    height_m: float
    roll_deg: float
    pitch_deg: float
    spread_m: float
    spread_deg: float
    share: float
    clouds: int


def lowest(points: Points) -> npt.NDArray[np.float64]:
    """The lowest return [M, 3] of each cell of a polar grid of 5 degrees and 3 to 20 m: mostly ground.

    "Lowest" is the 10th percentile of z, so that single returns below the ground (mirrors) do not count.
    """
    xyz = points[:, :3].astype(np.float64)
    distance = np.hypot(xyz[:, 0], xyz[:, 1])
    near = xyz[(distance >= RANGE_M[0]) & (distance < RANGE_M[1])]
    if len(near) == 0:
        return near
    distance = np.hypot(near[:, 0], near[:, 1])
    sector = ((np.arctan2(near[:, 1], near[:, 0]) + np.pi) / (2 * np.pi) * SECTORS).astype(np.int64) % SECTORS
    ring = ((distance - RANGE_M[0]) / (RANGE_M[1] - RANGE_M[0]) * RINGS).astype(np.int64)
    cell = sector * RINGS + ring
    order = np.lexsort((near[:, 2], cell))
    starts = np.flatnonzero(np.concatenate([[True], np.diff(cell[order]) > 0]))
    counts = np.diff(np.append(starts, len(order)))
    result: npt.NDArray[np.float64] = near[order[starts + counts // 10]]
    return result


def fit_plane(
    points: npt.NDArray[np.float64], rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], float] | None:
    """The plane that most points [M, 3] lie on: (unit normal up, distance) [4] and the share of points within 8 cm.

    RANSAC (M. Fischler, R. Bolles, CACM 1981) with a least-squares fit at the end; the plane lies below the sensor and
    is tilted by 20 degrees at most. None where there is none.
    """
    if len(points) < 12:
        return None
    best = np.zeros(len(points), bool)
    for _ in range(TRIALS):
        a, b, c = points[rng.choice(len(points), 3, replace=False)]
        normal = np.cross(b - a, c - a)
        length = float(np.linalg.norm(normal))
        if length < 1e-6:
            continue
        normal = normal / length * (1.0 if normal[2] > 0 else -1.0)
        offset = -float(normal @ a)
        if offset <= 0 or float(np.hypot(*normal[:2])) > STEEPEST:
            continue
        inside = np.abs(points @ normal + offset) < TOLERANCE_M
        if inside.sum() > best.sum():
            best = inside
    if best.sum() < 12:
        return None
    centre = points[best].mean(axis=0)
    normal = np.linalg.svd(points[best] - centre, full_matrices=False)[2][2]
    normal = normal if normal[2] > 0 else -normal
    return np.append(normal, -normal @ centre), float(best.mean())


def tilt(normal: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Roll and pitch, in degrees, of a sensor that sees the ground's unit normal [3] so."""
    roll = np.arctan2(normal[1], normal[2])
    pitch = np.arctan2(-normal[0], np.hypot(normal[1], normal[2]))
    return float(np.degrees(roll)), float(np.degrees(pitch))


def find_ground(clouds: list[Points], seed: int = 0) -> GroundPlane | None:
    """The ground of many clouds [N, 4] in the sensor's frame; None where fewer than half of them show one."""
    rng = np.random.default_rng(seed)
    rows = []
    for points in clouds:
        found = fit_plane(lowest(points), rng)
        if found is not None:
            plane, share = found
            rows.append((plane[3], *tilt(plane[:3]), share))
    if len(rows) < max(1, len(clouds) / 2):
        return None
    table = np.array(rows)
    middle = np.median(table, axis=0)
    spread = np.median(np.abs(table - middle), axis=0)
    return GroundPlane(
        float(middle[0]),
        float(middle[1]),
        float(middle[2]),
        float(spread[0]),
        float(max(spread[1:3])),
        float(middle[3]),
        len(rows),
    )
