"""Whether a drive and streets are of one sensor, as their points are taken: ground, intensities, points per scan."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kd_seg.adaptation.dataset import undecoded
from kd_seg.drives.calibration.ground import find_ground
from kd_seg.scans import Points, Scan, SemanticKitti
from kd_seg.scans.intensity import fitting_range
from kd_seg.serving.sensor_input import SensorSettings, prepare

SAMPLED = 10
"""Scans of each root that are compared."""

LARGEST_STEP_M = 0.2
LARGEST_RATIO = 1.7
"""How far medians of intensities and points per scan may lie apart. Other places explain a factor of 1.5."""


@dataclass(frozen=True)
class Taken:
    """What scans are like once they are prepared: ground_z_m (NaN without ground), medians of positive intensities and
    of points per scan.
    """

    ground_z_m: float
    intensity: float
    points: float


def as_stored(sensor: SensorSettings, data: SemanticKitti) -> SensorSettings:
    """The sensor's settings for points as the files of a data root hold them.

    ``input.intensity_range`` is what the driver sends; kd-seg convert stores 0-1. So it counts for files whose
    intensities exceed that alone.
    """
    values = np.concatenate([np.zeros(0, np.float32), *(scan.file_points[:, 3] for scan in _sample(data))])
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return sensor
    better = fitting_range(float(np.percentile(values, 99)), sensor.intensity_range, len(values))
    return replace(sensor, intensity_range="unit") if better == "unit" else sensor


def lacks_poses(drive: SemanticKitti) -> list[str]:
    """One sentence where sequences of the drive have no poses, so that their scans cannot vote or be fused."""
    names = [name for name, sequence in drive.sequences.items() if sequence.poses is None]
    if not names:
        return []
    return [
        f"{drive.root} has no poses in {', '.join(names)}: scans there are labelled one by one, without votes over "
        "time; give kd-seg convert the drive's poses (--odometry, --tf, --poses or --kiss-icp)."
    ]


def misfits(drive: SemanticKitti, streets: SemanticKitti, sensor: SensorSettings) -> list[str]:
    """What tells that the streets are those of another sensor, one sentence each.

    Args:
        sensor: how the sensor's points are taken.
    """
    if len(drive) == 0 or len(streets) == 0:
        return []
    ours = _taken(drive, as_stored(sensor, drive))
    theirs = _taken(streets, replace(sensor, intensity_range="unit", own_vehicle=SensorSettings.own_vehicle))
    fix = "simulate them with the file of kd-seg calibrate --sensor-out"
    found = []
    step = theirs.ground_z_m - ours.ground_z_m
    if abs(step) > LARGEST_STEP_M:
        side = "higher" if step > 0 else "lower"
        found.append(f"the ground of the streets lies {abs(step):.2f} m {side} than that of the drive; {fix}.")
    pairs = (("intensity", ours.intensity, theirs.intensity), ("points per scan", ours.points, theirs.points))
    for name, a, b in pairs:
        if min(a, b) > 0 and max(a / b, b / a) > LARGEST_RATIO:
            found.append(f"the median {name} is {b:.3g} in the streets and {a:.3g} in the drive; {fix}.")
    return found


def _taken(data: SemanticKitti, sensor: SensorSettings) -> Taken:
    clouds = [_valid(prepare(undecoded(scan.file_points), sensor)) for scan in _sample(data)]
    ground = find_ground(clouds)
    intensity = np.concatenate([points[:, 3] for points in clouds])
    positive = intensity[intensity > 0]
    return Taken(
        -ground.height_m if ground else float("nan"),
        float(np.median(positive)) if len(positive) else 0.0,
        float(np.median([len(points) for points in clouds])),
    )


def _valid(points: Points) -> Points:
    kept: Points = points[np.isfinite(points[:, :3]).all(axis=1)]
    return kept


def _sample(data: SemanticKitti) -> list[Scan]:
    keys = data.keys()
    step = max(1, len(keys) // SAMPLED)
    return [data.scan(*key) for key in keys[::step][:SAMPLED]]
