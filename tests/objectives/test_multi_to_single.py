"""The multi-to-single objective: correspondence, its terms, its three teachers, and a whole run by the Trainer."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from instances_world import World, make_world, work
from random_student import write_student

from kd_seg.checkpoint import read_tensors
from kd_seg.core.errors import ConfigError, DataError
from kd_seg.losses.logit import divergence
from kd_seg.networks.correspondence import correspondence
from kd_seg.objectives import Step
from kd_seg.objectives.multi_to_single.view import voxel_keys
from kd_seg.scans import Sensor
from kd_seg.training import RunFolder, Trainer, read_training_config
from kd_seg.training.loader import Batches
from kd_seg.training.prepare import prepare

JACCARD = "objectives.1.jaccard.weight=0.5"
CONFIG = """
data: {root: ROOT, train: ["00"]}
grid: {voxel_size: 0.4}
fusion: {cloud: {skip: 0.0}}
augment: {rotation_deg: 30, drop: 0.2}
objectives:
  - {kind: supervised}
  - {kind: multi_to_single, teacher: {mode: ema}}
run: {steps: 2, batch: 2, workers: 0, threads: 1, log_every: 1, device: cpu}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = make_world(tmp_path_factory.mktemp("world"), scans=6)
    config = made.root / "config.yaml"
    config.write_text(CONFIG.replace("ROOT", str(made.root)))
    prepare(read_training_config(config, ["run.folder=unused"]), work())
    return made


@pytest.fixture(scope="module")
def teacher(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "run"
    settings = ["student.input=fused", "objectives=[{kind: supervised}]", f"run.folder={folder}"]
    Trainer(read_training_config(world.root / "config.yaml", settings)).fit()
    return folder


def trainer(world: World, tmp_path: Path, *settings: str) -> Trainer:
    folder = f"run.folder={tmp_path / 'run'}"
    return Trainer(read_training_config(world.root / "config.yaml", [folder, *settings]), overwrite=True)


def first_batch(made: Trainer):
    views = tuple(view for objective in made.objectives for view in objective.views())
    return Batches(replace(made.parts.pipeline, views=views), seed=0, batch=2, first=0, count=1)[0]


def terms_of(made: Trainer, step: int = 1):
    batch = first_batch(made)
    made.student.train()
    output = made.student(batch)
    return made.objectives[1].terms(batch, output, Step(made.student, step, 2, 0)), batch, output


@pytest.mark.parametrize("network", ["unet", "cylinder"])
def test_student_voxels_lie_in_the_teachers_at_every_level(world, tmp_path, network):
    settings = [f"student.network={network}"]
    if network == "cylinder":
        settings += ["grid.kind=cylindrical", "grid.cells=[128, 96, 32]", "student.features=[cylinder9]"]
        settings += ["objectives.1.feature.levels=[enc1]"]
    made = trainer(world, tmp_path, *settings)
    batch = first_batch(made)
    fused = batch.views["fused"]
    assert len(fused.teacher.coordinates) > len(batch.coordinates)
    made.student.eval()
    own, other = made.student(batch).levels, made.student(fused.teacher).levels
    for name in own:
        pi = correspondence(own[name].coordinates, other[name].coordinates)
        assert torch.equal(own[name].coordinates, other[name].coordinates[pi])


def test_own_points_are_not_doubled(world, tmp_path):
    made = trainer(world, tmp_path)
    batch = first_batch(made)
    fused = batch.views["fused"]
    own = torch.diff(batch.point_offsets)
    for b in range(2):
        rows = slice(int(fused.teacher.point_offsets[b]), int(fused.teacher.point_offsets[b] + own[b]))
        mine = slice(int(batch.point_offsets[b]), int(batch.point_offsets[b + 1]))
        torch.testing.assert_close(fused.teacher.features[rows], batch.features[mine])


@pytest.mark.parametrize("mode", ["ema", "shared"])
def test_terms_of_each_teacher_reach_the_student(world, tmp_path, mode):
    made = trainer(world, tmp_path, f"objectives.1.teacher.mode={mode}", "objectives.1.trust=false")
    terms, _, output = terms_of(made)
    wanted = {"kd", "feature_enc1", "feature_dec1", "aff_within", "aff_between", "aff_row", "not_taught"}
    assert set(terms) == wanted | ({"teacher_ce", "teacher_lovasz"} if mode == "shared" else set())
    for name in wanted - {"not_taught"}:
        assert terms[name].count > 0, name
        made.student.zero_grad()
        terms[name].value.backward(retain_graph=True)
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in made.student.parameters()), name
    assert output.logits.requires_grad


