"""InfoNCE between pooled student rows and the 2D targets of the same regions (as SLidR, Sautier et al., CVPR 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from kd_seg.losses.regions import unit
from kd_seg.losses.zero import exact_zero


def info_nce(
    student: Tensor, target: Tensor, temperature: float = 0.07, alike: float | None = None
) -> tuple[Tensor, int]:
    """``-1/R sum_s log(exp(<k_s, q_s>/tau) / sum_j exp(<k_s, q_j>/tau))`` over all regions of a batch, and R.

    One direction, from points to pixels. Rows are used as given: normalise them before, as the preset asks.

    Args:
        student, target: k [R, d] and q [R, d]; gradients flow into both (a teacher's head may train).
        alike: leave out negatives whose targets are alike, cosine of q_s and q_j above this.
    """
    if len(student) == 0:
        return exact_zero(student, target), 0
    k, q = student.float(), target.float()
    logits = k @ q.T / temperature
    if alike is not None:
        direction = unit(q.detach())
        same = direction @ direction.T > alike
        same.fill_diagonal_(False)
        logits = logits.masked_fill(same, -torch.inf)
    return (torch.logsumexp(logits, dim=1) - logits.diagonal()).mean(), len(k)
