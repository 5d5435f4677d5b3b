"""Distillation of affinities: who resembles whom, by cosine, on few rows.

After Qiu et al., arXiv 2304.14800. Its released code compares classes on logits; ``form: instance`` compares
instances, as the paper describes (docs/multi_to_single.md). Rows are normalised once and multiplied; with the caps of
``groups.py`` no matrix exceeds 1,024 x 1,024. The teacher's side never gets a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kd_seg.losses.feature import unit_rows
from kd_seg.losses.groups import Groups
from kd_seg.losses.zero import exact_zero


def gram_distance(student: Tensor, teacher: Tensor, power: int = 1, diagonal: bool = False) -> tuple[Tensor, int]:
    """Mean over row pairs of ``|<s_i, s_j> - <t_i, t_j>|^power`` on unit rows, and the number of rows.

    Args:
        student, teacher: features [m, d_S] and [m, d_T] of the same rows; widths may differ.
        power: 1 (as released) or 2.
        diagonal: also pairs of a row with itself (as released; they are 0 and only lower the mean).
    """
    count = len(student)
    if count < 2:
        return exact_zero(student), 0
    s, t = unit_rows(student), unit_rows(teacher.detach())
    difference = _powered(s @ s.T - t @ t.T, power)
    if diagonal:
        return difference.mean(), count
    return (difference.sum() - difference.diagonal().sum()) / (count * (count - 1)), count


def class_affinity(
    student: Tensor, teacher: Tensor, label: Tensor, classes: tuple[int, ...], power: int = 1, diagonal: bool = False
) -> tuple[Tensor, int]:
    """``gram_distance`` over the rows of each class, summed over classes; the released "instance-aware" affinity.

    Args:
        student, teacher: [m, d], sampled rows.
        label: [m] train ids.
        classes: train ids to compare (the hard ones).
        power, diagonal: as in ``gram_distance``; released: 1, True, on logits.
    """
    value, count = exact_zero(student), 0
    for train in classes:
        rows = torch.nonzero(label == train).reshape(-1)
        term, used = gram_distance(student[rows], teacher[rows], power, diagonal)
        value, count = value + term, count + used
    return value, count


@dataclass(frozen=True)
class InstanceAffinity:
    """The three parts of the instance-aware affinity, each with its count (0 where the part is the exact zero).

    Attributes:
        within, between, row: scalar values.
        rows_within: rows of instances with at least two rows. prototypes: compared in "between". rows: in "row".
        classes: train ids [P] that have a prototype in this batch.
        student_prototypes, teacher_prototypes: class prototypes [P, d], detached, for a memory across batches.
    """

    within: Tensor
    between: Tensor
    row: Tensor
    rows_within: int
    prototypes: int
    rows: int
    classes: Tensor
    student_prototypes: Tensor
    teacher_prototypes: Tensor


def instance_affinity(
    student: Tensor, teacher: Tensor, groups: Groups, power: int = 1, banks: tuple[Tensor, Tensor] | None = None
) -> InstanceAffinity:
    """Affinity within instances, between instance and class prototypes, and from rows to prototypes.

    Args:
        student, teacher: features [m, d_S] and [m, d_T] of ``groups.rows``.
        groups: what each row belongs to.
        power: 1 or 2.
        banks: remembered class prototypes of student and teacher, [B, d_S] and [B, d_T], which then stand for the
            batch's class prototypes in the row part.
    """
    s, t = unit_rows(student), unit_rows(teacher.detach())
    within, rows_within = _within(s, t, groups, power)
    instance_s, instance_t = _instance_prototypes(s, groups), _instance_prototypes(t, groups)
    classes = torch.unique(groups.label)
    class_s = _class_prototypes(s, instance_s, groups, classes)
    class_t = _class_prototypes(t, instance_t, groups, classes)
    between, prototypes = gram_distance(torch.cat([instance_s, class_s]), torch.cat([instance_t, class_t]), power)
    far_s, far_t = (class_s, class_t) if banks is None else banks
    row, rows = _row_to_prototype(s, t, torch.cat([instance_s, far_s]), torch.cat([instance_t, far_t]), power)
    return InstanceAffinity(
        within, between, row, rows_within, prototypes, rows, classes, class_s.detach(), class_t.detach()
    )


def _powered(difference: Tensor, power: int) -> Tensor:
    return difference.abs() if power == 1 else difference.square()


def _within(s: Tensor, t: Tensor, groups: Groups, power: int) -> tuple[Tensor, int]:
    """Mean over instances of at least two rows of the pair loss within each, all instances in one batched product."""
    count = len(groups.instance_label)
    sizes = torch.bincount(groups.instance[groups.instance >= 0], minlength=count)
    used = torch.nonzero(sizes >= 2).reshape(-1)
    if len(used) == 0:
        return exact_zero(s), 0
    members, filled = _members(groups.instance, sizes, used)
    a, b = s[members] * filled[..., None], t[members] * filled[..., None]
    difference = _powered(a @ a.transpose(1, 2) - b @ b.transpose(1, 2), power)
    pairs = difference.sum(dim=(1, 2)) - difference.diagonal(dim1=1, dim2=2).sum(dim=1)
    n = sizes[used].to(pairs.dtype)
    return (pairs / (n * (n - 1))).mean(), int(sizes[used].sum())


def _members(instance: Tensor, sizes: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [U', P] of each used instance, filled up with row 0, and the mask of the true ones."""
    order = torch.argsort(instance, stable=True)
    start = torch.cumsum(sizes, 0) - sizes + int((instance < 0).sum())
    column = torch.arange(int(sizes[used].max()), device=instance.device)
    filled = column[None, :] < sizes[used][:, None]
    position = torch.where(filled, start[used][:, None] + column[None, :], 0)
    return torch.where(filled, order[position], 0), filled


