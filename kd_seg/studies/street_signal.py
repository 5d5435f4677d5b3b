"""Percentiles of the simulator's signal, by which ``kd-seg calibrate --sensor-out`` measures a sensor's intensities.

``python -m kd_seg.studies.street_signal ROOT`` prints them for streets of a sensor that reports the signal itself:
``intensity: {steps: 65535, contrast_spread: 0, fade: {least: 1, lost_per_m: 0}}``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from kd_seg.drives.calibration.ground import find_ground
from kd_seg.drives.calibration.intensity_response import LEVELS, populations
from kd_seg.scans import SemanticKitti


def street_signal(root: Path) -> tuple[list[float], list[float], float]:
    """Percentiles LEVELS of ground and of objects nearby, median of far objects, over all scans of a data root."""
    data = SemanticKitti(root)
    parts = []
    for number in range(len(data)):
        cloud = data[number].points
        ground = find_ground([cloud])
        if ground is not None:
            parts.append(populations([cloud], ground, 1.0))
    near, objects, far = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("ground", "objects", "far")
    )
    return np.percentile(near, LEVELS).tolist(), np.percentile(objects, LEVELS).tolist(), float(np.median(far))


if __name__ == "__main__":
    for row in street_signal(Path(sys.argv[1])):
        print(np.round(row, 3).tolist())
