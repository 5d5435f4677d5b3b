"""kd-seg calibrate: against sensors whose mounting, intensities and vehicle are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from calibration_clouds import OWN_HIGH, OWN_LOW, clouds
from console_script import kd_seg_json
from drive_bags import write_drive
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import refused

from kd_seg.core.errors import UsageError
from kd_seg.drives.calibrate import calibrate, open_recording
from kd_seg.drives.calibration.figures import count_rings, is_moving, measure, measure_intensity
from kd_seg.drives.calibration.ground import find_ground, tilt
from kd_seg.drives.calibration.own_vehicle import find_own_vehicle
from kd_seg.drives.calibration.parameters_file import parameter_lines, parameter_text, warnings
from kd_seg.drives.recording import RecordedCloud, frame_of
from kd_seg.scans import FileFormat, Points, Sensor
from kd_seg.serving.parameters import cloud_settings, read_parameters
from kd_seg.serving.sensor_input import SensorSettings


def frames(made: list[Points]) -> list[RecordedCloud]:
    return [frame_of(number, 0.1 * number, points) for number, points in enumerate(made)]


@pytest.mark.parametrize(("height", "roll", "pitch"), [(1.9, 0.0, 0.0), (1.2, 4.0, -3.0), (2.6, -2.0, 12.0)])
def test_the_ground_gives_height_and_tilt(height: float, roll: float, pitch: float) -> None:
    found = find_ground(clouds(6, height, roll, pitch))
    assert found is not None
    assert found.height_m == pytest.approx(height, abs=0.03)
    assert found.roll_deg == pytest.approx(roll, abs=0.3)
    assert found.pitch_deg == pytest.approx(pitch, abs=0.3)


@given(st.floats(-20, 20), st.floats(-20, 20))
@settings(deadline=None)
def test_a_measured_tilt_is_what_the_node_undoes(roll: float, pitch: float) -> None:
    rotation = SensorSettings(roll_deg=roll, pitch_deg=pitch + 1e-9).levelling()
    assert rotation is not None
    up_in_sensor = rotation.T @ [0, 0, 1]
    np.testing.assert_allclose(tilt(up_in_sensor), (roll, pitch), atol=1e-6)


def test_no_ground_where_there_is_none() -> None:
    rng = np.random.default_rng(0)
    assert find_ground([rng.uniform(-20, 20, (500, 4)).astype(np.float32) for _ in range(3)]) is None
    assert find_ground([np.zeros((0, 4), np.float32)]) is None


def test_the_own_vehicle_is_what_stays_while_the_world_moves() -> None:
    found = find_own_vehicle(clouds(), 1.9)
    assert found is not None
    np.testing.assert_allclose(found.lowest, OWN_LOW, atol=0.2)
    np.testing.assert_allclose(found.highest, OWN_HIGH, atol=0.2)
    assert find_own_vehicle(clouds(own=False), 1.9) is None


def test_a_standing_vehicle_is_told_from_a_moving_one() -> None:
    assert is_moving(clouds(speed=1.0))
    assert not is_moving(clouds(speed=0.0))
    standing = measure(frames(clouds(speed=0.0)))
    assert standing.own_vehicle is None
    assert any("seems to stand" in sentence for sentence in warnings(standing, Sensor()))


@pytest.mark.parametrize(
    ("scale", "name"), [(1.0, "unit"), (255.0, "byte"), (65535.0, "uint16")], ids=["unit", "byte", "uint16"]
)
def test_intensities_give_range_and_gain(scale: float, name: str) -> None:
    values = (np.linspace(0.01, 0.99, 999) * scale).astype(np.float32)
    found = measure_intensity(values, 0.25)
    assert (found.range, found.constant) == (name, False)
    assert found.gain == pytest.approx(0.5, abs=0.01)
    assert measure_intensity(np.full(5, 0.3, np.float32), 0.28).gain == 1.0


def test_rings_by_field_and_by_elevation() -> None:
    elevation = np.radians(np.linspace(-15, 15, 16))
    azimuth = np.linspace(-np.pi, np.pi, 900)
    grid_e, grid_a = np.meshgrid(elevation, azimuth)
    xyz = 20 * np.stack([np.cos(grid_e) * np.cos(grid_a), np.cos(grid_e) * np.sin(grid_a), np.sin(grid_e)], -1)
    points = np.concatenate([xyz.reshape(-1, 3), np.full((xyz.size // 3, 1), 0.3)], axis=1).astype(np.float32)
    assert count_rings([frame_of(0, 0.0, points)]) == 16
    rings = np.arange(len(points)) % 40
    assert count_rings([frame_of(0, 0.0, points, None, rings)]) == 40


def test_the_parameter_file_makes_the_sensor_what_the_checkpoint_expects(tmp_path: Path) -> None:
    figures = measure(frames(clouds(height=2.2, roll=3.0, gain=0.05)))
    text = parameter_text(parameter_lines(figures, Sensor(), ["reflectivity"]), "drive.mcap")
    path = tmp_path / "sensor.yaml"
    path.write_text(text)
    sensor = cloud_settings(read_parameters(path)).sensor
    assert sensor.intensity_range == "unit"
    assert sensor.intensity_gain == pytest.approx(20, rel=0.1)
    assert sensor.roll_deg == pytest.approx(3.0, abs=0.3)
    assert sensor.z_offset_m == pytest.approx(2.2 - 1.73, abs=0.05)
    assert sensor.own_vehicle[5] == pytest.approx(OWN_HIGH[2] + 0.1, abs=0.1)
    assert "above the ground" in text
    assert yaml.safe_load(text)["/**"]["ros__parameters"]["input"]["intensity_fields"] == ["reflectivity"]


def test_a_level_sensor_at_the_expected_height_needs_no_correction() -> None:
    names = {line.name for line in parameter_lines(measure(frames(clouds(height=1.75, own=False))), Sensor())}
    assert names == {"intensity_range", "intensity_gain"}


def test_what_cannot_be_calibrated_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        open_recording(tmp_path / "nothing", None, ())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no point file"):
        calibrate(tmp_path / "empty", Sensor())
    with pytest.raises(UsageError, match="--topic is for bags"):
        open_recording(tmp_path / "empty", "/points", ())
    velodyne = tmp_path / "data" / "sequences" / "04" / "velodyne"
    velodyne.mkdir(parents=True)
    (velodyne / "0.bin").touch()
    with pytest.raises(UsageError, match=r"name one of its sequences, such as .*sequences/04\.$"):
        open_recording(tmp_path / "data", None, ())
    with pytest.raises(UsageError, match=r"files that name their fields; .*velodyne holds none"):
        open_recording(velodyne, None, (), FileFormat(intensity_fields=("nope",)))


def test_a_calibration_needs_a_cloud_and_a_file_beside_its_picture(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for points in clouds(1):
        points.astype("<f4").tofile(tmp_path / "0.bin")
    for count in (0, -3):
        said = refused(capsys, "calibrate", tmp_path, "--out", tmp_path / "s.yaml", "--clouds", count, code=2)
        assert "at least 1 cloud" in said
    assert "another suffix" in refused(capsys, "calibrate", tmp_path, "--out", tmp_path / "s.png", code=2)
    for folder in (".", tmp_path):
        for option in ("--out", "--sensor-out"):
            said = refused(capsys, "calibrate", tmp_path, option, folder, "--overwrite", code=2)
            assert f"{folder} is a folder" in said
    assert [path.name for path in tmp_path.iterdir()] == ["0.bin"]


def test_the_command_writes_file_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    for number, points in enumerate(clouds(12)):
        points.astype("<f4").tofile(folder / f"{number:06d}.bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    found = kd_seg_json("calibrate", folder, "--out=~/sensor.yaml")
    assert found["figures"]["ground"]["height_m"] == pytest.approx(1.9, abs=0.05)
    assert read_parameters(tmp_path / "sensor.yaml") == found["parameters"]
    assert (tmp_path / "sensor.png").read_bytes()[:4] == b"\x89PNG"


def test_times_that_are_no_sweep_do_not_stop_a_calibration(tmp_path: Path) -> None:
    drive = write_drive(tmp_path / "bag", scans=3, sweep_s=2.0, camera=False)
    found = calibrate(drive.path, Sensor())
    assert found.figures.sweep_s == 0.0
    assert [warning for warning in found.warnings if "spans 2 s within one cloud" in warning]
