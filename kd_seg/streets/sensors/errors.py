"""What the calibration of one particular sensor leaves over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_seg.streets.sensors.settings import Lidar

LARGEST_BIAS = 0.08
"""Metres; a beam that is further out would be sent back to its maker."""


@dataclass(frozen=True)
class BeamErrors:
    """Errors of one sensor.

    Attributes:
        reach: metres [B] float32 that each beam measures too far.
        lift: radians [B] float32 by which each beam truly lies above the elevation it is reported at.
        contrast: [B] float32, see IntensityResponse.contrast.
        noise: metres (1 sigma) of a single range.
    """

    reach: npt.NDArray[np.float32]
    lift: npt.NDArray[np.float32]
    contrast: npt.NDArray[np.float32]
    noise: float


def draw_errors(sensor: Lidar, rng: np.random.Generator) -> BeamErrors:
    """A sensor of this type.

    The HDL-64E on KITTI's car: its lasers differ by about 3 cm in range, alike in all its sequences; on a road 4 to 8 m
    away its rings lie 6 mm (r.m.s.) off the plane through a patch of 0.75 m, at 8 to 14 m 3.5 mm; a single range
    scatters by 0.76 cm.
    """
    beams, ranging, intensity = sensor.pattern.beams, sensor.ranging, sensor.intensity
    reach = np.clip(rng.normal(0.0, ranging.beam_bias_m, beams), -LARGEST_BIAS, LARGEST_BIAS)
    lift = np.radians(rng.normal(0.0, ranging.beam_tilt_deg, beams))
    contrast = np.zeros(beams) if intensity.contrast is None else np.array(intensity.contrast)
    contrast = contrast * rng.uniform(0.7, 1.3) + rng.normal(0.0, intensity.contrast_spread, beams)
    return BeamErrors(
        reach.astype(np.float32),
        lift.astype(np.float32),
        contrast.astype(np.float32),
        float(rng.uniform(*ranging.noise_m)),
    )
