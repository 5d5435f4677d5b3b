"""A teacher on a grid of its own: what is stored, what a student's voxel learns, and what is refused."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from instances_world import work
from random_student import write_student
from tiny_data import write_tiny

from kd_seg.checkpoint import load_checkpoint
from kd_seg.classes import load_classes
from kd_seg.core.errors import ConfigError, DataError
from kd_seg.losses.logit import divergence, divergence_from
from kd_seg.objectives import Step
from kd_seg.objectives.point_teacher import PointTeacherSettings
from kd_seg.objectives.point_teacher.cache import Maker, average, compress
from kd_seg.objectives.point_teacher.teacher import FrozenTeacher
from kd_seg.scans import SemanticKitti
from kd_seg.training import Trainer, read_training_config
from kd_seg.training.loader import Batches
from kd_seg.training.prepare import prepare

CPU = torch.device("cpu")
CONFIG = """
data: {root: ROOT, train: ["00"], unlabelled: ["11"]}
grid: {voxel_size: 0.5}
augment: {drop: 0.2}
objectives:
  - {kind: supervised}
  - {kind: point_teacher, checkpoint: ROOT/teacher.safetensors, top: 8, trust: all}
run: {steps: 2, batch: 1, workers: 0, threads: 1, log_every: 1, device: cpu}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sequence 00 with labels, 11 without; a teacher on cells of 0.4 m that end at 16 m."""
    made = write_tiny(tmp_path_factory.mktemp("root"), ("00", "11"), scans=3)
    shutil.rmtree(made / "sequences" / "11" / "labels")
    write_student(made / "teacher.safetensors")
    (made / "config.yaml").write_text(CONFIG.replace("ROOT", str(made)))
    prepare(read_training_config(made / "config.yaml", []), work())
    return made


def trainer(root: Path, folder: Path, *overrides: str) -> Trainer:
    config = read_training_config(root / "config.yaml", [f"run.folder={folder / 'run'}", *overrides])
    return Trainer(config, overwrite=True)


def terms_of(made: Trainer, key: tuple[str, int]):
    """Terms of the teaching objective, the batch and the student's output on one scan."""
    views = tuple(view for objective in made.objectives for view in objective.views())
    batch = Batches(replace(made.parts.pipeline, views=views, keys=(key,)), seed=0, batch=1, first=0, count=1)[0]
    output = made.student.train()(batch)
    return made.objectives[-1].terms(batch, output, Step(made.student, 1, 2, 0)), batch, output


STILL = ("augment.rotation_deg=0", "augment.scale=0", "augment.translation_m=[0,0,0]", "augment.flip=false",
         "augment.drop=0")  # fmt: skip


def test_a_run_learns_with_labels_and_without(root: Path, tmp_path: Path) -> None:
    made = trainer(root, tmp_path)
    assert {name for name, _ in made.parts.keys} == {"00", "11"}
    before = {name: value.clone() for name, value in made.student.state_dict().items()}
    made.fit()
    assert any(not torch.equal(value, before[name]) for name, value in made.student.state_dict().items())
    told = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.safetensors").spec.training
    assert told["objectives"][1]["teacher"]["network"] == "unet"


def test_voxels_learn_the_mean_of_their_points(root: Path, tmp_path: Path) -> None:
    made = trainer(root, tmp_path, *STILL)
    _, batch, _ = terms_of(made, ("11", 1))
    teacher = FrozenTeacher(str(root / "teacher.safetensors"), load_classes(), torch.device("cpu"))
    points = np.fromfile(root / "sequences/11/velodyne/000001.bin", np.float32).reshape(-1, 4)
    wanted = teacher.scan(points)
    targets = next(view for view in batch.views.values() if hasattr(view, "known"))
    for voxel in range(0, len(batch.coordinates), 97):
        rows = np.flatnonzero(batch.inverse.numpy() == voxel)
        seen = rows[wanted[rows].sum(axis=1) > 0]
        assert bool(targets.known[voxel]) == (len(seen) > 0)
        if len(seen):
            # 8 of 19 classes are stored, in steps of 1 / 255
            np.testing.assert_allclose(targets.probabilities[voxel], wanted[seen].mean(axis=0), atol=0.03)


def test_two_stores_of_one_teacher_each_teach_their_own(root: Path, tmp_path: Path) -> None:
    """Found by reading: their views had one name, so that both entries learned from the store of the last."""
    few = f"{{kind: point_teacher, checkpoint: {root / 'teacher.safetensors'}, top: 1, trust: all}}"
    more = few.replace("top: 1", "top: 8")
    prepare(read_training_config(root / "config.yaml", [f"objectives=[{few}]"]), work())

    def value(*entries: str) -> float:
        made = trainer(root, tmp_path, *STILL, f"objectives=[{', '.join(entries)}]")
        _, batch, output = terms_of(made, ("11", 1))
        term = made.objectives[0].terms(batch, replace(output, logits=torch.zeros_like(output.logits)), None)["kd"]
        return float(term.value)

    assert value(few) != value(more)
    assert value(few, more) == value(few)


