"""Exact values of every distillation loss, against plain loops; empty selections; gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd_seg.losses.affinity import class_affinity, gram_distance, instance_affinity, remember
from kd_seg.losses.feature import feature_distance, released_feature_distance, unit_rows
from kd_seg.losses.groups import Caps, Groups, rank_within, sample_groups
from kd_seg.losses.logit import corrected, divergence, jaccard_distance, released_divergence
from kd_seg.losses.zero import exact_zero, weighted_mean


def rows(seed: int, n: int, d: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_corrected_logits_swap_answer_and_label_and_leave_the_rest() -> None:
    teacher = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
    swapped = corrected(teacher, torch.tensor([2, 0, 3]))
    assert swapped.tolist() == [[1.0, 3.0, 2.0], [3.0, 1.0, 2.0], [0.0, 4.0, 5.0]]
    assert teacher.tolist() == [[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [0.0, 5.0, 4.0]]  # its own stay as they were


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(0, 20), st.integers(2, 19))
def test_corrected_logits_answer_right_where_asked(seed: int, n: int, c: int) -> None:
    teacher = rows(seed, n, c)
    label = torch.randint(0, c + 1, (n,), generator=torch.Generator().manual_seed(seed))
    swapped = corrected(teacher, label)
    asked = label > 0
    assert (swapped[asked].argmax(1) + 1 == label[asked]).all()
    torch.testing.assert_close(swapped[~asked], teacher[~asked], rtol=0, atol=0)
    torch.testing.assert_close(swapped.sort(1).values, teacher.sort(1).values, rtol=0, atol=0)


def test_jaccard_distance_of_a_class_that_both_rule_out_is_1() -> None:
    """Found by reading: in float32 its probabilities are 0 then, and the loss was NaN."""
    student = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    value, count = jaccard_distance(student, torch.tensor([[150.0, 0.0, 0.0]]), torch.tensor([2]))
    value.backward()
    assert (float(value.detach()), count) == (1.0, 1)
    assert torch.isfinite(student.grad).all()


def test_jaccard_distance_by_hand() -> None:
    """Two rows of two classes, p_S = (1/2, 1/2) and p_T = (3/4, 1/4): overlap 1/2 over 3/4, and 1/4 over 1/2."""
    student, teacher = torch.zeros(2, 2), torch.tensor([[math.log(3.0), 0.0]] * 2)
    value, count = jaccard_distance(student, teacher, torch.tensor([1, 2]))
    assert value.item() == pytest.approx(((1 - 0.5 / 0.75) + (1 - 0.25 / 0.5)) / 2)
    assert count == 2
    value, count = jaccard_distance(student, teacher, torch.tensor([1, 0]))  # class 2 is no label here
    assert value.item() == pytest.approx(1 - 0.5 / 0.75)
    assert count == 1


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(2, 19))
def test_jaccard_distance_is_a_distance_and_one_minus_iou_between_certain_answers(seed: int, n: int, c: int) -> None:
    a, b, d = (rows(seed + i, n, c) * 3 for i in range(3))
    label = torch.randint(1, c + 1, (n,), generator=torch.Generator().manual_seed(seed))

    def of(x: Tensor, y: Tensor) -> float:
        return jaccard_distance(x, y, label)[0].item()

    assert of(a, a) == pytest.approx(0.0, abs=1e-6)
    assert of(a, b) == pytest.approx(of(b, a), abs=1e-6)
    assert of(a, d) <= of(a, b) + of(b, d) + 1e-6
    sure, truth = 1e4 * torch.nn.functional.one_hot(a.argmax(1), c), 1e4 * torch.nn.functional.one_hot(label - 1, c)
    iou = []
    for k in torch.unique(label - 1).tolist():
        said, true = a.argmax(1) == k, label - 1 == k
        iou.append(((said & true).sum() / (said | true).sum()).item())
    assert of(sure, truth) == pytest.approx(1 - sum(iou) / len(iou), abs=1e-6)


def test_jaccard_distance_of_no_rows_is_an_exact_zero_and_the_teacher_gets_no_gradient() -> None:
    s, t = rows(5, 4, 3).requires_grad_(), rows(6, 4, 3).requires_grad_()
    value, count = jaccard_distance(s, t, torch.zeros(4, dtype=torch.long))
    assert (value.item(), count) == (0.0, 0)
    jaccard_distance(s, t, torch.tensor([1, 2, 3, 0]))[0].backward()
    assert t.grad is None
    assert s.grad is not None
    assert s.grad[3].abs().sum() == 0  # a row that is left out
    assert s.grad[:3].abs().sum() > 0


def test_exact_zero_ignores_nan_and_keeps_the_path() -> None:
    x = torch.tensor([float("nan"), float("inf")], requires_grad=True)
    zero = exact_zero(x)
    zero.backward()
    assert zero.item() == 0.0
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 0.0]


def test_weighted_mean_by_hand() -> None:
    value, count = weighted_mean(torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1.0, 3.0, 0.0]))
    assert value.item() == pytest.approx((1 + 6) / 4)
    assert count == 2


def test_divergence_by_hand() -> None:
    """One row, two classes, T = 2: p_T = sigmoid((2 - 0) / 2), p_S = 1/2."""
    p = 1 / (1 + math.exp(-1))
    wanted = 4 * (p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5))
    value, count = divergence(torch.zeros(1, 2), torch.tensor([[2.0, 0.0]]), temperature=2.0)
    assert value.item() == pytest.approx(wanted, rel=1e-6)
    assert count == 1


def test_divergence_is_batchmean_and_weights_average() -> None:
    s, t = rows(0, 6, 5), rows(1, 6, 5)
    plain = torch.nn.functional.kl_div(torch.log_softmax(s / 3, 1), torch.softmax(t / 3, 1), reduction="batchmean")
    assert divergence(s, t, 3.0)[0].item() == pytest.approx(9 * plain.item(), rel=1e-5)
    w = torch.tensor([0.0, 1.0, 2.0, 0.0, 0.5, 1.0])
    each = torch.stack([divergence(s[i : i + 1], t[i : i + 1], 3.0)[0] for i in range(6)])
    value, count = divergence(s, t, 3.0, w)
    assert value.item() == pytest.approx(((w * each).sum() / w.sum()).item(), rel=1e-5)
    assert count == 4


def test_divergence_vanishes_at_the_teacher_and_the_released_form_does_not() -> None:
    """Near the teacher the released gradient keeps its size, the KL's falls with the distance."""
    t = rows(2, 200, 19) * 3
    norms = {}
    for distance in (1e-1, 1e-3):
        s = (t + distance * rows(3, 200, 19)).requires_grad_()
        norms[distance] = torch.autograd.grad(divergence(s, t, 1 / 0.3)[0], s)[0].norm().item()
        released = torch.autograd.grad(released_divergence(s, t, threshold=0.0)[0], s)[0].norm().item()
        norms[-distance] = released
    assert norms[1e-3] < 0.02 * norms[1e-1]
    assert norms[-1e-3] > 0.8 * norms[-1e-1]


