"""The teachers of the multi-to-single objective: trained before, moving average, shared, wider, of other features."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from fused_runs import first_batch, fused_teacher, prepared_world, terms_of, trainer
from instances_world import World
from random_student import write_student

from kd_seg.checkpoint import read_tensors
from kd_seg.core.errors import ConfigError
from kd_seg.objectives import Step
from kd_seg.scans import Sensor
from kd_seg.training import RunFolder, Trainer, read_training_config


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return prepared_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def teacher(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fused_teacher(world, tmp_path_factory.mktemp("teacher") / "run")


def test_a_mixed_teacher_sees_single_scans_half_of_the_time(world, tmp_path):
    made = trainer(world, tmp_path, "student.input=mixed", "objectives=[{kind: supervised}]")
    pipeline, key = made.parts.pipeline, made.parts.keys[-1]
    clouds = [pipeline.sample(key, np.random.default_rng(seed))[0].cloud for seed in range(40)]
    fused = [bool((cloud.origin != 0).any()) for cloud in clouds]
    assert 10 <= sum(fused) <= 30
    assert all(cloud.own == len(cloud) for cloud in clouds)  # it is trained on all rows that it sees


def test_a_teacher_that_has_faded_does_not_run(world, tmp_path, teacher, monkeypatch):
    made = trainer(
        world,
        tmp_path,
        f"objectives.1.teacher={{mode: separate, checkpoint: {teacher}}}",
        "objectives.1.fade=[0.1,0.5]",
    )
    monkeypatch.setattr(made.objectives[1].teacher, "output", lambda *_: pytest.fail("the teacher ran"))
    assert terms_of(made, step=1)[0] == {}
    with pytest.raises(pytest.fail.Exception):
        terms_of(made, step=0)


def test_two_teachers_with_other_point_features_have_inputs_of_their_own(world, tmp_path):
    folder = tmp_path / "plain"
    alone = ["student.input=fused", "student.features=[xyz, remission]", "objectives=[{kind: supervised}]"]
    Trainer(read_training_config(world.root / "config.yaml", [*alone, f"run.folder={folder}"])).fit()
    separate = f"{{kind: multi_to_single, teacher: {{checkpoint: {folder}}}}}"
    moving = "{kind: multi_to_single, teacher: {mode: ema}}"
    for first, second in ((separate, moving), (moving, separate)):
        made = trainer(world, tmp_path, f"objectives=[{first}, {second}]")
        batch = first_batch(made)
        assert set(batch.views) == {"fused", "fused xyz remission"}
        assert batch.views["fused"].teacher.features.shape[1] == batch.features.shape[1]
        output = made.student.train()(batch)
        for objective in made.objectives:
            assert objective.terms(batch, output, Step(made.student, 1, 2, 0))["kd"].count > 0


def test_a_separate_teacher_is_frozen_and_kept_out_of_the_state(world, tmp_path, teacher):
    made = trainer(world, tmp_path, "objectives.1.teacher.mode=separate", f"objectives.1.teacher.checkpoint={teacher}")
    objective = made.objectives[1]
    before = copy.deepcopy(objective.teacher.network.state_dict())
    made.fit()
    after = objective.teacher.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert objective.state_dict() == {} or all("bank" in n or "filled" in n for n in objective.state_dict())
    assert objective.describe()["taught_by"]["input"] == "fused"


def test_a_wider_teacher_is_reached_through_projections_that_are_not_served(world, tmp_path):
    wide = fused_teacher(world, tmp_path / "wide", "student.size=small")
    made = trainer(world, tmp_path, "objectives.1.teacher.mode=separate", f"objectives.1.teacher.checkpoint={wide}")
    heads = made.objectives[1].heads
    assert {name: (head.in_features, head.out_features) for name, head in heads.items()} == {
        "enc1": (24, 32), "dec1": (24, 48),
    }  # fmt: skip
    before = heads["enc1"].weight.detach().clone()
    made.fit()
    assert not torch.equal(before, heads["enc1"].weight)
    assert read_tensors(made.run.last).keys() == made.student.state_dict().keys()


def test_a_teacher_on_another_grid_is_refused(world, tmp_path, teacher):
    with pytest.raises(ConfigError, match="another grid"):
        trainer(
            world, tmp_path, "grid.voxel_size=0.5", "objectives.1.teacher.mode=separate",
            f"objectives.1.teacher.checkpoint={teacher}",
        )  # fmt: skip
    with pytest.raises(ConfigError, match=r"teacher.checkpoint is needed"):
        trainer(world, tmp_path, "objectives.1.teacher.mode=separate")
    with pytest.raises(ConfigError, match="no level 'enc9'"):
        trainer(world, tmp_path, "objectives.1.feature.levels=[enc9]")


def test_a_teacher_of_other_intensities_is_sent_to_the_objective_that_takes_it(world, tmp_path):
    other = write_student(tmp_path / "byte.safetensors", sensor=Sensor("byte"))
    with pytest.raises(ConfigError, match="takes intensities of 0 to 255, the student 0 to 1; the"):
        trainer(world, tmp_path, "objectives.1.teacher.mode=separate", f"objectives.1.teacher.checkpoint={other}")


def test_a_point_teacher_may_see_fused_clouds_alone_or_beside_this_objective(world, tmp_path, teacher):
    live = "{kind: point_teacher, checkpoint: " + str(teacher) + ", mode: live, sees: fused, trust: all}"
    alone = trainer(world, tmp_path, "objectives=[{kind: supervised}, " + live + "]")
    batch = first_batch(alone)
    seen = next(iter(batch.views.values()))
    points = len(seen.batch.inverse)
    assert points > len(batch.inverse), "points of other scans come after the student's"
    output = alone.student.train()(batch)
    term = alone.objectives[1].terms(batch, output, Step(alone.student, 1, 2, 0))["kd"]
    assert float(term.value.detach()) > 0
    both = trainer(
        world, tmp_path, "objectives=[{kind: supervised}, " + live + ", {kind: multi_to_single, teacher: {mode: ema}}]"
    )
    only = trainer(world, tmp_path, "objectives=[" + live + "]")
    found = first_batch(only)
    assert len(next(iter(found.views.values())).batch.inverse) > len(found.inverse), "also without a loss on labels"
    views = first_batch(both).views
    assert len(views) == 2
    clouds = [views["fused"].teacher, next(view.batch for name, view in views.items() if name != "fused")]
    assert len(clouds[0].inverse) == len(clouds[1].inverse) == points, "scans are fused once"


def test_shared_norm_statistics_stay_apart(world, tmp_path):
    """With statistics of its own the fused pass leaves the student's running means where its own pass put them."""
    means = {}
    for apart in (True, False):
        torch.manual_seed(0)
        made = trainer(
            world, tmp_path, "objectives.1.teacher.mode=shared", f"objectives.1.teacher.separate_norm={apart}"
        )
        batch = first_batch(made)
        made.student.train()
        output = made.student(batch)
        alone = made.student.stem[0].norm.running_mean.clone()
        made.objectives[1].terms(batch, output, Step(made.student, 1, 2, 0))
        means[apart] = torch.equal(alone, made.student.stem[0].norm.running_mean)
    assert means == {True: True, False: False}


