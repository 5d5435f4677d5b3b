"""The HDL-64E on KITTI's car in figures: beams, shots, what its own car hides, and how each laser answers.

All measured on real SemanticKITTI scans: per ring a line z = offset + distance * tan(elevation) fitted after undoing
the motion during the turn (residual 0.02-0.06 degrees), the presence of returns by ring and azimuth, and the median
remission of road, sidewalk, grass, facades and foliage by ring.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ELEVATION = np.array([
    1.93, 1.57, 1.30, 0.87, 0.57, 0.17, -0.09, -0.46, -0.81, -1.21, -1.50, -1.84, -2.21, -2.55, -2.88, -3.24,
    -3.55, -3.94, -4.22, -4.60, -4.92, -5.26, -5.62, -5.97, -6.34, -6.69, -7.01, -7.30, -7.70, -8.08, -8.33, -8.73,
    -9.05, -9.60, -10.09, -10.50, -10.99, -11.64, -12.16, -12.61, -13.09, -13.54, -14.11, -14.66, -15.26, -15.73,
    -16.25, -16.63,
    -17.27, -17.82, -18.43, -18.90, -19.44, -19.86, -20.37, -20.94, -21.50, -22.09, -22.66, -23.08, -23.58, -24.23,
    -24.79, -25.31,
])  # fmt: skip
"""Degrees above the horizon of the 64 beams, from the top."""

OFFSET = np.concatenate([np.linspace(0.212, 0.202, 32), np.full(32, 0.130)])
"""Metres by which each beam starts above the scan's origin; so a near point seems higher than its beam: seen from the
origin the rings lie at +2.6 to -7.8 and -8.4 to -24 degrees, as measured on real scans of SemanticKITTI."""

SHOTS = 2172
"""Shots of each beam per turn at 10 Hz."""

TICKS = 4000
"""Angular marks per turn; a shot is reported at the last mark passed: steps of 0.18 degrees, about every sixth 0.09."""

CONTRAST = np.array([
    -1, 1, 3, 4, 1, 3, -1, 0, -1, 6, 4, 0, -2, -2, -1, 2, 0, -1, -3, -1, -4, 11, 2, -1, 3, 2, 0, 0, 0, 8, -1, -1,
    2, 3, 0, 12, 21, 0, -5, -3, 2, 0, 11, 0, 0, 0, 0, 2, 3, -2, -5, 20, 0, 4, 5, 0, -1, -5, 7, 5, 8, -2, -7, -5,
]) / 100.0  # fmt: skip
"""By how much a laser shows asphalt (0.285) darker than the mean laser; nothing at 0.40, and so on along a line."""

REACH_SPREAD = 0.029
"""Metres (1 sigma over lasers) of the constant error of a laser's range."""
LIFT_SPREAD = 0.004
"""Degrees (1 sigma over lasers) of the error of a beam's elevation."""

_HIDDEN = {
    42: (159, 166, 199, 208), 43: (156, 164, 196, 206), 44: (158, 167, 198, 208), 45: (156, 164, 196, 205),
    46: (159, 166, 200, 207, 298, 300), 47: (157, 163, 198, 204, 288, 297), 48: (161, 167, 200, 206, 287, 304),
    49: (159, 165, 197, 203, 281, 299), 50: (162, 166, 199, 204, 285, 305), 51: (160, 164, 197, 201, 279, 300),
    52: (162, 166, 170, 195, 199, 204, 283, 304), 53: (159, 202, 278, 300), 54: (161, 207, 285, 307),
    55: (130, 132, 159, 204, 281, 301), 56: (133, 139, 160, 207, 234, 240, 285, 305),
    57: (0, 10, 128, 136, 156, 206, 228, 237, 281, 299, 349, 360),
    58: (0, 15, 131, 140, 157, 210, 231, 240, 285, 305, 346, 360),
    59: (0, 16, 128, 137, 154, 208, 228, 237, 280, 296, 344, 360),
    60: (0, 18, 31, 32, 132, 141, 156, 213, 232, 242, 286, 300, 324, 328, 332, 336, 344, 360),
    61: (0, 19, 26, 30, 34, 38, 129, 138, 140, 143, 153, 211, 229, 238, 282, 292, 321, 326, 328, 333, 342, 360),
    62: (0, 21, 29, 33, 36, 41, 132, 141, 143, 148, 155, 215, 224, 229, 232, 241, 287, 295, 324, 329, 331, 335,
         342, 360),
    63: (0, 21, 25, 30, 32, 38, 129, 146, 148, 215, 218, 238, 281, 286, 321, 332, 340, 360),
}  # fmt: skip
"""Degrees of azimuth (from, to, from, to ...) in which a ring meets the sensor's own car and gives nothing."""

CUT = 80.8
"""Metres beyond which nothing is kept."""
NEAREST = 1.3
"""Metres below which nothing is kept."""
LABELLED = 50.0
"""Metres beyond which the annotators left every point without a class."""


@dataclass(frozen=True)
class LaserCalibration:
    """What one sensor's calibration leaves over.

    Attributes:
        reach: metres [64] float32 that each laser measures too far.
        lift: radians [64] float32 by which each beam truly lies above the elevation it is reported at.
        contrast: see CONTRAST [64] float32.
        noise: metres (1 sigma) of a single range.
    """

    reach: npt.NDArray[np.float32]
    lift: npt.NDArray[np.float32]
    contrast: npt.NDArray[np.float32]
    noise: float


def draw_calibration(rng: np.random.Generator) -> LaserCalibration:
    """A sensor of this type.

    KITTI's own lasers differ by about 3 cm in range, alike in all its sequences: on a road 4 to 8 m away its rings lie
    6 mm (r.m.s.) off the plane through a patch of 0.75 m, at 8 to 14 m 3.5 mm; a single range scatters by 0.76 cm.
    """
    return LaserCalibration(
        np.clip(rng.normal(0.0, REACH_SPREAD, 64), -0.08, 0.08).astype(np.float32),
        np.radians(rng.normal(0.0, LIFT_SPREAD, 64)).astype(np.float32),
        (CONTRAST * rng.uniform(0.7, 1.3) + rng.normal(0.0, 0.01, 64)).astype(np.float32),
        float(rng.uniform(0.0070, 0.0081)),
    )


def azimuths() -> npt.NDArray[np.float64]:
    """Azimuth [64, SHOTS] in radians in [0, 2 pi), rising; each ring has its own place within the step pattern."""
    shot = np.arange(SHOTS)[None, :]
    place = (np.arange(64) * 0.61803398875 % 1.0)[:, None]
    tick = np.floor(shot * (TICKS / SHOTS) + place)
    dither = 0.06 * np.sin(tick * 2.4 + 7.0 * place)
    turn = (tick + 0.1 + 0.75 * place + dither) * (2 * np.pi / TICKS)
    below: npt.NDArray[np.float64] = np.minimum(turn, 2 * np.pi - 1e-4)
    return below


def hidden() -> npt.NDArray[np.bool_]:
    """Rays [64, SHOTS] that the sensor's own car blocks."""
    degrees = np.degrees(azimuths())
    mask = np.zeros(degrees.shape, dtype=bool)
    for ring, edges in _HIDDEN.items():
        for low, high in zip(edges[::2], edges[1::2], strict=True):
            mask[ring] |= (degrees[ring] >= low) & (degrees[ring] < high)
    return mask
