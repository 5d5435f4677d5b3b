"""kd-seg convert and calibrate on bags with messages that cannot be read or used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drive_bags import START, STORE, Drive, write_drive
from rosbags.rosbag2 import StoragePlugin

from kd_seg.core.errors import DataError
from kd_seg.drives.calibrate import calibrate
from kd_seg.drives.convert import Converted, ConvertOptions, convert
from kd_seg.drives.recording import BagRecording, stamp_of
from kd_seg.scans import Sensor
from kd_seg.scans.calibration import read_times
from kd_seg.serving.bag_io import CLOUD, BagWriter, raw_messages


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Drive:
    return write_drive(tmp_path_factory.mktemp("drive") / "bag", broken=3)


def run(source: Path, out: Path, **options: object) -> Converted:
    return convert(source, out, ConvertOptions(**options), lambda name, total: lambda count: None)  # type: ignore[arg-type]


def changed(source: Path, target: Path, topic: str, change: Callable[[bytes], bytes], first: int = 10**6) -> Path:
    """A copy of a bag with other bytes in the first messages of a topic."""
    writer, count = BagWriter(target, StoragePlugin.MCAP, STORE), 0
    for connection, time_ns, raw in raw_messages([source]):
        wanted = connection.topic == topic and count < first
        count += wanted
        writer.copy(connection, time_ns, change(bytes(raw)) if wanted else raw)
    writer.close()
    return target


def edited(kind: str, edit: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    """Change the bytes of a message by an edit of what they mean."""

    def change(raw: bytes) -> bytes:
        message = STORE.deserialize_cdr(raw, kind)
        edit(message)
        return bytes(STORE.serialize_cdr(message, kind))

    return change


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("/tf", "a message of /tf is no readable tf2_msgs/msg/TFMessage"),
        ("/odom", "a message of /odom is no readable nav_msgs/msg/Odometry"),
        ("/camera/camera_info", "a message of /camera/camera_info is no readable sensor_msgs/msg/CameraInfo"),
    ],
)
def test_messages_that_cannot_be_read_are_one_sentence(drive: Drive, tmp_path: Path, topic: str, said: str) -> None:
    bag = changed(drive.path, tmp_path / "bag", topic, lambda raw: raw[:30])
    with pytest.raises(DataError, match=said):
        run(bag, tmp_path / "out", odometry="/odom", cameras=("/camera/image_raw/compressed",))
    assert not list(tmp_path.rglob("*.bin"))


def test_clouds_and_pictures_that_cannot_be_read_are_counted(drive: Drive, tmp_path: Path) -> None:
    bag = changed(drive.path, tmp_path / "clouds", "/points", lambda raw: raw[:30], first=2)
    report = run(bag, tmp_path / "a", odometry="/odom")
    assert (report.scans, report.left_out["clouds refused (unreadable)"]) == (3, 2)
    assert calibrate(bag, Sensor()).figures.clouds == 3
    camera = "/camera/image_raw/compressed"

    def spoiled(message: Any) -> None:
        message.data = np.ones(40, np.uint8)

    spoil = edited("sensor_msgs/msg/CompressedImage", spoiled)
    for name, change, said in (
        ("spoiled", spoil, "a compressed image ('png') cannot be read"),
        ("cut", lambda raw: raw[:10], "1 of 5 scans have no picture"),
    ):
        bag = changed(drive.path, tmp_path / name, camera, change, first=1)
        report = run(bag, tmp_path / f"out_{name}", odometry="/odom", cameras=(camera,))
        assert report.pictures == 4
        assert [warning for warning in report.warnings if said in warning]


@pytest.mark.parametrize(
    ("model", "coefficients", "said"),
    [
        ("twisted", [1.0] * 5, "distortion model 'twisted' is unknown"),
        ("rational_polynomial", [0.1] * 8 + [0.01] * 4, "12 distortion coefficients, of which 8 are known"),
        ("equidistant", [0.1] * 5, "5 distortion coefficients, of which 4 are known"),
        ("plumb_bob", [np.nan] * 5, "holds NaN or infinity"),
    ],
)
def test_a_lens_of_an_unknown_kind_leaves_no_folder(
    drive: Drive, tmp_path: Path, model: str, coefficients: list[float], said: str
) -> None:
    def bend(message: Any) -> None:
        message.distortion_model, message.d = model, np.array(coefficients)

    bag = changed(drive.path, tmp_path / "bag", "/camera/camera_info", edited("sensor_msgs/msg/CameraInfo", bend))
    with pytest.raises(DataError, match=said):
        run(bag, tmp_path / "out", odometry="/odom", cameras=("/camera/image_raw/compressed",))
    assert run(bag, tmp_path / "out", odometry="/odom").scans == 5


def test_transforms_that_are_no_motion_are_ignored_as_ros_does(drive: Drive, tmp_path: Path) -> None:
    def spoil(message: Any) -> None:
        message.transforms[0].transform.rotation.w = 0.0
        message.transforms[0].transform.rotation.z = 0.0

    bag = changed(drive.path, tmp_path / "bag", "/tf", edited("tf2_msgs/msg/TFMessage", spoil), first=3)
    report = run(bag, tmp_path / "out", tf="odom")
    assert report.scans == 5
    assert any("3 transforms of the bag are no rigid motion" in warning for warning in report.warnings)


def test_stamps_that_repeat_go_back_or_are_not_set_are_told(drive: Drive, tmp_path: Path) -> None:
    """The first cloud has no stamp, the sixth that of the fifth."""
    seen: list[Any] = []

    def spoil(message: Any) -> None:
        stamp = message.header.stamp
        seen.append((stamp.sec, stamp.nanosec))
        if len(seen) == 1:
            stamp.sec = stamp.nanosec = 0
        if len(seen) == 6:
            stamp.sec, stamp.nanosec = seen[4]

    bag = changed(drive.path, tmp_path / "bag", "/points", edited(CLOUD, spoil))
    for number, options in enumerate(({"odometry": "/odom"}, {"kiss_icp": True})):
        if "kiss_icp" in options:
            pytest.importorskip("kiss_icp", reason="needs the extra drives")
        report = run(bag, tmp_path / f"out_{number}", **options)
        assert report.scans == 4
        assert report.left_out == {"clouds refused (truncated)": 1, "clouds whose stamps go back or repeat": 1}
        np.testing.assert_allclose(read_times(report.folder / "times.txt"), [0.0, 0.1, 0.2, 0.4], atol=1e-6)


def test_estimated_poses_leave_refused_clouds_counted(drive: Drive, tmp_path: Path) -> None:
    pytest.importorskip("kiss_icp", reason="needs the extra drives")
    bag = changed(drive.path, tmp_path / "bag", "/points", lambda raw: raw[:30], first=2)
    left_out = run(bag, tmp_path / "out", kiss_icp=True).left_out
    assert left_out == {"clouds refused (unreadable)": 2, "clouds refused (truncated)": 1}


@pytest.mark.parametrize("start", [0.0, START])
def test_zero_is_a_time_where_the_clock_starts_there(drive: Drive, tmp_path: Path, start: float) -> None:
    first: list[float] = []

    def move(message: Any) -> None:
        time = stamp_of(message)
        first.append(time)
        nanoseconds = round((time - first[0] + start) * 1e9)
        message.header.stamp.sec, message.header.stamp.nanosec = nanoseconds // 10**9, nanoseconds % 10**9

    bag = changed(drive.path, tmp_path / "bag", "/points", edited(CLOUD, move))
    recording = BagRecording(bag, None, ("intensity",))
    stamps = recording.stamps()
    np.testing.assert_allclose(stamps, [start + 0.1 * k if k != 3 else np.nan for k in range(6)], atol=1e-6)
    taken = {frame.number: frame.stamp for frame in recording.frames(frozenset(range(6)))}
    assert taken == {number: stamps[number] for number in (0, 1, 2, 4, 5)}


def test_poses_of_a_sensor_that_does_not_know_where_it_is_are_ignored(drive: Drive, tmp_path: Path) -> None:
    count = [0]

    def spoil(message: Any) -> None:
        count[0] += 1
        pose = message.pose.pose
        if count[0] == 1:
            pose.orientation.x = pose.orientation.y = pose.orientation.z = pose.orientation.w = 0.0
        elif count[0] == 2:
            pose.position.x = float("nan")

    edit = edited("nav_msgs/msg/Odometry", spoil)
    report = run(changed(drive.path, tmp_path / "some", "/odom", edit, first=2), tmp_path / "out", odometry="/odom")
    assert report.scans == 5
    assert any("2 poses of /odom are no rigid motion" in warning for warning in report.warnings)

    def nowhere(message: Any) -> None:
        message.pose.pose.orientation.w = message.pose.pose.orientation.z = 0.0

    none = changed(drive.path, tmp_path / "none", "/odom", edited("nav_msgs/msg/Odometry", nowhere))
    with pytest.raises(DataError, match="/odom holds no pose"):
        run(none, tmp_path / "out_none", odometry="/odom")
