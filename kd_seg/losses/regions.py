"""Region alignment: pooling of rows by region, and distances between pooled student rows and their targets.

Pairs are (row, region) in COO form; every pooling is a segment reduction, so nothing of size regions x rows exists.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kd_seg.losses.zero import exact_zero

Pooling = Literal["mean", "max", "attention"]
Distance = Literal["l1", "smooth_l1", "cosine", "unit_l2", "kl"]


def unit(rows: Tensor) -> Tensor:
    """Rows [n, d] scaled to length 1 (a zero row stays zero)."""
    units: Tensor = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return units


def pool_mean(rows: Tensor, region: Tensor, count: int, weights: Tensor | None = None) -> Tensor:
    """(Weighted) mean of rows [P, d] by region [P]: [R, d]; empty regions are 0."""
    share = torch.ones(len(rows), device=rows.device) if weights is None else weights.float()
    total = torch.zeros(count, rows.shape[1], device=rows.device).index_add(0, region, rows.float() * share[:, None])
    mass = torch.zeros(count, device=rows.device).index_add(0, region, share)
    return total / mass.clamp_min(1e-12)[:, None]


def pool_max(rows: Tensor, region: Tensor, count: int) -> Tensor:
    """Maximum of rows [P, d] by region: [R, d]; features of any sign count, empty regions are 0."""
    pooled = torch.zeros(count, rows.shape[1], dtype=torch.float32, device=rows.device)
    return pooled.scatter_reduce(0, region[:, None].expand_as(rows), rows.float(), "amax", include_self=False)


def pool_attention(rows: Tensor, score: Tensor, region: Tensor, count: int) -> Tensor:
    """Mean of rows [P, d] weighted by the softmax, within each region, of scores [P]: [R, d]."""
    score = score.float()
    top = torch.zeros(count, device=rows.device).scatter_reduce(0, region, score.detach(), "amax", include_self=False)
    share = torch.exp(score - top[region])
    return pool_mean(rows, region, count, share)


def align(student: Tensor, target: Tensor, distance: Distance, temperature: float = 1.0) -> tuple[Tensor, int]:
    """Mean distance between rows [R, d] and targets [R, d] (detached here), and R.

    l1, smooth_l1: mean over rows and channels (PointMCD: l1). cosine: ``1 - <k^, q^>``. unit_l2: ``||k^ - q^||_2``, the
    norm and not its square (ScaLR). kl: ``KL(softmax(q/T) || softmax(k/T)) T^2``, a mean over rows alone (2DPASS).
    """
    if len(student) == 0:
        return exact_zero(student), 0
    k, q = student.float(), target.detach().float()
    if distance == "l1":
        value = (k - q).abs().mean()
    elif distance == "smooth_l1":
        value = F.smooth_l1_loss(k, q)
    elif distance == "cosine":
        value = (1.0 - (unit(k) * unit(q)).sum(dim=1)).mean()
    elif distance == "unit_l2":
        # A plain norm has no gradient where both agree exactly.
        value = ((unit(k) - unit(q)).square().sum(dim=1) + 1e-12).sqrt().mean()
    else:
        want = torch.log_softmax(q / temperature, dim=1)
        have = torch.log_softmax(k / temperature, dim=1)
        value = (want.exp() * (want - have)).sum(dim=1).mean() * temperature**2
    return value, len(student)
