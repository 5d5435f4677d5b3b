"""How the sensor's vehicle drives, and what sensors and grounds are drawn for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_seg.streets.layout.ground import Plan, survey
from kd_seg.streets.layout.network import STYLES, StreetNetwork, lay
from kd_seg.streets.layout.surfaces import draw_surfaces
from kd_seg.streets.layout.traffic import PERIOD, Seat, drive
from kd_seg.streets.objects.materials import GROUNDS, Cover
from kd_seg.streets.sensors.errors import LARGEST_BIAS, draw_errors
from kd_seg.streets.sensors.ranges import load_sensor

SCANS = 60


@pytest.fixture(scope="module", params=sorted(STYLES))
def place(request: pytest.FixtureRequest) -> tuple[StreetNetwork, Plan]:
    style = STYLES[request.param]
    network = lay(np.random.default_rng(11), style, style.speed * 1.25 * PERIOD * SCANS + 30.0)
    return network, survey(network, np.random.default_rng(12))


@pytest.mark.parametrize("seed", range(3))
def test_a_drive_is_one_a_car_can_drive(place: tuple[StreetNetwork, Plan], seed: int) -> None:
    network, plan = place
    ego = drive(network, plan, np.random.default_rng(seed), SCANS, Seat(1.73, 0.0, 0.0))
    rotation = ego.poses[:, :3, :3]
    np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (SCANS, 1, 1)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0)
    assert (np.diff(ego.arc) >= 0).all()
    assert ((ego.speed >= 0) & (ego.speed <= 1.15 * network.style.speed + 1e-9)).all()
    change = np.diff(ego.speed) / PERIOD
    assert change.min() >= -3.0 - 1e-9
    assert change.max() <= 1.8 + 1e-9
    step = np.linalg.norm(np.diff(ego.poses[:, :2, 3], axis=0), axis=1)
    np.testing.assert_allclose(step, np.diff(ego.arc), atol=0.05)
    moving = step > 0.3
    ahead = np.diff(ego.poses[:, :2, 3], axis=0)[moving] / step[moving, None]
    facing = rotation[1:, :2, 0][moving]
    assert (np.einsum("ij,ij->i", ahead, facing) > 0.97).all(), "it drives forwards"
    over = ego.poses[:, 2, 3] - plan.road(ego.poses[:, :2, 3])
    np.testing.assert_allclose(over, 1.73, atol=1e-6)
    assert (rotation[:, 2, 2] > np.cos(np.radians(8))).all()


def test_a_seat_that_looks_down_sees_the_road_nearer(place: tuple[StreetNetwork, Plan]) -> None:
    network, plan = place
    level, down = (
        drive(network, plan, np.random.default_rng(3), SCANS, Seat(1.73, pitch, 0.0)) for pitch in (0.0, 0.1)
    )
    np.testing.assert_allclose(down.poses[:, :3, 3], level.poses[:, :3, 3])
    lowered = np.arcsin(level.poses[:, 2, 0]) - np.arcsin(down.poses[:, 2, 0])
    np.testing.assert_allclose(lowered, 0.1, atol=0.01)


@given(st.integers(0, 10**6))
@settings(max_examples=40)
def test_surfaces_of_places_lie_within_what_real_sequences_show(seed: int) -> None:
    table = draw_surfaces(np.random.default_rng(seed)).table
    road, walk, marking, grass = (table[c] for c in (Cover.ROAD, Cover.SIDEWALK, Cover.MARKING, Cover.GRASS))
    assert 0.2 < road["albedo"] < 0.32
    assert 0.2649 < walk["albedo"] < 0.3601
    assert road["albedo"] + 0.07 < marking["albedo"] < 0.6
    assert marking["roughness"] == road["roughness"] < grass["roughness"]
    for cover, ground in GROUNDS.items():
        assert table["raw"][cover] == ground.raw
        assert 0 < table["albedo"][cover] < 1


@pytest.mark.parametrize("name", ["hdl64e", "vlp16"])
def test_errors_of_one_sensor_have_the_spread_of_its_kind(name: str) -> None:
    sensor = load_sensor(name)
    drawn = [draw_errors(sensor, np.random.default_rng(seed)) for seed in range(60)]
    reach = np.array([errors.reach for errors in drawn])
    assert reach.shape == (60, sensor.pattern.beams)
    assert np.abs(reach).max() <= LARGEST_BIAS + 1e-6
    assert reach.std() == pytest.approx(sensor.ranging.beam_bias_m, rel=0.15)
    lift = np.degrees([errors.lift for errors in drawn])
    assert lift.std() == pytest.approx(sensor.ranging.beam_tilt_deg, rel=0.15)
    low, high = sensor.ranging.noise_m
    assert all(low <= errors.noise <= high for errors in drawn)
    assert len({errors.noise for errors in drawn}) == 60 or low == high
