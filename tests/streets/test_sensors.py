"""Sensor files, shot patterns, drawn sensors, and data sets of other sensors than the HDL-64E."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_seg.core.config import config_folders, validate
from kd_seg.core.errors import ConfigError, UsageError
from kd_seg.scans import SemanticKitti
from kd_seg.streets import simulate
from kd_seg.streets.sensors.errors import LARGEST_BIAS, draw_errors
from kd_seg.streets.sensors.patterns import shots_of
from kd_seg.streets.sensors.ranges import LidarRanges, load_sensor
from kd_seg.streets.sensors.settings import Lidar

NAMES = sorted(p.stem for p in (config_folders()[0] / "sensors").glob("*.yaml"))
SENSORS = [name for name in NAMES if name != "random"]
PLAIN = {"name": "x", "source": "made up", "pattern": {"kind": "spinning", "elevation_deg": [1.0, -1.0], "shots": 360}}


def sensor_of(name: str) -> Lidar:
    sensor = load_sensor(name)
    assert isinstance(sensor, Lidar)
    return sensor


def changed(**sections: object) -> Lidar:
    return validate(Lidar, PLAIN | sections, "test")


def ranges() -> LidarRanges:
    found = load_sensor("random")
    assert isinstance(found, LidarRanges)
    return found


def test_the_sensors_that_users_ask_for_are_there() -> None:
    wanted = {"hdl64e", "hdl32e", "vlp16", "vlp32c", "pandar64", "os1_64", "os1_128", "os0_128", "at128", "pandargt"}
    assert wanted | {"livox", "random"} == set(NAMES)
    assert all(len(sensor_of(name).source) > 40 for name in SENSORS)


@pytest.mark.parametrize("name", SENSORS)
def test_shots_are_rays_of_the_sensor(name: str) -> None:
    sensor = sensor_of(name)
    shots = shots_of(sensor, 0)
    assert np.linalg.norm(shots.direction, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert np.abs(shots.time).max() <= 0.5 + 1e-6
    assert np.unique(shots.ring).tolist() == list(range(sensor.pattern.beams))
    assert (np.diff(shots.ring.astype(int)) >= 0).all()
    assert shots.hidden.mean() < 0.25


@pytest.mark.parametrize(
    ("name", "beams", "top", "bottom", "shots", "width"),
    [
        ("hdl32e", 32, 10.667, -30.667, 32 * 2170, 360),
        ("vlp16", 16, 15.0, -15.0, 16 * 1808, 360),
        ("vlp32c", 32, 15.0, -25.0, 32 * 1808, 360),
        ("pandar64", 64, 14.882, -24.897, 64 * 1800, 360),
        ("os1_64", 64, 22.5, -22.5, 64 * 1024, 360),
        ("os1_128", 128, 22.5, -22.5, 128 * 1024, 360),
        ("os0_128", 128, 45.0, -45.0, 128 * 1024, 360),
        ("at128", 128, 12.9, -12.5, 128 * 1200, 120),
        ("pandargt", 132, 7.2, -13.6, 132 * 570, 60),
        ("livox", 6, 12.55, -12.55, 24_000, 81.7),
    ],
)
def test_fields_of_view_are_those_of_the_data_sheets(
    name: str, beams: int, top: float, bottom: float, shots: int, width: float
) -> None:
    found = shots_of(sensor_of(name), 0)
    elevation = np.degrees(np.arcsin(found.direction[:, 2].astype(np.float64)))
    azimuth = np.degrees(np.arctan2(found.direction[:, 1], found.direction[:, 0]))
    assert sensor_of(name).pattern.beams == beams
    assert (elevation.max(), elevation.min()) == pytest.approx((top, bottom), abs=0.1)
    assert np.ptp(azimuth) == pytest.approx(width, abs=0.6)
    assert len(found.time) == pytest.approx(shots, rel=0.002)


def test_a_sector_is_swept_from_end_to_end_either_way_round() -> None:
    pattern = {"kind": "spinning", "elevation_deg": [0.0], "shots": 720, "sector_deg": [-30.0, 60.0]}
    for clockwise in (True, False):
        shots = shots_of(changed(pattern=pattern | {"clockwise": clockwise}), 0)
        azimuth = np.degrees(np.arctan2(shots.direction[:, 1], shots.direction[:, 0]))
        first, last = azimuth[np.argmin(shots.time)], azimuth[np.argmax(shots.time)]
        assert (first, last) == pytest.approx((60.0, -30.0) if clockwise else (-30.0, 60.0), abs=1.0)
        assert (shots.time.min(), shots.time.max()) == pytest.approx((-0.5, 0.5), abs=0.01)


def test_petals_do_not_repeat_and_stay_the_same_for_a_scan() -> None:
    livox = sensor_of("livox")
    first, second = shots_of(livox, 0), shots_of(livox, 1)
    assert not np.array_equal(first.direction, second.direction)
    assert np.array_equal(shots_of(livox, 0).direction, first.direction)
    assert shots_of(sensor_of("vlp16"), 0) is shots_of(sensor_of("vlp16"), 5)


def test_the_own_roof_hides_what_is_below_it() -> None:
    car = {"below_m": 0.5, "front_m": 1.0, "rear_m": 2.0, "side_m": 0.8}
    pattern = {"kind": "spinning", "elevation_deg": [5.0, -20.0, -35.0], "shots": 360}
    shots = shots_of(changed(pattern=pattern, mount={"own_car": car}), 0)
    reach = 0.5 / np.maximum(-shots.direction[:, 2], 1e-9)
    x, y = (reach * shots.direction[:, k] for k in range(2))
    expected = (shots.direction[:, 2] < 0) & (x > -2.0) & (x < 1.0) & (np.abs(y) < 0.8)
    assert np.array_equal(shots.hidden, expected)
    assert not shots.hidden[shots.ring == 0].any()
    assert shots.hidden[shots.ring == 2].all() or shots.hidden[shots.ring == 2].mean() > 0.9


@settings(deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_drawn_sensors_stay_within_the_ranges(seed: int) -> None:
    limits = ranges()
    sensor = limits.draw(np.random.default_rng(seed))
    assert sensor == limits.draw(np.random.default_rng(seed))
    shots = len(shots_of(sensor, 0).time)
    assert 2_000 < shots <= 128 * 1201  # the AT128's
    if sensor.source != "drawn at random":
        assert sensor in [sensor_of(name) for name in limits.known]
        return
    assert limits.height_m[0] <= sensor.mount.height_m <= limits.height_m[1]
    assert limits.lost[0] * 0.999 <= sensor.ranging.lost <= limits.lost[1] * 1.001
    intensity = sensor.intensity
    asphalt = intensity.gain * 0.28**intensity.gamma + intensity.offset
    assert limits.asphalt[0] * 0.999 <= asphalt <= limits.asphalt[1] * 1.001
    assert intensity.steps in limits.steps


def test_lists_to_choose_from_may_have_two_entries_in_any_order() -> None:
    limits = LidarRanges(kind="ranges", name="x", beams=(64, 32), steps=(4095, 255))
    assert {limits.draw(np.random.default_rng(k)).intensity.steps for k in range(9)} == {255, 4095}


@pytest.mark.parametrize("name", ["lost", "asphalt", "gamma"])
def test_what_is_drawn_in_the_logarithm_is_above_0(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: .* above 0"):
        validate(LidarRanges, {"kind": "ranges", "name": "x", name: [0.0, 0.3]}, "own.yaml")


def test_a_drawn_sensor_that_cannot_be_is_told_in_one_sentence() -> None:
    limits = LidarRanges(kind="ranges", name="mine", height_m=(0.05, 0.05))
    with pytest.raises(ConfigError, match=r"^Sensor mine, as drawn: height_m: input should be greater than 0\.1"):
        limits.draw(np.random.default_rng(0))


def test_draws_reach_every_kind_of_pattern() -> None:
    drawn = [ranges().draw(np.random.default_rng(k)) for k in range(80)]
    assert {s.pattern.kind for s in drawn} == {"spinning", "raster", "rosette"}
    whole = [s for s in drawn if s.source != "drawn at random"]
    assert 0.15 * len(drawn) < len(whole) < 0.45 * len(drawn)
    assert len({s.pattern.beams for s in drawn}) > 6


def test_calibrations_are_a_sensors_own() -> None:
    sensor = changed(ranging={"beam_bias_m": 0.5, "noise_m": [0.01, 0.02]})
    first, again, other = (draw_errors(sensor, np.random.default_rng(k)) for k in (1, 1, 2))
    assert first.reach.shape == (2,)
    assert np.abs(first.reach).max() <= LARGEST_BIAS
    assert np.array_equal(first.reach, again.reach)
    assert not np.array_equal(first.reach, other.reach)
    assert 0.01 <= first.noise <= 0.02


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"pattern": PLAIN["pattern"] | {"offset_m": [0.1]}}, r"offset_m has 1 numbers for 2 beams"),  # type: ignore[operator]
        ({"pattern": PLAIN["pattern"] | {"sector_deg": [50, -50]}}, r"from the right end to the left end"),  # type: ignore[operator]
        ({"intensity": {"contrast": [0.0]}}, r"contrast has 1 numbers for 2 beams"),
        ({"mount": {"blind": [{"ring": 5, "azimuth_deg": [0, 1]}]}}, r"ring 5 of 2 beams"),
        ({"mount": {"blind": [{"ring": 0, "azimuth_deg": [350, 10]}]}}, r"ring 0: azimuths 350 to 10"),
        ({"mount": {"blind": [{"ring": 0, "azimuth_deg": [-10, 10]}]}}, r"ring 0: azimuths -10 to 10"),
        ({"pattern": PLAIN["pattern"] | {"marks": 400, "azimuth_deg": 3.0}}, r"azimuth_deg has no effect with marks"),  # type: ignore[operator]
        ({"mount": {"hight_m": 2}}, r"did you mean 'height_m'"),
    ],
)
def test_wrong_files_are_refused_in_one_sentence(section: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        changed(**section)


def test_an_unknown_sensor_names_the_known_ones_as_they_are_given(tmp_path: Path) -> None:
    for name in ("vlp61", "mine.yaml", str(tmp_path)):
        with pytest.raises(ConfigError, match=rf"no sensor '{name}'.* at128, .*vlp16, vlp32c\.$"):
            load_sensor(name)


def test_a_parameter_file_is_told_from_a_sensor(tmp_path: Path) -> None:
    (tmp_path / "sensor.yaml").write_text("/**: {ros__parameters: {input: {z_offset_m: 0.1}}}\n")
    with pytest.raises(ConfigError, match=r"sensor\.yaml has no section 'pattern'.*--sensor-out"):
        load_sensor(str(tmp_path / "sensor.yaml"))


def test_a_data_set_of_another_sensor_has_its_rings(tmp_path: Path) -> None:
    simulate(tmp_path, 1, 1, 3, workers=1, sensor="vlp16")
    scan = SemanticKitti(tmp_path).scan("00", 0)
    elevation = np.degrees(np.arctan2(scan.points[:, 2], np.hypot(scan.points[:, 0], scan.points[:, 1])))
    nearest = np.abs(elevation[:, None] - np.arange(-15, 16, 2)).min(axis=1)
    assert 10_000 < len(scan.points) < 16 * 1808
    assert np.median(nearest) < 0.05
    assert np.percentile(nearest, 99) < 0.2
    steps = scan.points[:, 3] * 255
    assert np.abs(steps - np.round(steps)).max() < 1e-3
    with pytest.raises(UsageError, match="other settings"):
        simulate(tmp_path, 1, 1, 3, workers=1)


def test_random_sensors_are_kept_beside_the_truth_and_can_be_used_again(tmp_path: Path) -> None:
    simulate(tmp_path / "a", 2, 1, 4, workers=1, sensor="random")
    files = [tmp_path / "a" / "truth" / "sequences" / name / "sensor.yaml" for name in ("00", "01")]
    first, second = (sensor_of(str(path)) for path in files)
    assert first != second
    simulate(tmp_path / "b", 1, 1, 4, workers=1, sensor=str(files[0]))
    scans = [tmp_path / root / "sequences" / "00" / "velodyne" / "000000.bin" for root in ("a", "b")]
    assert scans[0].read_bytes() == scans[1].read_bytes()
