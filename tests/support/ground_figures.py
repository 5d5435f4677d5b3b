"""What a sensor shows of flat ground, measured on labelled scans: remission, scatter along and across rings, width."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_seg.scans import Scan
from kd_seg.scans.statistics import rings_of

ROAD, SIDEWALK = (40, 60), (48,)
WINDOW = 9
PATCH = 0.75


@dataclass(frozen=True)
class GroundFigures:
    """Means over the scans of a sequence; nan where there is too little of the class.

    Attributes:
        remission: mean at 4 to 14 m from the sensor.
        scatter: metres; median scatter of the range about a parabola through WINDOW neighbours of a ring, 8 to 14 m.
        unlevel: metres; median r.m.s. height of rings off the plane through a patch, 4 to 8 m.
    """

    remission: float
    scatter: float
    unlevel: float


def ground_figures(scans: list[Scan], raw: tuple[int, ...]) -> GroundFigures:
    """Figures of the classes ``raw`` over the scans of one sequence."""
    values: tuple[list[float], list[float], list[float]] = ([], [], [])
    for scan in scans:
        assert scan.labels is not None
        points, ring = scan.points.astype(np.float64), rings_of(scan.points)
        mine, flat = np.isin(scan.labels & 0xFFFF, raw), np.hypot(*scan.points[:, :2].T)
        near = mine & (flat > 4) & (flat < 14)
        values[0].extend(points[near, 3])
        values[1].extend(_scatter(points, ring, mine & (flat > 8) & (flat < 14)))
        values[2].extend(_unlevel(points, ring, mine & (flat > 4) & (flat < 8)))
    mean = float(np.mean(values[0])) if len(values[0]) > 500 else float("nan")
    return GroundFigures(mean, *(float(np.median(v)) if len(v) > 15 else float("nan") for v in values[1:]))


def _scatter(
    points: npt.NDArray[np.float64], ring: npt.NDArray[np.int16], wanted: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    count = len(points) - WINDOW + 1
    first = np.arange(count)
    run = np.concatenate([[0], np.cumsum(wanted)])
    gap = np.linalg.norm(np.diff(points[:, :3], axis=0), axis=1) > 0.35
    broken = np.concatenate([[0], np.cumsum(gap)])
    good = (run[WINDOW:] - run[:-WINDOW] == WINDOW) & (ring[:count] == ring[WINDOW - 1 :])
    good &= broken[WINDOW - 1 :] == broken[:count]
    place = np.vander(np.arange(WINDOW) - WINDOW // 2, 3).astype(np.float64)
    rest = np.eye(WINDOW) - place @ np.linalg.pinv(place)
    window = np.linalg.norm(points[:, :3], axis=1)[first[good][:, None] + np.arange(WINDOW)]
    return np.sqrt(np.sum((window @ rest) ** 2, axis=1) / (WINDOW - 3))


def _unlevel(
    points: npt.NDArray[np.float64], ring: npt.NDArray[np.int16], wanted: npt.NDArray[np.bool_]
) -> list[float]:
    rows = np.flatnonzero(wanted)
    cell = np.floor(points[rows, :2] / PATCH).astype(np.int64) @ [4096, 1]
    order = np.argsort(cell, kind="stable")
    values = []
    for part in np.split(rows[order], np.flatnonzero(np.diff(cell[order])) + 1):
        rings, which, counts = np.unique(ring[part], return_inverse=True, return_counts=True)
        if len(part) < 10 or len(rings) < 3:
            continue
        flat = np.column_stack([points[part, :2] - points[part, :2].mean(axis=0), np.ones(len(part))])
        rest = points[part, 2] - flat @ np.linalg.lstsq(flat, points[part, 2], rcond=None)[0]
        off = np.bincount(which, rest) / counts
        values.append(float(np.sqrt(np.average(off**2, weights=counts))))
    return values


def road_width(scan: Scan) -> float:
    """Metres across the road within 8 m ahead and behind, through gaps of up to 2.5 m where something hides it."""
    assert scan.labels is not None
    x, y = scan.points[:, :2].T
    beside = (np.abs(x) < 8) & (np.hypot(x, y) > 3)
    strip, road = np.floor(y[beside] / 0.5).astype(int), np.isin(scan.labels[beside] & 0xFFFF, ROAD)
    width = 0.0
    for side in (1, -1):
        last = 3.0
        for step in range(4, 60):
            here = strip == (step if side > 0 else -step - 1)
            if here.sum() < 3:
                continue
            if road[here].mean() > 0.5:
                last = (step + 1) * 0.5
            elif last + 2.5 < step * 0.5:
                break
        width += last
    return width
