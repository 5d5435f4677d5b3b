"""Figures of a sensor from clouds of which each is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_seg.drives.calibration.figures import count_rings, is_moving, measure, measure_intensity
from kd_seg.drives.calibration.own_vehicle import AZIMUTHS, ELEVATIONS, LEAST_CLOUDS, directions, find_own_vehicle
from kd_seg.drives.recording import RecordedCloud, frame_of, returns

SCALES = {"unit": 1.0, "byte": 255.0, "uint16": 65535.0}


@given(st.integers(0, 10**6), st.sampled_from(sorted(SCALES)), st.floats(0.02, 0.9))
def test_the_gain_brings_the_median_of_returns_to_the_reference(seed: int, name: str, middle: float) -> None:
    rng = np.random.default_rng(seed)
    unit = np.clip(rng.normal(middle, 0.1, 3000), 0, 1)
    unit[rng.random(3000) < 0.05] = 1.0
    values = (unit * SCALES[name]).astype(np.float32)
    found = measure_intensity(values, 0.28)
    assert found.range == name
    median = np.median(unit[values > 0])
    assert found.gain == pytest.approx(np.clip(0.28 / median, 0.05, 50.0), rel=1e-3)
    assert list(found.quantiles) == sorted(found.quantiles)
    assert not found.constant


def test_intensities_that_tell_nothing_leave_the_gain_alone() -> None:
    for value in (0.0, 7.0):
        found = measure_intensity(np.full(50, value, np.float32), 0.28)
        assert found.constant
        assert found.gain == 1.0
        assert found.whole
    assert not measure_intensity(np.array([0.5, 0.25], np.float32), 0.28).whole


def rings(elevations: list[float], count: int = 720, field: bool = False, seed: int = 0) -> RecordedCloud:
    """A cloud at 20 m with rows of points at each elevation."""
    rng = np.random.default_rng(seed)
    rows, number = [], []
    for beam, degrees in enumerate(elevations):
        azimuth, up = rng.uniform(-np.pi, np.pi, count), np.radians(degrees + rng.normal(0, 0.004, count))
        rows.append(20.0 * np.column_stack([np.cos(up) * np.cos(azimuth), np.cos(up) * np.sin(azimuth), np.sin(up)]))
        number.append(np.full(count, beam))
    points = np.column_stack([np.concatenate(rows), np.full(count * len(elevations), 0.3)]).astype(np.float32)
    return frame_of(0, 0.0, points, rings=np.concatenate(number) if field else None)


@pytest.mark.parametrize("count", [4, 16, 32, 64])
def test_beams_are_counted_with_and_without_a_field(count: int) -> None:
    elevations = (np.linspace(-24, 8, count) + 0.025).tolist()
    assert count_rings([rings(elevations, field=True)]) == count
    assert abs(count_rings([rings(elevations)]) - count) <= 0.1 * count


def test_points_without_rings_have_none() -> None:
    points = np.random.default_rng(0).normal(0, 10, (20_000, 4)).astype(np.float32)
    assert count_rings([frame_of(0, 0.0, points)]) == 0
    assert count_rings([rings([0.025, 3.025])]) == 0, "two rows are no lidar's"


def walls(shift: float, seed: int = 0, count: int = 6000) -> np.ndarray:
    """A square of walls 30 m away, seen from a place ``shift`` metres ahead of its middle."""
    rng = np.random.default_rng(seed)
    along, side = rng.uniform(-30, 30, count), rng.integers(0, 4, count)
    x = np.select([side == 0, side == 1], [30.0, -30.0], along)
    y = np.select([side == 2, side == 3], [30.0, -30.0], along)
    return np.column_stack([x - shift, y, rng.uniform(-1, 2, count), rng.random(count)]).astype(np.float32)


def test_a_moving_vehicle_is_told_from_a_standing_one() -> None:
    assert not is_moving([walls(0.0, seed) for seed in range(5)])
    assert is_moving([walls(2.0 * k, k) for k in range(5)])
    assert not is_moving([walls(0.0)])


def test_figures_of_clouds_come_together() -> None:
    frames = []
    for k in range(4):
        points = walls(2.0 * k, k, 4000)
        points[:400] = 0.0  # missing returns
        frames.append(frame_of(3 * k, 0.1 * 3 * k, points, times=np.linspace(-0.05, 0.05, 4000)))
    found = measure(frames)
    assert (found.clouds, found.points, found.moving) == (4, 3600, True)
    assert found.missing == pytest.approx(0.1)
    assert found.rate_hz == pytest.approx(10.0)
    assert found.sweep_s == pytest.approx(0.1, rel=0.15)
    assert 20 < found.farthest_m < 55
    assert found.azimuth_deg > 300
    assert found.down_deg < 0 < found.up_deg


@given(st.integers(0, 10**6), st.integers(0, 80))
def test_directions_are_cells_of_two_degrees(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 3, (count, 4)).astype(np.float32)
    cell, distance = directions(points)
    near = points[np.linalg.norm(points[:, :3], axis=1) < 4.0]
    assert len(cell) == len(near)
    for c, d, (x, y, z, _) in zip(cell, distance, near.astype(np.float64), strict=True):
        assert d == pytest.approx(np.sqrt(x * x + y * y + z * z), rel=1e-5)
        azimuth, elevation = np.degrees(np.arctan2(y, x)) + 180, np.degrees(np.arcsin(z / d)) + 90
        off = abs(c // ELEVATIONS * 2 + 1 - azimuth)
        assert min(off, 360 - off) <= 1.001
        assert abs(c % ELEVATIONS * 2 + 1 - elevation) <= 1.001
        assert 0 <= c < AZIMUTHS * ELEVATIONS


def test_the_box_of_the_own_vehicle_holds_what_never_moves() -> None:
    rng = np.random.default_rng(3)
    bonnet = np.column_stack([rng.uniform(1.0, 1.8, 300), rng.uniform(-0.8, 0.8, 300), np.full(300, -0.9)])
    clouds = []
    for k in range(LEAST_CLOUDS):
        own = bonnet + rng.normal(0, 0.005, bonnet.shape)
        passing = np.column_stack([rng.uniform(-4, 4, 200), rng.uniform(2, 3.4, 200), rng.uniform(-1, 1, 200)])
        cloud = np.concatenate([own, passing, walls(1.0 * k, k)[:, :3]])
        clouds.append(np.column_stack([cloud, np.full(len(cloud), 0.3)]).astype(np.float32))
    found = find_own_vehicle(clouds, 1.7)
    assert found is not None
    np.testing.assert_allclose(found.lowest, [0.9, -0.9, -1.0], atol=0.12)
    np.testing.assert_allclose(found.highest, [1.9, 0.9, -0.8], atol=0.12)
    assert find_own_vehicle(clouds[:-1], 1.7) is None, "too few clouds"
    assert find_own_vehicle(clouds, 0.7) is None, "the bonnet would lie in the ground"


def test_missing_returns_are_left_out_with_all_that_belongs_to_them() -> None:
    points = np.array(
        [[1, 2, 3, 0.5], [0, 0, 0, 0.1], [np.nan, 1, 1, 0.2], [4, 5, 6, np.inf], [0, 0, 1, 0.3]], np.float32
    )
    assert returns(points).tolist() == [True, False, False, True, True]
    made = frame_of(7, 1.5, points, np.arange(5.0), np.arange(5))
    assert made.points[:, 3].tolist() == pytest.approx([0.5, 0.0, 0.3])
    assert made.times is not None
    assert made.rings is not None
    assert made.times.tolist() == made.rings.tolist() == [0, 3, 4]
    assert (made.number, made.stamp, made.rows) == (7, 1.5, 5)