def test_released_divergence_by_hand() -> None:
    s, t = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), np.array([[3.0, 0.0, -1.0], [0.0, 0.0, 0.001]])
    values = []
    for zs, zt in zip(s, t, strict=True):
        ps, pt = np.exp(0.3 * zs) / np.exp(0.3 * zs).sum(), np.exp(0.3 * zt) / np.exp(0.3 * zt).sum()
        values.append(np.mean(pt * np.abs(np.log((pt + 1e-6) / (ps + 1e-6)))))
    assert values[0] > 0.01 > values[1]
    value, count = released_divergence(torch.tensor(s), torch.tensor(t))
    assert value.item() == pytest.approx(values[0], rel=1e-5)
    assert count == 1


def test_feature_distance_by_hand() -> None:
    """Unit rows: (1,0) against (0,1) is 2, (3,4) against (6,8) is 0, (0,0) against (1,0) is 1."""
    s = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    t = torch.tensor([[0.0, 2.0], [6.0, 8.0], [1.0, 0.0]])
    assert feature_distance(s, t)[0].item() == pytest.approx(1.0)
    assert feature_distance(s, t, torch.tensor([1.0, 3.0, 0.0])) == (pytest.approx(0.5), 2)


def test_released_feature_distance_by_hand() -> None:
    s, t = torch.zeros(2, 2), torch.tensor([[2.0, 1.0], [0.5, 0.5]])
    value, count = released_feature_distance(s, t)
    assert (value.item(), count) == (pytest.approx(2.5), 1)
    assert released_feature_distance(s, s)[1] == 0


def loop_gram(s: Tensor, t: Tensor, power: int, diagonal: bool) -> float:
    s, t = unit_rows(s), unit_rows(t)
    n, total, pairs = len(s), 0.0, 0
    for i in range(n):
        for j in range(n):
            if i != j or diagonal:
                total += abs(float(s[i] @ s[j]) - float(t[i] @ t[j])) ** power
                pairs += 1
    return total / pairs


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("diagonal", [True, False])
def test_gram_distance_against_loops(power: int, diagonal: bool) -> None:
    s, t = rows(4, 7, 3), rows(5, 7, 8)
    value, count = gram_distance(s, t, power, diagonal)
    assert value.item() == pytest.approx(loop_gram(s, t, power, diagonal), rel=1e-5)
    assert count == 7


