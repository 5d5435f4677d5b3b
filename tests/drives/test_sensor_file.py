"""kd-seg calibrate --sensor-out: known sensors of the simulator, seen in a made-up world, are found again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from console_script import kd_seg, kd_seg_json
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_seg.core.errors import DataError
from kd_seg.drives.calibration import beams
from kd_seg.drives.calibration.beams import find_beams
from kd_seg.drives.calibration.figures import measure
from kd_seg.drives.calibration.ground import GroundPlane, tilt
from kd_seg.drives.calibration.intensity_response import (
    FAR_FACTOR,
    FAR_SIGNAL,
    GROUND_SIGNAL,
    LEVELS,
    OBJECT_SIGNAL,
    Populations,
    fit_response,
    populations,
)
from kd_seg.drives.calibration.sensor_file import sensor_file
from kd_seg.drives.recording import RecordedCloud, frame_of
from kd_seg.streets.scenario import compose
from kd_seg.streets.sensors.patterns import shots_of
from kd_seg.streets.sensors.ranges import load_sensor
from kd_seg.streets.sensors.settings import Lidar

ELEVATIONS = (8.0, 3.0, 1.0, -1.0, -3.0, -6.0, -9.0, -14.0)


def lidar(**changes: object) -> Lidar:
    pattern = {"kind": "spinning", "elevation_deg": list(ELEVATIONS), "shots": 720}
    mount = {"height_m": 1.4, "own_car": {"below_m": 0.2, "front_m": 1.0, "rear_m": 1.6, "side_m": 0.8}}
    return Lidar.model_validate({"name": "x", "source": "x", "pattern": pattern, "mount": mount, **changes})


def drive_of(sensor: Lidar, rings: bool, clouds: int = 12, lost: float = 0.1) -> list[RecordedCloud]:
    """The sensor between two walls with gaps, over flat ground; bytes as intensities, ground darker than walls."""
    rng = np.random.default_rng(4)
    shots = shots_of(sensor, 0)
    frames = []
    for number in range(clouds):
        kept = ~shots.hidden & (rng.random(len(shots.hidden)) >= lost)
        along, beam, moment = shots.direction[kept].astype(np.float64), shots.ring[kept], shots.time[kept]
        ground = np.where(along[:, 2] < -1e-6, sensor.mount.height_m / np.maximum(-along[:, 2], 1e-6), 1e3)
        wall = np.minimum(np.where(along[:, 1] > 0, 9.0, 12.0) / np.maximum(np.abs(along[:, 1]), 1e-6), 1e3)
        gap = np.sin((along[:, 0] * wall + 1.3 * number) / 4.0) > 0.3
        wall = np.where(gap, 3.0 * wall, wall)
        reach = np.minimum(ground, wall)
        seen = reach < 60.0
        intensity = np.where(ground < wall, 20.0, 40.0) + rng.integers(0, 5, len(reach))
        points = np.column_stack([along * reach[:, None], intensity])[seen].astype(np.float32)
        times, fields = 0.1 * moment[seen].astype(np.float64), 7 - beam[seen].astype(np.int64)
        frames.append(frame_of(number, 0.1 * number, points, times, fields if rings else None))
    return frames


@pytest.mark.parametrize("rings", [True, False], ids=["ring field", "no ring field"])
def test_beams_shots_shadows_and_losses_are_found(rings: bool) -> None:
    sensor = lidar()
    found = find_beams(drive_of(sensor, rings), 1.4, None, 360.0, moving=True)
    assert found is not None
    np.testing.assert_allclose(found.elevation_deg, ELEVATIONS, atol=0.04)
    assert found.shots == pytest.approx(720, abs=8)
    assert found.sector_deg is None
    assert found.clockwise
    assert found.lost == pytest.approx(0.1, abs=0.04)
    again = shots_of(
        lidar(mount={"blind": [{"ring": ring, "azimuth_deg": ranges} for ring, ranges in found.hidden]}), 0
    )
    truth = shots_of(sensor, 0).hidden
    assert truth.any()
    assert (again.hidden == truth).mean() > 0.98


def test_beams_may_have_any_numbers() -> None:
    """Of a field that is called ring and holds something else, the sparse numbers cost nothing."""
    frames = drive_of(lidar(), True)
    first = frames[0].rings
    assert first is not None
    first[0] = 10**15
    found = find_beams(frames, 1.4, None, 360.0, moving=True)
    assert found is not None
    np.testing.assert_allclose(found.elevation_deg, ELEVATIONS, atol=0.04)


def test_a_sector_and_the_direction_of_turning_are_found() -> None:
    pattern = {"kind": "spinning", "elevation_deg": list(ELEVATIONS), "shots": 720, "clockwise": False}
    frames = drive_of(lidar(pattern={**pattern, "sector_deg": [-50, 40]}, mount={"height_m": 1.4}), rings=True)
    found = find_beams(frames, 1.4, None, 90.0, moving=True)
    assert found is not None
    assert found.sector_deg == pytest.approx((-50, 40), abs=1.5)
    assert not found.clockwise
    assert found.hidden == ()


def test_a_beam_that_sees_its_vehicle_alone_is_left_out_and_smeared_elevations_are_no_beams() -> None:
    frames = drive_of(lidar(), rings=True)
    silent = []
    for frame in frames:
        assert frame.rings is not None
        keep = frame.rings != 0
        silent.append(replace(frame, points=frame.points[keep], rings=frame.rings[keep], times=None))
    found = find_beams(silent, 1.4, None, 360.0, moving=True)
    assert found is not None
    np.testing.assert_allclose(found.elevation_deg, ELEVATIONS[:-1], atol=0.04)
    rng = np.random.default_rng(1)
    smeared = rng.normal(0, 1, (5000, 3)) * [20, 20, 3]
    cloud = np.column_stack([smeared, np.ones(5000)]).astype(np.float32)
    assert find_beams([frame_of(0, 0.0, cloud)], 1.4, None, 360.0, moving=True) is None


def test_a_beam_stays_one_where_the_motion_within_a_sweep_was_undone() -> None:
    frames = []
    for frame in drive_of(lidar(mount={"height_m": 1.4}), rings=True):
        assert frame.times is not None
        points = frame.points.copy()
        points[:, 0] += 3.0 * frame.times.astype(np.float32)
        frames.append(replace(frame, points=points, rings=None))
    found = find_beams(frames, 1.4, None, 360.0, moving=True)
    assert found is not None
    np.testing.assert_allclose(found.elevation_deg, ELEVATIONS, atol=0.15)
    assert found.hidden == ()


def test_dark_cars_beside_the_road_do_not_count_as_the_sensors_response() -> None:
    rng = np.random.default_rng(6)
    turn, reach = rng.uniform(-np.pi, np.pi, 4000), rng.uniform(4, 12, 4000)
    height = np.concatenate([np.full(2000, -1.4), rng.uniform(-0.5, 0.5, 2000)])
    shown = np.concatenate([rng.uniform(20, 40, 2000), np.full(900, 1.0), np.full(1100, 80.0)])
    cloud = np.column_stack([reach * np.cos(turn), reach * np.sin(turn), height, shown]).astype(np.float32)
    ground = GroundPlane(1.4, 0.0, 0.0, 0.0, 0.0, 1.0, 1)
    found = populations([cloud], ground, 255.0)
    assert (len(found.ground), len(found.objects), len(found.far)) == (2000, 1100, 0)
    np.testing.assert_allclose(found.objects, 80 / 255, atol=1e-6)
    assert populations([cloud[2000:]], ground, 255.0).ground.size == 0


def test_lines_of_a_petal_pattern_are_no_beams() -> None:
    livox = load_sensor("livox")
    assert isinstance(livox, Lidar)
    frames = []
    for number in range(10):
        shots = shots_of(livox, number)
        points = np.column_stack([20.0 * shots.direction, np.ones(len(shots.ring))]).astype(np.float32)
        frames.append(frame_of(number, 0.1 * number, points, None, shots.ring.astype(np.int64)))
    assert find_beams(frames, 1.4, None, 80.0, moving=True) is None


def test_of_dense_clouds_some_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = drive_of(lidar(), rings=True, clouds=40)
    whole = find_beams(frames, 1.4, None, 360.0, moving=True)
    monkeypatch.setattr(beams, "MOST_RETURNS", len(frames[0].points) * 15)
    some = find_beams(frames, 1.4, None, 360.0, moving=True)
    assert whole is not None
    assert some is not None
    np.testing.assert_allclose(some.elevation_deg, whole.elevation_deg, atol=0.01)
    assert some.shots == pytest.approx(whole.shots, abs=2)
    assert some.lost == pytest.approx(whole.lost, abs=0.02)
    assert some != whole  # fewer returns were read


@given(st.floats(0.5, 4.0), st.floats(0.05, 2.0), st.floats(0.0, 0.05), st.floats(0.0, 1.8))
@settings(deadline=None, max_examples=25)
def test_the_response_is_the_one_that_made_the_intensities(
    gamma: float, gain: float, offset: float, power: float
) -> None:
    levels, spread = np.array(LEVELS), np.linspace(0, 100, 4001)

    def shown(signal: np.ndarray) -> np.ndarray:
        return (gain * signal**gamma + offset).astype(np.float32)

    ground, objects = (shown(np.interp(spread, levels, signal)) for signal in (GROUND_SIGNAL, OBJECT_SIGNAL))
    far = shown(np.full(4000, FAR_SIGNAL * FAR_FACTOR**-power))
    found = fit_response(Populations(ground, objects, far))
    assert found is not None
    assert found.steps == 65535
    assert found.error < 0.02
    ours = found.gain * np.array(GROUND_SIGNAL) ** found.gamma + found.offset
    np.testing.assert_allclose(ours, shown(np.array(GROUND_SIGNAL)), rtol=0.03)
    again = found.gain * (FAR_SIGNAL * FAR_FACTOR**-found.power) ** found.gamma + found.offset
    assert again == pytest.approx(float(np.median(far)), rel=0.1, abs=0.1 * float(np.median(ground)))


def test_too_few_returns_give_no_response() -> None:
    few, many = np.ones(10, np.float32), np.ones(4000, np.float32)
    assert fit_response(Populations(few, many, many)) is None
    assert fit_response(Populations(many, few, many)) is None


def test_the_file_is_one_that_the_simulator_takes(tmp_path: Path) -> None:
    frames = drive_of(lidar(), rings=True)
    path = tmp_path / "lidar.yaml"
    path.write_text(sensor_file(frames, measure(frames), "drive.mcap"))
    found = load_sensor(str(path))
    assert isinstance(found, Lidar)
    assert found.mount.height_m == pytest.approx(1.4, abs=0.03)
    assert found.pattern.beams == len(ELEVATIONS)
    assert found.intensity.steps == 255
    assert found.mount.blind
    assert "drive.mcap" in found.source


def test_a_sensor_without_beams_is_spread_over_its_field_of_view(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(2)
    frames = []
    for number, frame in enumerate(drive_of(lidar(mount={"height_m": 1.4}), rings=False)):
        distance = np.linalg.norm(frame.points[:, :3], axis=1)
        lifted = frame.points + (rng.normal(0, 0.02, len(distance)) * distance)[:, None] * np.array([0, 0, 1, 0])
        front = np.abs(np.degrees(np.arctan2(lifted[:, 1], lifted[:, 0]))) < 40
        ground = np.column_stack([rng.uniform(3, 20, 2000), rng.uniform(-2, 2, 2000), np.full(2000, -1.4)])
        seen = np.concatenate([lifted[front], np.column_stack([ground, np.full(2000, 20.0)])]).astype(np.float32)
        frames.append(frame_of(number, 0.1 * number, seen))
    content = yaml.safe_load(sensor_file(frames, measure(frames), "x"))
    assert content["pattern"]["kind"] == "raster"
    assert "No beams were found, so the sensor file holds an even raster" in caplog.text
    assert content["pattern"]["azimuth_deg"] == pytest.approx([-40, 40], abs=3)
    shots = content["pattern"]["rows"] * content["pattern"]["columns"]
    assert shots == pytest.approx(np.median([len(frame.points) for frame in frames]), rel=0.1)


@pytest.mark.parametrize(("roll_deg", "pitch_deg"), [(6.0, 0.0), (-4.0, 8.0)])
def test_a_tilted_sensor_is_simulated_with_the_tilt_that_was_measured(roll_deg: float, pitch_deg: float) -> None:
    figures = measure(drive_of(lidar(), rings=True))
    assert figures.ground is not None
    leaning = replace(figures, ground=replace(figures.ground, roll_deg=roll_deg, pitch_deg=pitch_deg))
    written = Lidar.model_validate(yaml.safe_load(sensor_file(drive_of(lidar(), rings=True), leaning, "d")))
    leans = [tilt(compose(0, 0, 1, 1.0, sensor).ego.poses[0][2, :3]) for sensor in (written, lidar())]
    np.testing.assert_allclose(np.subtract(*leans), (roll_deg, pitch_deg), atol=0.5)


def test_without_ground_there_is_no_sensor_file() -> None:
    rng = np.random.default_rng(0)
    frames = [frame_of(k, 0.1 * k, rng.uniform(-20, 20, (500, 4)).astype(np.float32)) for k in range(3)]
    with pytest.raises(DataError, match="No ground was found in x"):
        sensor_file(frames, measure(frames), "x")


def test_the_command_writes_the_sensor_and_keeps_files_that_are_there(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    for frame in drive_of(lidar(), rings=False):
        frame.points.astype("<f4").tofile(folder / f"{frame.number:06d}.bin")
    out, sensor = tmp_path / "sensor.yaml", tmp_path / "lidar.yaml"
    found = kd_seg_json("calibrate", folder, "--out", out, "--sensor-out", sensor)
    assert found["sensor_file"] == str(sensor)
    assert isinstance(load_sensor(str(sensor)), Lidar)
    out.unlink()
    out.with_suffix(".png").unlink()
    refused = kd_seg("calibrate", folder, "--out", out, "--sensor-out", sensor, code=2)
    assert f"{sensor} exists" in refused.stderr
    assert not out.exists()
    same = kd_seg("calibrate", folder, "--out", out, "--sensor-out", out, code=2)
    assert "they are different files" in same.stderr
