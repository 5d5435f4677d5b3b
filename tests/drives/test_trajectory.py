"""Trajectories, transforms and per-point times."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from kd_seg.core.errors import DataError
from kd_seg.core.geometry import rigid
from kd_seg.drives.frames import FrameTree
from kd_seg.drives.point_fields import point_rings, point_times
from kd_seg.drives.trajectory import Trajectory, parse_extrinsic, read_tum


def screw(seconds: float) -> np.ndarray:
    """Constant turn rate and constant velocity of the translation: what interpolation must hit exactly."""
    return rigid(Rotation.from_rotvec([0.1 * seconds, 0, 0.5 * seconds]).as_matrix(), [seconds, 2 * seconds, 0])


@given(st.floats(-0.1, 1.1))
def test_interpolation_is_exact_for_constant_rates(at: float) -> None:
    times = np.array([0.0, 0.3, 0.4, 1.0])
    turn = Rotation.from_rotvec([0.0, 0.0, 0.5])
    poses = np.array([rigid((turn**t).as_matrix(), [t, 2 * t, 0]) for t in times])
    expected = rigid((turn**at).as_matrix(), [at, 2 * at, 0])
    np.testing.assert_allclose(Trajectory(times, poses).at(np.array([at]))[0], expected, atol=1e-9)


def test_times_in_a_gap_or_far_outside_are_not_covered() -> None:
    trajectory = Trajectory(np.array([0.0, 1.0, 5.0, 6.0]), np.array([screw(t) for t in (0, 1, 5, 6)]))
    asked = np.array([-0.2, -0.1, 0.5, 1.0, 3.0, 5.0, 6.1, 6.2])
    assert trajectory.covers(asked).tolist() == [False, True, True, True, False, True, True, False]


def test_tum_rows_are_sorted_and_repeats_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.tum"
    path.write_text("# header\n2.0 2 0 0 0 0 0 1\n1.0,1,0,0,0,0,0,1\n2.0 9 9 9 0 0 0 1\n")
    trajectory = read_tum(path)
    assert trajectory.times.tolist() == [1.0, 2.0]
    assert trajectory.poses[:, 0, 3].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3\n", "line 1 has 3 numbers"),
        ("1 2 3 4 5 6 7 x\n", "line 1 holds something that is not a number"),
        ("1 0 0 0 0 0 0 2\n", "quaternion has length 2"),
        ("1 nan 0 0 0 0 0 1\n", "NaN or infinity"),
        ("# nothing\n", "holds no pose"),
    ],
)
def test_bad_tum_files_are_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.tum"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_tum(path)


def test_a_byte_order_mark_is_no_number(tmp_path: Path) -> None:
    (tmp_path / "p.tum").write_text("\ufeff1 2 0 0 0 0 0 1\n", encoding="utf-8")
    assert read_tum(tmp_path / "p.tum").poses[0, 0, 3] == 2


def test_an_extrinsic_turns_by_yaw_then_pitch_then_roll() -> None:
    motion = parse_extrinsic("1 2 3, 0 0 90")
    np.testing.assert_allclose(motion @ [1, 0, 0, 1], [1, 3, 3, 1], atol=1e-12)
    tilted = parse_extrinsic("0 0 0 0 90 90")
    np.testing.assert_allclose(tilted[:3, :3] @ [1, 0, 0], [0, 0, -1], atol=1e-12)


def test_frames_are_connected_over_a_common_ancestor() -> None:
    tree = FrameTree()
    tree.add_fixed("base", "/lidar", parse_extrinsic("1 0 2 0 0 90"))
    tree.add_fixed("base", "camera", parse_extrinsic("2 0 1 0 0 0"))
    fixed = tree.fixed("lidar", "camera")
    np.testing.assert_allclose(fixed @ [1, 0, 0, 1], [-1, 1, 1, 1], atol=1e-12)
    np.testing.assert_allclose(tree.fixed("camera", "lidar") @ fixed, np.eye(4), atol=1e-12)
    for time in (0.0, 1.0):
        tree.add_moving("odom", "base", time, parse_extrinsic(f"{10 * time} 0 0 0 0 0"))
    assert tree.trajectory("lidar", "odom").at(np.array([0.5]))[0][0, 3] == pytest.approx(6.0)
    with pytest.raises(DataError, match="base moves"):
        tree.fixed("lidar", "odom")
    with pytest.raises(DataError, match="base, camera, lidar, odom"):
        tree.fixed("lidar", "radar")


STAMP = 1_700_000_000.25


@pytest.mark.parametrize(
    ("dtype", "code", "values"),
    [
        ("<u4", 6, [0, 50_000_000, 100_000_000]),  # Ouster: nanoseconds from the stamp
        ("<u4", 6, [0, 50, 100]),  # microseconds would make a sweep of 100 ns
        ("<f4", 7, [0.0, 0.05, 0.1]),  # Velodyne: seconds from the stamp
        ("<f8", 8, [STAMP, STAMP + 0.05, STAMP + 0.1]),  # Hesai: seconds of the epoch
        ("<f8", 8, [STAMP * 1e9, (STAMP + 0.05) * 1e9, (STAMP + 0.1) * 1e9]),  # Livox: nanoseconds of the epoch
    ],
)
def test_per_point_times_of_drivers(dtype: str, code: int, values: list[float]) -> None:
    data = np.array(values, dtype)
    field = SimpleNamespace(name="timestamp", offset=0, datatype=code, count=1)
    size = data.dtype.itemsize
    message = SimpleNamespace(
        height=1, width=3, fields=[field], is_bigendian=False, point_step=size, row_step=0, data=data.view(np.uint8)
    )
    times = point_times(message, STAMP)
    assert times is not None
    expected = [0, 0.05, 0.1] if max(values) > 100 or dtype[1] == "f" else [0, 5e-5, 1e-4]
    np.testing.assert_allclose(times, expected, atol=1e-6)


def test_a_time_that_is_no_sweep_is_refused() -> None:
    data = np.array([0.0, 100.0], "<f4")
    field = SimpleNamespace(name="time", offset=0, datatype=7, count=1)
    message = SimpleNamespace(
        height=1, width=2, fields=[field], is_bigendian=False, point_step=4, row_step=8, data=data.view(np.uint8)
    )
    with pytest.raises(DataError, match="spans 100 s"):
        point_times(message, 0.0)
    message.fields = [SimpleNamespace(name="ring", offset=0, datatype=7, count=1)]
    assert point_times(message, 0.0) is None


@pytest.mark.parametrize("stamp", [0.2, 2.0, 9.5, 40.0])
@pytest.mark.parametrize("absolute", [False, True])
def test_times_of_a_clock_that_starts_at_zero(stamp: float, absolute: bool) -> None:
    data = np.array([0.0, 0.05, 0.1]) + (stamp if absolute else 0.0)
    field = SimpleNamespace(name="time", offset=0, datatype=8, count=1)
    message = SimpleNamespace(
        height=1, width=3, fields=[field], is_bigendian=False, point_step=8, row_step=24, data=data.view(np.uint8)
    )
    times = point_times(message, stamp)
    assert times is not None
    np.testing.assert_allclose(times, [0, 0.05, 0.1], atol=1e-9)


def test_times_of_missing_returns_do_not_count() -> None:
    data = np.array([0.0, STAMP, STAMP + 0.1, 0.0])
    field = SimpleNamespace(name="timestamp", offset=0, datatype=8, count=1)
    message = SimpleNamespace(
        height=1, width=4, fields=[field], is_bigendian=False, point_step=8, row_step=32, data=data.view(np.uint8)
    )
    times = point_times(message, STAMP, np.array([False, True, True, False]))
    assert times is not None
    np.testing.assert_allclose(times, [0, 0, 0.1, 0], atol=1e-6)


def test_fields_that_leave_their_point_count_as_none() -> None:
    fields = [SimpleNamespace(name=name, offset=4, datatype=8, count=1) for name in ("time", "ring")]
    message = SimpleNamespace(
        height=1, width=2, fields=fields, is_bigendian=False, point_step=8, row_step=16, data=bytes(16)
    )
    assert point_times(message, 0.0) is None
    assert point_rings(message) is None
