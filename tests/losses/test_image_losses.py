"""Exact values of the losses and scores of image objectives, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_seg.losses import regions
from kd_seg.losses.contrastive import info_nce
from kd_seg.losses.units import (
    class_weights,
    forward_distillation,
    heaviest_claim,
    mean_probability,
    overlap,
    precision,
    root_weights,
    scale_scores,
)


def logits_of(probabilities: list[list[float]]) -> torch.Tensor:
    return torch.log(torch.tensor(probabilities)).requires_grad_()


# ---------------------------------------------------------------- units, forward


def test_forward_by_hand() -> None:
    """Point 0 in units 0 and 1, point 1 in unit 1, point 2 in none; unit 1 claims two classes."""
    logits = logits_of([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5], [0.8, 0.1, 0.1]])
    claims = torch.tensor([[True, False, False], [False, True, True]])
    value, count = forward_distillation(
        logits, torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), claims, torch.tensor([0.9, 0.5])
    )
    first = 0.5 * (0.9 * -math.log(0.5) + 0.5 * -math.log(0.5))
    second = 0.5 * -math.log(0.8)
    assert count == 2
    assert value.item() == pytest.approx((first + second) / 2, abs=1e-6)
    released, _ = forward_distillation(
        logits, torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), claims, torch.tensor([0.9, 0.5]), average_over=3
    )
    assert released.item() == pytest.approx((first + second) / 3, abs=1e-6)
    value.backward()
    assert logits.grad is not None
    assert logits.grad[2].abs().sum() == 0  # no unit holds point 2
    assert logits.grad[1, 1] / logits.grad[1, 2] == pytest.approx(0.3 / 0.5, rel=1e-5)  # a set only shares out as it is


def test_dropped_units_do_not_exist() -> None:
    """A unit of weight 0 leaves n_i and the cover, so a good unit beside it counts in full."""
    logits = logits_of([[0.5, 0.5], [0.5, 0.5]])
    claims = torch.tensor([[True, False], [False, True]])
    pairs = (torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]))
    value, count = forward_distillation(logits, *pairs, claims, torch.tensor([1.0, 0.0]))
    assert (value.item(), count) == (pytest.approx(math.log(2)), 1)
    value, count = forward_distillation(logits, *pairs, claims, torch.zeros(2))
    assert (value.item(), count) == (0.0, 0)
    value.backward()
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_label_distribution_by_hand() -> None:
    """Teacher classes x, y, z mean {0}, {0, 1} and nothing; z leaves the sum."""
    logits = logits_of([[0.5, 0.25, 0.25]])
    sets = torch.tensor([[True, False, False], [True, True, False], [False, False, False]])
    table = torch.tensor([[0.3, 0.3, 0.4]])
    value, _ = forward_distillation(
        logits, torch.tensor([0]), torch.tensor([0]), sets[:1], torch.ones(1), (table, sets)
    )
    assert value.item() == pytest.approx(0.5 * -math.log(0.5) + 0.5 * -math.log(0.75), abs=1e-6)


def test_likelihoods_by_hand() -> None:
    """-log(a_0 p_0 + a_1 p_1): the usual class is free, the other costs -log 0.1; two claims still agree on it."""
    logits = logits_of([[0.3, 0.6, 0.1]])
    claims = torch.tensor([[1.0, 0.1, 0.0]])
    value, _ = forward_distillation(logits, torch.tensor([0]), torch.tensor([0]), claims, torch.ones(1))
    assert value.item() == pytest.approx(-math.log(0.3 + 0.06), abs=1e-6)
    value.backward()
    assert logits.grad is not None
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1] < logits.grad[0, 2] + 1  # the usual class gains
    both = torch.tensor([[1.0, 0.1, 0.0], [0.0, 0.1, 1.0]])
    pairs = (torch.tensor([0, 0]), torch.tensor([0, 1]))
    costs = []
    for winner in range(3):
        row = torch.full((1, 3), 0.005)
        row[0, winner] = 0.99
        costs.append(forward_distillation(torch.log(row), *pairs, both, torch.ones(2))[0].item())
    assert costs[1] < costs[0]
    assert costs[1] < costs[2]


def test_class_weights_by_hand() -> None:
    """60 pairs claim class 0, 4 class 1 (with 2), none class 3: clip(1 + log4(sum m / (m_c C)), 1, 4)."""
    claims = torch.tensor([[True, False, False, False], [False, True, True, False]])
    units = torch.tensor([0] * 60 + [1] * 4)
    total = 60 + 4 + 4
    rare = 1 + math.log(total / (4 * 4), 4)
    np.testing.assert_allclose(class_weights(units, claims), [1.0, rare, rare, 4.0], rtol=1e-5)
    assert class_weights(units[:0], claims).tolist() == [4.0] * 4
    single = torch.eye(2, dtype=torch.bool)
    many = torch.tensor([0] * 10000 + [1])
    assert class_weights(many, single).tolist() == [1.0, 4.0]


def test_heaviest_claim_by_hand() -> None:
    """Row 0: one unit; row 1: the stronger of two; row 2: a tie, the smaller id; row 3: a dropped unit; row 4: none."""
    rows, units = torch.tensor([0, 1, 1, 2, 2, 3]), torch.tensor([0, 0, 1, 2, 1, 3])
    found = heaviest_claim(rows, units, torch.tensor([0.5, 0.9, 0.9, 0.0]), torch.tensor([7, 4, 2, 9]), 5)
    assert found.tolist() == [7, 4, 2, 0, 0]
    assert heaviest_claim(rows[:0], units[:0], torch.zeros(0), torch.zeros(0, dtype=torch.int64), 2).tolist() == [0, 0]


def test_root_weights_by_hand() -> None:
    """Classes of 900, 30 + 70 (two teacher classes of one) and 2 points, one unmapped; mean m = 334."""
    points, usual = torch.tensor([900.0, 30.0, 70.0, 2.0, 5.0]), torch.tensor([0, 2, 2, 3, -1])
    found = root_weights(points, usual, 5)
    middle = math.sqrt((1002 / 3) / 100)
    np.testing.assert_allclose(found, [math.sqrt(334 / 900), middle, middle, 4.0, 1.0], rtol=1e-5)
    assert root_weights(torch.tensor([1e6, 1.0, 1.0]), torch.tensor([0, 1, 2]), 3)[0] == pytest.approx(
        0.57735, rel=1e-4
    )
    assert root_weights(torch.zeros(2), torch.tensor([0, 1]), 2).isfinite().all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_forward_is_the_double_sum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, u, c, p = 12, 5, 4, 30
    logits = torch.tensor(rng.normal(size=(n, c)).astype(np.float32))
    pairs = np.unique(np.column_stack([rng.integers(0, n, p), rng.integers(0, u, p)]), axis=0)
    claims = torch.tensor(rng.random((u, c)) < 0.4)
    claims[torch.arange(u), torch.tensor(rng.integers(0, c, u))] = True
    weights = torch.tensor(rng.choice([0.0, 0.3, 1.0], u).astype(np.float32))
    value, count = forward_distillation(logits, *torch.from_numpy(pairs).T, claims, weights)
    probability = torch.softmax(logits.double(), 1).numpy()
    total, cover = 0.0, 0
    for i in range(n):
        mine = [k for j, k in pairs if j == i and weights[k] > 0]
        if mine:
            cover += 1
            total += sum(-float(weights[k]) * math.log(probability[i][claims[k].numpy()].sum()) for k in mine) / len(
                mine
            )
    assert count == cover
    assert value.item() == pytest.approx(total / max(cover, 1), abs=1e-5)


# ---------------------------------------------------------------- units, backward


def test_scores_by_hand() -> None:
    """Unit 0 claims {0}, unit 1 claims {1, 2}, unit 2 is empty."""
    claims = torch.tensor([[True, False, False], [False, True, True], [True, False, False]])
    units = torch.tensor([0, 0, 0, 0, 1, 1])
    predicted = torch.tensor([0, 0, 0, 1, 2, 0])
    assert precision(predicted, units, claims).tolist() == [0.75, 0.5, 0.0]
    probabilities = torch.tensor([[0.6, 0.2, 0.2]] * 6)
    np.testing.assert_allclose(mean_probability(probabilities, units, claims), [0.6, 0.4, 0.0], atol=1e-6)
    # around unit 0: its four points and two more, of which one is predicted 0 as well
    around = torch.tensor([0, 0, 0, 1, 0, 2])
    inside = torch.tensor([True, True, True, True, False, False])
    found = overlap(around, inside, torch.zeros(6, dtype=torch.long), claims[:1], torch.tensor([4]))
    assert found.tolist() == [pytest.approx(3 / 5)]


def test_scaled_scores_by_hand() -> None:
    """Class 0: q90 of (0, .2, .4, .6, .8, 1) is 0.9; class 1 is rare and weak, its best unit still counts in full."""
    ratio = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 0.3, 0.1, 0.9, 0.5])
    teacher_class = torch.tensor([0] * 6 + [1, 1] + [2, 0])
    judged = torch.tensor([True] * 8 + [False, False])
    likely = torch.rand(10)  # is asked for classes alone that the student does not know
    found = scale_scores(ratio, likely, teacher_class, judged, quantile=0.9, power=1.0, floor=0.05, drop_below=0.1)
    expected = [0.0, 0.2 / 0.9, 0.4 / 0.9, 0.6 / 0.9, 0.8 / 0.9, 1.0, 1.0, 0.1 / 0.28, 1.0, 1.0]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert scale_scores(ratio, likely, teacher_class, judged, quantile=0.9, power=1.0, floor=0.05, drop_below=0.0)[
        0
    ].item() == pytest.approx(0.05)  # the floor
    squared = scale_scores(ratio, likely, teacher_class, judged, quantile=0.9, power=2.0, floor=0.05, drop_below=0.1)
    assert squared[1].item() == pytest.approx((0.2 / 0.9) ** 2)


def test_units_of_a_class_that_the_student_never_says_are_judged_by_its_probability() -> None:
    """Class 0: agreement at most 0.04, q90 of the probabilities (0.001, 0.02, 0.1, 0.02) is 0.076; class 1 is known."""
    ratio, likely = torch.tensor([0.0, 0.04, 0.0, 0.0, 0.9, 0.3]), torch.tensor([0.001, 0.02, 0.1, 0.02, 0.0, 0.9])
    teacher_class, judged = torch.tensor([0, 0, 0, 0, 1, 1]), torch.ones(6, dtype=torch.bool)
    found = scale_scores(
        ratio, likely, teacher_class, judged, quantile=0.9, power=1.0, floor=0.05, drop_below=0.1, unknown_below=0.05
    )
    np.testing.assert_allclose(found, [0.0, 0.02 / 0.076, 1.0, 0.02 / 0.076, 1.0, 0.3 / 0.84], atol=1e-6)
    nothing = scale_scores(
        torch.zeros(6), torch.zeros(6), teacher_class, judged, quantile=0.9, power=1.0, floor=0.05, drop_below=0.1
    )
    assert nothing.tolist() == [1.0] * 6  # nor a hint


# ---------------------------------------------------------------- regions


def test_pooling_by_hand() -> None:
    rows = torch.tensor([[1.0, -5.0], [3.0, -1.0], [-2.0, -3.0]])
    region = torch.tensor([0, 0, 2])
    assert regions.pool_max(rows, region, 3).tolist() == [[3.0, -1.0], [0.0, 0.0], [-2.0, -3.0]]  # signed features
    assert regions.pool_mean(rows, region, 3).tolist() == [[2.0, -3.0], [0.0, 0.0], [-2.0, -3.0]]
    weighted = regions.pool_mean(rows, region, 3, torch.tensor([3.0, 1.0, 2.0]))
    assert weighted.tolist() == [[1.5, -4.0], [0.0, 0.0], [-2.0, -3.0]]
    attended = regions.pool_attention(rows, torch.tensor([math.log(3.0), 0.0, 50.0]), region, 3)
    np.testing.assert_allclose(attended, [[1.5, -4.0], [0.0, 0.0], [-2.0, -3.0]], atol=1e-6)


@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        ("l1", (1.0 + 2.0 + 0.0 + 4.0) / 4),
        ("smooth_l1", (0.5 + 1.5 + 0.0 + 3.5) / 4),
        ("cosine", ((1 - 3 / math.sqrt(10 * 1)) + (1 - 0.0)) / 2),
        ("unit_l2", (math.sqrt(2 - 2 * 3 / math.sqrt(10)) + math.sqrt(2)) / 2),
    ],
)
def test_distances_by_hand(distance: regions.Distance, expected: float) -> None:
    student = torch.tensor([[1.0, 0.0], [0.0, 4.0]], requires_grad=True)
    target = torch.tensor([[0.0, 0.0], [0.0, 0.0]]) + torch.tensor([[2.0, 2.0], [0.0, 0.0]])
    if distance in ("cosine", "unit_l2"):
        target = torch.tensor([[3.0, 1.0], [5.0, 0.0]])
    value, count = regions.align(student, target, distance)
    assert (value.item(), count) == (pytest.approx(expected, abs=1e-5), 2)
    value.backward()
    assert torch.isfinite(student.grad).all()  # type: ignore[arg-type]


def test_kl_by_hand() -> None:
    student = torch.log(torch.tensor([[0.5, 0.5], [0.9, 0.1]]))
    target = torch.log(torch.tensor([[0.25, 0.75], [0.9, 0.1]]))
    expected = (0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)) / 2
    assert regions.align(student, target, "kl")[0].item() == pytest.approx(expected, abs=1e-6)


def test_no_region_is_an_exact_zero() -> None:
    empty = torch.zeros(0, 4, requires_grad=True)
    for value, count in (regions.align(empty, empty, "l1"), info_nce(empty, empty)):
        assert (value.item(), count) == (0.0, 0)
        value.backward()


def test_info_nce_by_hand() -> None:
    k = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    q = torch.tensor([[0.8, 0.6], [0.6, 0.8]])
    one = -math.log(math.exp(0.8 / 0.07) / (math.exp(0.8 / 0.07) + math.exp(0.6 / 0.07)))
    assert info_nce(k, q, 0.07)[0].item() == pytest.approx(one, abs=1e-6)
    # cosine of the two targets is 0.96: as negatives they are left out, and nothing is left to tell apart
    assert info_nce(k, q, 0.07, alike=0.9)[0].item() == pytest.approx(0.0, abs=1e-6)
    assert info_nce(k, q, 0.07, alike=0.97)[0].item() == pytest.approx(one, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-0.5, 0.9))
def test_info_nce_is_the_sum(seed: int, alike: float) -> None:
    rng = np.random.default_rng(seed)
    k, q = rng.normal(size=(2, 7, 3))
    total = 0.0
    for s in range(7):
        kept = [j for j in range(7) if j == s or q[s] @ q[j] / np.linalg.norm(q[s]) / np.linalg.norm(q[j]) <= alike]
        total -= math.log(math.exp(k[s] @ q[s]) / sum(math.exp(k[s] @ q[j]) for j in kept))
    found = info_nce(torch.tensor(k), torch.tensor(q), 1.0, alike)[0]
    assert found.item() == pytest.approx(total / 7, rel=1e-4, abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_pooling_is_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, region = rng.normal(size=(40, 3)).astype(np.float32), rng.integers(0, 6, 40)
    region[region == 3] = 2
    mean, top = (f(torch.from_numpy(rows), torch.from_numpy(region), 6) for f in (regions.pool_mean, regions.pool_max))
    for r in range(6):
        mine = rows[region == r]
        np.testing.assert_allclose(mean[r], mine.mean(0) if len(mine) else np.zeros(3), atol=1e-5)
        np.testing.assert_allclose(top[r], mine.max(0) if len(mine) else np.zeros(3), atol=1e-6)
