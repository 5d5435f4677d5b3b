"""How a sensor reports intensities, as the simulator's settings: by its returns from the ground and from the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from kd_seg.drives.calibration.ground import GroundPlane
from kd_seg.scans import Points
from kd_seg.serving.sensor_input import SensorSettings

LEVELS = tuple(range(5, 100, 10))
"""Percentiles that are compared."""

GROUND_SIGNAL = (0.19, 0.227, 0.249, 0.268, 0.285, 0.302, 0.321, 0.342, 0.37, 0.42)
OBJECT_SIGNAL = (0.224, 0.264, 0.296, 0.325, 0.353, 0.382, 0.413, 0.45, 0.498, 0.598)
FAR_SIGNAL = 0.357
"""LEVELS of the simulator's signal (0-1) on ground and on what stands on it, nearby, and the median of the latter far
away: 40 streets, before any response of a sensor. ``python -m kd_seg.studies.street_signal`` prints them.
"""

NEAR_M, FAR_M = (4.0, 12.0), (25.0, 45.0)
FAR_FACTOR = 3.4
"""Mean of far ranges over the 10 m from which an uncompensated signal falls."""

DARKEST_GROUND = 5
"""Percentile of the ground: darker things nearby do not count. How many dark cars are parked there is no matter of the
sensor, and no response changes which returns are darker.
"""

LEAST_POINTS = 500
GAMMAS = np.geomspace(0.3, 5.0, 120)
LARGEST_POWER = 2.0


@dataclass(frozen=True)
class Response:
    """A sensor shows gain * signal^gamma + offset, in whole steps; power as in the simulator's ``fade``.

    Attributes:
        error: mean relative error of the percentiles that the fit leaves.
    """

    gamma: float
    gain: float
    offset: float
    steps: int
    power: float
    error: float


@dataclass(frozen=True)
class Populations:
    """Intensities 0-1 of ground, of what stands on it and is no darker, nearby, and of what stands on it far away."""

    ground: npt.NDArray[np.float32]
    objects: npt.NDArray[np.float32]
    far: npt.NDArray[np.float32]


def populations(clouds: list[Points], ground: GroundPlane, scale: float) -> Populations:
    """The three of clouds [N, 4] whose intensities are divided by ``scale``."""
    rotation = SensorSettings(roll_deg=ground.roll_deg, pitch_deg=ground.pitch_deg).levelling()
    up = np.array([0.0, 0.0, 1.0]) if rotation is None else rotation[2]
    parts: tuple[list[npt.NDArray[np.float32]], ...] = ([], [], [])
    for points in clouds:
        height, distance = points[:, :3] @ up + ground.height_m, np.hypot(points[:, 0], points[:, 1])
        near = (distance >= NEAR_M[0]) & (distance < NEAR_M[1])
        far = (distance >= FAR_M[0]) & (distance < FAR_M[1])
        masks = (near & (np.abs(height) < 0.15), near & (height > 0.4), far & (height > 0.4))
        for part, mask in zip(parts, masks, strict=True):
            part.append(points[mask, 3] / np.float32(scale))
    on_ground, objects, beyond = (np.concatenate(part) for part in parts)
    if len(on_ground):
        objects = objects[objects >= np.percentile(on_ground, DARKEST_GROUND)]
    return Populations(on_ground, objects, beyond)


def fit_response(found: Populations) -> Response | None:
    """The response that makes the simulator's signal what the sensor reports; None where there are too few returns.

    Gain and offset by least squares of relative errors for each gamma, the best gamma; then the power of the range by
    which far things are darker than the simulator's.
    """
    if min(len(found.ground), len(found.objects)) < LEAST_POINTS:
        return None
    values = np.concatenate([np.percentile(found.ground, LEVELS), np.percentile(found.objects, LEVELS)])
    signal = np.array(GROUND_SIGNAL + OBJECT_SIGNAL)
    weight = 1.0 / np.maximum(values, 0.25 * max(float(np.median(values)), 1e-6))
    fits = []
    for gamma in GAMMAS:
        columns = np.column_stack([signal**gamma, np.ones_like(signal)])
        (gain, offset), _ = nnls(columns * weight[:, None], values * weight)
        error = float(np.mean(np.abs(columns @ [gain, offset] - values) * weight))
        fits.append((error, float(gamma), float(gain), float(offset)))
    error, gamma, gain, offset = min(fits)
    if gain <= 0:
        return None
    return Response(gamma, gain, offset, _steps(found), _power(found, gamma, gain, offset), error)


def _steps(found: Populations) -> int:
    values = np.concatenate([found.ground, found.objects])
    return 255 if np.allclose(values * 255, np.round(values * 255), atol=1e-2) else 65535


def _power(found: Populations, gamma: float, gain: float, offset: float) -> float:
    if len(found.far) < LEAST_POINTS:
        return 0.0
    shown = max((float(np.median(found.far)) - offset) / gain, 1e-6)
    ratio = shown ** (1 / gamma) / FAR_SIGNAL
    return float(np.clip(-np.log(ratio) / np.log(FAR_FACTOR), 0.0, LARGEST_POWER))
