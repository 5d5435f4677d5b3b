"""The teacher of an adaptation: mean over views, in its own scan's frame, of single scans or fused ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_data import write_tiny

from kd_seg.adaptation.settings import DriveTeacherSettings, sensor_settings
from kd_seg.adaptation.teacher import SPARSE_POINTS, Teacher, combined, fuses
from kd_seg.adaptation.views import turned
from kd_seg.classes import load_classes
from kd_seg.core.geometry import invert, transform
from kd_seg.scans import SemanticKitti


@given(st.integers(0, 10**6), st.integers(1, 8))
def test_views_are_turns_and_mirrors_that_keep_distances_heights_and_order(seed: int, views: int) -> None:
    points = np.random.default_rng(seed).normal(0, 10, (30, 4)).astype(np.float32)
    seen = []
    for view in range(views):
        out = turned(points, view, views)
        np.testing.assert_allclose(np.hypot(*out[:, :2].T), np.hypot(*points[:, :2].T), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(out[:, 2:], points[:, 2:])
        a, b = points[:2, :2], out[:2, :2]
        turn = np.linalg.det(b.astype(np.float64)) - (-1.0 if view % 2 else 1.0) * np.linalg.det(a.astype(np.float64))
        assert abs(turn) < 0.01
        seen.append(out)
    assert len({out.tobytes() for out in seen}) == views
    np.testing.assert_array_equal(seen[0], points)


class Heights:
    """Gives class 0 the share of a point's height over 10 m; notes the clouds that it was given."""

    classes = dataclasses.replace(load_classes(), names=("low", "high"), things=(), hard=())

    def __init__(self) -> None:
        self.clouds: list[np.ndarray] = []

    def distribution(self, points: np.ndarray) -> np.ndarray:
        """Probabilities [N, 2]; the first view is surer than the others."""
        self.clouds.append(points.copy())
        share = np.clip(points[:, 2] / 10.0 + 0.5, 0, 1)
        return np.column_stack([share, 1 - share]).astype(np.float32) / len(self.clouds)


@pytest.fixture
def data(tmp_path: Path) -> SemanticKitti:
    return SemanticKitti(write_tiny(tmp_path / "data", ("00",), 3))


def test_the_mean_over_views_has_a_row_for_each_point(data: SemanticKitti) -> None:
    network = Heights()
    teacher = Teacher(network, DriveTeacherSettings(views=3), sensor_settings({}), fuse=False)  # type: ignore[arg-type]
    scan = data.scan("00", 1)
    found = teacher.predict(scan, [data.scan("00", 0)])
    assert [len(cloud) for cloud in network.clouds] == [len(scan.points)] * 3
    share = np.clip(scan.points[:, 2] / 10.0 + 0.5, 0, 1)
    np.testing.assert_allclose(found[:, 0], share * np.mean([1, 1 / 2, 1 / 3]), rtol=1e-4)


def test_neighbours_are_moved_into_the_scans_frame_and_their_rows_left_out(data: SemanticKitti) -> None:
    network = Heights()
    settings = DriveTeacherSettings(views=1, fuse="ego")
    teacher = Teacher(network, settings, sensor_settings({}), fuse=True)  # type: ignore[arg-type]
    scan, other = data.scan("00", 2), data.scan("00", 0)
    found = teacher.predict(scan, [other])
    (cloud,) = network.clouds
    assert len(found) == len(scan.points)
    assert len(cloud) == len(scan.points) + len(other.points)
    np.testing.assert_array_equal(cloud[: len(scan.points)], scan.points)
    assert scan.pose is not None
    assert other.pose is not None
    moved = transform(invert(scan.pose) @ other.pose, other.points[:, :3])
    np.testing.assert_allclose(cloud[len(scan.points) :, :3], moved, atol=1e-4)
    assert np.abs(moved - other.points[:, :3]).max() > 1.5


def test_neighbours_of_a_tilted_sensor_are_moved_in_its_frame_and_levelled_after(data: SemanticKitti) -> None:
    network = Heights()
    sensor = sensor_settings({"input.roll_deg": -5.0, "input.pitch_deg": 20.0, "input.z_offset_m": 0.4})
    settings = DriveTeacherSettings(views=1, fuse="ego")
    scan, other = data.scan("00", 2), data.scan("00", 0)
    Teacher(network, settings, sensor, fuse=True).predict(scan, [other])  # type: ignore[arg-type]
    (cloud,) = network.clouds
    assert scan.pose is not None
    assert other.pose is not None
    moved = transform(sensor.correction() @ invert(scan.pose) @ other.pose, other.points[:, :3])
    np.testing.assert_allclose(cloud[len(scan.points) :, :3], moved, atol=1e-4)


def test_left_to_itself_it_takes_the_mean_of_single_and_fused_scans_where_nothing_moves(data: SemanticKitti) -> None:
    network = Heights()
    teacher = Teacher(network, DriveTeacherSettings(views=2), sensor_settings({}), fuse=True)  # type: ignore[arg-type]
    scan, other = data.scan("00", 2), data.scan("00", 0)
    found = teacher.predict(scan, [other])
    own, both = len(scan.points), len(scan.points) + len(other.points)
    assert [len(cloud) for cloud in network.clouds] == [own, own, both, both]
    share = np.clip(scan.points[:, 2] / 10.0 + 0.5, 0, 1)
    np.testing.assert_allclose(found[:, 0], share * np.mean([1, 1 / 2, 1 / 3, 1 / 4]), rtol=1e-4)


def test_a_single_scan_is_believed_where_it_alone_sees_what_moves() -> None:
    single = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.7, 0.3, 0.0], [0.0, 0.2, 0.3]], np.float32)
    fused = np.array([[0.9, 0.1, 0.0], [0.3, 0.7, 0.0], [0.9, 0.1, 0.0], [0.9, 0.1, 0.0]], np.float32)
    found = combined(single, fused, (1, 2))
    mean = (single + fused) / 2
    np.testing.assert_array_equal(found, [single[0], mean[1], mean[2], single[3]])
    np.testing.assert_array_equal(combined(single, fused, ()), mean)


@pytest.mark.parametrize(
    ("fuse", "points", "poses", "expected"),
    [
        ("auto", SPARSE_POINTS - 1, True, True),
        ("auto", SPARSE_POINTS, True, False),
        ("auto", 10, False, False),
        ("ego", 10**6, True, True),
        ("ego", 10, False, False),
        ("off", 10, True, False),
    ],
)
def test_clouds_are_fused_where_that_helps(fuse: str, points: int, poses: bool, expected: bool) -> None:
    assert fuses(DriveTeacherSettings(fuse=fuse), points, poses) == expected  # type: ignore[arg-type]
