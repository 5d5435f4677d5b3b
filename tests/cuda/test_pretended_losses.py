"""Every function of kd_seg.losses, and what else works on rows of tensors, on a pretended CUDA device: same numbers."""

from __future__ import annotations

import copy
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from pretend_cuda import CUDA, DevicesMixed, PretendCuda, pretend_cuda
from torch import Tensor

import kd_seg.losses
from kd_seg.losses import affinity, contrastive, feature, groups, logit, regions, supervised, units, zero
from kd_seg.networks import Batch, Encoding, Level, collate, correspondence, encode, move
from kd_seg.objectives.image_labels.objective import sample_logits
from kd_seg.objectives.image_regions.heads import build_head
from kd_seg.objectives.shared.image_rows import level_rows
from kd_seg.sparse import pool_rows
from kd_seg.voxels import CartesianGrid


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


LABEL = torch.tensor([1, 2, 0, 3, 2, 1, 1, 3])
ONE, OTHER = rows(8, 4), rows(8, 4, seed=1)
WEIGHT = torch.tensor([1.0, 0.0, 2.0, 1.0, 0.5, 1.0, 0.0, 3.0])
GROUPS = groups.Groups(
    rows=torch.arange(6),
    label=torch.tensor([2, 2, 2, 4, 4, 9]),
    instance=torch.tensor([0, 0, 1, 2, 2, -1]),
    instance_label=torch.tensor([2, 2, 4]),
)
REGION = torch.tensor([0, 0, 1, 1, 1, 3, 3, 3])
PAIR, UNIT = torch.tensor([0, 0, 1, 4, 7]), torch.tensor([0, 1, 1, 2, 2])
CLAIMS = torch.tensor([[True, False, False, False], [False, True, True, False], [False, False, False, True]])
LIKELIHOOD = torch.tensor([[1.0, 0.1, 0.0, 0.0], [0.0, 1.0, 0.1, 0.0], [0.0, 0.0, 0.0, 1.0]])
SAID, INSIDE = torch.tensor([0, 1, 2, 3, 0]), torch.tensor([True, False, True, True, False])
STRENGTH = torch.tensor([0.9, 0.4, 0.7])


def heads(x: Tensor) -> Tensor:
    torch.manual_seed(0)
    made = [build_head(kind, 4, 4).to(x.device) for kind in ("none", "linear", "linear_bn_relu", "mlp")]
    return sum((head(x).sum() for head in made), made[2](x[:1]).sum())


def remembered(bank: Tensor, filled: Tensor, classes: Tensor, prototypes: Tensor) -> Tensor:
    affinity.remember(bank, filled, classes, prototypes)
    return torch.cat([bank, filled[:, None]], dim=1)


def pooled(x: Tensor, index: Tensor) -> Tensor:
    return pool_rows(x, index, 4, "mean").square().sum() + pool_rows(x, index, 4, "amax").square().sum()


CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "zero.exact_zero": (zero.exact_zero, (ONE, OTHER)),
    "zero.weighted_mean": (zero.weighted_mean, (ONE[:, 0], WEIGHT)),
    "supervised.cross_entropy": (supervised.cross_entropy, (ONE, LABEL, torch.tensor([1.0, 2.0, 3.0, 4.0]))),
    "supervised.lovasz_softmax": (supervised.lovasz_softmax, (ONE, LABEL)),
    "logit.divergence": (logit.divergence, (ONE, OTHER, 2.0, WEIGHT)),
    "logit.divergence_from": (
        lambda s, t, w: logit.divergence_from(s, t.softmax(dim=1), 2.0, w),
        (ONE, OTHER, WEIGHT),
    ),
    "logit.corrected": (lambda s, t, y: logit.divergence(s, logit.corrected(t, y)), (ONE, OTHER, LABEL)),
    "logit.jaccard_distance": (logit.jaccard_distance, (ONE, OTHER, LABEL)),
    "logit.released_divergence": (logit.released_divergence, (ONE, OTHER)),
    "feature.unit_rows": (feature.unit_rows, (ONE,)),
    "feature.feature_distance": (feature.feature_distance, (ONE, OTHER, WEIGHT)),
    "feature.released_feature_distance": (feature.released_feature_distance, (ONE, OTHER)),
    "groups.rank_within": (groups.rank_within, (LABEL, WEIGHT)),
    "groups.sample_groups": (groups.sample_groups, (LABEL, LABEL * 7, ONE[:, 0].abs() % 1.0, groups.Caps(2, 2, 2, 4))),
    "affinity.gram_distance": (affinity.gram_distance, (ONE, OTHER)),
    "affinity.class_affinity": (affinity.class_affinity, (ONE, OTHER, LABEL, (1, 2, 5))),
    "affinity.instance_affinity": (
        lambda s, t, g, banks: vars(affinity.instance_affinity(s, t, g, 2, banks)),
        (ONE[:6], OTHER[:6], GROUPS, (rows(2, 4, seed=2), rows(2, 4, seed=3))),
    ),
    "affinity.remember": (
        remembered,
        (rows(5, 4, seed=4), torch.tensor([True, False, True, False, False]), torch.tensor([1, 2]), rows(2, 4, seed=5)),
    ),
    "contrastive.info_nce": (contrastive.info_nce, (ONE, OTHER, 0.07, 0.2)),
    "regions.unit": (regions.unit, (ONE,)),
    "regions.pool_mean": (regions.pool_mean, (ONE, REGION, 4, WEIGHT)),
    "regions.pool_max": (regions.pool_max, (ONE, REGION, 4)),
    "regions.pool_attention": (regions.pool_attention, (ONE, OTHER[:, 0], REGION, 4)),
    "regions.align": (
        lambda k, q: sum(regions.align(k, q, d)[0] for d in ("l1", "smooth_l1", "cosine", "unit_l2", "kl")),
        (ONE, OTHER),
    ),
    "units.set_log_probability": (units.set_log_probability, (ONE[:3], CLAIMS)),
    "units.class_weights": (units.class_weights, (UNIT, CLAIMS)),
    "units.root_weights": (units.root_weights, (torch.tensor([5.0, 90.0, 0.0]), torch.tensor([1, -1, 0]), 4)),
    "units.forward_distillation": (units.forward_distillation, (ONE, PAIR, UNIT, LIKELIHOOD, STRENGTH)),
    "units.forward_distillation with a distribution": (
        units.forward_distillation,
        (ONE, PAIR, UNIT, LIKELIHOOD, STRENGTH, (LIKELIHOOD[:, :3], LIKELIHOOD)),
    ),
    "units.heaviest_claim": (units.heaviest_claim, (PAIR, UNIT, STRENGTH, torch.tensor([3, 1, 2]), 8)),
    "units.precision": (units.precision, (SAID, UNIT, CLAIMS)),
    "units.mean_probability": (units.mean_probability, (ONE[:5].softmax(1), UNIT, CLAIMS)),
    "units.overlap": (
        units.overlap,
        (SAID, INSIDE, UNIT, CLAIMS, torch.tensor([2, 1, 3])),
    ),
    "units.scale_scores": (
        partial(units.scale_scores, quantile=0.9, power=1.0, floor=0.05, drop_below=0.1, unknown_below=0.05),
        (STRENGTH, STRENGTH.square(), torch.tensor([0, 0, 1]), torch.tensor([True, True, False])),
    ),
    "pooling of points to voxels": (pooled, (ONE, REGION - 1)),
    "projection heads": (heads, (ONE,)),
    "logits at pixels": (sample_logits, (rows(24, 4), (2, 3, 4), torch.tensor([0, 1, 1]), rows(3, 2).abs() * 3)),
}


def leaves(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, groups.Groups):
        value = vars(value)
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in leaves(item)] if isinstance(value, (tuple, list)) else []