def test_overlap_teaches_beside_the_logits_or_without_them(world, tmp_path):
    made = trainer(world, tmp_path, JACCARD, "objectives.1.logit.weight=0")
    terms, _, _ = terms_of(made)
    assert "kd" not in terms
    assert terms["kd_jaccard"].weight == 0.5
    terms["kd_jaccard"].value.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in made.student.parameters())


def test_a_teacher_equal_to_the_student_on_equal_clouds_teaches_nothing(world, tmp_path):
    made = trainer(world, tmp_path, "fusion.cloud.earlier=0", "objectives.1.trust=false", JACCARD)
    terms, _, _ = terms_of(made)
    for name in ("kd", "kd_jaccard", "feature_enc1", "aff_within", "aff_between", "aff_row"):
        assert float(terms[name].value.detach()) == pytest.approx(0.0, abs=1e-6), name


def test_trust_leaves_out_rows_on_which_the_teacher_is_wrong(world, tmp_path):
    trusting, _, _ = terms_of(trainer(world, tmp_path, "objectives.1.trust=false"))
    made = trainer(world, tmp_path)
    terms, batch, _ = terms_of(made)
    assert terms["not_taught"].count > trusting["not_taught"].count
    labelled = int((batch.labels > 0).sum())
    assert terms["kd"].count == labelled - terms["not_taught"].count


def test_a_corrected_teacher_is_silent_on_no_row_that_it_would_get_wrong(world, tmp_path):
    everything, _, _ = terms_of(trainer(world, tmp_path, "objectives.1.trust=false"))
    trusted, _, _ = terms_of(trainer(world, tmp_path))
    terms, _, _ = terms_of(trainer(world, tmp_path, "objectives.1.trust=corrected", JACCARD))
    assert terms["kd_jaccard"].count == terms["kd"].count
    assert terms["kd"].count == everything["kd"].count > trusted["kd"].count
    assert terms["not_taught"].count == everything["not_taught"].count
    assert terms["feature_enc1"].count == trusted["feature_enc1"].count
    assert terms["aff_row"].count == trusted["aff_row"].count
    assert float(terms["kd"].value.detach()) != float(everything["kd"].value.detach())


def test_a_mixed_teacher_sees_single_scans_half_of_the_time(world, tmp_path):
    made = trainer(world, tmp_path, "student.input=mixed", "objectives=[{kind: supervised}]")
    pipeline, key = made.parts.pipeline, made.parts.keys[-1]
    clouds = [pipeline.sample(key, np.random.default_rng(seed))[0].cloud for seed in range(40)]
    fused = [bool((cloud.origin != 0).any()) for cloud in clouds]
    assert 10 <= sum(fused) <= 30
    assert all(cloud.own == len(cloud) for cloud in clouds)  # it is trained on all rows that it sees


def test_weights_rise_stay_and_fade(world, tmp_path):
    made = trainer(world, tmp_path, "objectives.1.ramp=0.2", "objectives.1.fade=[0.4,0.8]")
    scale = made.objectives[1].settings.scale
    shares = (0.0, 0.1, 0.2, 0.4, 0.5, 0.7, 0.8, 1.0)
    assert [scale(share) for share in shares] == pytest.approx([0.0, 0.5, 1.0, 1.0, 0.75, 0.25, 0.0, 0.0])
    assert terms_of(made, step=1)[0]["kd"].weight == pytest.approx(0.75)  # step 1 of 2: half of the run


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


@pytest.mark.parametrize("network", ["unet", "cylinder"])
def test_affinity_is_refused_on_a_level_whose_rows_are_no_voxels_of_the_student(world, tmp_path, network):
    settings = [f"student.network={network}", "objectives.1.affinity.level="]
    with pytest.raises(ConfigError, match=r"affinity.level: 'enc1' has cells of 2x2x2 voxels; name .*penultimate"):
        terms_of(trainer(world, tmp_path, *settings[:-1], settings[-1] + "enc1"))
    terms, _, _ = terms_of(trainer(world, tmp_path, *settings[:-1], settings[-1] + "dec0"))
    assert terms["aff_row"].count > 0


def test_feature_levels_are_named(world, tmp_path):
    with pytest.raises(ConfigError, match=r"feature.levels: .*at least 1 item"):
        trainer(world, tmp_path, "objectives.1.feature.levels=[]")


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


def test_a_fade_that_ends_before_it_begins_is_refused(world, tmp_path):
    with pytest.raises(ConfigError, match="the first below the second"):
        trainer(world, tmp_path, "objectives.1.fade=[0.8,0.4]")


