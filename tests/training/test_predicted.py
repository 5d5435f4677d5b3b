"""Sequences whose labels are predictions: labelled scans are drawn at least as often as labelled_share asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from random_student import write_student
from tiny_data import write_tiny

from kd_seg.training import Trainer, read_training_config

CONFIG = """
data: {train: ["00", "10", "11", "12"], valid: []}
grid: {voxel_size: 0.4}
run: {steps: 1, batch: 1, workers: 0, threads: 1, device: cpu}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("predicted"), ("00", "10", "11", "12"), 2)


def drawn(root: Path, folder: Path, *overrides: str) -> list[str]:
    (folder / "c.yaml").write_text(CONFIG)
    settings = [f"data.root={root}", f"run.folder={folder / 'run'}", *overrides]
    trainer = Trainer(read_training_config(folder / "c.yaml", settings))
    return [sequence for sequence, _ in trainer.parts.keys]


@pytest.mark.parametrize(("share", "times"), [(0.0, 1), (0.25, 1), (0.5, 3), (0.6, 5)])
def test_few_predicted_scans_come_as_often_as_asked(root: Path, tmp_path: Path, share: float, times: int) -> None:
    sequences = drawn(root, tmp_path, 'data.predicted=["12"]', f"data.predicted_share={share}")
    assert sequences.count("12") == 2 * times
    assert all(sequences.count(name) == 2 for name in ("00", "10", "11"))


@pytest.mark.parametrize(("share", "times"), [(0.0, 1), (0.25, 1), (0.5, 3), (0.6, 5)])
def test_labelled_scans_come_as_often_as_asked(root: Path, tmp_path: Path, share: float, times: int) -> None:
    """Two labelled scans beside six: 6 of 12 are half, 10 of 16 are over 0.6."""
    sequences = drawn(root, tmp_path, 'data.predicted=["1*"]', f"data.labelled_share={share}")
    assert sequences.count("00") == 2 * times
    assert all(sequences.count(name) == 2 for name in ("10", "11", "12"))


def test_nothing_changes_where_all_labels_are_alike(root: Path, tmp_path: Path) -> None:
    expected = [name for name in ("00", "10", "11", "12") for _ in range(2)]
    for number, predicted in enumerate(("[]", '["drive_*"]', '["*"]')):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert drawn(root, folder, f"data.predicted={predicted}", "data.labelled_share=0.9") == expected


def test_shares_hold_beside_an_objective_that_learns_from_every_scan(root: Path, tmp_path: Path) -> None:
    """Found by reading: with a teacher of points beside the labels, predicted sequences counted as labelled ones."""
    write_student(tmp_path / "teacher.safetensors")
    teacher = f"{{kind: point_teacher, mode: live, checkpoint: {tmp_path / 'teacher.safetensors'}}}"
    both = f"objectives=[{{kind: supervised}}, {teacher}]"
    train = ('data.train=["00", "10", "11"]', 'data.unlabelled=["12"]', 'data.predicted=["1*"]')
    sequences = drawn(root, tmp_path, *train, both, "data.labelled_share=0.5", "data.predicted_share=0.6")
    assert {name: sequences.count(name) for name in ("00", "10", "11", "12")} == {"00": 6, "10": 4, "11": 4, "12": 2}
    alone = drawn(root, tmp_path, *train, f"objectives=[{teacher}]", f"run.folder={tmp_path / 'alone'}")
    assert alone == [name for name in ("00", "10", "11", "12") for _ in range(2)]
