"""What comes back of a shot, on rays whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_seg.core.config import validate
from kd_seg.streets.layout.surfaces import GROUND, draw_surfaces
from kd_seg.streets.objects.materials import GROUNDS, Cover, Material
from kd_seg.streets.sensors.errors import BeamErrors
from kd_seg.streets.sensors.response import Returns, SceneTables, optics_table, receiver_of, respond
from kd_seg.streets.sensors.settings import Lidar
from kd_seg.streets.sensors.texture import texture

WORD = np.uint32(50)


def shoot(
    distance: list[float],
    albedo: float = 0.4,
    material: Material = Material.PLASTER,
    chance: float = 0.9,
    noise: float = 0.0,
    hidden: bool = False,
    bias: float = 0.0,
    cosine: float = 1.0,
    **sections: object,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shots of one beam along x that meet one triangle each, seen by an otherwise perfect sensor."""
    count = len(distance)
    plain = {"name": "x", "source": "test", "pattern": {"kind": "spinning", "elevation_deg": [0.0], "shots": 360}}
    sections = {"intensity": {"fade": {"least": 1.0, "lost_per_m": 0.0}}, "ranging": {"lost": 0.0}} | sections
    sensor = validate(Lidar, plain | sections, "test")
    calibration = BeamErrors(np.full(1, bias, np.float32), np.zeros(1, np.float32), np.zeros(1, np.float32), 0.0)
    rays = np.zeros((count, 6), np.float32)
    rays[:, 3] = 1.0
    flat = np.zeros(len(Cover), GROUND)
    for cover, ground in GROUNDS.items():
        flat[cover] = (ground.albedo, 0.0, 0.0, 0.0, 1.0, 0.0, ground.raw)
    optics = optics_table()
    optics["speckle"] = optics["roughness"] = optics["loss"] = 0.0
    scene = SceneTables(
        np.array([material], np.uint8), np.array([albedo], np.float32), np.array([WORD], np.uint32), optics, flat,
        np.full((4, 4), Cover.SIDEWALK, np.uint8), np.zeros(2, np.float32), np.zeros(2),
    )  # fmt: skip
    reached = np.array(distance, np.float32)
    triangle = np.where(np.isfinite(reached), 0, -1).astype(np.int32)
    returns = Returns(
        reached, triangle, np.full(count, cosine, np.float32), np.full((2, count), noise, np.float32),
        np.full(count, chance, np.float32),
    )  # fmt: skip
    points, words, kept = respond(
        rays, rays, np.full(count, hidden), np.zeros(count, np.uint16), returns, scene, receiver_of(sensor, calibration)
    )
    return points, words, kept


def test_a_perfect_sensor_gives_the_place_the_albedo_and_the_word() -> None:
    points, words, kept = shoot([5.0, np.inf, 20.0])
    assert points[:, 0] == pytest.approx([5.0, 20.0])
    assert points[:, 3] == pytest.approx(0.4)
    assert words.tolist() == [WORD, WORD]
    assert kept.tolist() == [0, 2]


def test_what_is_hidden_too_near_or_too_far_gives_nothing() -> None:
    assert len(shoot([5.0], hidden=True)[0]) == 0
    assert shoot([0.4, 5.0, 81.0])[2].tolist() == [1]
    assert shoot([10.0, 60.0], ranging={"lost": 0.0, "labelled_m": 50.0})[1].tolist() == [WORD, 0]


def test_rays_are_lost_by_chance() -> None:
    assert len(shoot([5.0], chance=0.05, ranging={"lost": 0.1})[0]) == 0
    assert len(shoot([5.0], chance=0.15, ranging={"lost": 0.1})[0]) == 1


def test_a_beams_bias_moves_its_points() -> None:
    assert shoot([5.0], bias=0.03)[0][0, 0] == pytest.approx(5.03)


def test_edges_are_ranged_in_between_for_some_shots() -> None:
    mixed = shoot([6.0, 5.0], chance=0.15, ranging={"lost": 0.0, "mixed": 0.3})[0]
    assert mixed[0, 0] == pytest.approx(6.0 - 0.8 * 0.15 / 0.3, abs=1e-3)
    assert shoot([6.0, 5.0], chance=0.5, ranging={"lost": 0.0, "mixed": 0.3})[0][0, 0] == pytest.approx(6.0)
    assert shoot([9.5, 5.0], chance=0.15, ranging={"lost": 0.0, "mixed": 0.3})[0][0, 0] == pytest.approx(9.5)


