"""The SemanticKITTI reader: golden bytes, laziness, and a sentence of its own for every kind of bad input."""

import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_data import write_tiny

from kd_seg.core.errors import DataError
from kd_seg.scans import (
    SPLITS,
    Cloud,
    Kind,
    Scan,
    SemanticKitti,
    read_calibration,
    read_points,
    read_poses,
    read_times,
    read_words,
    stack,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "data")


def sequence(root: Path, name: str = "00") -> Path:
    return root / "sequences" / name


def test_golden_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "sequences" / "07"
    for name in ("velodyne", "labels"):
        (folder / name).mkdir(parents=True)
    (folder / "velodyne" / "000012.bin").write_bytes(struct.pack("<8f", 1.5, -2.0, 0.25, 0.5, 80.0, 0.0, -1.0, 1.0))
    (folder / "labels" / "000012.label").write_bytes(struct.pack("<2I", 40, 252 | 3 << 16))
    scan = SemanticKitti(tmp_path).scan("07", 12)
    assert scan.points.dtype == np.float32
    assert scan.points.tolist() == [[1.5, -2.0, 0.25, 0.5], [80.0, 0.0, -1.0, 1.0]]
    assert scan.labels is not None
    assert scan.labels.tolist() == [40, 252 + (3 << 16)]
    assert (scan.name, scan.pose, scan.cameras, scan.time) == ("07/000012", None, (), pytest.approx(1.2))


def test_poses_go_from_the_camera_to_the_lidar(root: Path) -> None:
    scan = SemanticKitti(root).scan("00", 2)
    assert scan.pose is not None
    np.testing.assert_allclose(scan.pose, [[1, 0, 0, 2], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], atol=1e-9)
    assert scan.time == pytest.approx(0.2)


def test_rows_of_poses_belong_to_scan_numbers_not_to_files(root: Path) -> None:
    """semantic_kitti_mini's sequences start at 7, its poses.txt at 0."""
    for name in ("velodyne/000000.bin", "labels/000000.label"):
        (sequence(root) / name).unlink()
    data = SemanticKitti(root, ["00"])
    assert data.keys() == [("00", 1), ("00", 2)]
    pose = data[0].pose
    assert pose is not None
    assert pose[0, 3] == pytest.approx(1.0)


def test_pictures_where_they_are(root: Path) -> None:
    from PIL import Image

    (sequence(root) / "image_2").mkdir()
    Image.new("RGB", (5, 4), (1, 2, 3)).save(sequence(root) / "image_2" / "000001.png")
    data = SemanticKitti(root)
    assert data.scan("00", 0).cameras == ()
    (camera,) = data.scan("00", 1).cameras
    assert camera.read().shape == (4, 5, 3)
    assert camera.matrix().shape == (3, 4)
    (sequence(root) / "image_2" / "000001.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"image_2/000001\.png is not a readable picture"):
        camera.read()


def test_official_splits() -> None:
    assert SPLITS["valid"] == ("08",)
    assert len(SPLITS["train"]) == 10
    assert {*SPLITS["train"], *SPLITS["valid"]} == {f"{n:02d}" for n in range(11)}
    assert SPLITS["test"][0] == "11"
    assert len(SPLITS["test"]) == 11


def test_missing_labels_are_fine_for_prediction(tmp_path: Path) -> None:
    scan = SemanticKitti(write_tiny(tmp_path, labels=False))[0]
    assert scan.labels is None
    assert Cloud.of_scan(scan).words.any() == False  # noqa: E712


def test_labels_are_never_opened_where_not_asked(root: Path) -> None:
    (sequence(root) / "labels" / "000000.label").write_bytes(b"broken")
    assert len(Cloud.of_scan(SemanticKitti(root)[0], with_labels=False)) > 0


def cut(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])


def test_cut_off_scan(root: Path) -> None:
    cut(sequence(root) / "velodyne" / "000001.bin", 3)
    with pytest.raises(DataError, match=r"velodyne/000001\.bin does not hold 4 columns.*cut off"):
        _ = SemanticKitti(root).scan("00", 1).points


def test_cut_off_labels(root: Path) -> None:
    cut(sequence(root) / "labels" / "000001.label", 1)
    with pytest.raises(DataError, match=r"labels/000001\.label has \d+ bytes.*cut off"):
        _ = SemanticKitti(root).scan("00", 1).labels


def test_label_count_that_does_not_match(root: Path) -> None:
    cut(sequence(root) / "labels" / "000001.label", 4)
    with pytest.raises(DataError, match=r"000001\.label has \d+ labels, 000001\.bin has \d+ points"):
        _ = SemanticKitti(root).scan("00", 1).labels


def test_label_file_that_is_missing(root: Path) -> None:
    (sequence(root) / "labels" / "000001.label").unlink()
    with pytest.raises(DataError, match=r"000001\.label cannot be read \(No such file"):
        _ = SemanticKitti(root).scan("00", 1).labels


