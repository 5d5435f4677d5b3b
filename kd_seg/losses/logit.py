"""Distillation of logits on corresponding rows. The teacher's side never gets a gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from kd_seg.losses.zero import exact_zero, weighted_mean


def divergence(
    student: Tensor, teacher: Tensor, temperature: float = 2.0, weights: Tensor | None = None
) -> tuple[Tensor, int]:
    """``T^2 * sum_i w_i KL(p_T,i || p_S,i) / sum_i w_i`` with p = softmax(z / T), and the rows' count.

    Hinton et al., arXiv 1503.02531.

    Args:
        student, teacher: logits [n, C] of the same rows.
        temperature: T; T^2 keeps the scale of the gradient.
        weights: [n] not negative, or None for equal ones (then torch's ``batchmean``).
    """
    log_student = torch.log_softmax(student.float() / temperature, dim=1)
    log_teacher = torch.log_softmax(teacher.detach().float() / temperature, dim=1)
    rows = torch.linalg.vecdot(log_teacher.exp(), log_teacher - log_student)
    value, count = weighted_mean(rows, weights)
    return temperature**2 * value, count


def divergence_from(
    student: Tensor, probabilities: Tensor, temperature: float = 1.0, weights: Tensor | None = None
) -> tuple[Tensor, int]:
    """``divergence`` from a teacher of whom probabilities p are known, not logits: p_T is p^(1/T) / sum p^(1/T).

    Args:
        student: logits [n, C]. probabilities: [n, C], each row's sum 1 (or 0 where its weight is 0).
        temperature, weights: as for ``divergence``.
    """
    log_student = torch.log_softmax(student.float() / temperature, dim=1)
    log_teacher = torch.log_softmax(probabilities.detach().float().clamp_min(1e-8).log() / temperature, dim=1)
    rows = (log_teacher.exp() * (log_teacher - log_student)).sum(dim=1)
    value, count = weighted_mean(rows, weights)
    return temperature**2 * value, count


def jaccard_distance(student: Tensor, teacher: Tensor, label: Tensor) -> tuple[Tensor, int]:
    """Mean over classes of ``1 - sum_i min(p_S,ic, p_T,ic) / sum_i max(p_S,ic, p_T,ic)``, and the rows' count.

    Lovasz-softmax knows hard labels alone; this is a metric between two soft predictions that is 0 only where they
    agree, and the soft Jaccard loss where the teacher is certain (Wang et al., "Jaccard Metric Losses", arXiv
    2302.05666, its first form). Averaged over the classes that are present among the labels, as Lovasz-softmax is.

    Args:
        student, teacher: logits [n, C] of the same rows. label: [n] train ids 1..C, 0 for rows to leave out.
    """
    rows = label > 0
    count = int(rows.sum())
    if count == 0:
        return exact_zero(student), 0
    present = torch.unique(label[rows]).long() - 1
    ours = torch.softmax(student[rows].float(), dim=1)[:, present]
    theirs = torch.softmax(teacher[rows].detach().float(), dim=1)[:, present]
    shared = torch.minimum(ours, theirs).sum(dim=0)
    either = torch.maximum(ours, theirs).sum(dim=0)
    # Both may be certain that no row has a class of the labels, in float32 as far as 0.
    return (1.0 - shared / either.clamp_min(1e-12)).mean(), count


def corrected(teacher: Tensor, label: Tensor) -> Tensor:
    """The teacher's logits with those of its prediction and of the label swapped where it is wrong.

    What it knows of the other classes stays as it is (the "probability shift" of Wen et al., "Preparing Lessons",
    arXiv 1911.07471).

    Args:
        teacher: logits [n, C]. label: [n] train ids 1..C of the rows to correct, 0 for those to leave alone.
    """
    rows = torch.nonzero(label > 0).squeeze(1)
    if len(rows) == 0:
        return teacher
    truth, predicted = label[rows].long() - 1, teacher[rows].argmax(dim=1)
    corrected = teacher.clone()
    corrected[rows, truth], corrected[rows, predicted] = teacher[rows, predicted], teacher[rows, truth]
    return corrected


def released_divergence(
    student: Tensor, teacher: Tensor, sharpness: float = 0.3, threshold: float = 0.01
) -> tuple[Tensor, int]:
    """The logit loss of the released M2SKD code, and the count of rows it selects itself.

    ``r_i = mean_c p_T |log((p_T + 1e-6) / (p_S + 1e-6))|`` with p = softmax(sharpness * z), averaged over rows with
    r_i above the threshold. Not a divergence: the absolute value stands inside the sum, so its gradient does not
    vanish at the teacher. No row selected gives the exact zero (released: NaN, patched to 0).
    """
    p_student = torch.softmax(student.float() * sharpness, dim=1)
    p_teacher = torch.softmax(teacher.detach().float() * sharpness, dim=1)
    ratio = torch.log((p_teacher + 1e-6) / (p_student + 1e-6)).abs()
    rows = (p_teacher * ratio).mean(dim=1)
    chosen = rows > threshold
    count = int(chosen.sum())
    return (rows[chosen].mean(), count) if count else (exact_zero(rows), 0)
