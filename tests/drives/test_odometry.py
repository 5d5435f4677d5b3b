"""LiDAR odometry where a recording has no poses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drive_bags import write_drive

from kd_seg.core.errors import DataError, MissingDependencyError
from kd_seg.drives import odometry
from kd_seg.drives.convert import ConvertOptions, convert
from kd_seg.drives.recording import frame_of
from kd_seg.scans import SemanticKitti


def test_poses_are_estimated_from_the_points(tmp_path: Path) -> None:
    pytest.importorskip("kiss_icp", reason="needs the extra drives")
    drive = write_drive(tmp_path / "bag", scans=8, camera=False)
    report = convert(
        drive.path, tmp_path / "out", ConvertOptions(kiss_icp=True), lambda name, total: lambda count: None
    )
    assert report.poses_from == "kiss-icp"
    poses = SemanticKitti(tmp_path / "out").sequences["00"].poses
    assert poses is not None
    expected = np.linalg.inv(drive.poses[0]) @ drive.poses
    np.testing.assert_allclose(poses[:, :3, 3], expected[:, :3, 3], atol=0.1)
    np.testing.assert_allclose(poses[:, :3, :3], expected[:, :3, :3], atol=0.01)


def test_a_jump_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Jumping:
        last_pose = np.eye(4)

        def register_frame(self, points: np.ndarray, times: np.ndarray) -> None:
            self.last_pose = self.last_pose.copy()
            self.last_pose[0, 3] += 40.0

    monkeypatch.setattr(odometry, "_kiss", lambda range_m: Jumping())
    points = np.ones((10, 4), np.float32)
    with pytest.raises(DataError, match="jumps by 40 m between clouds 0 and 1"):
        odometry.estimate(iter([frame_of(k, 0.1 * k, points, None) for k in range(3)]))


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kiss_icp", None)
    monkeypatch.setitem(__import__("sys").modules, "kiss_icp.config", None)
    with pytest.raises(MissingDependencyError, match=r"kd_seg\[drives\]"):
        odometry.estimate(iter([frame_of(0, 0.0, np.ones((1, 4), np.float32), None)]))
