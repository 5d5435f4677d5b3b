"""kd-seg convert: from bags and folders to a data root, against what the made-up drive knows."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from console_script import kd_seg
from drive_bags import LIDAR_TO_CAMERA, Drive, K, write_drive
from in_process import call, refused
from made_files import ply
from ros_clouds import street_points
from scipy.spatial.transform import Rotation

from kd_seg.core.errors import DataError, UsageError
from kd_seg.core.geometry import transform
from kd_seg.drives.convert import Converted, ConvertOptions, convert
from kd_seg.drives.recording import FolderRecording
from kd_seg.scans import KittiSequence, SemanticKitti
from kd_seg.serving.parameters import read_parameters


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Drive:
    return write_drive(tmp_path_factory.mktemp("drive") / "bag", broken=3)


def silent(name: str, total: int) -> Callable[[int], None]:
    return lambda count: None


def run(source: Path, out: Path, **options: object) -> Converted:
    return convert(source, out, ConvertOptions(**options), silent)  # type: ignore[arg-type]


def spread(sequence: KittiSequence, world: np.ndarray) -> float:
    """Largest distance of any scan's points, moved by its pose, from where the world has them."""
    first = None
    worst = 0.0
    for index in sequence.indices:
        scan = sequence.scan(index)
        assert scan.pose is not None
        seen = transform(scan.pose, scan.points[:, :3])
        first = seen if first is None else first
        worst = max(worst, float(np.abs(seen - first).max()))
        assert len(seen) == len(world)
    return worst


@pytest.mark.parametrize("motion", [{"odometry": "/odom"}, {"tf": "odom"}], ids=["odometry", "tf"])
def test_scans_moved_by_their_poses_show_one_world(drive: Drive, tmp_path: Path, motion: dict[str, str]) -> None:
    report = run(drive.path, tmp_path, **motion)
    sequence = SemanticKitti(tmp_path).sequences["00"]
    assert report.scans == len(sequence.indices) == 5
    assert report.left_out == {"clouds refused (truncated)": 1}
    assert spread(sequence, drive.world) < 2e-3
    expected = np.linalg.inv(drive.poses[0]) @ drive.poses[5]
    np.testing.assert_allclose(sequence.poses[4], expected, atol=1e-4)
    np.testing.assert_allclose(sequence.times, [0, 0.1, 0.2, 0.4, 0.5], atol=1e-5)
    driven = np.linalg.norm(np.diff(drive.poses[[0, 1, 2, 4, 5], :3, 3], axis=0), axis=1).sum()
    assert report.metres == pytest.approx(driven, abs=1e-3)


def test_intensities_become_0_to_1_and_missing_returns_are_left_out(drive: Drive, tmp_path: Path) -> None:
    report = run(drive.path, tmp_path, odometry="/odom")
    points = SemanticKitti(tmp_path)[0].points
    assert report.intensity_range == "byte"
    assert any("taken as byte" in warning for warning in report.warnings)
    np.testing.assert_allclose(points[:, 3], np.linspace(0, 1, len(points)), atol=1e-5)


def test_deskewing_undoes_the_motion_within_a_sweep(tmp_path: Path) -> None:
    drive = write_drive(tmp_path / "bag", scans=4, sweep_s=0.09, camera=False)
    run(drive.path, tmp_path / "raw", odometry="/odom")
    run(drive.path, tmp_path / "undone", odometry="/odom", deskew=True)

    def error(root: Path) -> float:
        scan = SemanticKitti(root)[2]
        true = transform(np.linalg.inv(drive.poses[2]), drive.world)
        return float(np.abs(scan.points[:, :3] - true).max())

    assert error(tmp_path / "raw") > 0.5
    assert error(tmp_path / "undone") < 0.05


@pytest.mark.parametrize(
    ("late_s", "error", "message"),
    [(3.0, DataError, "3.04 s away from their cloud's stamp"), (0.0, UsageError, "no such field")],
)
def test_points_that_cannot_be_deskewed_leave_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late_s: float, error: type[Exception], message: str
) -> None:
    drive = write_drive(tmp_path / "bag", scans=2, sweep_s=0.09, camera=False, late_s=late_s)
    if late_s == 0.0:
        monkeypatch.setattr("kd_seg.drives.point_fields.TIME_FIELDS", ("nothing",))
    with pytest.raises(error, match=message):
        run(drive.path, tmp_path / "out", odometry="/odom", deskew=True)
    assert run(drive.path, tmp_path / "out", odometry="/odom").scans == 2