def test_empty_scan_is_read_but_not_learned_from(root: Path) -> None:
    for name in ("velodyne/000001.bin", "labels/000001.label"):
        (sequence(root) / name).write_bytes(b"")
    scan = SemanticKitti(root).scan("00", 1)
    assert scan.points.shape == (0, 4)
    with pytest.raises(DataError, match=r"000001\.bin holds no usable point \(0 rows"):
        Cloud.of_scan(scan)


def test_rows_that_are_not_finite_are_left_out(root: Path) -> None:
    path = sequence(root) / "velodyne" / "000001.bin"
    points = np.fromfile(path, np.float32).reshape(-1, 4)
    points[0, 0], points[3, 2], points[4, 1], points[5, 3] = np.nan, np.inf, -np.inf, np.nan
    points.tofile(path)
    scan = SemanticKitti(root).scan("00", 1)
    assert len(scan.points) == len(points)
    cloud = Cloud.of_scan(scan)
    assert np.setdiff1d(np.arange(len(points)), cloud.source).tolist() == [0, 3, 4]
    assert cloud.points[cloud.source.tolist().index(5), 3] == 0.0
    assert scan.labels is not None
    np.testing.assert_array_equal(cloud.words, scan.labels[cloud.source])
    points[:, 0] = np.nan
    points.tofile(path)
    with pytest.raises(DataError, match="none of them finite"):
        Cloud.of_scan(SemanticKitti(root).scan("00", 1))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("calib.txt", "Tr:", "Velo:", r"calib\.txt has no Tr row"),
        ("calib.txt", "Tr: 0.0", "Tr: 5.0", r"calib\.txt, Tr is not a rigid motion"),
        ("calib.txt", "Tr: ", "Tr: 1 ", r"calib\.txt, line 5 \(Tr\) holds 13 numbers, 12 are needed"),
        ("calib.txt", "P0: 7", "P0: x7", r"calib\.txt, line 1 \(P0\) holds something that is not a number"),
        ("poses.txt", "1.0", "1.5", r"poses\.txt, line 1 is not a rigid motion"),
        ("poses.txt", "1.0", "nan ", r"poses\.txt, line 1 holds"),
        ("poses.txt", " 0.0", " x.0", r"poses\.txt, line 1 holds something"),
        ("times.txt", "0.1", "noon", r"times\.txt, line 2: 'noon\d+' is not a time"),
    ],
)
def test_broken_text_files_name_file_and_line(root: Path, name: str, old: str, new: str, message: str) -> None:
    edit(sequence(root) / name, old, new)
    scan = SemanticKitti(root).scan("00", 1)
    assert len(scan.points) == len(scan.labels)  # neither is asked of these files
    with pytest.raises(DataError, match=message):
        _ = scan.pose, scan.time


def test_too_few_poses(root: Path) -> None:
    path = sequence(root) / "poses.txt"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(DataError, match=r"poses\.txt has 1 rows, scan 2 needs row 2"):
        _ = SemanticKitti(root).scan("00", 2).pose


def test_poses_without_calibration(root: Path) -> None:
    (sequence(root) / "calib.txt").unlink()
    with pytest.raises(DataError, match=r"poses\.txt but no calib\.txt"):
        _ = SemanticKitti(root).scan("00", 0).pose


