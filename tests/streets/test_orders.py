"""What a data set is ordered with: its header, its limits, and the folders that it may write to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kd_seg.core.errors import UsageError
from kd_seg.streets import simulate
from kd_seg.streets.layout.world import Hits
from kd_seg.streets.sensors.camera import visible
from kd_seg.streets.sensors.ranges import load_sensor
from kd_seg.streets.sensors.rig import PROJECTIONS, camera_centre, mounted, project
from kd_seg.streets.simulate import GENERATION, Order, _check, _claim, _done
from kd_seg.streets.writer import write_sequence


def test_a_header_tells_what_changes_the_bytes() -> None:
    plain = Order().header()
    assert plain["generation"] == GENERATION
    assert "sensor" not in plain
    assert "caster" not in plain
    for changed in (
        Order(sequences=3), Order(scans=9), Order(seed=1), Order(images=True), Order(rare=2.0), Order(distort=True),
        Order(sensor=load_sensor("vlp16")), Order(sensor=load_sensor("random")), Order(caster="embreex"),
        Order(camera_shift=(0.6, 0.0, -0.8)),
    ):  # fmt: skip
        assert changed.header() != plain
    assert Order(sensor=load_sensor("vlp16")).header() == Order(sensor=load_sensor("vlp16")).header()
    json.dumps(Order(sensor=load_sensor("random"), caster="embreex").header())


@pytest.mark.parametrize(
    ("order", "name"),
    [
        (Order(sequences=0), "--sequences 0"),
        (Order(sequences=101), "--sequences 101"),
        (Order(scans=0), "--scans 0"),
        (Order(seed=-1), "--seed -1"),
        (Order(rare=-0.1), "--rare -0.1"),
        (Order(rare=float("nan")), "--rare nan"),
        (Order(camera_shift=(0.0, 5.1, 0.0)), "--camera-shift 0 5.1 0"),
        (Order(camera_shift=(float("nan"), 0.0, 0.0)), "--camera-shift nan 0 0"),
    ],
)
def test_settings_out_of_range_are_named(order: Order, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is out of range; give "):
        _check(order)


def test_a_camera_far_behind_the_lidar_sees_what_is_beside_the_lidar() -> None:
    class Empty:
        def cast(self, origin: np.ndarray, directions: np.ndarray, frame: int) -> Hits:
            """Every ray misses."""
            count = len(directions)
            missed = np.full(count, np.inf, np.float32), np.full(count, -1, np.int32), np.zeros(count, np.float32)
            return Hits(*missed, np.zeros((count, 3), np.float32))

    tr = mounted((-5.0, 0.0, 0.0))
    points = np.random.default_rng(0).uniform(-6, 6, (4000, 3)).astype(np.float32)
    found = visible(Empty(), np.eye(4), 0, points, tr=tr)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, project(points, tr=tr)[1])
    assert found[points[:, 0] < 0.5].any()


def test_the_limits_themselves_are_fine() -> None:
    for order in (Order(sequences=1, scans=1, seed=0, rare=0.0), Order(sequences=100, seed=1 << 63, rare=1000.0)):
        _check(order)


def test_nothing_that_is_not_its_own_is_ever_removed(tmp_path: Path) -> None:
    order, other = Order(seed=1), Order(seed=2, scans=7)
    for content in (None, "{}", "[]", "broken", '{"seed": 1}'):
        folder = tmp_path / f"case_{content!r:.5}".replace("'", "")
        folder.mkdir(exist_ok=True)
        (folder / "notes.txt").write_text("mine")
        if content is not None:
            (folder / "simulation.json").write_text(content)
        for overwrite in (False, True):
            with pytest.raises(UsageError, match="holds something that is no simulation"):
                _claim(folder, order, overwrite)
        assert (folder / "notes.txt").read_text() == "mine"
    folder = tmp_path / "own"
    _claim(folder, order, False)
    _claim(folder, order, False)
    (folder / "sequences" / "00").mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"other settings \(scans 40 -> 7, seed 1 -> 2\)"):
        _claim(folder, other, False)
    assert (folder / "sequences" / "00").is_dir()
    _claim(folder, other, True)
    assert not (folder / "sequences").exists()
    assert (folder / "notes.txt").read_text() == "mine"
    assert json.loads((folder / "simulation.json").read_text()) == other.header()
    with pytest.raises(UsageError, match="is a file; give a folder"):
        _claim(folder / "notes.txt", order, True)


def test_a_scan_is_done_with_its_points_and_with_its_picture_where_there_are_any(tmp_path: Path) -> None:
    assert not _done(tmp_path, "00", 3, False)
    scan = tmp_path / "sequences" / "00" / "velodyne" / "000003.bin"
    scan.parent.mkdir(parents=True)
    scan.touch()
    assert _done(tmp_path, "00", 3, False)
    assert not _done(tmp_path, "00", 3, True)
    image = tmp_path / "truth" / "sequences" / "00" / "class_2" / "000003.png"
    image.parent.mkdir(parents=True)
    image.touch()
    assert _done(tmp_path, "00", 3, True)


def test_wrong_settings_leave_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--scans 0 is out of range"):
        simulate(tmp_path / "new", scans=0, workers=1)
    assert not (tmp_path / "new").exists()


def test_poses_and_times_of_a_sequence_read_back(tmp_path: Path) -> None:
    from kd_seg.scans import SemanticKitti

    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, 0, 3] = 1.5 * np.arange(5)
    (tmp_path / "sequences" / "00" / "velodyne").mkdir(parents=True)
    write_sequence(tmp_path, "00", poses, 0.1036 * np.arange(5))
    sequence = SemanticKitti(tmp_path).sequences["00"]
    assert sequence.poses is not None
    assert sequence.times is not None
    np.testing.assert_allclose(np.linalg.norm(np.diff(sequence.poses[:, :3, 3], axis=0), axis=1), 1.5, atol=1e-5)
    np.testing.assert_allclose(sequence.times, 0.1036 * np.arange(5), atol=1e-6)
    assert sequence.calibration is not None
    assert sorted(sequence.calibration.projections) == [0, 1, 2, 3]


def test_a_moved_camera_is_in_the_calibration_and_leaves_the_poses(tmp_path: Path) -> None:
    from kd_seg.scans import SemanticKitti

    shift = (0.6, 0.1, -0.8)
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = 1.5 * np.arange(3)
    for name, tr in (("00", mounted((0.0, 0.0, 0.0))), ("01", mounted(shift))):
        (tmp_path / "sequences" / name / "velodyne").mkdir(parents=True)
        write_sequence(tmp_path, name, poses, 0.1 * np.arange(3), tr)
    usual, moved = (SemanticKitti(tmp_path).sequences[name] for name in ("00", "01"))
    assert usual.poses is not None
    np.testing.assert_allclose(moved.poses, usual.poses, atol=1e-9)
    assert moved.calibration is not None
    centre = camera_centre(2, mounted(shift))
    np.testing.assert_allclose(centre - camera_centre(2), shift, atol=1e-9)
    seen_from = PROJECTIONS[2] @ moved.calibration.tr @ np.append(centre, 1.0)
    np.testing.assert_allclose(seen_from, 0.0, atol=1e-3)
