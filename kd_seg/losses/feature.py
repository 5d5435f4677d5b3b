"""Distillation of features at one level on corresponding rows. The teacher's side never gets a gradient."""

from __future__ import annotations

from torch import Tensor

from kd_seg.losses.zero import exact_zero, weighted_mean


def unit_rows(rows: Tensor) -> Tensor:
    """Rows [n, d] brought to length 1 in float32; rows shorter than 1e-6 are divided by 1e-6."""
    rows = rows.float()
    units: Tensor = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return units


def feature_distance(student: Tensor, teacher: Tensor, weights: Tensor | None = None) -> tuple[Tensor, int]:
    """Weighted mean over rows of ``|x_S^ - x_T^|^2`` on unit rows [n, d], and the rows' count.

    The feature term of Qiu et al., arXiv 2304.14800, on unit rows (docs/multi_to_single.md).

    Args:
        student: [n, d], already projected to the teacher's width where widths differ.
        teacher: [n, d], the same rows.
        weights: [n] not negative, or None.
    """
    rows = (unit_rows(student) - unit_rows(teacher.detach())).square().sum(dim=1)
    return weighted_mean(rows, weights)


def released_feature_distance(student: Tensor, teacher: Tensor, threshold: float = 1.0) -> tuple[Tensor, int]:
    """The feature loss of the released M2SKD code (whose weight is 0 there), and the count of rows it selects itself.

    Mean over channels of the squared difference, averaged over rows whose value is above the threshold.
    """
    rows = (student.float() - teacher.detach().float()).square().mean(dim=1)
    chosen = rows > threshold
    count = int(chosen.sum())
    return (rows[chosen].mean(), count) if count else (exact_zero(rows), 0)
