"""Figures of a sensor from its clouds: intensities, field of view, rings, rate, ground and own vehicle."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_seg.drives.calibration.ground import GroundPlane, find_ground
from kd_seg.drives.calibration.own_vehicle import OwnVehicle, find_own_vehicle
from kd_seg.drives.recording import RecordedCloud
from kd_seg.scans import Points

REFERENCE_MEDIAN = 0.28
"""Median remission of SemanticKITTI's HDL-64E scans, which the shipped students know."""

SAMPLE = 20_000
MOVED_M = 0.3
"""How far the nearest returns of distant things shift between clouds of a moving vehicle, at least."""


@dataclass(frozen=True)
class Intensity:
    """Intensities as the sensor sends them.

    Attributes:
        quantiles: 1, 25, 50, 75, 99 % and the maximum.
        range: unit, byte or uint16, by the 99th percentile.
        whole: all values are whole numbers.
        constant: all values are equal.
        gain: brings the median of the values, once they are 0-1, to that of the data the student knows.
    """

    quantiles: tuple[float, ...]
    range: str
    whole: bool
    constant: bool
    gain: float


@dataclass(frozen=True)
class SensorFigures:
    """What many clouds tell of their sensor.

    Attributes:
        clouds: that were read. rate_hz: of the recording, 0 if unknown.
        points: median returns per cloud. missing: median share of rows without a return.
        nearest_m, farthest_m: 0.1 and 99.9 % of the ranges.
        up_deg, down_deg: elevations between which 99 % of the returns lie, against the sensor's own axes.
        azimuth_deg: degrees of azimuth that hold returns.
        rings: number of beams, by the ring field if there is one, else by peaks of elevation; 0 = none found.
        sweep_s: time that one cloud spans, 0 without per-point times.
        moving: the clouds differ as those of a moving vehicle do.
    """

    clouds: int
    rate_hz: float
    points: int
    missing: float
    nearest_m: float
    farthest_m: float
    up_deg: float
    down_deg: float
    azimuth_deg: float
    rings: int
    sweep_s: float
    moving: bool
    intensity: Intensity
    ground: GroundPlane | None
    own_vehicle: OwnVehicle | None


def measure(frames: list[RecordedCloud], reference_median: float = REFERENCE_MEDIAN) -> SensorFigures:
    """Figures of clouds (at least one, none empty), in order of time."""
    clouds = [frame.points for frame in frames]
    sample = np.concatenate([_sampled(points) for points in clouds])
    distance = np.linalg.norm(sample[:, :3], axis=1)
    elevation = np.degrees(np.arcsin(np.clip(sample[:, 2] / np.maximum(distance, 1e-6), -1, 1)))
    azimuth = np.degrees(np.arctan2(sample[:, 1], sample[:, 0]))
    ground = find_ground(clouds)
    moving = is_moving(clouds)
    sweeps = [float(np.ptp(frame.times)) for frame in frames if frame.times is not None and len(frame.times)]
    return SensorFigures(
        clouds=len(frames),
        rate_hz=_rate(frames),
        points=int(np.median([len(points) for points in clouds])),
        missing=float(np.median([1.0 - len(frame.points) / max(frame.rows, 1) for frame in frames])),
        nearest_m=float(np.percentile(distance, 0.1)),
        farthest_m=float(np.percentile(distance, 99.9)),
        up_deg=float(np.percentile(elevation, 99.5)),
        down_deg=float(np.percentile(elevation, 0.5)),
        azimuth_deg=float((np.histogram(azimuth, 360, (-180, 180))[0] > len(azimuth) / 36_000).sum()),
        rings=count_rings(frames),
        sweep_s=float(np.median(sweeps)) if sweeps else 0.0,
        moving=moving,
        intensity=measure_intensity(sample[:, 3], reference_median),
        ground=ground,
        own_vehicle=find_own_vehicle(clouds, ground.height_m if ground else None) if moving else None,
    )


def measure_intensity(values: npt.NDArray[np.float32], reference_median: float) -> Intensity:
    """Figures of intensities [N]; the gain is 1 where they are constant, and between 0.05 and 50."""
    quantiles = tuple(float(v) for v in np.percentile(values, [1, 25, 50, 75, 99, 100]))
    high = quantiles[4]
    name = "unit" if high <= 1.5 else "byte" if high <= 300 else "uint16"
    scale = {"unit": 1.0, "byte": 255.0, "uint16": 65535.0}[name]
    constant = bool(values.min() == values.max())
    positive = values[values > 0]
    middle = float(np.median(positive)) / scale if len(positive) else 0.0
    gain = 1.0 if constant or middle <= 0 else float(np.clip(reference_median / middle, 0.05, 50.0))
    return Intensity(quantiles, name, bool((values == np.round(values)).all()), constant, gain)


def is_moving(clouds: list[Points]) -> bool:
    """Whether clouds differ as those of a moving vehicle: in most directions the range of far returns changes.

    Compares the first, middle and last cloud's median range per 2 degrees of azimuth, beyond 5 m.
    """
    if len(clouds) < 2:
        return False
    profiles = []
    for points in (clouds[0], clouds[len(clouds) // 2], clouds[-1]):
        distance = np.hypot(points[:, 0], points[:, 1])
        far = distance > 5.0
        cell = ((np.arctan2(points[far, 1], points[far, 0]) + np.pi) / (2 * np.pi) * 180).astype(np.int64) % 180
        order = np.argsort(cell, kind="stable")
        parts = np.split(distance[far][order], np.searchsorted(cell[order], np.arange(1, 180)))
        profiles.append(np.array([np.median(part) if len(part) else np.nan for part in parts]))
    change = np.nanmedian([np.nanmedian(np.abs(a - b)) for a, b in itertools.pairwise(profiles)])
    return bool(change > MOVED_M)


def count_rings(frames: list[RecordedCloud]) -> int:
    """Beams of the sensor: different values of the ring field, else peaks in the histogram of elevation.

    Peaks are counted on one cloud, at 0.05 degrees; fewer than four, or more than 256, count as none.
    """
    fields = [frame.rings for frame in frames if frame.rings is not None and len(frame.rings)]
    if fields:
        return len(np.unique(np.concatenate(fields)))
    points = frames[len(frames) // 2].points
    distance = np.linalg.norm(points[:, :3], axis=1)
    elevation = np.degrees(np.arcsin(np.clip(points[:, 2] / np.maximum(distance, 1e-6), -1, 1)))
    counts, _ = np.histogram(elevation, np.arange(-90.0, 90.05, 0.05))
    padded = np.pad(counts, 1)
    peak = (counts >= padded[:-2]) & (counts > padded[2:]) & (counts > 0.3 * counts.max())
    found = int(peak.sum())
    return found if 4 <= found <= 256 else 0


def _sampled(points: Points) -> Points:
    return points[:: max(1, len(points) // SAMPLE)]


def _rate(frames: list[RecordedCloud]) -> float:
    if len(frames) < 2:
        return 0.0
    steps = np.diff([frame.stamp for frame in frames]) / np.maximum(np.diff([frame.number for frame in frames]), 1)
    middle = float(np.median(steps))
    return 1.0 / middle if middle > 0 else 0.0
