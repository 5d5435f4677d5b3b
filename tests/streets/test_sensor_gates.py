"""What simulated scans of other sensors must have in common with real ones; every figure named REAL is of real scans.

Pandar64 and PandarGT: 10 scans each of PandaSet (three places in San Francisco), cut to the 80.8 m that are simulated.
VLP-32C: 35 scans of a front sector (one drive in Germany). Intensities are divided by 255.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kd_seg.scans import SemanticKitti
from kd_seg.streets import simulate
from kd_seg.streets.sensors.patterns import shots_of
from kd_seg.streets.sensors.ranges import load_sensor
from kd_seg.streets.sensors.settings import Lidar, Spinning

slow = [pytest.mark.slow, pytest.mark.timeout(1200)]
SEQUENCES = 6
RAW = {"road": (40, 60), "sidewalk": (48,), "building": (50,), "vegetation": (70,), "terrain": (72,)}
REAL_MEDIANS = {
    "pandar64": {"road": 0.027, "sidewalk": 0.043, "building": 0.051, "vegetation": 0.078, "terrain": 0.051},
    "pandargt": {"road": 0.114, "vegetation": 0.102},
    "vlp32c": {"road": 0.024, "sidewalk": 0.024, "vegetation": 0.024},
}
"""Median intensity by class."""
REAL_MEDIAN = {"pandar64": 0.031, "pandargt": 0.102, "vlp32c": 0.024}
REAL_POINTS = {"pandar64": 103_200, "pandargt": 61_400}
"""Median points per scan; PandarGT 54,700 to 66,600."""
REAL_MISSING = {"pandar64": 0.104}
"""Share of the shots without a point nearer than 80.8 m, sky included."""
REAL_RANGE = {"pandar64": 20.2, "pandargt": 16.9}
"""Median metres of the points within 80.8 m."""
REAL_ELEVATION = {
    "vlp32c": {
        15.0: 15.0, 10.333: 10.32, 7.0: 6.99, 4.667: 4.66, 3.333: 3.29, 1.333: 1.33, 0.0: 0.0, -1.333: -1.31,
        -3.0: -3.0,
        -4.667: -4.63, -5.333: -5.39, -6.148: -6.15, -7.254: -7.25, -8.843: -8.84, -11.31: -11.31, -15.639: -15.64,
    },
    "pandar64": {
        3.04: 3.102, 2.028: 2.057, 1.013: 1.041, 0.0: 0.025, -1.013: -1.03, -2.028: -2.028, -3.04: -3.039,
        -4.05: -4.059, -5.057: -5.045, -7.063: -7.009, -8.059: -8.008, -9.06: -9.014, -11.032: -11.001,
        -12.974: -12.964, -13.93: -13.933,
    },
}  # fmt: skip
"""Median degrees of real rings by the table's; Pandar64 straight ahead, less the mounting's tilt of 0.74 degrees."""


def lidar(name: str) -> Lidar:
    found = load_sensor(name)
    assert isinstance(found, Lidar)
    return found


@pytest.fixture(scope="module", params=["pandar64", "pandargt", "vlp32c"])
def scans(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Name of a sensor, and points and raw classes of a scan of each of SEQUENCES streets."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    data = SemanticKitti(simulate(folder, SEQUENCES, 1, 0, workers=1, sensor=request.param))
    made = []
    for k in range(len(data)):
        labels = data[k].labels
        assert labels is not None
        made.append((data[k].points, labels & 0xFFFF))
    return request.param, made


@pytest.mark.parametrize("name", REAL_ELEVATION)
def test_rings_are_where_real_ones_are(name: str) -> None:
    pattern = lidar(name).pattern
    assert isinstance(pattern, Spinning)
    table = pattern.elevations()
    for beam, real in REAL_ELEVATION[name].items():
        assert np.abs(table - beam).min() < 1e-6
        assert np.abs(table - real).min() < 0.07


class TestRealScans:
    """Each on scans of its own simulated streets."""

    pytestmark = slow

    def test_intensities_of_classes(self, scans: tuple[str, list[tuple[np.ndarray, np.ndarray]]]) -> None:
        """Within a factor of 1.8 of the real medians, where makers differ by a factor of 10."""
        name, made = scans
        points, raw = (np.concatenate([pair[k] for pair in made]) for k in range(2))
        for key, real in REAL_MEDIANS[name].items():
            median = float(np.median(points[np.isin(raw, RAW[key]), 3]))
            assert real / 1.8 < median < real * 1.8, key
        assert REAL_MEDIAN[name] / 1.8 < np.median(points[:, 3]) < REAL_MEDIAN[name] * 1.8

    def test_points_per_scan(self, scans: tuple[str, list[tuple[np.ndarray, np.ndarray]]]) -> None:
        name, made = scans
        counts = [len(points) for points, _ in made]
        shots = len(shots_of(lidar(name), 0).time)
        assert max(counts) < shots
        if name in REAL_POINTS:
            assert np.median(counts) == pytest.approx(REAL_POINTS[name], rel=0.07)
        if name in REAL_MISSING:
            assert 1.0 - np.median(counts) / shots == pytest.approx(REAL_MISSING[name], abs=0.05)

    def test_ranges(self, scans: tuple[str, list[tuple[np.ndarray, np.ndarray]]]) -> None:
        """Streets differ: the median range within a third."""
        name, made = scans
        reach = np.linalg.norm(np.concatenate([points[:, :3] for points, _ in made]), axis=1)
        assert reach.max() <= 80.81
        if name in REAL_RANGE:
            assert np.median(reach) == pytest.approx(REAL_RANGE[name], rel=0.34)
