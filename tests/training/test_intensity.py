"""One data set with intensities of 0-1 and the same of 0-255: trained, scored and predicted alike, or refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from random_student import write_student
from tiny_data import write_tiny

from kd_seg.checkpoint import load_checkpoint, read_spec, read_tensors, save_checkpoint
from kd_seg.core.errors import CheckpointError
from kd_seg.evaluation.held_back import score_of
from kd_seg.evaluation.request import EvaluationRequest, evaluate_request
from kd_seg.scans import FileFormat, SemanticKitti, Sensor, read_words
from kd_seg.serving.label_files import label_files
from kd_seg.serving.segmenter import Segmenter
from kd_seg.serving.sensor_input import SensorSettings
from kd_seg.serving.sources import Task
from kd_seg.training import RunFolder, Trainer, TrainingConfig, read_training_config

CONFIG = """
data: {train: ["00", "01"], valid: ["01"], select: ["01"]}
grid: {voxel_size: 0.8}
augment: {remission_noise: 0.05}
run: {steps: 3, batch: 1, workers: 0, threads: 1, log_every: 1, device: cpu}
"""


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny data with remissions that both ranges hold exactly: k / 255."""
    made = {name: write_tiny(tmp_path_factory.mktemp(name), scans=2) for name in ("unit", "byte")}
    for name, root in made.items():
        for path in root.glob("sequences/*/velodyne/*.bin"):
            points = np.fromfile(path, np.float32).reshape(-1, 4)
            counts = np.round(points[:, 3] * 255.0).astype(np.float32)
            points[:, 3] = counts if name == "byte" else counts * np.float32(1.0 / 255.0)
            points.tofile(path)
    return made


def config_of(roots: dict[str, Path], folder: Path, name: str, *overrides: str) -> TrainingConfig:
    (folder / "c.yaml").write_text(CONFIG)
    own = [f"data.root={roots[name]}", f"data.sensor.intensity_range={name}", f"run.folder={folder / name}"]
    return read_training_config(folder / "c.yaml", [*own, *overrides])


def test_points_are_normalised_where_they_are_read(roots: dict[str, Path]) -> None:
    byte = SemanticKitti(roots["byte"], form=FileFormat(intensity_range="byte"))[0]
    unit = SemanticKitti(roots["unit"])[0]
    np.testing.assert_array_equal(byte.points, unit.points)
    assert byte.file_points[:, 3].max() > 100
    assert 0 < unit.points[:, 3].max() <= 1


def test_both_ranges_train_the_same_student_and_score_alike(roots: dict[str, Path], tmp_path: Path) -> None:
    tensors, scores, results = {}, {}, {}
    for name in roots:
        config = config_of(roots, tmp_path, name)
        Trainer(config).fit()
        run = RunFolder(config.run.folder or "")
        tensors[name] = read_tensors(run.last)
        score = score_of(config)
        assert score is not None
        scores[name] = score(run.last)
        results[name] = evaluate_request(EvaluationRequest((run.path,), device="cpu")).matrix
        assert read_spec(run.last).sensor.intensity_range == name
        assert read_spec(run.last).largest_intensity == 1.0
    assert all(torch.equal(tensors["unit"][key], tensors["byte"][key]) for key in tensors["unit"])
    assert scores["unit"] == scores["byte"]
    np.testing.assert_array_equal(results["unit"], results["byte"])


def test_evaluation_and_prediction_of_files_are_one_path(roots: dict[str, Path], tmp_path: Path) -> None:
    """Each class of ``kd-seg predict`` on a byte file is what ``kd-seg eval`` counts."""
    student = write_student(tmp_path / "s.safetensors", sensor=Sensor("byte"))
    save_checkpoint(student, load_checkpoint(student).network, _of_today(student))
    segmenter = Segmenter(student, device="cpu")
    scan = SemanticKitti(roots["byte"], form=FileFormat(intensity_range="byte"))[0]
    label_files(
        segmenter, [Task(scan.points_path, tmp_path / "a.label")], SensorSettings("byte", zero_is_invalid=False)
    )
    expected = segmenter.classes.class_to_raw(segmenter.segment(scan.points).class_id)
    np.testing.assert_array_equal(read_words(tmp_path / "a.label"), expected)


def _of_today(student: Path):  # type: ignore[no-untyped-def]
    return replace(read_spec(student), input_intensity="unit")


def test_a_wrong_range_is_told_and_the_right_one_named(
    roots: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    student = write_student(tmp_path / "s.safetensors")
    wrong = EvaluationRequest((student,), roots["byte"], sequences=("01",), device="cpu")
    evaluate_request(wrong)
    assert "is taken as unit; set --intensity-range to byte" in caplog.text
    caplog.clear()
    named = replace(wrong, intensity_range="byte")
    plain = replace(wrong, data=roots["unit"])
    matrices = [evaluate_request(request).matrix for request in (named, plain)]
    np.testing.assert_array_equal(*matrices)
    assert "intensity" not in caplog.text


def test_a_student_of_the_first_release_gets_the_intensities_it_was_trained_on(tmp_path: Path) -> None:
    """Its checkpoint names no range of the input: 0.1.0 trained on what the files held."""
    student = write_student(tmp_path / "old.safetensors", sensor=Sensor("byte"))
    segmenter = Segmenter(student, device="cpu")
    points = np.array([[1.0, 2.0, 0.5, 0.2]], np.float32)
    np.testing.assert_allclose(segmenter.spec.as_trained(points), [[1.0, 2.0, 0.5, 51.0]], rtol=1e-6)
    shipped = Segmenter(device="cpu")
    assert shipped.spec.as_trained(points) is points


def test_training_does_not_start_from_a_student_of_other_intensities(roots: dict[str, Path], tmp_path: Path) -> None:
    old = write_student(tmp_path / "old.safetensors", sensor=Sensor("byte"))
    with pytest.raises(CheckpointError, match=r"takes intensities of 0 to 255.*as a point_teacher"):
        Trainer(config_of(roots, tmp_path, "byte", f"student.init={old}"))
    config = config_of(roots, tmp_path, "byte", "run.folder=" + str(tmp_path / "again"))
    Trainer(config).fit()
    last = RunFolder(tmp_path / "again").last
    last.write_bytes(old.read_bytes())
    with pytest.raises(CheckpointError, match="takes intensities of 0 to 255"):
        Trainer(config, resume=True)