def test_wrong_folders(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no sequences/ folder"):
        SemanticKitti(root / "sequences")
    with pytest.raises(DataError, match="has no sequence 08; it has: 00, 01"):
        SemanticKitti(root, ["08"])
    with pytest.raises(DataError, match="has no scan 9; it has 3 scans"):
        SemanticKitti(root).scan("00", 9)
    (sequence(root, "02")).mkdir()
    with pytest.raises(DataError, match="02 has no velodyne/ folder"):
        SemanticKitti(root)
    (sequence(root) / "velodyne" / "first.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"first\.bin: a scan's file name is its number"):
        SemanticKitti(root, ["00"])


@given(st.binary(max_size=400), st.sampled_from(["calib", "poses", "times", "words", "bin", "npy"]))
def test_any_bytes_are_read_or_refused_with_the_file_named(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, kind: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzz.{kind}"
    path.write_bytes(content)
    readers = {
        "calib": read_calibration,
        "poses": lambda p: read_poses(p, np.eye(4)),
        "times": read_times,
        "words": read_words,
        "bin": read_points,
        "npy": read_points,
    }
    try:
        readers[kind](path)
    except DataError as error:
        if path.name not in str(error):
            raise


def test_opening_the_full_data_set_takes_under_two_seconds(tmp_path: Path) -> None:
    """43,552 scans as SemanticKITTI has them: sequences of 4,541 down to 271."""
    sizes = [4541, 1101, 4661, 801, 271, 2761, 1101, 1101, 4071, 1591, 1201]
    sizes += [921, 1061, 3281, 631, 1901, 1731, 491, 1801, 4981, 831, 2721]
    for number, size in enumerate(sizes):
        for name in ("velodyne", "labels"):
            folder = tmp_path / "sequences" / f"{number:02d}" / name
            folder.mkdir(parents=True)
        velodyne = tmp_path / "sequences" / f"{number:02d}" / "velodyne"
        for scan in range(size):
            (velodyne / f"{scan:06d}.bin").touch()
    start = time.perf_counter()
    data = SemanticKitti(tmp_path)
    spent = time.perf_counter() - start
    assert len(data) == 43552
    assert data[43551].name == "21/002720"
    assert spent < 2.0


def test_points_of_other_files(tmp_path: Path) -> None:
    rows = np.array([[1, 2, 3, 40, 9], [4, 5, 6, 50, 9]], dtype=np.float64)
    np.save(tmp_path / "five.npy", rows)
    np.save(tmp_path / "three.npy", rows[:, :3])
    assert read_points(tmp_path / "five.npy").tolist() == [[1, 2, 3, 40], [4, 5, 6, 50]]
    assert read_points(tmp_path / "three.npy").tolist() == [[1, 2, 3, 0], [4, 5, 6, 0]]
    np.save(tmp_path / "flat.npy", rows[0])
    with pytest.raises(DataError, match=r"flat\.npy holds float64 \[5\]; points are numbers of shape"):
        read_points(tmp_path / "flat.npy")
    with pytest.raises(DataError, match=r"cloud\.las has no known point-file suffix; known: .*\.bin.*\.ply"):
        read_points(tmp_path / "cloud.las")
    with pytest.raises(DataError, match=r"none\.bin does not exist"):
        read_points(tmp_path / "none.bin")


@pytest.mark.parametrize("suffix", ["pcd", "ply"])
def test_points_that_open3d_wrote(tmp_path: Path, suffix: str) -> None:
    from kd_seg.core.open3d import open3d

    o3d = open3d()
    cloud = o3d.t.geometry.PointCloud(np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32))
    cloud.point["intensity"] = o3d.core.Tensor(np.array([[7], [8]], dtype=np.float32))
    path = tmp_path / f"cloud.{suffix}"
    for written in ({}, {"write_ascii": True}, {"compressed": True}):
        o3d.t.io.write_point_cloud(str(path), cloud, **written)
        assert read_points(path).tolist() == [[1, 2, 3, 7], [4, 5, 6, 8]]


def test_two_files_of_one_number(root: Path) -> None:
    folder = sequence(root) / "velodyne"
    (folder / "1.bin").write_bytes((folder / "000001.bin").read_bytes())
    with pytest.raises(DataError, match=r"two files of one number"):
        SemanticKitti(root)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG"])
def test_pictures_of_either_kind(root: Path, suffix: str) -> None:
    from PIL import Image

    (sequence(root) / "image_3").mkdir()
    Image.new("RGB", (5, 4), (1, 2, 3)).save(sequence(root) / "image_3" / f"000001{suffix}")
    (camera,) = SemanticKitti(root).scan("00", 1).cameras
    assert (camera.name, camera.read().shape) == ("image_3", (4, 5, 3))


def test_clouds_stack_with_own_rows_first(root: Path) -> None:
    data = SemanticKitti(root)
    first, second = (Cloud.of_scan(data[i]).take(np.arange(4)) for i in range(2))
    fused = second.take(np.array([0, 1]))
    fused = Cloud(fused.points, fused.words, fused.origin, np.full(2, Kind.FUSED, np.uint8), fused.source, own=0)
    whole = stack([first, stack([second], [fused])], [])
    assert (len(whole), whole.own) == (10, 8)
    assert whole.kind.tolist() == [Kind.OWN] * 8 + [Kind.FUSED] * 2
    assert whole.own == 8
    mask = np.zeros(10, bool)
    mask[[1, 7, 9]] = True
    assert (whole.take(mask).own, len(whole.take(mask))) == (2, 3)


def test_scan_reads_nothing_before_it_is_asked(tmp_path: Path) -> None:
    scan = Scan("00", 0, tmp_path / "gone.bin", tmp_path / "gone.label")
    with pytest.raises(DataError, match=r"gone\.bin cannot be read"):
        _ = scan.points


def test_hidden_files_are_no_scans_sequences_or_predictions(root: Path) -> None:
    before = SemanticKitti(root)
    (root / "sequences" / ".ipynb_checkpoints").mkdir()
    hidden = sequence(root) / "velodyne" / "._000000.bin"
    hidden.write_bytes(b"Mac OS X")
    data = SemanticKitti(root)
    assert list(data.sequences) == list(before.sequences)
    assert data.keys() == before.keys()