def test_ground_has_the_class_of_its_cover() -> None:
    points, words, _ = shoot([0.25], material=Material.GROUND, ranging={"nearest_m": 0.0, "lost": 0.0})
    assert words.tolist() == [GROUNDS[Cover.SIDEWALK].raw]
    assert points[0, 3] == pytest.approx(GROUNDS[Cover.SIDEWALK].albedo, abs=1 / 255)


@settings(deadline=None)
@given(
    albedo=st.floats(0.05, 0.9), gain=st.floats(0.1, 2.0), gamma=st.floats(0.5, 3.0), offset=st.floats(0.0, 0.2),
    steps=st.sampled_from([10, 255, 65535]), power=st.floats(0.1, 2.0), distance=st.floats(2.0, 70.0),
)  # fmt: skip
def test_reported_intensity_follows_the_settings(
    albedo: float, gain: float, gamma: float, offset: float, steps: int, power: float, distance: float
) -> None:
    fade = {"least": 1.0, "lost_per_m": 0.0, "power": power}
    intensity = {"fade": fade, "gain": gain, "gamma": gamma, "offset": offset, "steps": steps}
    shown = shoot([distance], albedo=albedo, chance=0.999, intensity=intensity)[0][0, 3]
    signal = albedo * min(10.0 / distance, 1.0) ** power
    expected = min(gain * signal**gamma + offset, 1.0)
    assert shown == pytest.approx(expected, abs=0.501 / steps + 1e-5)


def test_only_retro_reflectors_are_brightened() -> None:
    intensity = {"fade": {"least": 1.0, "lost_per_m": 0.0}, "gain": 0.1, "retro": 8.0}
    assert shoot([9.0], material=Material.RETRO, intensity=intensity)[0][0, 3] == pytest.approx(0.32, abs=0.002)
    assert shoot([9.0], material=Material.PLASTER, intensity=intensity)[0][0, 3] == pytest.approx(0.04, abs=0.002)


def test_grazing_incidence_darkens_as_far_as_the_settings_say() -> None:
    shown = []
    for grazing in (1.0, 0.5, 0.0):
        intensity = {"fade": {"least": 1.0, "lost_per_m": 0.0}, "grazing": grazing}
        shown.append(float(shoot([9.0], material=Material.METAL, cosine=0.3, intensity=intensity)[0][0, 3]))
    assert shown[0] < shown[1] < shown[2] == pytest.approx(0.4, abs=0.002)


def test_kitti_stores_hundredths_and_zeros() -> None:
    intensity = {"fade": {"least": 1.0, "lost_per_m": 0.0}, "hundredths": True, "zero_below": 0.03}
    assert shoot([9.0], albedo=0.414, intensity=intensity)[0][0, 3] == pytest.approx(0.41)
    assert shoot([9.0], albedo=5.0, intensity=intensity)[0][0, 3] == pytest.approx(0.99)
    assert shoot([9.0], albedo=0.025, intensity=intensity)[0][0, 3] == 0.0


def test_texture_is_even_and_smooth() -> None:
    place = np.random.default_rng(0).uniform(-500, 500, (20_000, 2))
    values = np.array([texture(x, y) for x, y in place])
    near = np.array([texture(x + 0.01, y) for x, y in place])
    assert values.mean() == pytest.approx(0.0, abs=0.05)
    assert values.std() == pytest.approx(1.0, abs=0.1)
    assert np.abs(near - values).max() < 0.2


def test_surfaces_of_places_lie_within_real_ones() -> None:
    drawn = [draw_surfaces(np.random.default_rng(k)).table for k in range(40)]
    road = np.array([t["albedo"][Cover.ROAD] for t in drawn])
    walk = np.array([t["albedo"][Cover.SIDEWALK] for t in drawn])
    assert road.min() >= 0.235
    assert road.max() <= 0.315
    assert (walk >= 0.265).all()
    assert (np.array([t["albedo"][Cover.MARKING] for t in drawn]) > road + 0.07).all()
    assert all(t["raw"][Cover.SIDEWALK] == 48 for t in drawn)
