"""Labelling of files: where answers go, how intensities are taken, which rows get no class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from console_script import kd_seg
from random_student import write_student
from tiny_data import tiny_cloud, write_tiny

from kd_seg.core.errors import UsageError
from kd_seg.scans import read_words, to_unit
from kd_seg.serving.label_files import label_files, sensor_of
from kd_seg.serving.segmenter import Segmenter
from kd_seg.serving.sensor_input import SensorSettings
from kd_seg.serving.sources import Task, expand, plan

UNIT = SensorSettings("unit", 0.0, False)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return Segmenter(write_student(tmp_path_factory.mktemp("s") / "s.safetensors"), device="cpu", num_threads=1)


def test_a_data_root_goes_to_the_benchmarks_layout(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data", scans=2)
    targets = [task.target.relative_to(tmp_path / "out").as_posix() for task in plan([data], tmp_path / "out")]
    assert targets == [f"sequences/{s}/predictions/{n:06d}.label" for s in ("00", "01") for n in (0, 1)]
    sequence = plan([data / "sequences" / "01"], tmp_path / "out")
    assert [task.target for task in sequence] == [task.target for task in plan([data], tmp_path / "out")[2:]]
    parts = [plan([data], tmp_path / "out", part, 3) for part in (1, 2, 3)]
    assert sorted(t.target for part in parts for t in part) == sorted(t.target for t in plan([data], tmp_path / "out"))


def test_one_file_goes_where_it_was_told(tmp_path: Path) -> None:
    cloud = tmp_path / "scan.npy"
    np.save(cloud, np.zeros((1, 4), np.float32))
    assert plan([cloud], tmp_path / "a.label")[0].target == tmp_path / "a.label"
    assert plan([cloud], tmp_path / "folder")[0].target == tmp_path / "folder" / "scan.label"


def test_what_cannot_be_labelled_is_said(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("")
    with pytest.raises(UsageError, match="no point file or bag"):
        plan([text], tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        expand([tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="must be a folder"):
        plan([write_tiny(tmp_path / "data")], tmp_path / "a.label")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"holds no point file .*; it holds nothing"):
        plan([tmp_path / "empty"], tmp_path)


def test_other_files_must_say_their_intensity(tmp_path: Path) -> None:
    cloud = tmp_path / "scan.npy"
    np.save(cloud, np.zeros((1, 4), np.float32))
    with pytest.raises(UsageError, match=r"--set input\.intensity_range=unit"):
        sensor_of([Task(cloud, cloud)], {})
    assert sensor_of([Task(cloud, cloud)], {"input.intensity_range": "byte"}) == SensorSettings("byte", 0.0, False)
    scan = tmp_path / "scan.bin"
    scan.write_bytes(b"\0" * 16)
    assert sensor_of([Task(scan, scan)], {}) == UNIT
    assert sensor_of([], {"input.zero_is_invalid": True}).zero_is_invalid


def test_rows_without_a_class_are_raw_0_and_the_rest_as_the_segmenter_says(
    tmp_path: Path, segmenter: Segmenter
) -> None:
    points, _ = tiny_cloud(np.random.default_rng(5))
    points[7, 1] = np.nan
    points[8, :3] = 1000.0
    np.save(tmp_path / "scan.npy", points)
    done = label_files(segmenter, [Task(tmp_path / "scan.npy", tmp_path / "scan.label")], UNIT)
    words = read_words(tmp_path / "scan.label")
    assert len(words) == len(points) == done.points
    assert words[7] == words[8] == 0
    assert done.invalid == (words == 0).sum()
    expected = segmenter.classes.class_to_raw(segmenter.segment(points).class_id)
    assert np.array_equal(words, expected)


def test_bytes_are_brought_into_the_checkpoints_range(tmp_path: Path, segmenter: Segmenter) -> None:
    points, _ = tiny_cloud(np.random.default_rng(6))
    np.save(tmp_path / "unit.npy", points)
    points[:, 3] *= 255
    np.save(tmp_path / "byte.npy", points)
    for name in ("unit", "byte"):
        task = Task(tmp_path / f"{name}.npy", tmp_path / f"{name}.label")
        label_files(segmenter, [task], SensorSettings(name, 0.0, False))
    same = read_words(tmp_path / "unit.label") == read_words(tmp_path / "byte.label")
    assert same.mean() > 0.99  # rounding may turn a tie
    wrong = label_files(segmenter, [Task(tmp_path / "byte.npy", tmp_path / "wrong.label")], UNIT)
    assert any("input.intensity_range" in warning for warning in wrong.warnings)


def test_an_empty_file_gives_an_empty_answer(tmp_path: Path, segmenter: Segmenter) -> None:
    (tmp_path / "scan.bin").write_bytes(b"")
    done = label_files(segmenter, [Task(tmp_path / "scan.bin", tmp_path / "scan.label")], UNIT)
    assert (done.scans, done.points) == (1, 0)
    assert (tmp_path / "scan.label").read_bytes() == b""


def test_intensities_are_scaled_and_clipped_without_touching_the_argument() -> None:
    points = np.array([[1, 2, 3, 0.5], [1, 2, 3, 2.0], [1, 2, 3, -1.0]], dtype=np.float32)
    before = points.copy()
    assert to_unit(points, "unit")[:, 3].tolist() == [0.5, 1.0, 0.0]
    assert to_unit(points * 255, "byte")[0, 3] == pytest.approx(0.5)
    assert np.array_equal(points, before)


def test_a_file_without_a_range_is_wrong_use(tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", np.zeros((4, 4), np.float32))
    done = kd_seg("predict", tmp_path / "scan.npy", "--out", tmp_path / "scan.label", code=2)
    assert "--set input.intensity_range" in done.stderr
