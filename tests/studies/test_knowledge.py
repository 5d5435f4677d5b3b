"""What a teacher knows by range and by the size of objects, on labels whose faults are known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from random_student import write_student

from kd_seg.classes import load_classes
from kd_seg.core.errors import UsageError
from kd_seg.scans import SemanticKitti
from kd_seg.studies.knowledge import measure, source_of

ROAD, PERSON = 40, 30


def street(root: Path, name: str, wrong: np.ndarray | None = None, labels: bool = True) -> Path:
    """A person of 5 points at 8 m, one of 60 at 15 m, and road; points in ``wrong`` are called road."""
    xyz = np.concatenate(
        [np.tile([8.0, 0, 0], (5, 1)), np.tile([15.0, 0, 0], (60, 1)), np.tile([4.0, 2, -1.7], (200, 1))]
    )
    words = np.repeat([PERSON | 1 << 16, PERSON | 2 << 16, ROAD], (5, 60, 200))
    if wrong is not None:
        words[wrong] = ROAD
    folder = root / "sequences" / name
    (folder / "velodyne").mkdir(parents=True)
    np.column_stack([xyz, np.zeros(len(xyz))]).astype("<f4").tofile(folder / "velodyne" / "000000.bin")
    if labels:
        (folder / "labels").mkdir()
        words.astype("<u4").tofile(folder / "labels" / "000000.label")
    return root


def test_what_is_missed_is_told_by_range_and_by_size(tmp_path: Path) -> None:
    classes = load_classes()
    data = SemanticKitti(street(tmp_path / "data", "00"))
    missed = street(tmp_path / "labels", "drive_00", wrong=np.arange(3))
    sources = {"truth": source_of(tmp_path / "data", classes), "labels": source_of(missed, classes)}
    rows = measure(data, sources, classes)
    assert rows["truth"]["hard"] == rows["truth"]["hard 0-10 m"] == rows["truth"]["iou"]["person"] == 100.0
    assert rows["truth"]["found of objects of 1-9 points"] == 100.0
    assert rows["labels"]["hard 0-10 m"] == 40.0
    assert rows["labels"]["hard 10-20 m"] == 100.0
    assert rows["labels"]["hard 20-35 m"] is None
    assert rows["labels"]["found of objects of 1-9 points"] == 40.0
    assert rows["labels"]["found of objects of 50-199 points"] == 100.0
    assert rows["labels"]["found of objects of 10-49 points"] is None
    assert rows["labels"]["iou"]["person"] == pytest.approx(100 * 62 / 65, abs=0.06)


def test_points_without_an_instance_id_are_no_object(tmp_path: Path) -> None:
    root = street(tmp_path / "data", "00")
    path = root / "sequences" / "00" / "labels" / "000000.label"
    words = np.fromfile(path, "<u4")
    words[words == PERSON | 2 << 16] = PERSON
    words.tofile(path)
    classes = load_classes()
    row = measure(SemanticKitti(root), {"truth": source_of(root, classes)}, classes)["truth"]
    assert row["found of objects of 1-9 points"] == 100.0
    assert row["found of objects of 50-199 points"] is None
    assert row["hard"] == 100.0


def test_a_network_is_a_source_and_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    root = street(tmp_path / "data", "00")
    command = [sys.executable, "-m", "kd_seg.studies.knowledge", str(root)]
    done = subprocess.run([*command, "shipped=general", "--json"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["shipped"]["iou"].keys() >= {"person", "truck"}
    done = subprocess.run([*command, "general"], capture_output=True, text=True, timeout=60)
    assert "write NAME=PATH" in done.stderr
    unlabelled = SemanticKitti(street(tmp_path / "bare", "00", labels=False))
    with pytest.raises(UsageError, match="has no labels"):
        measure(unlabelled, {"truth": source_of(root, load_classes())}, load_classes())


def test_a_network_of_other_classes_is_refused(tmp_path: Path) -> None:
    student = write_student(tmp_path / "s.safetensors", "nuscenes_16")
    with pytest.raises(UsageError, match="predicts the classes of nuscenes_16, not semantic_kitti_19"):
        source_of(student, load_classes())
