"""The parts of a conversion: pictures by time, cameras, the folder, frames in trees, and motion within a sweep."""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from kd_seg.core.errors import DataError, UsageError
from kd_seg.core.geometry import invert, rigid
from kd_seg.drives.cameras import BagCamera, calibrate_cameras, info_topic_of, nearest
from kd_seg.drives.deskew import deskew
from kd_seg.drives.folder import MANIFEST, DriveFolder, calibration_text, poses_text
from kd_seg.drives.frames import FrameTree, plain_name, rigid_of
from kd_seg.drives.pictures import CHANNELS, decode_image
from kd_seg.drives.trajectory import Trajectory, from_rows, rising
from kd_seg.scans.calibration import read_calibration, read_poses, read_times

SECONDS = st.integers(0, 60).map(lambda tenths: tenths / 10)


def motion(rng: np.random.Generator, metres: float = 5.0) -> np.ndarray:
    return rigid(Rotation.random(random_state=int(rng.integers(1 << 30))).as_matrix(), rng.normal(0, metres, 3))


@given(st.lists(SECONDS, max_size=12), st.lists(SECONDS, max_size=12), st.floats(0.01, 2.0))
def test_each_scan_gets_a_picture_as_near_as_any_or_none(
    stamps: list[float], pictures: list[float], tolerance: float
) -> None:
    found = nearest(np.array(stamps), np.array(pictures), tolerance)
    assert len(found) == len(stamps)
    for stamp, number in zip(stamps, found, strict=True):
        gaps = [abs(stamp - picture) for picture in pictures]
        if number < 0:
            assert min(gaps, default=np.inf) > tolerance
        else:
            assert gaps[number] == min(gaps) <= tolerance


@pytest.mark.parametrize(
    ("topic", "info"),
    [
        ("/cam/image_raw", "/cam/camera_info"),
        ("/cam/image_rect/compressed", "/cam/camera_info"),
        ("/a/b/image/compressedDepth", "/a/b/camera_info"),
        ("/image", "/camera_info"),
    ],
)
def test_calibration_lies_beside_the_picture(topic: str, info: str) -> None:
    assert info_topic_of(topic) == info


def camera(number: int, frame: str, baseline: float = 0.0) -> BagCamera:
    p = np.array([[500.0, 0, 320, -500.0 * baseline], [0, 500, 240, 0], [0, 0, 1, 0]])
    model = SimpleNamespace(frame=frame, r=np.eye(3), p=p)
    return BagCamera(number, f"/cam{number}", model, np.zeros(1))  # type: ignore[arg-type]


def pixel(p: np.ndarray, tr: np.ndarray, point: np.ndarray) -> np.ndarray:
    u, v, depth = p @ tr @ np.append(point, 1.0)
    return np.array([u / depth, v / depth])


def test_points_meet_both_pictures_of_a_stereo_pair_and_of_two_mounted_apart() -> None:
    """The right camera is 0.5 m to the right, told by P in a frame of both or by a frame of its own."""
    forward = rigid(np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), np.zeros(3))  # LiDAR axes to optical axes
    point = np.array([10.0, 1.0, 0.5])
    left = np.array([320 - 500 * 0.1, 240 - 500 * 0.05])
    right = left - [500 * 0.5 / 10, 0]
    for frames, baseline in ((("left", "left"), 0.5), (("left", "right"), 0.5)):
        tree = FrameTree()
        tree.add_fixed("base", "lidar", np.eye(4))
        tree.add_fixed("base", "left", invert(forward))
        tree.add_fixed("base", "right", invert(rigid(np.eye(3), [-0.5, 0, 0]) @ forward))
        cameras = (camera(2, frames[0]), camera(3, frames[1], baseline))
        tr, projections = calibrate_cameras(cameras, tree, "lidar")
        np.testing.assert_allclose(pixel(projections[2], tr, point), left, atol=1e-9)
        np.testing.assert_allclose(pixel(projections[3], tr, point), right, atol=1e-9)
    assert calibrate_cameras((), FrameTree(), "lidar")[1] == {}