def _instance_prototypes(rows: Tensor, groups: Groups) -> Tensor:
    """Unit mean [U, d] of the unit rows of each instance."""
    inside = groups.instance >= 0
    sums = rows.new_zeros(len(groups.instance_label), rows.shape[1])
    return unit_rows(sums.index_add(0, groups.instance[inside], rows[inside]))


def _class_prototypes(rows: Tensor, instances: Tensor, groups: Groups, classes: Tensor) -> Tensor:
    """Unit mean [P, d] per class: of its instances' prototypes where it has instances, else of its rows."""
    with_instances = torch.isin(groups.label, groups.instance_label)
    loose = torch.nonzero(~with_instances).reshape(-1)
    sums = rows.new_zeros(len(classes), rows.shape[1])
    sums = sums.index_add(0, torch.searchsorted(classes, groups.label[loose]), rows[loose])
    return unit_rows(sums.index_add(0, torch.searchsorted(classes, groups.instance_label), instances))


def _row_to_prototype(s: Tensor, t: Tensor, far_s: Tensor, far_t: Tensor, power: int) -> tuple[Tensor, int]:
    if len(s) == 0 or len(far_s) == 0:
        return exact_zero(s), 0
    return _powered(s @ far_s.detach().T - t @ far_t.T, power).mean(), len(s)


def remember(bank: Tensor, filled: Tensor, classes: Tensor, prototypes: Tensor, momentum: float = 0.99) -> None:
    """Update a bank of class prototypes [C, d] in place: ``nu <- m nu + (1 - m) nu(batch)``, then unit length.

    Args:
        bank, filled: prototypes and mask [C] by train id - 1; a class seen for the first time is copied.
        classes: [P] train ids of ``prototypes`` [P, d].
    """
    columns = classes - 1
    mixed = torch.where(filled[columns, None], momentum * bank[columns] + (1 - momentum) * prototypes, prototypes)
    bank[columns] = unit_rows(mixed)
    filled[columns] = True
