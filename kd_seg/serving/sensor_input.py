"""What a live sensor's cloud needs before a student sees it, and how to tell that the two do not fit each other.

The node, the bag tool and offline prediction share this: intensity mapping, height offset, no-return points, and the
checks that warn (and never correct) when intensity unit or sensor height differ from the checkpoint's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kd_seg.classes import INVALID
from kd_seg.core.geometry import Matrix, rigid
from kd_seg.core.kernels import kernel
from kd_seg.scans import INTENSITY_MAX, Points, Sensor
from kd_seg.scans.intensity import FEW_POINTS, fitting_range
from kd_seg.serving.pointcloud2 import Decoded

WINDOW = 20
"""Successive frames that must agree before a mismatch is believed."""

GROUND_RANGE_M = (3.0, 15.0)
HEIGHT_TOLERANCE_M = 0.5
SAMPLE = 16_384
"""Percentiles are taken over at most about this many evenly spaced points, which costs 0.2 ms instead of 2."""


@dataclass(frozen=True)
class SensorSettings:
    """How the live sensor delivers its points (parameters ``input.*`` of the node).

    Attributes:
        intensity_range: unit (0-1), byte (0-255) or uint16 (0-65535), as the driver sends it.
        z_offset_m: added to z before the network and the height check; published points keep their z.
        zero_is_invalid: a point at exactly (0, 0, 0) is a missing return.
        intensity_gain: factor on intensities that are 0-1 by then; the result is clipped to 0-1.
        roll_deg, pitch_deg: how the sensor is tilted against the ground (right side down, nose down are positive);
            undone before the network and before z_offset_m.
        own_vehicle: (x, y, z) of the lowest and (x, y, z) of the highest corner of a box, in metres in the sensor's
            frame; points in it get no class. Corners that are equal switch it off.
    """

    intensity_range: str = "byte"
    z_offset_m: float = 0.0
    zero_is_invalid: bool = True
    intensity_gain: float = 1.0
    roll_deg: float = 0.0
    pitch_deg: float = 0.0
    own_vehicle: tuple[float, ...] = (0.0,) * 6

    def levelling(self) -> npt.NDArray[np.float64] | None:
        """Rotation [3, 3] from the sensor's frame to one with z along the ground's normal; None where it is level."""
        if self.roll_deg == 0.0 and self.pitch_deg == 0.0:
            return None
        roll, pitch = np.radians([self.roll_deg, self.pitch_deg])
        about_x = np.array([[1, 0, 0], [0, np.cos(roll), -np.sin(roll)], [0, np.sin(roll), np.cos(roll)]])
        about_y = np.array([[np.cos(pitch), 0, np.sin(pitch)], [0, 1, 0], [-np.sin(pitch), 0, np.cos(pitch)]])
        return np.asarray(about_y @ about_x)

    def correction(self) -> Matrix:
        """Rigid motion [4, 4] from the sensor's frame to that of the prepared points."""
        rotation = self.levelling()
        return rigid(np.eye(3) if rotation is None else rotation, [0.0, 0.0, self.z_offset_m])


def prepare(cloud: Decoded, settings: SensorSettings) -> Points:
    """Points [N, 4] for ``Segmenter.segment``: intensity 0-1, z offset, missing returns as NaN.

    The live value v becomes v / live_max * gain, clipped to 0-1; 0 where it is not finite. Points of the own vehicle
    become NaN like missing returns.
    """
    factor = settings.intensity_gain / INTENSITY_MAX[settings.intensity_range]
    points = np.empty((len(cloud.xyz), 4), np.float32)
    rotation = settings.levelling()
    xyz = cloud.xyz if rotation is None else cloud.xyz @ rotation.T.astype(np.float32)
    fill_points(
        xyz.reshape(-1),
        cloud.intensity,
        np.float32(factor),
        _LARGEST,
        np.float32(settings.z_offset_m),
        settings.zero_is_invalid,
        points.reshape(-1),
    )
    lowest, highest = np.array(settings.own_vehicle, np.float32).reshape(2, 3)
    if (highest > lowest).all():
        points[((cloud.xyz >= lowest) & (cloud.xyz <= highest)).all(axis=1), :3] = np.nan
    return points


