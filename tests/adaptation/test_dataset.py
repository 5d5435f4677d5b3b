"""The data root of an adaptation: names, links, label words, levelled poses, and settings that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tiny_data import write_tiny

from kd_seg.adaptation.dataset import add_streets, begin_drive, drive_name, link, street_name, words_of, write_scan
from kd_seg.adaptation.fit import as_stored, lacks_poses, misfits
from kd_seg.adaptation.settings import AdaptSettings, sensor_settings
from kd_seg.adaptation.tracks import NEAR_M, SPEED_M, Tracker
from kd_seg.classes import load_classes
from kd_seg.core.config import validate
from kd_seg.core.errors import ConfigError, DataError
from kd_seg.core.geometry import invert, rigid, transform
from kd_seg.core.progress import silent
from kd_seg.scans import SemanticKitti, read_words

CLASSES = load_classes("semantic_kitti_19")


@given(st.integers(0, 10**6), st.integers(1, 40))
def test_words_hold_class_and_identity_and_nothing_for_no_class(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    class_id = rng.choice([*range(len(CLASSES)), 255], count)
    identity = rng.choice([0, 1, 2, 65534, 65535, 65536, 200_000], count)
    words = words_of(class_id, identity, CLASSES)
    for word, k, number in zip(words.tolist(), class_id, identity, strict=True):
        if k == 255:
            assert word == 0
            continue
        assert CLASSES.raw_train[word & 0xFFFF] == k + 1
        assert (word >> 16 > 0) == (number > 0)
        if 0 < number <= 65535:
            assert word >> 16 == number
    np.testing.assert_array_equal(
        CLASSES.to_train(words, "x"), np.where(class_id == 255, 0, class_id + 1).astype(np.uint8)
    )


def test_points_that_are_not_trusted_have_no_label(tmp_path: Path) -> None:
    points = np.arange(12, dtype=np.float64).reshape(3, 4)
    words = np.array([10 | 7 << 16, 40, 80], np.uint32)
    write_scan(tmp_path, "000004", points, np.array([True, False, True]), words)  # type: ignore[arg-type]
    assert read_words(tmp_path / "labels" / "000004.label").tolist() == [10 | 7 << 16, 0, 80]
    np.testing.assert_array_equal(np.fromfile(tmp_path / "velodyne" / "000004.bin", "<f4").reshape(-1, 4), points)


def test_streets_are_linked_once_and_must_have_labels(tmp_path: Path) -> None:
    streets = SemanticKitti(write_tiny(tmp_path / "streets", scans=1))
    for _ in range(2):
        names = add_streets(tmp_path / "out", streets, sensor_settings({}), silent)
        assert names == [street_name("00"), street_name("01")]
    linked = SemanticKitti(tmp_path / "out", [street_name("01")])
    np.testing.assert_array_equal(linked[0].points, streets.scan("01", 0).points)
    unlabelled = SemanticKitti(write_tiny(tmp_path / "bare", ("05",), 1, labels=False))
    with pytest.raises(DataError, match=r"has no labels/; streets must be labelled"):
        add_streets(tmp_path / "out", unlabelled, sensor_settings({}), silent)


def test_nothing_else_is_replaced_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    link(tmp_path / "a", tmp_path / "deep" / "link")
    link(tmp_path / "a", tmp_path / "deep" / "link")
    with pytest.raises(DataError, match="is in the way"):
        link(tmp_path / "b", tmp_path / "deep" / "link")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="is in the way"):
        link(tmp_path / "a", tmp_path / "file")
    (tmp_path / "deep" / "gone").symlink_to(tmp_path / "absent")
    with pytest.raises(DataError, match="is in the way"):
        link(tmp_path / "a", tmp_path / "deep" / "gone")
    assert (tmp_path / "file").read_text() == "mine"


def test_levelled_points_keep_their_places_in_the_world_and_labels_are_left_behind(tmp_path: Path) -> None:
    data = SemanticKitti(write_tiny(tmp_path / "drive", ("03",), 3))
    sequence = data.sequences["03"]
    tilt = rigid(Rotation.from_euler("XYZ", [3, -5, 0], degrees=True).as_matrix(), [0, 0, 0.4])
    folder = begin_drive(tmp_path / "out", sequence, tilt)
    assert folder.name == drive_name("03")
    assert not (folder / "labels").exists()
    for index in range(3):
        scan = data.scan("03", index)
        levelled = np.column_stack([transform(tilt, scan.points[:, :3]), scan.points[:, 3]])
        write_scan(
            folder,
            f"{index:06d}",
            levelled.astype(np.float32),
            np.ones(len(levelled), bool),
            np.zeros(len(levelled), np.uint32),
        )
    made = SemanticKitti(tmp_path / "out", [drive_name("03")])
    world = []
    for source, name in ((data, "03"), (made, drive_name("03"))):
        first, last = source.scan(name, 0), source.scan(name, 2)
        assert first.pose is not None
        assert last.pose is not None
        world.append(transform(invert(first.pose) @ last.pose, last.points[:, :3]))
    np.testing.assert_allclose(world[1], transform(tilt, world[0]), atol=1e-3)


@given(st.integers(0, 10**6))
def test_far_apart_objects_keep_their_identities_whatever_the_order_of_clusters(seed: int) -> None:
    """Objects more than twice the reach apart, of constant velocity, some hidden for a scan or two."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 6))
    start = np.column_stack([30.0 * np.arange(count), rng.normal(0, 3, count), np.zeros(count)])
    speed = np.column_stack([rng.uniform(-1, 1, count), rng.uniform(-1, 1, count), np.zeros(count)])
    class_id = rng.integers(0, 3, count)
    tracker, known = Tracker(), {}
    for scan in range(8):
        seen = rng.permutation(count)
        if scan > 1:
            seen = seen[rng.random(count) > 0.2]
        identity = tracker.link(scan, (start + scan * speed)[seen], class_id[seen])
        assert len(set(identity.tolist())) == len(seen)
        for thing, number in zip(seen.tolist(), identity.tolist(), strict=True):
            if thing in known and scan - known[thing][1] <= 2:
                assert number == known[thing][0]
            known[thing] = (number, scan)


