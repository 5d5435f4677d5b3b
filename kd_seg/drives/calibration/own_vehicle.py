"""Returns from the vehicle that carries the sensor: what stays at one place while the world moves by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_seg.scans import Points

NEAR_M = 4.0
AZIMUTHS, ELEVATIONS = 180, 90
STEADY_M = 0.04
PRESENT = 0.9
"""Share of clouds in which a direction must return."""

LEAST_CLOUDS = 10
MARGIN_M = 0.1


@dataclass(frozen=True)
class OwnVehicle:
    """A box around steady near returns, in the sensor's frame.

    Attributes:
        lowest, highest: corners (x, y, z) in metres, a margin of 0.1 m included.
        share: of all returns that lie in it.
    """

    lowest: tuple[float, float, float]
    highest: tuple[float, float, float]
    share: float


def directions(points: Points) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Cell [K] of 2 degrees by 2 degrees, and range [K] in metres, of those of the points [N, 3+] within 4 m."""
    xyz = points[:, :3].astype(np.float64)
    distance = np.linalg.norm(xyz, axis=1)
    xyz, distance = xyz[distance < NEAR_M], distance[distance < NEAR_M]
    azimuth = ((np.arctan2(xyz[:, 1], xyz[:, 0]) + np.pi) / (2 * np.pi) * AZIMUTHS).astype(np.int64) % AZIMUTHS
    sine = np.divide(xyz[:, 2], distance, out=np.zeros_like(distance), where=distance > 0)
    elevation = np.minimum(
        ((np.arcsin(np.clip(sine, -1, 1)) / np.pi + 0.5) * ELEVATIONS).astype(np.int64), ELEVATIONS - 1
    )
    return azimuth * ELEVATIONS + elevation, distance


def find_own_vehicle(clouds: list[Points], ground_height_m: float | None) -> OwnVehicle | None:
    """The box of what every cloud sees at the same place, or None where nothing is steady.

    A standing vehicle sees the whole world steady: the caller must know that the clouds were taken on the move. Returns
    within 0.3 m of the ground are left out, as flat ground is steady too.
    """
    if len(clouds) < LEAST_CLOUDS:
        return None
    cells = AZIMUTHS * ELEVATIONS
    ranges = np.full((len(clouds), cells), np.nan)
    for row, points in enumerate(clouds):
        cell, distance = directions(points)
        order = np.argsort(-distance, kind="stable")
        ranges[row, cell[order]] = distance[order]  # the nearest return of a cell is written last
    present = np.isfinite(ranges).mean(axis=0) >= PRESENT
    if not present.any():
        return None
    seen = np.flatnonzero(present)
    middle = np.nanmedian(ranges[:, seen], axis=0)
    deviation = np.nanmedian(np.abs(ranges[:, seen] - middle), axis=0)
    steady = np.zeros(cells, bool)
    steady[seen[deviation < STEADY_M]] = True
    own, total = [], 0
    for points in clouds:
        cell, _ = directions(points)
        near = points[np.linalg.norm(points[:, :3], axis=1) < NEAR_M]
        kept = near[steady[cell], :3]
        if ground_height_m is not None:
            kept = kept[kept[:, 2] > -ground_height_m + 0.3]
        own.append(kept)
        total += len(points)
    found = np.concatenate(own)
    if len(found) < 5 * len(clouds):
        return None
    low, high = np.percentile(found, 0.5, axis=0) - MARGIN_M, np.percentile(found, 99.5, axis=0) + MARGIN_M
    inside = sum(int(((c[:, :3] >= low) & (c[:, :3] <= high)).all(axis=1).sum()) for c in clouds)
    corners = [tuple(round(float(v), 2) for v in corner) for corner in (low, high)]
    return OwnVehicle(corners[0], corners[1], inside / max(total, 1))  # type: ignore[arg-type]