# Unsigned places with a constant distance from point to point, because Numba looks out for negative ones.
_ONE, _TWO, _THREE, _FOUR = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
_NOTHING, _LARGEST, _NAN, _INFINITE = np.float32(0.0), np.float32(1.0), np.float32(np.nan), np.float32(np.inf)


@kernel
def fill_points(
    xyz: npt.NDArray[np.float32],
    intensity: npt.NDArray[np.float32],
    factor: np.float32,
    largest: np.float32,
    offset: np.float32,
    zero_is_invalid: bool,
    out: npt.NDArray[np.float32],
) -> None:
    """Kernel of ``prepare``; ``xyz`` [3 N], ``out`` [4 N]. Selections instead of branches: several points at once."""
    for i in range(np.uint64(len(intensity))):
        at, to = _THREE * i, _FOUR * i
        x, y, z, v = xyz[at], xyz[at + _ONE], xyz[at + _TWO], intensity[i]
        missing = zero_is_invalid & (x == _NOTHING) & (y == _NOTHING) & (z == _NOTHING)
        out[to] = _NAN if missing else x
        out[to + _ONE] = _NAN if missing else y
        out[to + _TWO] = _NAN if missing else z + offset
        scaled = min(max(v * factor, _NOTHING), largest)
        out[to + _THREE] = scaled if abs(v) < _INFINITE else _NOTHING


@dataclass(frozen=True)
class FrameFigures:
    """What one frame shows of its sensor.

    Attributes:
        points: of the frame. present: finite and no missing return. valid: those that got a class.
        intensity_p99: of valid points as the sensor sends them; NaN without any.
        intensity_constant: all valid points have one intensity (False without any).
        ground_z_m: 5th percentile of z (offset applied) of valid points at 3 to 15 m; NaN without any.
        has_intensity: the cloud has an intensity field.
    """

    points: int
    present: int
    valid: int
    intensity_p99: float
    intensity_constant: bool
    ground_z_m: float
    has_intensity: bool

    @property
    def valid_ratio(self) -> float:
        """Share of points with a class; 0 for an empty frame."""
        return self.valid / self.points if self.points else 0.0