def test_nothing_labelled_gives_exact_zeros(world, tmp_path):
    made = trainer(world, tmp_path, "objectives.1.teacher.mode=shared")
    batch = first_batch(made)
    fused = batch.views["fused"]
    nothing = replace(fused.teacher, labels=torch.zeros_like(fused.teacher.labels))
    view = type(fused)(nothing, torch.zeros_like(fused.key))
    batch = replace(batch, labels=torch.zeros_like(batch.labels), views={"fused": view})
    made.student.train()
    terms = made.objectives[1].terms(batch, made.student(batch), Step(made.student, 1, 2, 0))
    sum(term.value for term in terms.values()).backward()
    for name, term in terms.items():
        assert (float(term.value.detach()), term.count) == (0.0, 0), name


@pytest.mark.parametrize("mode", ["ema", "shared"])
def test_scans_without_a_voxel_in_the_grid_teach_nothing(world, tmp_path, mode):
    away = "augment.translation_m=[1e6, 1e6, 0]"
    made = trainer(world, tmp_path, f"objectives.1.teacher.mode={mode}", JACCARD, away)
    terms, batch, _ = terms_of(made)
    assert len(batch.coordinates) == 0
    assert {(float(term.value.detach()), term.count) for term in terms.values()} == {(0.0, 0)}
    made.fit()


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
    wide = tmp_path / "wide"
    settings = ["student.input=fused", "student.size=small", "objectives=[{kind: supervised}]", f"run.folder={wide}"]
    Trainer(read_training_config(world.root / "config.yaml", settings)).fit()
    made = trainer(world, tmp_path, "objectives.1.teacher.mode=separate", f"objectives.1.teacher.checkpoint={wide}")
    heads = made.objectives[1].heads
    assert {name: (head.in_features, head.out_features) for name, head in heads.items()} == {
        "enc1": (24, 32), "dec1": (24, 48),
    }  # fmt: skip
    before = heads["enc1"].weight.detach().clone()
    made.fit()
    assert not torch.equal(before, heads["enc1"].weight)
    assert read_tensors(made.run.last).keys() == made.student.state_dict().keys()


def test_rows_are_weighed_by_class_and_by_what_fusion_adds(world, tmp_path):
    """Weights change the mean, not the rows; by hand from the row losses."""
    made = trainer(world, tmp_path, "objectives.1.trust=false")
    batch = first_batch(made)
    fused = batch.views["fused"]
    made.student.train()
    output = made.student(batch)
    objective = made.objectives[1]
    with torch.no_grad():
        teacher_output = objective.teacher.output(fused.teacher, Step(made.student, 1, 2, 0))
    pi = correspondence(batch.coordinates, fused.teacher.coordinates)
    taught = (batch.labels > 0) & (fused.teacher.labels[pi] == batch.labels)
    points = [torch.bincount(b.inverse[b.inverse >= 0], minlength=len(b.coordinates)) for b in (fused.teacher, batch)]
    hard = (batch.labels >= 2) & (batch.labels <= 8)
    weight = torch.where(points[0][pi] > points[1], 3.0, 1.0) * torch.where(hard, 2.0, 1.0)
    rows = torch.stack([
        divergence(output.logits[i : i + 1], teacher_output.logits[pi[i : i + 1]])[0]
        for i in torch.nonzero(taught).flatten()
    ])  # fmt: skip
    wanted = (rows * weight[taught]).sum() / weight[taught].sum()
    assert (points[0][pi] > points[1])[taught].any()
    settings = objective.settings.model_copy(update={"hard_weight": 2.0, "fused_weight": 3.0})
    objective.settings = settings
    found = objective._logit(output, objective._rows(batch, fused, teacher_output))
    assert float(found[0].detach()) == pytest.approx(float(wanted.detach()), rel=1e-4)
    assert found[1] == int(taught.sum())
    objective.row_weights = torch.arange(1.0, 20.0)
    by_class = weight[taught] * batch.labels[taught]
    found = objective._logit(output, objective._rows(batch, fused, teacher_output))
    assert float(found[0].detach()) == pytest.approx(
        float(((rows * by_class).sum() / by_class.sum()).detach()), rel=1e-4
    )


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


def test_an_unprepared_run_names_the_command(world, tmp_path):
    with pytest.raises(DataError, match="kd-seg prepare"):
        trainer(world, tmp_path, "fusion.library.minimum=7")


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


def test_voxel_keys_are_majorities_with_the_smallest_word_on_ties():
    a, b = 10 | 1 << 16, 30 | 2 << 16
    words = np.array([a, a, b, b, a, 40, 40, a, b], dtype=np.uint32)
    inverse = np.array([0, 0, 0, 1, 1, 1, 2, -1, 3], dtype=np.int32)
    np.testing.assert_array_equal(voxel_keys(words, inverse, 4), [a, min(a, b), 0, b])
