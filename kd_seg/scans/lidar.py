"""The LiDAR that recorded scans, and its intensities brought to 0-1, the range that networks are trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from kd_seg.scans.arrays import Points

IntensityRange = Literal["unit", "byte", "uint16"]
INTENSITY_MAX: dict[str, float] = {"unit": 1.0, "byte": 255.0, "uint16": 65535.0}
"""Largest intensity of each range."""


@dataclass(frozen=True)
class Sensor:
    """The LiDAR whose scans a network was trained on.

    Attributes:
        intensity_range: of its data before any normalisation: unit 0-1, byte 0-255, uint16 0-65535.
        sensor_height_m: above the ground.
        range_m: farthest return. fov_up_deg, fov_down_deg: vertical field of view.
    """

    intensity_range: IntensityRange = "unit"
    sensor_height_m: float = 1.73
    range_m: float = 80.8
    fov_up_deg: float = 3.0
    fov_down_deg: float = -25.0


def to_unit(points: Points, given: str) -> Points:
    """Points [N, 4] with intensities brought from the range ``given`` to 0-1 and clipped; the argument stays."""
    unit = points.copy()
    np.clip(points[:, 3] * np.float32(1.0 / INTENSITY_MAX[given]), 0.0, 1.0, out=unit[:, 3])
    return unit
