"""Losses and scores of knowledge units (PartDistill, Umam et al., CVPR 2024).

Pairs are (point row, unit) in COO form; a unit claims a set of student classes. O(pairs * C), no padding.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kd_seg.losses.zero import exact_zero

Measure = Literal["precision", "iou", "probability"]


def set_log_probability(log_probabilities: Tensor, claims: Tensor) -> Tensor:
    """``log sum_{c in S} a_c p_c`` of rows [P, C] under sets [P, C] (each with a member): [P].

    ``claims`` holds a_c, the likelihood of the claim given class c (0 outside the set), or a plain bool set.
    """
    return torch.logsumexp(log_probabilities + claims.to(log_probabilities.dtype).log(), dim=1)


def class_weights(unit_of_pair: Tensor, claims: Tensor) -> Tensor:
    """Weight [C] per student class from how often it is claimed: ``clip(1 + log_4(sum m / (m_c C)), 1, 4)``.

    Args:
        unit_of_pair: [P], unit of each covered pair. claims: [U, C] bool, student classes each unit may mean.

    ``m_c`` counts the pairs whose unit may mean c; a class that no pair claims gets 4, and so do all without any pair.
    Constants of the released code (ardianumam/PartDistill).
    """
    sizes = torch.bincount(unit_of_pair, minlength=len(claims)).to(torch.float32)
    counts = sizes @ claims.to(torch.float32)
    share = counts.sum() / (counts * claims.shape[1])
    weights = (1.0 + torch.log(share) / torch.log(torch.tensor(4.0, device=share.device))).clamp(1.0, 4.0)
    return torch.where(counts > 0, weights, torch.full_like(weights, 4.0))


def root_weights(points: Tensor, usual: Tensor, columns: int) -> Tensor:
    """Weight [C2] per teacher class ``clip(sqrt(mean m / m_c), 1/4, 4)``, from claims of a whole data set.

    Not part of PartDistill.

    Args:
        points: [C2], points that units of each teacher class claim. usual: [C2], the student class c that it usually
            means, -1 for none. columns: C. Teacher classes of one student class share its count m_c.

    In a picture of a street some classes are seen a hundred times as often as others; the released constants, made for
    parts of alike sizes, end at a factor of 4 over all, and a student that trains shortly never predicts the rare ones.
    """
    known = usual >= 0
    counts = torch.zeros(columns, device=points.device).index_add(0, usual[known], points[known].float())
    mean = counts.sum() / (counts > 0).sum().clamp_min(1)
    weights = (mean / counts.clamp_min(1.0)).sqrt().clamp(0.25, 4.0)
    return torch.where(known, weights[usual.clamp_min(0)], torch.ones_like(mean))


def forward_distillation(
    logits: Tensor,
    row_of_pair: Tensor,
    unit_of_pair: Tensor,
    claims: Tensor,
    weights: Tensor,
    distribution: tuple[Tensor, Tensor] | None = None,
    average_over: int | None = None,
) -> tuple[Tensor, int]:
    """``1/|cover| sum_{i in cover} 1/n_i sum_{u: i in u} weight_u CE(z_i, Y_u)`` and ``|cover|``.

    Forward distillation of Umam et al., CVPR 2024, averaged over the covered points instead of all.

    Args:
        logits: [N, C] per row (point or voxel).
        row_of_pair, unit_of_pair: [P] each. Pairs of units with weight 0 do not exist.
        claims: [U, C]; the cross-entropy against a set is ``-log sum_{c in S} a_c p_c`` (a bool set has a_c = 1). With
            a_c = 1 throughout no member is preferred, and a student settles on whichever it leans to first.
        weights: [U] >= 0, C_u w_u (and s_u).
        distribution: ([U, C2], [C2, C]) replaces the class by the teacher's label distribution; teacher classes
            that mean no student class leave the sum, the rest is normalised.
        average_over: divide by this instead of ``|cover|`` (the released code: all points, covered or not).
    """
    alive = weights[unit_of_pair] > 0
    rows, units = row_of_pair[alive], unit_of_pair[alive]
    if len(rows) == 0:
        return exact_zero(logits), 0
    log_probabilities = torch.log_softmax(logits.float(), dim=1)[rows]
    if distribution is None:
        surprise = -set_log_probability(log_probabilities, claims[units])
    else:
        surprise = _distribution_surprise(log_probabilities, units, *distribution)
    covered, of_pair, holders = torch.unique(rows, return_inverse=True, return_counts=True)
    per_pair = weights[units] * surprise / holders[of_pair]
    return per_pair.sum() / (average_over or len(covered)), len(covered)


def heaviest_claim(row_of_pair: Tensor, unit_of_pair: Tensor, strength: Tensor, label: Tensor, rows: int) -> Tensor:
    """Train id [rows] that the strongest unit of each row claims; 0 where no unit has any strength.

    Args:
        row_of_pair, unit_of_pair: [P] each. strength: [U] >= 0. label: [U] train ids. Ties take the smallest.
    """
    force = strength[unit_of_pair]
    best = torch.zeros(rows, device=force.device).scatter_reduce(0, row_of_pair, force, "amax")
    wins = (force > 0) & (force == best[row_of_pair])
    none = torch.iinfo(torch.int64).max
    found = torch.full((rows,), none, device=force.device)
    found = found.scatter_reduce(0, row_of_pair[wins], label[unit_of_pair[wins]], "amin")
    return torch.where(found == none, torch.zeros_like(found), found)


def _distribution_surprise(log_probabilities: Tensor, units: Tensor, table: Tensor, sets: Tensor) -> Tensor:
    mapped = (sets > 0).any(dim=1)
    share = table.float()[:, mapped]
    share = share / share.sum(dim=1, keepdim=True).clamp_min(1e-6)
    surprise = torch.zeros(len(units), device=log_probabilities.device)
    for column, members in enumerate(sets[mapped]):
        log_set = torch.logsumexp(log_probabilities + members.to(log_probabilities.dtype).log(), dim=1)
        surprise = surprise - share[units, column] * log_set
    return surprise


def precision(predicted: Tensor, unit_of_pair: Tensor, claims: Tensor) -> Tensor:
    """Share of each unit's points whose predicted class it claims (released as "IoU"): [U], 0 for empty units.

    Args:
        predicted: [P] class of each pair's point. claims: [U, C] bool.
    """
    agrees = claims[unit_of_pair].gather(1, predicted[:, None]).squeeze(1)
    return _mean_by_unit(agrees.float(), unit_of_pair, len(claims))


def mean_probability(probabilities: Tensor, unit_of_pair: Tensor, claims: Tensor) -> Tensor:
    """Mean probability that the student gives to what a unit claims: [U], 0 for empty units.

    Args:
        probabilities: [P, C] of each pair's point.
    """
    return _mean_by_unit((probabilities * claims[unit_of_pair]).sum(dim=1), unit_of_pair, len(claims))


def overlap(predicted: Tensor, inside: Tensor, around_unit: Tensor, claims: Tensor, sizes: Tensor) -> Tensor:
    """True IoU ``|u and A| / |u or A|``, A = points around the unit whose predicted class it claims: [U].

    Args:
        predicted: [Q] class of each pair (point around a unit; its own points are among them).
        inside: [Q] bool, the point belongs to the unit. around_unit: [Q].
        sizes: [U], points of each unit.
    """
    agrees = claims[around_unit].gather(1, predicted[:, None]).squeeze(1)
    both = torch.bincount(around_unit[agrees & inside], minlength=len(claims)).float()
    only = torch.bincount(around_unit[agrees & ~inside], minlength=len(claims)).float()
    return both / (sizes.float() + only).clamp_min(1.0)


def _mean_by_unit(values: Tensor, unit_of_pair: Tensor, count: int) -> Tensor:
    total = torch.zeros(count, device=values.device).index_add(0, unit_of_pair, values)
    return total / torch.bincount(unit_of_pair, minlength=count).clamp_min(1)


def scale_scores(
    ratio: Tensor,
    likely: Tensor,
    teacher_class: Tensor,
    judged: Tensor,
    *,
    quantile: float,
    power: float,
    floor: float,
    drop_below: float,
    unknown_below: float = 0.0,
) -> Tensor:
    """Factor s_u of each unit from its agreement r_u.

    Backward distillation after Umam et al., CVPR 2024; what differs from it is in docs/image_teachers.md.

    ``max(floor, min(1, r_u / q_c))^power`` with ``q_c`` the quantile of r among the judged units of its teacher class,
    so that rare classes survive; units that were not judged keep 1; judged ones whose unfloored ratio is below
    ``drop_below`` get 0. A student that never predicts a class (``q_c <= unknown_below``) cannot agree with its units,
    but it can tell the likely from the unlikely: there the mean probability takes the place of the agreement. Left
    alone, wrong units of the classes that it knows least would be the only ones to count in full.

    Args:
        ratio: [U] agreement r_u. likely: [U] mean probability of what each unit claims. teacher_class: [U].
        judged: [U] bool.
    """
    scores = torch.ones_like(ratio)
    for column in torch.unique(teacher_class[judged]).tolist():
        mine = judged & (teacher_class == column)
        agreement = ratio[mine]
        scale = torch.quantile(agreement.double(), quantile).to(ratio.dtype)
        if scale <= unknown_below:
            agreement = likely[mine]
            scale = torch.quantile(agreement.double(), quantile).to(ratio.dtype)
        if scale <= 0:
            continue
        unfloored = agreement / scale
        factor = unfloored.clamp(floor, 1.0) ** power
        scores[mine] = torch.where(unfloored < drop_below, torch.zeros_like(factor), factor)
    return scores