def test_live_and_prepared_teach_alike_where_nothing_is_augmented(root: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = trainer(root, tmp_path, *STILL)
    prepared, batch, _ = terms_of(made, ("00", 0))
    other = trainer(root, tmp_path / "live", *STILL, "objectives.1.mode=live")
    other.student.load_state_dict(made.student.state_dict())
    live, second, _ = terms_of(other, ("00", 0))
    assert torch.equal(batch.coordinates, second.coordinates)
    assert prepared["kd"].count == live["kd"].count
    assert float(prepared["kd"].value.detach()) == pytest.approx(float(live["kd"].value.detach()), rel=0.15)
    assert float(prepared["wrong"].value) == pytest.approx(float(live["wrong"].value), abs=0.02)


def test_live_follows_augmentation_and_mixing(root: Path, tmp_path: Path) -> None:
    made = trainer(root, tmp_path, "objectives.1.mode=live", "augment.mix={kind: polar, probability: 1.0}")
    named, batch, _ = terms_of(made, ("00", 0))
    assert 0 < named["kd"].count <= len(batch.coordinates)
    named["kd"].value.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in made.student.parameters())
    assert not any("teacher" in name for name in made.objectives[-1].state_dict())


def test_guests_of_another_scan_are_not_taught_from_the_store(root: Path, tmp_path: Path) -> None:
    plain, batch, _ = terms_of(trainer(root, tmp_path, *STILL), ("00", 0))
    mixed, more, _ = terms_of(trainer(root, tmp_path, *STILL, "augment.mix={kind: laser, probability: 1.0}"), ("00", 0))
    assert len(more.coordinates) > 0.5 * len(batch.coordinates)
    assert 0 < mixed["kd"].count < plain["kd"].count


@pytest.mark.parametrize("trust", ["right", "unlabelled", "all"])
def test_trust(root: Path, tmp_path: Path, trust: str) -> None:
    named, batch, _ = terms_of(trainer(root, tmp_path, *STILL, f"objectives.1.trust={trust}"), ("00", 0))
    targets = next(view for view in batch.views.values() if hasattr(view, "known"))
    labelled = batch.labels > 0
    right = targets.probabilities.argmax(dim=1) + 1 == batch.labels
    rows = {"all": targets.known, "right": targets.known & (~labelled | right), "unlabelled": targets.known & ~labelled}
    assert named["kd"].count == int(rows[trust].sum())
    assert named["wrong"].count == int((targets.known & labelled).sum())


def test_unsure_teachers_are_silent(root: Path, tmp_path: Path) -> None:
    every, _, _ = terms_of(trainer(root, tmp_path, *STILL), ("00", 0))
    sure, _, _ = terms_of(trainer(root, tmp_path, *STILL, "objectives.1.min_confidence=0.3"), ("00", 0))
    none, _, _ = terms_of(trainer(root, tmp_path, *STILL, "objectives.1.min_confidence=0.999"), ("00", 0))
    assert every["kd"].count > sure["kd"].count > none["kd"].count == 0
    assert float(none["kd"].value) == 0.0
    none["kd"].value.backward()


