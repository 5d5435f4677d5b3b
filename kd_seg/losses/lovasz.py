"""The Lovasz extension of the Jaccard loss on the CPU: values and gradients of one class in a few passes.

torch sorts float32 rows by comparison, which takes most of a small student's loss. Errors lie between 0 and 1, and
their bits are in the order of their values, so a radix sort of bits and row numbers does it in a fifth of the time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kd_seg.core.kernels import kernel
from kd_seg.voxels.sorting import sort_digits

Rows = npt.NDArray[np.float32]

_BITS = 31
"""Of a float32 that is not negative."""


class LovaszSoftmax(torch.autograd.Function):
    """Mean over the present classes of the Lovasz extension, from probabilities [n, C] float32 and columns [n]."""

    @staticmethod
    def forward(ctx: Any, probabilities: Tensor, target: Tensor) -> Tensor:
        """The loss; its gradient is made on the way, as both need the same order of rows."""
        rows = probabilities.detach().contiguous().numpy()
        gradient = np.zeros_like(rows)
        present = torch.unique(target).tolist()
        columns = target.numpy()
        loss = np.mean([extension(rows, columns, column, 1.0 / len(present), gradient) for column in present])
        ctx.save_for_backward(torch.from_numpy(gradient))
        return probabilities.new_tensor(loss)

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None]:
        """The kept gradient, scaled."""
        (gradient,) = ctx.saved_tensors
        return gradient * scale, None


@kernel
def extension(probabilities: Rows, target: npt.NDArray[np.int64], column: int, share: float, gradient: Rows) -> float:
    """The Lovasz extension of one class; ``gradient`` [n, C] gets ``share`` times its gradient in that column.

    Berman et al. (CVPR 2018), algorithm 1: errors sorted downwards, times the increments of the Jaccard loss.
    """
    count = len(probabilities)
    packed = np.empty(count, dtype=np.uint64)
    spare = np.empty(count, dtype=np.uint64)
    errors = np.empty(count, dtype=np.float32)
    total = 0
    for i in range(count):
        p = probabilities[i, column]
        inside = target[i] == column
        total += int(inside)
        errors[i] = abs(np.float32(1.0) - p) if inside else abs(p)
    bits = errors.view(np.uint32)
    for i in range(count):
        packed[i] = np.uint64(bits[i]) << np.uint64(32) | np.uint64(i)
    packed, spare = sort_digits(packed, spare, 32, _BITS)
    loss, before = 0.0, 0.0
    intersection, union = float(total), float(total)
    for j in range(count - 1, -1, -1):
        row = int(packed[j] & np.uint64(0xFFFFFFFF))
        inside = target[row] == column
        if inside:
            intersection -= 1.0
        else:
            union += 1.0
        jaccard = 1.0 - intersection / union
        step = jaccard - before
        before = jaccard
        loss += float(errors[row]) * step
        gradient[row, column] += np.float32(share * (-step if inside else step))
    return loss
