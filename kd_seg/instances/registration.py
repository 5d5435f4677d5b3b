"""Aligning a moving instance of one scan to the present scan: ICP with gates, falling back in steps.

The steps, gates and their evidence: docs/multi_to_single.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from scipy.spatial import cKDTree

from kd_seg.instances.icp import Fit, Motion, Target, Xyz, icp
from kd_seg.instances.settings import RegistrationSettings

FEWEST = 5
"""Points that a side needs for an alignment by translation alone."""


class Method(IntEnum):
    """How an appearance was aligned, best first; DROPPED is not fused."""

    ICP = 0
    TRANSLATION = 1
    SHIFT = 2
    EGO = 3
    DROPPED = 4


@dataclass(frozen=True)
class RegistrationLimits:
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
    """Difference of the bounding boxes' centres in xy (not of means, which move with the visible part); 0 in z.

    After ego-motion the height is right already: an object stays on its road. The 5th percentile of z, another choice,
    jumps with the rings that happen to meet the object (simulated persons: p95 49 cm instead of 16 cm).
    """
    shift = np.zeros(3)
    for axis in range(2):
        shift[axis] = (
            target[:, axis].min() + target[:, axis].max() - source[:, axis].min() - source[:, axis].max()
        ) / 2
    return shift


def overlap(source: Xyz, target: Target) -> float:
    """How much of each side lies on the other, 0-1: the mean of both shares within ``max(0.3 m, spacing)``.

    Both ways, so that a source hidden inside a larger target is no perfect fit; and at the target's own spacing, as
    two scans of a distant object share no rings: a fixed radius would prefer motions that bring the rings together.
    """
    count = len(target.xyz)
    spacing = np.quantile(target.tree.query(target.xyz, k=min(4, count))[0][:, -1], 0.8) if count >= 2 else 0.0
    radius = max(0.3, float(spacing))
    there, _ = target.tree.query(source, distance_upper_bound=radius)
    back, _ = cKDTree(source).query(target.xyz[:: -(-count // 600)], distance_upper_bound=radius)
    return float(np.isfinite(there).mean() + np.isfinite(back).mean()) / 2.0


def register(
    source: Xyz,
    target: Target,
    starts: list[Xyz],
    gap: float,
    limits: RegistrationLimits,
    settings: RegistrationSettings,
) -> Registration:
    """Align ``source`` to ``target`` by the best method that passes its gates.

    Args:
        source: [n, 3] points of the instance in another scan, after ego-motion.
        target: its points in the present scan (or what is aligned already).
        starts: initial shifts, best guess first (the first one is what the fallback ``SHIFT`` applies); ICP runs from
            each, and the result with the largest ``overlap`` is taken.
        gap: seconds between the scans, above 0.
        limits: of the class and the object.
        settings: of the gates.
    """
    allowed = limits.speed * gap

    def fits(motion: Motion) -> bool:
        if motion.displacement(source) > allowed:
            return False
        return diagonal(np.concatenate([target.xyz, motion.apply(source)])) <= limits.extent

    fewest = min(len(source), len(target.xyz))
    thinned = _thinned(source, settings.source_points)
    turn = np.deg2rad(settings.degrees_per_scan) * gap / 0.1

    def good(fit: Fit) -> bool:
        near = fit.rms <= settings.rms and fit.inliers >= settings.inliers
        return near and abs(fit.motion.yaw) <= turn and fits(fit.motion)

    if fewest >= settings.minimum:
        best = _best(thinned, target, starts, settings, True, good)
        if best is not None:
            return Registration(best.motion, Method.ICP, best.rms, best.inliers)
    if fewest >= FEWEST:
        best = _best(thinned, target, starts, settings, False, lambda fit: np.isfinite(fit.rms) and fits(fit.motion))
        if best is not None:
            return Registration(best.motion, Method.TRANSLATION, best.rms, best.inliers)
    if fits(Motion(0.0, starts[0])):
        return Registration(Motion(0.0, starts[0]), Method.SHIFT)
    if fits(Motion.none()):
        return Registration(Motion.none(), Method.EGO)
    return Registration(Motion.none(), Method.DROPPED)


def _best(
    source: Xyz,
    target: Target,
    starts: list[Xyz],
    settings: RegistrationSettings,
    turn: bool,
    accept: Callable[[Fit], bool],
) -> Fit | None:
    """The accepted result with the largest overlap (to 1 %), then the smallest residual; None if none is accepted."""
    found = [_icp(source, target, Motion(0.0, start), settings, turn) for start in starts]
    found = [fit for fit in found if accept(fit)]
    if len(found) <= 1:
        return found[0] if found else None
    return min(found, key=lambda fit: (-round(overlap(fit.motion.apply(source), target), 2), fit.rms))


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
