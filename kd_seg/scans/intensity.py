"""Whether intensities are in the range that they are declared to have."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kd_seg.scans.arrays import Points

FEW_POINTS = 1000
"""Points below which a small largest value is no evidence."""


def fitting_range(p99: float, declared: str, points: int) -> str | None:
    """The range (unit, byte, uint16) that a 99th percentile of ``points`` intensities fits better, or None."""
    if declared == "unit" and p99 > 1.5:
        return "byte" if p99 <= 300 else "uint16"
    if declared == "byte" and p99 > 300:
        return "uint16"
    if declared == "byte" and p99 <= 1.0 and points >= FEW_POINTS:
        return "unit"
    if declared == "uint16" and p99 <= 255:
        return "byte" if p99 > 1.5 else "unit"
    return None


def intensity_faults(clouds: Iterable[Points], declared: str, setting: str) -> list[str]:
    """What the intensities of the first scans of a data set hold against what is declared.

    Args:
        clouds: points [N, 4] of a few scans as the files have them.
        declared: unit, byte or uint16.
        setting: where the range is declared, for the message.
    """
    values = np.concatenate([points[np.isfinite(points[:, 3]), 3] for points in clouds] or [np.zeros(0, np.float32)])
    if len(values) == 0:
        return []
    p99 = float(np.percentile(values, 99))
    better = fitting_range(p99, declared, len(values))
    found = []
    if better is not None:
        found.append(
            f"intensity reaches {p99:.4g} (99th percentile of the first scans) but is taken as {declared}; "
            f"set {setting} to {better}, or convert the files"
        )
    if values.min() == values.max() and len(values) > 1:
        found.append(f"all intensities of the first scans are {values[0]:g}; check that the files hold them")
    return found
