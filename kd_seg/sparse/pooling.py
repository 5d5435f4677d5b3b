"""Pooling of rows, in the order in which a scatter of torch would take them.

Constant rows on the CPU are pooled by a kernel, as torch's scatter takes six times as long.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kd_seg.core.kernels import kernel


def pool_rows(rows: Tensor, index: Tensor, count: int, reduce: str) -> Tensor:
    """Pool rows [N, d] into [count, d] by ``index`` [N] (-1 = left out); ``reduce`` is "mean" or "amax".

    Empty places are 0. (spconv's own pools start the maximum at 0 and have no mean on the CPU.)
    """
    if reduce == "mean" and rows.device.type == "cpu" and rows.dtype == torch.float32 and not rows.requires_grad:
        return torch.from_numpy(mean_rows(rows.numpy(), index.numpy(), count))
    inside = index >= 0
    if not bool(inside.all()):
        rows, index = rows[inside], index[inside]
    pooled = rows.new_zeros(count, rows.shape[1])
    target = index[:, None].expand(-1, rows.shape[1])
    return pooled.scatter_reduce(0, target, rows, reduce, include_self=False)


@kernel
def mean_rows(rows: npt.NDArray[np.float32], index: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float32]:
    """Mean [count, d] of rows [N, d] by ``index`` [N] (-1 = left out); 0 where nothing falls."""
    width = rows.shape[1]
    total = np.zeros((count, width), dtype=np.float32)
    number = np.zeros(count, dtype=np.int32)
    for i in range(len(index)):
        target = index[i]
        if target >= 0:
            number[target] += 1
            for column in range(width):
                total[target, column] += rows[i, column]
    for target in range(count):
        if number[target] > 1:
            for column in range(width):
                total[target, column] /= np.float32(number[target])
    return total
