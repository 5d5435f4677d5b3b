"""What a loss over no rows is, and the weighted mean that all distillation losses share."""

from __future__ import annotations

import torch
from torch import Tensor


def exact_zero(*tensors: Tensor) -> Tensor:
    """A scalar 0 with a gradient path to every tensor; exact even where they hold NaN or infinity (none is read)."""
    zero = torch.zeros((), dtype=torch.float32, device=tensors[0].device)
    for tensor in tensors:
        zero = zero + tensor.reshape(-1)[:0].sum(dtype=torch.float32)
    return zero


def weighted_mean(rows: Tensor, weights: Tensor | None) -> tuple[Tensor, int]:
    """``sum w_i r_i / sum w_i`` of row losses [n], and how many rows have a weight above 0.

    Without weights all rows count alike. No rows, or weights that are all 0, give the exact zero and count 0.
    """
    if weights is not None:
        chosen = weights > 0
        rows, weights = rows[chosen], weights[chosen].to(rows.dtype)
    if len(rows) == 0:
        return exact_zero(rows), 0
    if weights is None:
        return rows.mean(), len(rows)
    return torch.dot(rows, weights) / weights.sum(), len(rows)