def test_gram_distance_by_hand() -> None:
    """Student's two rows are parallel (cosine 1), the teacher's at right angles (0)."""
    s, t = torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    assert gram_distance(s, t)[0].item() == pytest.approx(1.0)
    assert gram_distance(s, t, diagonal=True)[0].item() == pytest.approx(0.5)


def test_class_affinity_sums_over_classes() -> None:
    s, t = rows(6, 9, 4), rows(7, 9, 4)
    label = torch.tensor([2, 2, 2, 3, 3, 4, 1, 1, 1])
    value, count = class_affinity(s, t, label, (2, 3, 4), 1, True)
    wanted = loop_gram(s[:3], t[:3], 1, True) + loop_gram(s[3:5], t[3:5], 1, True)
    assert value.item() == pytest.approx(wanted, rel=1e-5)
    assert count == 5


def groups() -> Groups:
    """Instances: 0 = rows 0-2 (class 2), 1 = rows 3-4 (class 2), 2 = row 5 (class 4); rows 6-8 stuff of class 9."""
    return Groups(
        rows=torch.arange(9),
        label=torch.tensor([2, 2, 2, 2, 2, 4, 9, 9, 9]),
        instance=torch.tensor([0, 0, 0, 1, 1, 2, -1, -1, -1]),
        instance_label=torch.tensor([2, 2, 4]),
    )


def plain_prototypes(x: Tensor) -> Tensor:
    f = unit_rows(x)
    unit = torch.nn.functional.normalize
    mu = [unit(f[:3].mean(0), dim=0), unit(f[3:5].mean(0), dim=0), unit(f[5], dim=0)]
    nu = [unit((mu[0] + mu[1]) / 2, dim=0), mu[2], unit(f[6:9].mean(0), dim=0)]
    return torch.stack(mu + nu)


@pytest.mark.parametrize("power", [1, 2])
def test_instance_affinity_against_plain(power: int) -> None:
    s, t = rows(8, 9, 4), rows(9, 9, 6)
    found = instance_affinity(s, t, groups(), power)
    within = (loop_gram(s[:3], t[:3], power, False) + loop_gram(s[3:5], t[3:5], power, False)) / 2
    assert found.within.item() == pytest.approx(within, rel=1e-5)
    m_s, m_t = plain_prototypes(s), plain_prototypes(t)
    assert found.between.item() == pytest.approx(loop_gram(m_s, m_t, power, False), rel=1e-5)
    row = (unit_rows(s) @ m_s.T - unit_rows(t) @ m_t.T).abs().pow(power).mean()
    assert found.row.item() == pytest.approx(row.item(), rel=1e-5)
    assert (found.rows_within, found.prototypes, found.rows) == (5, 6, 9)
    assert found.classes.tolist() == [2, 4, 9]
    assert torch.allclose(found.student_prototypes, m_s[3:], atol=1e-6)


def test_instance_affinity_is_zero_for_a_rotated_teacher() -> None:
    """Only angles count: a teacher whose space is turned and scaled agrees with the student."""
    s = rows(10, 9, 5)
    turn = torch.linalg.qr(rows(11, 5, 5))[0]
    found = instance_affinity(s, 7.0 * s @ turn, groups())
    for part in (found.within, found.between, found.row):
        assert part.item() == pytest.approx(0.0, abs=1e-6)


def test_no_rows_give_exact_zeros_with_gradients() -> None:
    s = rows(12, 4, 3).requires_grad_()
    empty = torch.zeros(0, dtype=torch.int64)
    none = instance_affinity(s[:0], s[:0], Groups(empty, empty, empty, empty))
    parts = [none.within, none.between, none.row]
    parts += [divergence(s, s, 2.0, torch.zeros(4))[0], released_divergence(s, s)[0], feature_distance(s[:0], s[:0])[0]]
    parts += [gram_distance(s[:1], s[:1])[0], class_affinity(s, s, torch.zeros(4), (2, 3))[0]]
    assert (none.rows_within, none.prototypes, none.rows) == (0, 0, 0)
    for part in parts:
        assert part.item() == 0.0
        (gradient,) = torch.autograd.grad(part, s, retain_graph=True)
        assert gradient.abs().sum().item() == 0.0


def test_the_teacher_never_gets_a_gradient() -> None:
    s, t = rows(13, 9, 4).requires_grad_(), rows(14, 9, 4).requires_grad_()
    found = instance_affinity(s, t, groups())
    total = found.within + found.between + found.row
    for loss in (divergence, released_divergence, feature_distance, released_feature_distance, gram_distance):
        total = total + loss(s, t)[0]
    total.backward()
    assert t.grad is None
    assert s.grad is not None
    assert torch.isfinite(s.grad).all()