def answers(function: Callable[..., Any], inputs: tuple[Any, ...], device: str) -> tuple[list[Tensor], list[Tensor]]:
    """Tensors that a function gives, and the gradient of their sum on the first input."""
    given = move(copy.deepcopy(inputs), device)
    floating = [t.requires_grad_() for t in leaves(given[0]) if t.is_floating_point() and function is not remembered]
    found = leaves(function(*given))
    differentiable = [t for t in found if t.requires_grad]
    if differentiable:
        torch.stack([t.sum() for t in differentiable]).sum().backward()
    return found, [t.grad for t in floating if t.grad is not None]


@pytest.mark.parametrize("name", CASES)
def test_same_numbers_on_the_device(name: str) -> None:
    function, inputs = CASES[name]
    expected, slopes = answers(function, inputs, "cpu")
    with pretend_cuda() as mode:
        found, found_slopes = answers(function, inputs, "cuda")
        assert all(mode.holds(t) for t in [*found, *found_slopes])
    assert len(found) == len(expected) > 0
    assert len(found_slopes) == len(slopes)
    for one, other in zip([*found, *found_slopes], [*expected, *slopes], strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)


def test_no_loss_is_left_out() -> None:
    said = {name.partition(" ")[0] for name in CASES}
    for module in pkgutil.iter_modules(kd_seg.losses.__path__):
        loaded = importlib.import_module(f"kd_seg.losses.{module.name}")
        for name, function in inspect.getmembers(loaded, inspect.isfunction):
            if function.__module__ == loaded.__name__ and not name.startswith("_"):
                assert f"{module.name}.{name}" in said


@pytest.mark.parametrize("loss", [supervised.cross_entropy, supervised.lovasz_softmax])
def test_zero_stays_zero_where_a_sum_of_halves_overflows(loss: Any) -> None:
    """60 + 60 + .. leaves float16 at 65,504, and infinity times zero is not zero."""
    logits = torch.full((2000, 19), 60.0, dtype=torch.float16, requires_grad=True)
    assert torch.isinf(logits.sum())
    value, count = loss(logits, torch.zeros(2000, dtype=torch.int64))
    value.backward()
    assert (float(value.detach()), count) == (0.0, 0)
    assert logits.grad is not None
    assert not logits.grad.any()


# ---------------------------------------------------------------- batches and correspondence


GRID = CartesianGrid((0.5, 0.5, 0.5), (-4.0, -4.0, -4.0), (4.0, 4.0, 4.0))


def batch_of(points: int) -> Batch:
    clouds = [np.random.default_rng(s).uniform(-4, 4, (points, 4)).astype(np.float32) for s in (0, 1)]
    return collate([encode(cloud, None, Encoding(GRID, ("xyz",))) for cloud in clouds], GRID)


def all_held(mode: PretendCuda, value: Any) -> bool:
    return all(mode.holds(t) for t in leaves(vars(value)))


def test_batches_and_rows_of_levels() -> None:
    batch, fused = batch_of(200), batch_of(300)
    coarse = torch.unique(batch.coordinates // torch.tensor([1, 2, 2, 2]), dim=0).flip(0)
    expected = level_rows(batch, Level(coarse, coarse, (2, 2, 2)))
    both = torch.unique(torch.cat([batch.coordinates, fused.coordinates]), dim=0)
    pi = correspondence.correspondence(batch.coordinates, both)
    with pretend_cuda() as mode:
        moved = batch.to("cuda")
        assert all_held(mode, moved)
        assert moved.batch_size == 2
        assert all_held(mode, Batch(**{**vars(moved), "views": {"x": [moved.labels]}}).to(CUDA))
        there_coarse = coarse.to("cuda")
        found = level_rows(moved, Level(there_coarse, there_coarse, (2, 2, 2)))
        found_pi = correspondence.correspondence(moved.coordinates, both.to("cuda"))
        assert mode.holds(found)
        assert mode.holds(found_pi)
        with pytest.raises(DevicesMixed):
            correspondence.correspondence(moved.coordinates, both)
    assert torch.equal(found, expected)
    assert torch.equal(found_pi, pi)