@given(st.integers(0, 10**6), st.integers(1, 7))
def test_frames_of_a_random_tree_stand_where_their_chains_say(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    world = [np.eye(4)]
    tree = FrameTree()
    for child in range(1, count + 1):
        parent, step = int(rng.integers(child)), motion(rng)
        tree.add_fixed(f"f{parent}", f"/f{child}", step)
        world.append(world[parent] @ step)
    a, b = rng.integers(0, count + 1, 2)
    np.testing.assert_allclose(tree.fixed(f"f{a}", f"/f{b}"), invert(world[b]) @ world[a], atol=1e-9)
    assert tree.names() == sorted(f"f{k}" for k in range(count + 1))


def test_a_moving_frame_carries_what_is_fixed_to_it() -> None:
    tree, mount = FrameTree(), rigid(np.eye(3), [1.0, 0, 2.0])
    tree.add_fixed("base", "lidar", mount)
    for second in range(4):
        tree.add_moving(
            "odom", "base", float(second), rigid(Rotation.from_rotvec([0, 0, 0.1 * second]).as_matrix(), [second, 0, 0])
        )
    found = tree.trajectory("lidar", "odom")
    assert found.times.tolist() == [0, 1, 2, 3]
    for second in range(4):
        pose = rigid(Rotation.from_rotvec([0, 0, 0.1 * second]).as_matrix(), [second, 0, 0]) @ mount
        np.testing.assert_allclose(found.poses[second], pose, atol=1e-9)
    with pytest.raises(DataError, match=r"is not fixed \(base moves\)"):
        tree.fixed("lidar", "odom")
    with pytest.raises(DataError, match="does not move in"):
        tree.trajectory("lidar", "base")
    with pytest.raises(DataError, match=r"No transform connects camera with odom; the bag's frames: base, lidar, odom"):
        tree.fixed("camera", "odom")


def test_frames_in_a_circle_are_no_endless_walk() -> None:
    tree = FrameTree()
    tree.add_fixed("a", "b", np.eye(4))
    tree.add_fixed("b", "a", np.eye(4))
    with pytest.raises(DataError, match="No transform connects"):
        tree.fixed("a", "c")


def test_transforms_of_messages() -> None:
    half = np.sqrt(0.5)
    xyz, quarter = SimpleNamespace(x=1.0, y=2.0, z=3.0), SimpleNamespace(x=0.0, y=0.0, z=half, w=half)
    np.testing.assert_allclose(rigid_of(xyz, quarter) @ [1, 0, 0, 1], [1, 3, 3, 1], atol=1e-12)
    with pytest.raises(DataError, match="not of length 1"):
        rigid_of(xyz, SimpleNamespace(x=0.0, y=0.0, z=0.0, w=0.0))
    with pytest.raises(DataError, match="not of length 1"):
        rigid_of(xyz, SimpleNamespace(x=0.0, y=0.0, z=0.0, w=float("nan")))
    with pytest.raises(DataError, match="not finite"):
        rigid_of(SimpleNamespace(x=1.0, y=float("nan"), z=0.0), quarter)
    assert plain_name("/velodyne") == plain_name("velodyne")


def test_what_tf_repeats_without_a_change_is_fixed() -> None:
    """As ROS 1's static_transform_publisher sends it."""
    mount, tree = rigid(np.eye(3), [1.0, 0.0, 2.0]), FrameTree()
    for step in range(5):
        tree.add_moving("base", "lidar", 0.1 * step, mount)
        tree.add_moving("odom", "base", 0.1 * step, rigid(np.eye(3), [0.5 * step, 0, 0]))
    np.testing.assert_array_equal(tree.fixed("lidar", "base"), mount)
    np.testing.assert_allclose(tree.trajectory("lidar", "odom").poses[4, :3, 3], [3.0, 0.0, 2.0])
    with pytest.raises(DataError, match="is not fixed"):
        tree.fixed("lidar", "odom")


@pytest.mark.parametrize("period_s", [0.1, 3.0])
def test_what_stands_still_may_be_sent_rarely(period_s: float) -> None:
    mount, tree = rigid(np.eye(3), [1.0, 0.0, 2.0]), FrameTree()
    for step in range(100):
        tree.add_moving("odom", "base", 0.1 * step, rigid(np.eye(3), [0.5 * step, 0, 0]))
    for step in range(4):
        tree.add_moving("base", "lidar", period_s * step, mount)
    trajectory = tree.trajectory("lidar", "odom")
    assert trajectory.covers(np.linspace(0.0, 9.9, 50)).all()
    np.testing.assert_allclose(trajectory.at(np.array([5.05]))[0, :3, 3], [26.25, 0.0, 2.0])


@given(st.lists(st.integers(0, 6), max_size=9))
def test_the_longest_series_of_rising_times_is_found(numbers: list[int]) -> None:
    places = rising(np.array(numbers, float))
    chosen = [numbers[place] for place in places]
    assert (np.diff(places) > 0).all()
    assert all(early < late for early, late in itertools.pairwise(chosen))
    subsets = itertools.chain.from_iterable(itertools.combinations(numbers, k) for k in range(len(numbers) + 1))
    assert len(chosen) == max(len(s) for s in subsets if all(a < b for a, b in itertools.pairwise(s)))


@given(st.integers(0, 10**6), st.integers(1, 30))
def test_rows_of_any_order_make_an_ascending_trajectory(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    times = rng.integers(0, 20, count) / 4.0
    xyz = np.column_stack([times, times**2, -times])
    made = from_rows(times, xyz, np.tile([0.0, 0, 0, 1], (count, 1)), "x")
    assert made.times.tolist() == sorted(set(times.tolist()))
    np.testing.assert_allclose(made.poses[:, :3, 3], np.column_stack([made.times, made.times**2, -made.times]))
    np.testing.assert_allclose(made.at(made.times), made.poses, atol=1e-12)
    steps = np.linalg.norm(np.diff(made.poses[:, :3, 3], axis=0), axis=1)
    assert made.length_m() == pytest.approx(steps.sum())
    mount = motion(rng)
    np.testing.assert_allclose(made.then(mount).poses, made.poses @ mount)


def test_deskewing_gives_one_world_whatever_the_sweep() -> None:
    rng = np.random.default_rng(5)
    times = np.arange(0, 2.01, 0.05)
    poses = [rigid(Rotation.from_rotvec([0, 0, 0.8 * t]).as_matrix(), [12 * t, 0.5 * t, 0]) for t in times]
    trajectory = Trajectory(times, np.array(poses))
    world, offset = rng.normal(0, 20, (300, 3)), rng.uniform(-0.05, 0.05, 300)
    at = trajectory.at(1.0 + offset)
    seen = np.array([(invert(pose) @ np.append(place, 1.0))[:3] for pose, place in zip(at, world, strict=True)])
    points = np.column_stack([seen, rng.random(300)]).astype(np.float32)
    out = deskew(points, offset, 1.0, trajectory)
    expected = np.array([(invert(trajectory.at(np.array([1.0]))[0]) @ np.append(p, 1.0))[:3] for p in world])
    assert np.abs(points[:, :3] - expected).max() > 0.3
    np.testing.assert_allclose(out[:, :3], expected, atol=0.02)
    np.testing.assert_array_equal(out[:, 3], points[:, 3])
    assert len(deskew(points[:0], offset[:0], 1.0, trajectory)) == 0


def test_a_folder_is_gone_on_with_refused_or_replaced(tmp_path: Path) -> None:
    made = DriveFolder(tmp_path, "00", {"bag": "a"})
    assert not made.has_scan(3)
    made.write_scan(3, np.ones((2, 4), np.float32))
    made.write_picture(2, 3, b"png")
    again = DriveFolder(tmp_path, "00", {"bag": "a"})
    assert again.has_scan(3)
    assert again.has_picture(2, 3)
    assert not again.has_picture(3, 3)
    with pytest.raises(UsageError, match="from another recording or with other options"):
        DriveFolder(tmp_path, "00", {"bag": "b"})
    assert not DriveFolder(tmp_path, "00", {"bag": "b"}, overwrite=True).has_scan(3)
    (made.folder / MANIFEST).write_text("broken")
    with pytest.raises(UsageError, match="other options"):
        DriveFolder(tmp_path, "00", {"bag": "b"})
    (made.folder / MANIFEST).unlink()
    (made.folder / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="did not write"):
        DriveFolder(tmp_path, "00", {"bag": "b"}, overwrite=True)
    assert (made.folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("start", [0.0, 3000.0, 40_000.0])
def test_times_of_long_drives_keep_their_milliseconds(tmp_path: Path, start: float) -> None:
    """A drive of eleven hours at 10 Hz: neighbouring scans stay a tenth of a second apart."""
    made = DriveFolder(tmp_path, "00", {})
    times = start + 0.1037 * np.arange(50)
    made.finish(times, None, np.eye(4), {})
    np.testing.assert_allclose(read_times(made.folder / "times.txt"), times, rtol=0, atol=1e-4)
    assert not (made.folder / "poses.txt").exists()
    assert json.loads((made.folder / MANIFEST).read_text())["made_from"] == {}


@given(st.integers(0, 10**6))
def test_calibration_and_poses_read_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tr, projections = motion(rng), {2: rng.normal(0, 500, (3, 4)), 3: rng.normal(0, 500, (3, 4))}
    poses = np.array([motion(rng, 200.0) for _ in range(3)])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "calib.txt").write_text(calibration_text(tr, projections))
        (folder / "poses.txt").write_text(poses_text(poses, tr))
        found = read_calibration(folder / "calib.txt")
        read = read_poses(folder / "poses.txt", found.tr)
    np.testing.assert_allclose(found.tr, tr, atol=1e-9)
    for number, p in projections.items():
        np.testing.assert_allclose(found.projections[number], p, rtol=1e-9)
    relative = np.array([invert(poses[0]) @ pose for pose in poses])
    np.testing.assert_allclose(read, relative, atol=1e-6)


@pytest.mark.parametrize("encoding", sorted(CHANNELS))
def test_pictures_of_every_encoding_become_rgb(encoding: str) -> None:
    order = CHANNELS[encoding]
    rgb = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
    grey = order == "L"
    planes = [rgb[..., 0] if grey else np.full((3, 5), 9) if c == "A" else rgb[..., "RGB".index(c)] for c in order]
    pixels = np.stack(planes, axis=2).astype(np.uint8)
    rows = np.pad(pixels.reshape(3, -1), ((0, 0), (0, 7)))  # rows of drivers end with padding
    message = SimpleNamespace(encoding=encoding, height=3, width=5, step=rows.shape[1], data=rows.tobytes())
    expected = np.repeat(rgb[..., :1], 3, axis=2) if grey else rgb
    np.testing.assert_array_equal(decode_image(message), expected)
    short = SimpleNamespace(**{**vars(message), "data": rows.tobytes()[:-1]})
    with pytest.raises(DataError, match=r"bytes, .* are needed"):
        decode_image(short)


def test_pictures_that_cannot_be_read_are_one_sentence() -> None:
    with pytest.raises(DataError, match="debayer"):
        decode_image(SimpleNamespace(encoding="bayer_rggb8", height=1, width=1, step=1, data=b"0"))
    with pytest.raises(DataError, match="cannot be read"):
        decode_image(SimpleNamespace(format="jpeg", data=b"not a picture"))