def test_another_class_or_a_jump_is_another_object() -> None:
    tracker = Tracker()
    at = np.array([[0.0, 0, 0]])
    one = tracker.link(0, at, np.array([4]))
    assert tracker.link(1, at + [SPEED_M - 0.1, 0, 0], np.array([4])) == one
    other_class = tracker.link(2, at + [2 * (SPEED_M - 0.1), 0, 0], np.array([5]))
    assert other_class != one
    jumped = tracker.link(3, at + [3 * (SPEED_M - 0.1) + 3 * NEAR_M, 0, 0], np.array([4]))
    assert jumped not in (one, other_class)
    assert tracker.link(4, np.zeros((0, 3)), np.zeros(0, int)).tolist() == []


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"training": {"grid": {"voxel_size": 0.1}}}, "grid follow from the drive and the student"),
        ({"training": {"student": {"size": "nano"}}}, r"student\.size follow"),
        ({"training": {"data": {"root": "x", "train": ["00"]}}}, r"data\.root, data\.train follow"),
        ({"trust": {"ranges_m": [30, 15]}}, "ranges_m must be ascending"),
        ({"trust": {"ranges_m": [0, 15]}}, "ranges_m must be ascending and above 0"),
        ({"rounds": 0}, "rounds"),
        ({"vote": {"voxel": 0.1}}, "voxel"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        validate(AdaptSettings, settings, "adapt.yaml")


def test_what_is_left_out_may_be_given() -> None:
    made = validate(AdaptSettings, {"training": {"run": {"steps": 5}, "data": {"classes": "semantic_kitti_19"}}}, "x")
    assert made.training["run"] == {"steps": 5}
    assert made.trust.ranges_m == (15.0, 30.0)


def test_streets_are_prepared_as_the_drive_is(tmp_path: Path) -> None:
    streets = SemanticKitti(write_tiny(tmp_path / "streets", scans=2))
    sensor = sensor_settings(
        {
            "input.intensity_range": "byte",  # of the driver; streets are stored as 0-1
            "input.intensity_gain": 2.0,
            "input.z_offset_m": -0.5,
            "input.pitch_deg": 3.0,
            "input.own_vehicle": [-9.0, -9.0, -9.0, 9.0, 9.0, 9.0],
        }
    )
    add_streets(tmp_path / "out", streets, sensor, silent)
    ours = SemanticKitti(tmp_path / "out").sequences[street_name("01")]
    theirs = streets.sequences["01"]
    motion = sensor.correction()
    np.testing.assert_allclose(ours.scan(1).points[:, :3], transform(motion, theirs.scan(1).points[:, :3]), atol=1e-5)
    np.testing.assert_allclose(ours.scan(1).points[:, 3], np.minimum(2 * theirs.scan(1).points[:, 3], 1), atol=1e-6)
    np.testing.assert_array_equal(ours.scan(1).labels, theirs.scan(1).labels)
    assert ours.poses is not None
    assert theirs.poses is not None
    np.testing.assert_allclose(ours.poses[1], motion @ theirs.poses[1] @ invert(motion), atol=1e-6)


def scaled(root: Path, factor: float, raised_m: float = 0.0) -> SemanticKitti:
    """Tiny data whose intensities are multiplied and whose points are raised."""
    write_tiny(root)
    for path in root.rglob("*.bin"):
        points = np.fromfile(path, "<f4").reshape(-1, 4)
        points[:, 3] *= factor
        points[:, 2] += raised_m
        points.tofile(path)
    return SemanticKitti(root)


def test_a_converted_drive_holds_intensities_from_0_to_1_whatever_the_driver_sends(tmp_path: Path) -> None:
    byte = sensor_settings({"input.intensity_range": "byte"})
    assert as_stored(byte, scaled(tmp_path / "converted", 1.0)).intensity_range == "unit"
    assert as_stored(byte, scaled(tmp_path / "own", 255.0)).intensity_range == "byte"


def test_streets_of_another_sensor_are_told_from_those_of_the_drives(tmp_path: Path) -> None:
    drive = scaled(tmp_path / "drive", 0.1, raised_m=0.5)
    sensor = sensor_settings({"input.intensity_range": "byte", "input.intensity_gain": 8.0, "input.z_offset_m": -0.5})
    assert misfits(drive, scaled(tmp_path / "same", 0.1, raised_m=0.5), sensor) == []
    found = misfits(drive, scaled(tmp_path / "other", 1.0), sensor)
    assert len(found) == 2
    assert "the ground of the streets lies 0.50 m lower than that of the drive" in found[0]
    assert "the median intensity is 1 in the streets and 0.24 in the drive" in found[1]


def test_a_drive_without_poses_is_told(tmp_path: Path) -> None:
    write_tiny(tmp_path, sequences=("00", "03"))
    assert lacks_poses(SemanticKitti(tmp_path)) == []
    (tmp_path / "sequences" / "03" / "poses.txt").unlink()
    (sentence,) = lacks_poses(SemanticKitti(tmp_path))
    assert f"{tmp_path} has no poses in 03" in sentence
    assert "without votes" in sentence
    assert "--kiss-icp" in sentence


def test_only_parameters_of_the_input_describe_the_sensor() -> None:
    assert sensor_settings({}).zero_is_invalid is False
    assert sensor_settings({"input.intensity_range": "byte"}).intensity_range == "byte"
    with pytest.raises(ConfigError, match=r"output\.topic has no meaning here|max_delay_s has no meaning here"):
        sensor_settings({"max_delay_s": 1.0})
