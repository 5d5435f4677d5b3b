"""Aligning a moving instance of one scan to the present scan: ICP with gates, falling back in steps (methods 1.4)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from kd_seg.instances.icp import Fit, Motion, Target, Xyz, icp
from kd_seg.instances.settings import RegistrationSettings


class Method(IntEnum):
    """How an appearance was aligned, best first; DROPPED is not fused."""

    ICP = 0
    TRANSLATION = 1
    SHIFT = 2
    EGO = 3
    DROPPED = 4


@dataclass(frozen=True)
class Limits:
    """What a class allows.

    Attributes:
        speed: largest speed, m/s.
        extent: largest xy diagonal of a fused object, metres.
    """

    speed: float
    extent: float


@dataclass(frozen=True)
class Registration:
    """The motion that is applied after ego-motion, how it was found, and how good it is.

    Attributes:
        motion: source (after ego-motion) onto the present scan.
        method: see there.
        rms: trimmed RMS residual in metres (NaN without ICP).
        inliers: share of the source within 0.3 m of the target (NaN without ICP).
    """

    motion: Motion
    method: Method
    rms: float = float("nan")
    inliers: float = float("nan")


def speed_limits(names: tuple[str, ...], settings: RegistrationSettings) -> tuple[float, ...]:
    """Largest speed per logit column, from class names."""

    def limit(name: str) -> float:
        base = name.removeprefix("moving-")
        if base == "person":
            return settings.speed_person
        return settings.speed_cyclist if base in ("bicycle", "bicyclist") else settings.speed_vehicle

    return tuple(limit(name) for name in names)


def diagonal(xyz: Xyz) -> float:
    """Length of the xy diagonal of a bounding box of points [N, 3], metres."""
    return float(np.linalg.norm(np.ptp(xyz[:, :2], axis=0))) if len(xyz) else 0.0


def box_shift(source: Xyz, target: Xyz) -> Xyz:
    """Difference of the bounding boxes' centres in xy and of the 5th percentiles in z (not of means)."""
    shift = np.empty(3)
    for axis in range(2):
        shift[axis] = (
            target[:, axis].min() + target[:, axis].max() - source[:, axis].min() - source[:, axis].max()
        ) / 2
    shift[2] = np.percentile(target[:, 2], 5) - np.percentile(source[:, 2], 5)
    return shift


def register(
    source: Xyz, target: Target, starts: list[Xyz], gap: float, limits: Limits, settings: RegistrationSettings
) -> Registration:
    """Align ``source`` to ``target`` by the best method that passes its gates.

    Args:
        source: [n, 3] points of the instance in another scan, after ego-motion.
        target: its points in the present scan (or what is aligned already).
        starts: initial shifts, best guess first (the first one is what the fallback ``SHIFT`` applies).
        gap: seconds between the scans, above 0.
        limits: of the class and the object.
        settings: of the gates.
    """
    allowed = limits.speed * gap

    def fits(motion: Motion) -> bool:
        if motion.displacement(source) > allowed:
            return False
        return diagonal(np.concatenate([target.xyz, motion.apply(source)])) <= limits.extent

    enough = min(len(source), len(target.xyz)) >= settings.minimum
    thinned = _thinned(source, settings.source_points)
    if enough:
        turn = np.deg2rad(settings.degrees_per_scan) * gap / 0.1
        found = [_icp(thinned, target, Motion(0.0, start), settings, True) for start in starts]
        passing = [
            f
            for f in found
            if f.rms <= settings.rms and f.inliers >= settings.inliers and abs(f.motion.yaw) <= turn and fits(f.motion)
        ]
        if passing:
            best = min(passing, key=lambda f: (round(-f.inliers, 2), f.rms))
            return Registration(best.motion, Method.ICP, best.rms, best.inliers)
    if min(len(source), len(target.xyz)) >= 5:
        for start in starts:
            fit = _icp(thinned, target, Motion(0.0, start), settings, False)
            if np.isfinite(fit.rms) and fits(fit.motion):
                return Registration(fit.motion, Method.TRANSLATION, fit.rms, fit.inliers)
    for start in starts[:1]:
        if fits(Motion(0.0, start)):
            return Registration(Motion(0.0, start), Method.SHIFT)
    if fits(Motion.none()):
        return Registration(Motion.none(), Method.EGO)
    return Registration(Motion.none(), Method.DROPPED)


def _icp(source: Xyz, target: Target, start: Motion, settings: RegistrationSettings, turn: bool) -> Fit:
    plane = min(len(source), len(target.xyz)) >= settings.plane_points
    return icp(
        source,
        target,
        start,
        settings.iterations,
        settings.trim,
        settings.radius,
        plane,
        turn,
        settings.inlier_radius,
    )


def _thinned(xyz: Xyz, count: int) -> Xyz:
    """Every n-th point, so that at most ``count`` stay; in file order that spreads over rings."""
    step = -(-len(xyz) // count)
    return np.ascontiguousarray(xyz[::step], dtype=np.float64)
