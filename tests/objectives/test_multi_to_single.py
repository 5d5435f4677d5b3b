"""The multi-to-single objective: correspondence, its rows and its terms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fused_runs import first_batch, prepared_world, terms_of, trainer
from instances_world import World

from kd_seg.core.errors import ConfigError, DataError
from kd_seg.losses.logit import divergence
from kd_seg.networks.correspondence import correspondence
from kd_seg.objectives import Step
from kd_seg.objectives.multi_to_single.view import voxel_keys

JACCARD = "objectives.1.jaccard.weight=0.5"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return prepared_world(tmp_path_factory.mktemp("world"))


def test_a_student_on_fused_clouds_has_every_fused_point_once(world, tmp_path):
    """Found by reading: the student's fused rows were followed by those of its teacher's view, the same ones again."""
    counts = {}
    for seen in ("own", "fused"):
        made = trainer(world, tmp_path, f"student.input={seen}").parts.pipeline
        _, cloud = made.cloud(made.keys[2], np.random.default_rng(0), made.fuse)
        counts[seen] = len(cloud)
        assert len(np.unique(cloud.points, axis=0)) == len(cloud) > cloud.own
    assert counts["fused"] == counts["own"]


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


def test_weights_rise_stay_and_fade(world, tmp_path):
    made = trainer(world, tmp_path, "objectives.1.ramp=0.2", "objectives.1.fade=[0.4,0.8]")
    scale = made.objectives[1].settings.scale
    shares = (0.0, 0.1, 0.2, 0.4, 0.5, 0.7, 0.8, 1.0)
    assert [scale(share) for share in shares] == pytest.approx([0.0, 0.5, 1.0, 1.0, 0.75, 0.25, 0.0, 0.0])
    assert terms_of(made, step=1)[0]["kd"].weight == pytest.approx(0.75)  # step 1 of 2: half of the run


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


def test_an_unprepared_run_names_the_command(world, tmp_path):
    with pytest.raises(DataError, match="kd-seg prepare"):
        trainer(world, tmp_path, "fusion.library.minimum=7")


def test_voxel_keys_are_majorities_with_the_smallest_word_on_ties():
    a, b = 10 | 1 << 16, 30 | 2 << 16
    words = np.array([a, a, b, b, a, 40, 40, a, b], dtype=np.uint32)
    inverse = np.array([0, 0, 0, 1, 1, 1, 2, -1, 3], dtype=np.int32)
    np.testing.assert_array_equal(voxel_keys(words, inverse, 4), [a, min(a, b), 0, b])