def test_a_camera_that_nothing_connects_leaves_no_folder(
    drive: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unconnected(*_: object) -> None:
        raise DataError("No transform connects them.")

    with monkeypatch.context() as patched:
        patched.setattr("kd_seg.drives.convert.calibrate_cameras", unconnected)
        with pytest.raises(DataError, match="No transform"):
            run(drive.path, tmp_path, odometry="/odom", cameras=("/camera/image_raw/compressed",))
    assert run(drive.path, tmp_path, odometry="/odom").scans == 5


def test_pictures_lie_beside_their_scans_and_points_project_into_them(drive: Drive, tmp_path: Path) -> None:
    report = run(drive.path, tmp_path, odometry="/odom", cameras=("/camera/image_raw/compressed",))
    scan = SemanticKitti(tmp_path)[3]
    assert report.pictures == 5
    (camera,) = scan.cameras
    assert camera.read()[0, 0, 2] == 40  # the fifth cloud's picture: the fourth cloud was refused
    in_camera = transform(LIDAR_TO_CAMERA, scan.points[:, :3])
    pixels = in_camera @ K.T
    ours = np.c_[scan.points[:, :3].astype(float), np.ones(len(scan.points))] @ camera.matrix().T
    np.testing.assert_allclose(ours, pixels, atol=1e-3)


def test_a_distorted_picture_is_rectified(tmp_path: Path) -> None:
    drive = write_drive(tmp_path / "bag", scans=2, distortion=-0.2)
    run(drive.path, tmp_path / "out", odometry="/odom", cameras=("/camera/image_raw/compressed",))
    (camera,) = SemanticKitti(tmp_path / "out")[0].cameras
    column, row = 100, 60
    x, y = (column - 60) / 90, (row - 40) / 90
    bend = 1 - 0.2 * (x * x + y * y)
    red, green, _ = camera.read()[row, column]
    assert red == pytest.approx(90 * x * bend + 60, abs=1)
    assert green == pytest.approx(90 * y * bend + 40, abs=1)


def test_a_picture_that_was_recorded_rectified_stays_as_it_is(tmp_path: Path) -> None:
    topic = "/camera/image_rect_color/compressed"
    drive = write_drive(tmp_path / "bag", scans=2, distortion=-0.2, pictures=topic)
    run(drive.path, tmp_path / "out", odometry="/odom", cameras=(topic,))
    (camera,) = SemanticKitti(tmp_path / "out")[0].cameras
    assert tuple(camera.read()[60, 100, :2]) == (100, 60)  # red is the column, green the row


def test_an_interrupted_conversion_goes_on(drive: Drive, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(drive.path, whole, odometry="/odom")

    class Stop(Exception):
        pass

    def failing(name: str, total: int) -> Callable[[int], None]:
        done = {"count": 0}

        def advance(count: int) -> None:
            done["count"] += count
            if name == "converting" and done["count"] >= 3:
                raise Stop

        return advance

    with pytest.raises(Stop):
        convert(drive.path, cut, ConvertOptions(odometry="/odom"), failing)
    before = {p: p.stat().st_mtime_ns for p in cut.rglob("*.bin")}
    assert len(before) == 3
    run(drive.path, cut, odometry="/odom")
    assert all(p.stat().st_mtime_ns == t for p, t in before.items())
    assert files(whole) == files(cut)


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_other_options_or_foreign_files_are_refused(drive: Drive, tmp_path: Path) -> None:
    run(drive.path, tmp_path, odometry="/odom")
    with pytest.raises(UsageError, match="--overwrite"):
        run(drive.path, tmp_path, odometry="/odom", every=2)
    assert run(drive.path, tmp_path, odometry="/odom", every=2, overwrite=True).scans == 3
    foreign = tmp_path / "sequences" / "01" / "velodyne"
    foreign.mkdir(parents=True)
    (foreign / "000000.bin").write_bytes(b"mine")
    with pytest.raises(UsageError, match="did not write"):
        run(drive.path, tmp_path, odometry="/odom", sequence="01", overwrite=True)
    assert (foreign / "000000.bin").read_bytes() == b"mine"


def test_a_folder_of_files_with_a_tum_file(drive: Drive, tmp_path: Path) -> None:
    run(drive.path, tmp_path / "bag", odometry="/odom", limit=3)
    folder = tmp_path / "loose"
    folder.mkdir()
    rows = ["# time x y z qx qy qz qw"]
    for index in range(3):
        scan = SemanticKitti(tmp_path / "bag")[index]
        scan.points.astype("<f4").tofile(folder / f"{index:03d}.bin")
        pose = drive.poses[index]
        numbers = [drive.times[index], *pose[:3, 3], *Rotation.from_matrix(pose[:3, :3]).as_quat()]
        rows.append(" ".join(f"{number:.9f}" for number in numbers))
    (tmp_path / "poses.tum").write_text("\n".join(rows))
    unposed = " ".join(run(folder, tmp_path / "unposed").warnings)
    assert "--kiss-icp or --poses FILE.tum" in unposed
    assert "--tf" not in unposed  # which is for bags
    report = run(folder, tmp_path / "out", poses=tmp_path / "poses.tum")
    assert report.scans == 3
    assert spread(SemanticKitti(tmp_path / "out").sequences["00"], drive.world) < 2e-3
    (folder / "003.bin").write_bytes((folder / "002.bin").read_bytes())
    with pytest.raises(DataError, match="4 point files and the trajectory 3 poses"):
        run(folder, tmp_path / "out2", poses=tmp_path / "poses.tum")


def test_files_are_taken_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "loose"
    folder.mkdir()
    rows = []
    for number in range(12):
        np.full((4, 4), 0.5 + number, "<f4").tofile(folder / f"scan_{number}.bin")
        rows.append(f"{0.1 * number:.1f} {number} 0 0 0 0 0 1")
    (tmp_path / "poses.tum").write_text("\n".join(rows))
    (folder / "._scan_0.bin").write_bytes(bytes(100))  # macOS leaves such beside what it copies
    run(folder, tmp_path / "out", poses=tmp_path / "poses.tum")
    sequence = SemanticKitti(tmp_path / "out").sequences["00"]
    assert [sequence.scan(k).points[0, 0] for k in range(12)] == [0.5 + k for k in range(12)]
    for number, path in enumerate(FolderRecording(folder, None).paths):
        path.rename(folder / f"{9.75 + 0.25 * number}.bin")
    np.testing.assert_allclose(FolderRecording(folder, None).stamps(), 9.75 + 0.25 * np.arange(12))


def test_a_source_that_changed_is_not_taken_for_what_was_converted(tmp_path: Path) -> None:
    folder = tmp_path / "loose"
    folder.mkdir()
    np.full((4, 4), 1.0, "<f4").tofile(folder / "0.bin")
    report = run(folder, tmp_path / "out")
    assert (report.points, run(folder, tmp_path / "out").points) == (4, 4)
    np.full((4, 4), 2.0, "<f4").tofile(folder / "0.bin")
    os.utime(folder / "0.bin", ns=(1, 1))
    with pytest.raises(UsageError, match="from another recording"):
        run(folder, tmp_path / "out")
    run(folder, tmp_path / "out", overwrite=True)
    assert SemanticKitti(tmp_path / "out")[0].points[0, 0] == 2.0
    labels = tmp_path / "out" / "sequences" / "00" / "labels"
    labels.mkdir()
    with pytest.raises(UsageError, match="also holds labels, which kd-seg convert did not write"):
        run(folder, tmp_path / "out", overwrite=True)
    assert labels.is_dir()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"odometry": "/odom", "tf": "odom"}, "exclude each other"),
        ({"deskew": True}, "--deskew needs poses"),
        ({"odometry": "/nowhere"}, "it has: /odom"),
        ({"tf": "map"}, "No transform connects"),
        ({"cameras": ("/nowhere",), "odometry": "/odom"}, "its image topics: /camera/image_raw/compressed"),
        ({"points": "/nowhere"}, "its PointCloud2 topics: /points"),
        ({"extrinsic": "1 2 3", "odometry": "/odom"}, "--extrinsic '1 2 3' is not six numbers"),
        ({"extrinsic": "1 2 3 0 0 0", "tf": "odom"}, "--extrinsic goes with --odometry or --poses"),
        ({"extrinsic": "1 2 3 0 0 0"}, "--extrinsic goes with --odometry or --poses"),
        ({"sequence": ""}, "is no name of a folder"),
        ({"camera_infos": ("/camera/camera_info",)}, "--camera-info belongs to a --camera"),
        ({"sequence": ".."}, "is no name of a folder"),
        ({"sequence": "../00"}, "is no name of a folder"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    drive: Drive, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises((UsageError, DataError), match=message):
        run(drive.path, tmp_path, **options)
    assert not list(tmp_path.rglob("*.bin"))


def test_without_poses_it_names_the_topic_that_has_them(drive: Drive, tmp_path: Path) -> None:
    report = run(drive.path, tmp_path)
    assert any("--odometry /odom" in warning for warning in report.warnings)
    assert not (tmp_path / "sequences" / "00" / "poses.txt").exists()


def test_the_command(drive: Drive, tmp_path: Path) -> None:
    done = kd_seg("convert", drive.path, "--odometry", "/odom", "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["scans"] == 5
    assert summary["poses_from"] == "/odom"
    assert "left out: 1 clouds refused (truncated)" in done.stderr


def test_intensities_are_taken_as_the_calibration_found_them(drive: Drive, tmp_path: Path) -> None:
    params = tmp_path / "sensor.yaml"
    params.write_text(
        "/**:\n  ros__parameters:\n    input:\n      intensity_range: uint16\n      intensity_gain: 2.0\n"
    )
    done = kd_seg("convert", drive.path, "--odometry", "/odom", "--params", params, "--out", tmp_path / "out", "--json")
    content = json.loads(done.stdout)
    assert content["intensity_range"] == "uint16"
    assert content["warnings"] == []
    points = SemanticKitti(tmp_path / "out")[0].points
    np.testing.assert_allclose(points[:, 3], np.linspace(0, 255 / 65535, len(points)), atol=1e-6)


def test_files_lie_as_the_parameters_say(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    points = np.column_stack([street_points(600), np.arange(600) % 16]).astype("<f4")
    folder = tmp_path / "five"
    folder.mkdir()
    points.tofile(folder / "0.bin")
    assert "input.columns=5" in refused(capsys, "convert", folder, "--out", tmp_path / "a")
    done = call(capsys, "convert", folder, "--out", tmp_path / "a", "--set", "input.columns=5")
    assert done.code == 0, done
    np.testing.assert_array_equal(SemanticKitti(tmp_path / "a")[0].points[:, :3], points[:, :3])
    named = tmp_path / "named"
    named.mkdir()
    columns = {name: points[:, k] for k, name in enumerate(("x", "y", "z", "nir"))}
    (named / "0.ply").write_bytes(ply([("f4", name) for name in columns], columns))
    blind = call(capsys, "convert", named, "--out", tmp_path / "b")
    assert "--set input.intensity_fields=[NAME]" in blind.err
    done = call(capsys, "convert", named, "--out", tmp_path / "c", "--set", "input.intensity_fields=[nir]")
    assert done.code == 0, done
    np.testing.assert_allclose(SemanticKitti(tmp_path / "c")[0].points[:, 3], points[:, 3] / 255, atol=1e-6)
    found = call(capsys, "calibrate", named, "--out", tmp_path / "s.yaml", "--set", "input.intensity_fields=[nir]")
    assert found.code == 0, found
    assert read_parameters(tmp_path / "s.yaml")["input.intensity_fields"] == ["nir"]


@pytest.mark.parametrize("command", ["convert", "calibrate"])
def test_parameters_that_do_not_apply(
    capsys: pytest.CaptureFixture[str], drive: Drive, tmp_path: Path, command: str
) -> None:
    np.zeros((9, 4), "<f4").tofile(tmp_path / "0.bin")
    (tmp_path / "ply").mkdir()
    columns = {name: np.ones(9) for name in "xyz"}
    (tmp_path / "ply" / "0.ply").write_bytes(ply([("f4", name) for name in columns], columns))
    for source, override, said in (
        (drive.path, "input.z_offset_m=1", "input.z_offset_m does not apply to a bag"),
        (drive.path, "input.columns=5", "input.columns does not apply to a bag"),
        (tmp_path, "input.roll_deg=1", "input.roll_deg does not apply to a folder of point files"),
        (tmp_path / "ply", "input.columns=5", "input.columns and input.dtype are for .bin files"),
    ):
        assert said in refused(capsys, command, source, "--out", tmp_path / "out", "--set", override, code=2)