def test_the_row_part_moves_rows_not_prototypes() -> None:
    s, t = rows(15, 9, 4).requires_grad_(), rows(16, 9, 4)
    banks = (unit_rows(rows(17, 2, 4)).requires_grad_(), unit_rows(rows(18, 2, 4)))
    found = instance_affinity(s, t, groups(), 2, banks)
    found.row.backward()
    assert banks[0].grad is None
    m_s = torch.cat([plain_prototypes(s.detach())[:3], banks[0].detach()])
    m_t = torch.cat([plain_prototypes(t)[:3], banks[1]])
    wanted = (unit_rows(s) @ m_s.T - unit_rows(t) @ m_t.T).square().mean()
    assert found.row.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_remember_copies_then_mixes() -> None:
    bank, filled = torch.zeros(5, 2), torch.zeros(5, dtype=torch.bool)
    remember(bank, filled, torch.tensor([2]), torch.tensor([[1.0, 0.0]]), 0.5)
    assert bank[1].tolist() == [1.0, 0.0]
    remember(bank, filled, torch.tensor([2, 5]), torch.tensor([[0.0, 1.0], [0.0, 1.0]]), 0.5)
    assert torch.allclose(bank[1], torch.full((2,), math.sqrt(0.5)))
    assert bank[4].tolist() == [0.0, 1.0]
    assert filled.tolist() == [False, True, False, False, True]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize("lowest", [0, -2])
def test_rank_within_is_a_count_of_the_rows_before(dtype: torch.dtype, lowest: int) -> None:
    generator = torch.Generator().manual_seed(0)
    group = torch.randint(0, 4, (60,), generator=generator)
    priority = torch.randint(lowest, 5, (60,), generator=generator).to(dtype) / (2 if dtype.is_floating_point else 1)
    priority = priority.to(dtype)
    if dtype.is_floating_point:
        priority[3], priority[7], priority[9] = torch.inf, -0.0, 0.0
    numbers = list(zip(group.tolist(), priority.tolist(), strict=True))
    expected = [
        sum(g == other and (q < p or (q == p and j < i)) for j, (other, q) in enumerate(numbers))
        for i, (g, p) in enumerate(numbers)
    ]
    assert rank_within(group, priority).tolist() == expected


def test_rank_within() -> None:
    rank = rank_within(torch.tensor([5, 3, 5, 5, 3]), torch.tensor([0.9, 0.5, 0.1, 0.5, 0.7]))
    assert rank.tolist() == [2, 0, 0, 1, 1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 400), st.integers(1, 30), st.integers(1, 200))
def test_sample_groups_keeps_its_caps(seed: int, count: int, per_instance: int, total: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 6, (count,), generator=generator)
    key = torch.where(label >= 3, label * 100 + torch.randint(0, 5, (count,), generator=generator), 0)
    key = torch.where(key % 100 == 4, 0, key)
    caps = Caps(per_class=40, per_instance=per_instance, instances=6, rows=total)
    sample = sample_groups(label, key, torch.rand(count, generator=generator), caps)
    assert len(sample) <= total
    assert len(sample.instance_label) <= 6
    assert torch.equal(sample.rows, torch.unique(sample.rows))
    assert torch.equal(label[sample.rows], sample.label)
    inside = sample.instance >= 0
    assert torch.equal(inside, key[sample.rows] > 0)
    assert torch.equal(sample.instance_label[sample.instance[inside]], sample.label[inside])
    if len(sample):
        assert torch.bincount(sample.label).max() <= 40
    sizes = torch.bincount(sample.instance[inside], minlength=len(sample.instance_label))
    assert (sizes <= per_instance).all()
    assert (sizes > 0).all()
    for u in range(len(sizes)):
        assert len(torch.unique(key[sample.rows[sample.instance == u]])) == 1


def test_sample_groups_takes_everything_when_it_fits_and_is_stratified_when_not() -> None:
    label = torch.tensor([0] * 5 + [2] * 300 + [2] * 10 + [9] * 20)
    key = torch.tensor([0] * 5 + [7] * 300 + [8] * 10 + [0] * 20)
    priority = torch.rand(len(label), generator=torch.Generator().manual_seed(0))
    whole = sample_groups(label, key, priority, Caps(1000, 1000, 10, 1000))
    assert whole.rows.tolist() == list(range(5, 335))
    part = sample_groups(label, key, priority, Caps(per_class=24, per_instance=64, instances=10, rows=40))
    sizes = torch.bincount(part.instance[part.instance >= 0])
    assert sizes.tolist() == [10, 10]
    assert (part.label == 9).sum().item() == 20