def frame_figures(cloud: Decoded, points: Points, class_id: npt.NDArray[np.uint8]) -> FrameFigures:
    """The figures of one frame from its cloud, the prepared points [N, 4] and their class ids [N] (255 = none)."""
    present, valid, low, high = count_points(points, class_id, cloud.intensity)
    step = max(1, len(points) // SAMPLE)
    seen = class_id[::step] != INVALID
    sample, intensity = points[::step][seen], cloud.intensity[::step][seen]
    intensity = intensity[np.isfinite(intensity)]
    distance = np.hypot(sample[:, 0], sample[:, 1])
    near = sample[(distance >= GROUND_RANGE_M[0]) & (distance <= GROUND_RANGE_M[1]), 2]
    return FrameFigures(
        points=len(points),
        present=int(present),
        valid=int(valid),
        intensity_p99=float(np.percentile(intensity, 99)) if len(intensity) else float("nan"),
        intensity_constant=bool(valid > 0 and low == high),
        ground_z_m=float(np.percentile(near, 5)) if len(near) else float("nan"),
        has_intensity=cloud.has_intensity,
    )


@kernel
def count_points(
    points: Points, class_id: npt.NDArray[np.uint8], intensity: npt.NDArray[np.float32]
) -> tuple[int, int, np.float32, np.float32]:
    """Of points [N, 4]: how many are finite, how many have a class, smallest and largest intensity of the latter."""
    present, valid = 0, 0
    low, high = np.float32(np.inf), np.float32(-np.inf)
    for i in range(len(points)):
        if np.isfinite(points[i, 0]) and np.isfinite(points[i, 1]) and np.isfinite(points[i, 2]):
            present += 1
        if class_id[i] != 255:
            valid += 1
            v = intensity[i]
            low, high = min(low, v), max(high, v)
    return present, valid, low, high


@dataclass
class SensorWatch:
    """Holds the last frames' figures and reports what does not fit the checkpoint (docs/vehicle.md).

    A mismatch is believed when each of the last 20 frames shows it; one frame without it ends it.
    """

    sensor: Sensor
    _runs: dict[str, int] = field(default_factory=dict)
    _sentences: dict[str, str] = field(default_factory=dict)
    _recent: deque[FrameFigures] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _last: SensorSettings | None = None

    def add(self, figures: FrameFigures, settings: SensorSettings) -> list[str]:
        """Take one frame in; returns the sentences of mismatches that began to hold with it."""
        self._recent.append(figures)
        self._last = settings
        now = mismatches(figures, settings, self.sensor)
        self._runs = {key: self._runs.get(key, 0) + 1 for key in now}
        before = set(self._sentences)
        self._sentences = {key: sentence for key, sentence in now.items() if self._runs[key] >= WINDOW}
        return [sentence for key, sentence in self._sentences.items() if key not in before]

    def conclude(self) -> list[str]:
        """Mismatches that every frame of a stream shorter than the window showed, for its end."""
        if not 0 < len(self._recent) < WINDOW or self._last is None:
            return []
        now = mismatches(self._recent[-1], self._last, self.sensor)
        return [sentence for key, sentence in now.items() if self._runs.get(key, 0) == len(self._recent)]

    def sentences(self) -> list[str]:
        """Mismatches that hold now."""
        return list(self._sentences.values())

    @property
    def last(self) -> FrameFigures | None:
        """Figures of the newest frame."""
        return self._recent[-1] if self._recent else None


def mismatches(figures: FrameFigures, settings: SensorSettings, sensor: Sensor) -> dict[str, str]:
    """What one frame holds against settings and checkpoint: sentence by kind, each naming the parameter to set."""
    found: dict[str, str] = {}
    if figures.points == 0:
        return found
    if not figures.has_intensity:
        found["no_intensity"] = "input has no intensity field; set input.intensity_fields to the driver's name for it"
    else:
        found.update(_intensity_mismatch(figures, settings))
    off = figures.ground_z_m + sensor.sensor_height_m
    if abs(off) > HEIGHT_TOLERANCE_M:
        found["height"] = (
            f"sensor appears {-figures.ground_z_m:.1f} m above ground, checkpoint expects "
            f"{sensor.sensor_height_m:.1f} m; set input.z_offset_m to {settings.z_offset_m - off:.1f}"
        )
    if figures.valid < FEW_POINTS:
        found["few_points"] = (
            f"only {figures.valid} points are valid; check the sensor, input.z_offset_m and input.zero_is_invalid"
        )
    outside = figures.present - figures.valid
    if outside > 0.5 * figures.present:
        found["outside"] = (
            f"{100 * outside / figures.present:.0f} % of the points lie outside the checkpoint's range; "
            f"check that coordinates are metres in the sensor frame, and input.z_offset_m"
        )
    return found


def _intensity_mismatch(figures: FrameFigures, settings: SensorSettings) -> dict[str, str]:
    p99, declared = figures.intensity_p99, settings.intensity_range
    better = fitting_range(p99, declared, figures.valid)
    found: dict[str, str] = {}
    if better is not None:
        found["intensity"] = (
            f"intensity reaches {p99:.4g} (99th percentile) but is declared {declared}; "
            f"set input.intensity_range to {better}"
        )
    if figures.intensity_constant and figures.valid > 1:
        found["intensity_constant"] = (
            "all intensities are equal; check that the driver sends intensity and input.intensity_fields names it"
        )
    return found
