"""Scans without labels: who learns from them, what is never opened, and what the teacher's output stands in for."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from instances_world import World, make_world, work

from kd_seg.core.errors import ConfigError
from kd_seg.objectives import Step
from kd_seg.training import Trainer, read_training_config
from kd_seg.training.loader import Batches
from kd_seg.training.prepare import prepare
from kd_seg.training.setup import labelled_data, training_data

CONFIG = """
data: {root: ROOT, unlabelled: ["11"]}
grid: {voxel_size: 0.4}
fusion: {cloud: {skip: 0.0}}
augment: {paste: {}}
objectives:
  - {kind: supervised}
  - {kind: multi_to_single, teacher: {mode: ema}, ramp: 0.0, unlabelled: true}
run: {steps: 6, batch: 1, workers: 0, threads: 1, log_every: 1, device: cpu}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Sequence "00" with all there is, "11" with points alone, as in SemanticKITTI's test sequences."""
    made = make_world(tmp_path_factory.mktemp("world"), scans=4)
    sequences = made.root / "sequences"
    shutil.copytree(sequences / "00" / "velodyne", sequences / "11" / "velodyne")
    (made.root / "config.yaml").write_text(CONFIG.replace("ROOT", str(made.root)))
    prepare(read_training_config(made.root / "config.yaml", ["run.folder=unused"]), work())
    return made


def trainer(world: World, tmp_path: Path, *settings: str) -> Trainer:
    folder = f"run.folder={tmp_path / 'run'}"
    return Trainer(read_training_config(world.root / "config.yaml", [folder, *settings]), overwrite=True)


def terms_of(made: Trainer, key: tuple[str, int]):
    views = tuple(view for objective in made.objectives for view in objective.views())
    pipeline = replace(made.parts.pipeline, views=views, keys=(key,))
    batch = Batches(pipeline, seed=0, batch=1, first=0, count=1)[0]
    output = made.student.train()(batch)
    place = Step(made.student, 1, 2, 0)
    return {name: t for o in made.objectives for name, t in o.terms(batch, output, place).items()}, batch


def test_a_run_learns_from_a_sequence_that_has_points_alone(world, tmp_path):
    made = trainer(world, tmp_path)
    assert {name for name, _ in made.parts.keys} == {"00", "11"}
    before = {name: value.clone() for name, value in made.student.state_dict().items()}
    made.fit()
    assert any(not torch.equal(value, before[name]) for name, value in made.student.state_dict().items())
    assert made.saver.spec.training["data"] == {"sequences": ["00", "11"], "scans": 8}


def test_without_labels_the_teacher_speaks_of_every_row_and_of_logits_alone(world, tmp_path):
    named, batch = terms_of(trainer(world, tmp_path, "objectives.1.jaccard.weight=1"), ("11", 0))
    rows = len(batch.coordinates)
    assert int((batch.labels > 0).sum()) == 0
    assert named["kd"].count == named["kd_jaccard"].count == rows
    assert named["ce"].count == named["feature_enc1"].count == named["aff_row"].count == named["not_taught"].count == 0


def test_labelled_scans_gain_their_unlabelled_rows(world, tmp_path):
    heard, batch = terms_of(trainer(world, tmp_path), ("00", 1))
    without = ("data.train=['00']", "data.unlabelled=[]", "objectives.1.unlabelled=false")
    unheard, _ = terms_of(trainer(world, tmp_path, *without), ("00", 1))
    void = int((batch.labels == 0).sum())
    assert heard["kd"].count == unheard["kd"].count + void
    assert heard["not_taught"].count == unheard["not_taught"].count
    for name in ("feature_enc1", "aff_row"):
        assert float(heard[name].value.detach()) == pytest.approx(float(unheard[name].value.detach())), name


def test_rows_without_a_label_weigh_as_the_class_that_the_teacher_says(world, tmp_path):
    made = trainer(world, tmp_path, "objectives.1.row_weights=cube_root")
    objective = made.objectives[1]
    views = tuple(view for o in made.objectives for view in o.views())
    pipeline = replace(made.parts.pipeline, views=views, keys=(("11", 2),))
    batch = Batches(pipeline, seed=0, batch=1, first=0, count=1)[0]
    view = batch.views["fused"]
    teacher_output = objective.teacher.output(view.teacher, Step(made.student, 1, 2, 0))
    rows = objective._rows(batch, view, teacher_output)
    said = teacher_output.logits[rows.pi].argmax(1)
    torch.testing.assert_close(rows.logit_weight, objective.row_weights[said])
    assert torch.equal(rows.spoken, said + 1)
    assert rows.weight.sum() == rows.corrected.sum() == rows.label.sum() == 0


def test_few_labels_leave_the_other_scans_to_the_teacher(world, tmp_path):
    few = ("data.train=['00']", "data.unlabelled=[]", "data.labels=0.5")
    assert len(trainer(world, tmp_path, *few).parts.keys) == 4
    assert len(trainer(world, tmp_path, *few, "objectives.1.unlabelled=false").parts.keys) == 2


@pytest.mark.parametrize(("share", "labelled"), [(0.0, 1), (0.5, 3), (0.7, 7), (0.8, 12)])
def test_labelled_scans_are_drawn_as_often_as_asked(world, tmp_path, share, labelled):
    """One labelled scan beside three: 3 of 6 are half, 7 of 10 are 0.7, 12 of 15 are 0.8."""
    few = ("data.train=['00']", "data.unlabelled=[]", "data.labels=0.25", f"data.labelled_share={share}")
    made = trainer(world, tmp_path, *few)
    (known,) = made.parts.pipeline.labelled
    assert made.parts.keys.count(known) == labelled
    assert len(made.parts.keys) == 3 + labelled
    assert made.saver.spec.training["data"]["scans"] == 4


def test_labels_of_unlabelled_sequences_are_never_opened(world, tmp_path):
    root = tmp_path / "world"
    shutil.copytree(world.root, root)
    labels = root / "sequences" / "11" / "labels"
    labels.mkdir()
    for scan in (root / "sequences" / "11" / "velodyne").iterdir():
        np.zeros(1, dtype=np.uint32).tofile(labels / f"{scan.stem}.label")  # of the wrong size: reading it would raise
    settings = [f"data.root={root}", f"run.folder={tmp_path / 'run'}", f"data.cache={world.root / 'kd_seg_cache'}"]
    config = read_training_config(world.root / "config.yaml", settings)
    assert list(labelled_data(config.data).sequences) == ["00"]
    assert list(training_data(config.data).sequences) == ["00", "11"]
    prepare(config, work(rebuild=True))
    Trainer(config).fit()


def test_a_sequence_cannot_be_labelled_and_unlabelled(world, tmp_path):
    with pytest.raises(ConfigError, match=r"data\.unlabelled names 00, which data\.train"):
        trainer(world, tmp_path, "data.train=['00']", "data.unlabelled=['00', '11']")


def test_unlabelled_sequences_that_teach_nobody_are_refused(world, tmp_path):
    with pytest.raises(ConfigError, match=r"no objective learns from scans without labels.*unlabelled: true"):
        trainer(world, tmp_path, "objectives.1.unlabelled=false")