def test_stale_and_missing_caches_are_refused_with_the_command(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    (copy / "config.yaml").write_text(CONFIG.replace("ROOT", str(copy)))
    with pytest.raises(DataError, match="build it with"):
        trainer(copy, tmp_path)
    config = read_training_config(copy / "config.yaml", [])
    prepare(config, work())
    write_student(copy / "teacher.safetensors", reach=12.0)
    with pytest.raises(DataError, match="the teacher's files changed since; rebuild it with"):
        trainer(copy, tmp_path)
    prepare(config, replace(work(), rebuild=True))
    trainer(copy, tmp_path)
    (copy / "teacher.safetensors").unlink()
    trainer(copy, tmp_path)  # training does not need the teacher's file
    scan = copy / "sequences/00/velodyne/000001.bin"
    scan.write_bytes(scan.read_bytes()[:-16])
    with pytest.raises(DataError, match="points of sequence 00 changed"):
        trainer(copy, tmp_path)


def test_a_build_goes_on_where_it_was_interrupted(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("kd_seg_cache"))
    (copy / "config.yaml").write_text(CONFIG.replace("ROOT", str(copy)))
    config = read_training_config(copy / "config.yaml", [])
    prepare(config, replace(work(), shard=(1, 2)))
    shards = sorted(copy.glob("kd_seg_cache/teachers/*/shards/*.safetensors"))
    assert [path.name for path in shards] == ["00_000000.safetensors"]
    before = os.stat(shards[0]).st_mtime_ns
    prepare(config, work())
    assert len(sorted(copy.glob("kd_seg_cache/teachers/*/shards/*.safetensors"))) == 2
    assert os.stat(shards[0]).st_mtime_ns == before


def test_other_classes_are_refused(root: Path, tmp_path: Path) -> None:
    write_student(tmp_path / "moving.safetensors", "semantic_kitti_25")
    with pytest.raises(ConfigError, match="has the classes semantic_kitti_25"):
        trainer(root, tmp_path, f"objectives.1.checkpoint={tmp_path / 'moving.safetensors'}", "objectives.1.mode=live")


def test_stored_probabilities_are_of_single_scans(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sees: fused needs mode: live"):
        trainer(root, tmp_path, "objectives.1.sees=fused")


def test_a_teacher_may_see_earlier_scans_through_the_poses(root: Path) -> None:
    data, classes = SemanticKitti(root, ["00"]), load_classes()
    checkpoint = str(root / "teacher.safetensors")
    maker = Maker(PointTeacherSettings(checkpoint=checkpoint, sees="ego", scans=2, top=8), data, classes, CPU)
    records = list(maker([("00", 0), ("00", 1)]))
    alone = list(Maker(PointTeacherSettings(checkpoint=checkpoint, top=8), data, classes, CPU)([("00", 0), ("00", 1)]))
    for name in ("classes", "shares"):  # nothing lies before the first scan
        np.testing.assert_array_equal(records[0][name], alone[0][name])
    first, second = data.scan("00", 0), data.scan("00", 1)
    assert first.pose is not None
    assert second.pose is not None
    homogeneous = np.c_[first.points[:, :3].astype(np.float64), np.ones(len(first.points))]
    moved = first.points.copy()
    moved[:, :3] = (homogeneous @ (np.linalg.inv(second.pose) @ first.pose).T)[:, :3]
    seen = FrozenTeacher(checkpoint, classes, CPU).scan(np.concatenate([second.points, moved]))[: len(second.points)]
    np.testing.assert_array_equal(records[1]["classes"], compress(seen, 8)[0])
    assert (records[1]["shares"] != alone[1]["shares"]).any()
    assert records[1]["counts"] == [len(second.points)]


def test_such_a_cache_is_another_one_and_knows_the_poses(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    (copy / "config.yaml").write_text(CONFIG.replace("ROOT", str(copy)))
    sees = "objectives.1.sees=ego"
    with pytest.raises(DataError, match="build it with"):
        trainer(copy, tmp_path, sees)
    prepare(read_training_config(copy / "config.yaml", [sees]), work())
    trainer(copy, tmp_path, sees)
    rows = (copy / "sequences/00/poses.txt").read_text().splitlines()
    (copy / "sequences/00/poses.txt").write_text("\n".join([rows[0], *rows[:-1]]) + "\n")
    with pytest.raises(DataError, match="sequence 00 changed"):
        trainer(copy, tmp_path, sees)
    (copy / "sequences/00/poses.txt").unlink()
    with pytest.raises(DataError, match=r"has no poses\.txt, which a point_teacher with sees: ego needs"):
        prepare(read_training_config(copy / "config.yaml", [sees]), replace(work(), rebuild=True))


def test_a_live_teacher_does_not_read_other_scans(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sees: ego needs mode: prepared"):
        trainer(root, tmp_path, "objectives.1.sees=ego", "objectives.1.mode=live")


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 8))
@settings(max_examples=50, deadline=None)
def test_stored_and_averaged_as_by_hand(seed: int, top: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    rows, points, voxels = 9, 12, 4
    probabilities = rng.dirichlet(np.full(width, 0.5), rows).astype(np.float32)
    probabilities[rng.random(rows) < 0.2] = 0.0
    classes, shares = compress(probabilities, top)
    assert classes.dtype == shares.dtype == np.uint8
    assert classes.shape == (rows, top)
    source = rng.integers(-1, rows, points).astype(np.int32)
    inverse = rng.integers(-1, voxels, points).astype(np.int32)
    mean, number = average(classes, shares, source, inverse, voxels, width)
    for voxel in range(voxels):
        own = [s for s, v in zip(source, inverse, strict=True) if v == voxel and s >= 0 and probabilities[s].any()]
        assert number[voxel] == len(own)
        wanted = np.zeros(width)
        for row in own:
            told = np.zeros(width)
            kept = np.argsort(-probabilities[row], kind="stable")[:top]
            told[kept] = np.rint(probabilities[row][kept] * 255) / 255
            others = [c for c in range(width) if c not in kept]
            told[others] = max(1.0 - told.sum(), 0.0) / max(len(others), 1)
            wanted += told / len(own)
        np.testing.assert_allclose(mean[voxel], wanted, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_divergence_from_probabilities_is_that_from_logits(temperature: float) -> None:
    torch.manual_seed(1)
    student, teacher = torch.randn(7, 5, requires_grad=True), torch.randn(7, 5)
    weights = torch.tensor([1.0, 0, 2, 1, 0, 1, 3])
    wanted = divergence(student, teacher, temperature, weights)
    found = divergence_from(student, teacher.softmax(dim=1), temperature, weights)
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-4, atol=1e-6)
    assert found[1] == wanted[1] == 5
    value, count = divergence_from(student[:0], teacher[:0])
    assert (float(value), count) == (0.0, 0)
