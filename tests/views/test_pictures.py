"""kd-seg view and kd-seg info: what is opened, what is drawn, what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from console_script import kd_seg, kd_seg_json
from in_process import refused
from PIL import Image
from random_student import write_student
from ros_clouds import answers_of
from tiny_data import write_tiny

from kd_seg.classes import load_classes
from kd_seg.core.errors import DataError, KdSegError, UsageError
from kd_seg.scans import FileFormat, Scan
from kd_seg.serving.bag_io import CLOUD, CLOUD_QOS, PLUGINS, BagWriter, cloud_message, make_typestore
from kd_seg.serving.pointcloud2 import Decoded, encode_segmentation
from kd_seg.views.bag_source import open_bag_shot
from kd_seg.views.contents import contents, lines
from kd_seg.views.picture import ViewRequest, make_sheet, spread
from kd_seg.views.sheet import Sheet
from kd_seg.views.source import find_scan, is_prediction, open_shot, segmented

TABLE = load_classes()


def untracked(scans: list[Scan], what: str) -> Iterable[Scan]:
    return scans


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sequences of three scans; sequence 01 has pictures from scan 1 on."""
    root = write_tiny(tmp_path_factory.mktemp("pictures"))
    folder = root / "sequences" / "01" / "image_2"
    folder.mkdir()
    for scan in (1, 2):
        Image.fromarray(np.full((376, 1241, 3), 120, np.uint8)).save(folder / f"{scan:06d}.png")
    return root


@pytest.fixture(scope="module")
def predictions(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The truth with every tenth point called building."""
    root = tmp_path_factory.mktemp("predictions")
    for path in sorted(data.glob("sequences/*/labels/*.label")):
        words = np.fromfile(path, "<u4") & 0xFFFF
        words[::10] = 50
        target = root / "sequences" / path.parts[-3] / "predictions" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        words.tofile(target)
    return root


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labelled clouds of three points: classes 0, 5, invalid; then 1, 1, 1."""
    path = tmp_path_factory.mktemp("bags") / "drive"
    store = make_typestore()
    writer = BagWriter(path, PLUGINS["mcap"], store)
    xyz = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.float32)
    for number, classes in enumerate(([0, 5, 255], [1, 1, 1])):
        cloud = Decoded(xyz, np.zeros(3, np.float32), 1, 3, None)
        packed, _ = encode_segmentation(cloud, answers_of(np.array(classes), np.ones(3), np.zeros(3)))
        header = SimpleNamespace(stamp=SimpleNamespace(sec=number, nanosec=0), frame_id="lidar")
        writer.write("/points", CLOUD, CLOUD_QOS, 10**9 * number, cloud_message(store, header, packed))
    writer.close()
    return path


def test_a_scan_is_found_by_name(data: Path) -> None:
    assert find_scan(data, None).name == "00/000000"
    assert find_scan(data, "01/2").name == "01/000002"
    assert find_scan(data / "sequences" / "01", "1").name == "01/000001"
    assert find_scan(data, "2").name == "00/000002"
    with pytest.raises(DataError, match="has no scan 01/9"):
        find_scan(data, "01/9")
    with pytest.raises(UsageError, match="SEQUENCE/NUMBER"):
        find_scan(data, "first")


def test_a_bin_file_in_a_sequence_brings_its_labels_and_cameras(data: Path, tmp_path: Path) -> None:
    shot = open_shot(data / "sequences" / "01" / "velodyne" / "000001.bin", None, TABLE)
    assert shot.train is not None
    assert len(shot.cameras) == 1
    alone = tmp_path / "scan.bin"
    alone.write_bytes((data / "sequences" / "01" / "velodyne" / "000001.bin").read_bytes())
    assert open_shot(alone, None, TABLE).train is None


def test_predictions_are_told_from_data(data: Path, predictions: Path) -> None:
    folder = predictions / "sequences" / "00" / "predictions"
    assert is_prediction(predictions)
    assert is_prediction(folder)
    assert is_prediction(folder / "000000.label")
    labels = data / "sequences" / "00" / "labels"
    assert not any(is_prediction(path) for path in (data, data / "sequences" / "00", labels, labels / "000000.label"))


