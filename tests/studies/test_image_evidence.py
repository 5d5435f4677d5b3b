"""What reports stand on: the visibility table, teachers' scores, pictures, benchmarks, and shipped sweeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from images_runs import WORK, export_maps, source, training_config, units_entry
from images_scene import Scene, poses, write_scene
from PIL import Image
from random_student import write_student

from kd_seg.benchmarks import project
from kd_seg.classes import load_classes
from kd_seg.core.errors import DataError, UsageError
from kd_seg.images.projection.cameras import ProjectionSettings, shots
from kd_seg.images.projection.visibility import VisibilitySettings
from kd_seg.scans import SemanticKitti
from kd_seg.studies import image_teacher, unit_scores, visibility
from kd_seg.studies.image_sheets import bleeding_sheet, units_sheet
from kd_seg.sweeps import plan, read_sweep
from kd_seg.training import Trainer, read_training_config
from kd_seg.training.prepare import prepare

CLASSES = load_classes()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("world")
    root = write_scene(folder / "data", Scene(), count=2, pictures=(0,))
    return root, export_maps(folder / "maps", root)


def test_projection_bench_compares_answers_first() -> None:
    points, _ = Scene().scan(poses(1)[0])
    rows = project.rows(points, 1)
    assert [row.ours for row in rows] == [True, False, False, False]
    assert rows[1].ratio > 5


def test_visibility_table(world: tuple[Path, Path]) -> None:
    result = visibility.report(world[0])
    off, on = (next(r for r in result[f"all, {word} test"] if r["range"] == "all") for word in ("without", "with"))
    assert off["points"] == on["points"] == sum(r["points"] for r in result["all, with test"][:-1])
    assert (off["recall"], off["hidden_found"]) == (1.0, 0.0)
    assert off["hidden"] > 40
    assert on["precision"] > off["precision"]
    assert on["recall"] > 0.99
    assert on["hidden_found"] > 0.5
    counted = visibility.VisibilityCounts()
    depth = np.array([5, 5, 15, 15, 15, 200], dtype=np.float32)
    counted.add(depth, np.array([1, 1, 1, 1, 0, 0], bool), np.array([1, 0, 1, 1, 1, 0], bool))
    near, middle = counted.rows()[:2]
    assert (near["precision"], near["recall"], near["hidden"]) == (0.5, 1.0, 1)
    assert (middle["precision"], middle["recall"]) == (1.0, round(2 / 3, 4))
    assert counted.rows()[-1]["hidden_found"] == 0.5


def test_teacher_is_scored_on_what_it_answers(world: tuple[Path, Path]) -> None:
    data = SemanticKitti(world[0])
    result = image_teacher.measure(source(world[1]), data, data.keys(), CLASSES, [])
    assert 0 < result["points_answered"] <= result["points_seen"]
    assert result["teacher_right"] > 0.97
    iou = result["scores"]["teacher"]["iou"]
    assert iou["car"] > 0.9
    assert iou["road"] > 0.95
    with pytest.raises(UsageError, match="image_units"):
        image_teacher.teacher_of("demo_baseline", [])


def test_a_student_of_other_classes_is_not_scored(world: tuple[Path, Path], tmp_path: Path) -> None:
    root, maps = world
    student = write_student(tmp_path / "s.safetensors", "nuscenes_16")
    with pytest.raises(UsageError, match="predicts the classes of nuscenes_16, not semantic_kitti_19"):
        image_teacher.measure(source(maps), SemanticKitti(root), [], CLASSES, [student])


def test_pictures(world: tuple[Path, Path], tmp_path: Path) -> None:
    scan = SemanticKitti(world[0]).scan("00", 0)
    bleeding_sheet(scan, shots(scan, ProjectionSettings())[0], VisibilitySettings()).save(tmp_path / "a.png")
    backward = {"start_epoch": 1, "every": 1, "rounds": 1}
    asked = training_config(world, tmp_path, [units_entry(world, backward=backward)], run={"steps": 3})
    prepare(asked, WORK)
    Trainer(asked).fit()
    units_sheet(tmp_path / "run", "00/000000", tmp_path / "run").save(tmp_path / "b.png")
    rows = unit_scores.measure(tmp_path / "run")
    assert rows[0]["count"] == sum(row["count"] for row in rows[1:]) > 3
    assert rows[0]["right"] > 0.95  # the maps are the truth
    assert all(row["dropped"] <= row["count"] for row in rows)
    for name in ("a.png", "b.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.size[0] >= 1500
            assert np.asarray(picture.convert("L")).std() > 10
    with pytest.raises(DataError, match="no units"):
        units_sheet(tmp_path / "run", "00/000001", None)
    lent = units_entry(world, projection={"offsets": [0, 1]})
    borrowed = training_config(world, tmp_path / "lent", [lent], run={"steps": 2})
    prepare(borrowed, WORK)
    Trainer(borrowed).fit()
    with pytest.raises(DataError, match="other moments"):
        units_sheet(tmp_path / "lent/run", "00/000001", None)
    with pytest.raises(UsageError, match="SS/NNNNNN"):
        units_sheet(tmp_path / "run", "7", None)


@pytest.mark.parametrize(
    "name", ["few_labels", "annotation_free", "visibility", "annotation_free_real", "labels_through_images_real"]
)
def test_shipped_sweeps_are_whole(name: str) -> None:
    """Every row's configuration is valid, and every prepare step names a configuration that is."""
    sweep = read_sweep(f"configs/sweeps/{name}.yaml")
    jobs = plan(sweep)
    assert len(jobs) >= 2
    import shlex

    for command in sweep.prepare:
        what, config, *rest = shlex.split(command)
        assert what in ("prepare", "train")
        read_training_config(config, [word for word in rest if "=" in word])


def test_released_row_means_the_released_method() -> None:
    job = next(j for j in plan(read_sweep("configs/sweeps/annotation_free.yaml")) if j.row == "released_wrong20")
    settings = read_training_config(job.config, list(job.overrides)).objectives[0]
    assert settings.average == "all"
    assert settings.backward.replace
    assert (settings.backward.student, settings.backward.rounds) == ("snapshot", 1)
    assert (settings.class_weights, settings.lovasz) == ("log4", 0.0)


def test_images_bench_times_steps_and_views(world: tuple[Path, Path]) -> None:
    from kd_seg.benchmarks import images

    rows = images.rows(world[0], 0.8, 1, batch=1)
    assert [row.name for row in rows[:5]] == [
        "baseline", "units, forward", "units, forward with an EMA judge", "regions, slidr_corrected", "regions, scalr",
    ]  # fmt: skip
    assert [row.ours for row in rows] == [True] + [False] * 8
    assert all(row.ms > 0 for row in rows)
    assert "KiB a scan" in rows[-1].name