def test_an_ema_teacher_begins_where_the_student_does(world, tmp_path, teacher):
    made = trainer(world, tmp_path, "objectives.1.teacher.mode=ema", f"student.init={teacher}")
    average = made.objectives[1].teacher.network.state_dict()
    for name, tensor in made.student.state_dict().items():
        assert torch.equal(average[name], tensor), name


def test_an_ema_teacher_moves_towards_the_student(world, tmp_path):
    made = trainer(world, tmp_path)
    objective = made.objectives[1]
    with torch.no_grad():
        for parameter in made.student.parameters():
            parameter.add_(1.0)
    own = next(iter(objective.taught.network.parameters())).clone()
    objective.after_step(Step(made.student, 3, 10, 0))  # momentum min(0.999, 1 - 1/4)
    moved = next(iter(objective.taught.network.parameters()))
    torch.testing.assert_close(moved - own, torch.full_like(own, 0.25))


@pytest.mark.parametrize("mode", ["ema", "shared"])
def test_resume_restores_the_teacher(world, tmp_path, mode):
    def weights(folder: Path) -> dict[str, torch.Tensor]:
        return RunFolder(folder).read_state()["student"]

    settings = (f"objectives.1.teacher.mode={mode}", "run.steps=4")
    whole = Trainer(read_training_config(world.root / "config.yaml", [f"run.folder={tmp_path / 'whole'}", *settings]))
    whole.fit()

    class Stop(Exception):
        pass

    def stop(line):
        if line["step"] == 2:
            raise Stop

    config = read_training_config(world.root / "config.yaml", [f"run.folder={tmp_path / 'part'}", *settings])
    with pytest.raises(Stop):
        Trainer(config, stop).fit()
    Trainer(config, resume=True).fit()
    ours, theirs = weights(tmp_path / "part"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