@pytest.mark.parametrize("swapped", [False, True])
def test_predictions_are_drawn_against_their_data_in_either_order(
    data: Path, predictions: Path, tmp_path: Path, swapped: bool
) -> None:
    source, against = (predictions, data) if swapped else (data, predictions)
    sheet = make_sheet(ViewRequest(source, against, scan="01/1"), untracked)
    texts = " ".join(text.get_text() for text in sheet.figure.texts)
    assert "10.0 % of these wrong; mIoU present 90.0 %" in texts
    assert "Errors in image_2" in texts
    sheet.save(tmp_path / "deep" / "errors.png")
    assert Image.open(tmp_path / "deep" / "errors.png").size[0] == 1600


def test_wrong_lengths_and_strange_pairs_are_refused(data: Path, predictions: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.label"
    short.write_bytes(b"\0" * 8)
    with pytest.raises(DataError, match="has 2 predictions"):
        make_sheet(ViewRequest(data, short), untracked)
    with pytest.raises(UsageError, match="holds no points"):
        make_sheet(ViewRequest(predictions), untracked)
    with pytest.raises(UsageError, match="one of the two must be"):
        make_sheet(ViewRequest(predictions, predictions), untracked)
    with pytest.raises(UsageError, match="does not exist"):
        make_sheet(ViewRequest(data, tmp_path / "nowhere"), untracked)


def test_a_checkpoint_of_other_classes_is_refused(data: Path, tmp_path: Path) -> None:
    student = write_student(tmp_path / "s.safetensors", "semantic_kitti_25")
    with pytest.raises(UsageError, match="--classes semantic_kitti_25"):
        make_sheet(ViewRequest(data, student), untracked)


def test_a_checkpoint_is_told_the_range_of_intensities(data: Path, tmp_path: Path) -> None:
    student = write_student(tmp_path / "s.safetensors")
    cloud = tmp_path / "cloud.npy"
    np.save(cloud, np.fromfile(data / "sequences" / "00" / "velodyne" / "000000.bin", "<f4").reshape(-1, 4))
    with pytest.raises(UsageError, match="--intensity-range"):
        make_sheet(ViewRequest(cloud, student), untracked)
    sheet = make_sheet(ViewRequest(cloud, student, intensity_range="unit"), untracked)
    assert "cloud.npy: s.safetensors" in [text.get_text() for text in sheet.figure.texts]


def rewritten(data: Path, root: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """A copy of a data root whose points [N, 4] are changed."""
    shutil.copytree(data, root)
    for path in root.glob("sequences/*/velodyne/*.bin"):
        change(np.fromfile(path, "<f4").reshape(-1, 4)).astype("<f4").tofile(path)
    return root


def test_intensities_of_a_data_root_reach_a_checkpoint_in_the_range_that_is_named(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    student = write_student(tmp_path / "s.safetensors")
    bytes_ = rewritten(data, tmp_path / "bytes", lambda points: points * np.float32([1, 1, 1, 255]))
    found = []
    for root, intensity in ((data, "unit"), (bytes_, "byte")):
        shot = open_shot(root, "00/0", TABLE)
        found.append(segmented(student, shot, TABLE, intensity))
    assert np.array_equal(*found)
    assert not caplog.messages
    segmented(student, open_shot(bytes_, "00/0", TABLE), TABLE, "unit")
    assert "is taken as unit; set --intensity-range to byte" in caplog.text


def test_sequences_and_files_of_five_columns_stand_side_by_side(data: Path, tmp_path: Path) -> None:
    ring = np.arange(10_000, dtype=np.float32) % 16
    wide = rewritten(data, tmp_path / "wide", lambda points: np.column_stack([points, ring[: len(points)]]))
    five = FileFormat(columns=5)
    for source, scans in ((wide / "sequences", 6), (wide / "sequences" / "00" / "velodyne", 3)):
        sheet = make_sheet(ViewRequest(source, wide, form=five), untracked)
        texts = [text.get_text() for text in sheet.figure.texts]
        assert any(f"({scans} scans)" in text for text in texts)


def test_info_does_not_count_points_that_lie_otherwise(data: Path, tmp_path: Path) -> None:
    ring = np.arange(10_000, dtype=np.float32) % 16
    wide = rewritten(data, tmp_path / "wide", lambda points: np.column_stack([points, ring[: len(points)]]))
    found = contents(wide)
    assert found["points"] is None
    assert "it looks like 5 columns" in found["sequences"][0]["points"]
    assert "it looks like 5 columns" in " ".join(lines(found))
    assert contents(wide, FileFormat(columns=5))["points"] == contents(data)["points"]


def test_two_data_sets_stand_side_by_side_with_their_statistics(data: Path, tmp_path: Path) -> None:
    sheet = make_sheet(ViewRequest(data, data / "sequences" / "01", against_scan="1"), untracked)
    texts = [text.get_text() for text in sheet.figure.texts]
    assert any("(6 scans)" in text for text in texts)
    assert any("(3 scans)" in text for text in texts)
    assert "points per scan" in texts
    np.save(tmp_path / "cloud.npy", np.ones((5, 4), np.float32))
    plain = make_sheet(ViewRequest(data, tmp_path / "cloud.npy"), untracked)
    assert "points per scan" not in [text.get_text() for text in plain.figure.texts]


def test_statistics_are_taken_over_few_evenly_spread_scans() -> None:
    assert spread(3) == [0, 1, 2]
    assert len(spread(4071)) <= 24
    assert spread(100)[-1] >= 90


def test_a_labelled_bag_is_coloured_by_class(bag: Path) -> None:
    shot = open_bag_shot(bag, None, None, TABLE)
    assert shot.train is not None
    assert shot.train.tolist() == [1, 6, 0]
    assert np.array_equal(shot.points[:, :3], [[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    assert open_bag_shot(bag, "1", "/points", TABLE).train.tolist() == [2, 2, 2]  # type: ignore[union-attr]
    with pytest.raises(DataError, match="has 2 clouds"):
        open_bag_shot(bag, "2", None, TABLE)
    with pytest.raises(UsageError, match="number from 0"):
        open_bag_shot(bag, "x", None, TABLE)
    few = replace(TABLE, names=TABLE.names[:3])
    with pytest.raises(UsageError, match="has class 5"):
        open_bag_shot(bag, None, None, few)


def test_a_picture_of_no_known_kind_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KdSegError, match=r"written as \.png"):
        Sheet(1, 1).save(tmp_path / "picture.nonsense")
    assert list(tmp_path.iterdir()) == []


def test_info_counts_what_is_there(data: Path, bag: Path, tmp_path: Path) -> None:
    found = contents(data)
    assert (found["kind"], found["scans"]) == ("data root", 6)
    assert [each["pictures"] for each in found["sequences"]] == [{}, {"image_2": 2}]
    assert found["points"] == sum(path.stat().st_size // 16 for path in data.rglob("*.bin"))
    assert contents(data / "sequences" / "01")["labels"] == 3
    topics = contents(bag)["topics"]
    assert (topics[0]["topic"], topics[0]["messages"], topics[0]["first"]["width"]) == ("/points", 2, 3)
    student = contents(write_student(tmp_path / "s.safetensors"))
    assert student["network"] == {"name": "unet", "size": "nano"}
    assert student["values"] > 100_000
    for each in (found, contents(bag), student):
        assert any(each["kind"] in line for line in lines(each))
    with pytest.raises(UsageError, match="does not exist"):
        contents(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no checkpoint, run folder, bag, data root or point file"):
        contents(tmp_path)


def test_the_programs_view_and_info(data: Path, predictions: Path, tmp_path: Path) -> None:
    kd_seg("view", data, "--scan", "01/1", "--out", tmp_path / "scan.png")
    assert Image.open(tmp_path / "scan.png").size == (1600, 1100)
    assert kd_seg_json("info", data)["scans"] == 6
    assert (
        "000009.label"
        in kd_seg("view", data, "--against", predictions / "000009.label", "--out", "x.png", code=2).stderr
    )


def test_options_without_effect_are_refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    view = ("view", data, "--out", tmp_path / "x.png")
    for extra in (("--against", data), ("--topic", "/points"), ("--range", 10)):
        assert f"{extra[0]} has no effect on --fused" in refused(capsys, *view, "--fused", *extra, code=2)
    assert "draws pictures, no window" in refused(capsys, *view, "--fused", "--window", code=2)
    assert "--against, which is not named" in refused(capsys, *view, "--against-scan", "1", code=2)
