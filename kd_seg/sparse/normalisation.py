"""Batch norm, a shortcut and ReLU of rows in two passes each way: for training on the CPU.

torch takes a pass of its own for every part, and again for its gradient. Here the first pass sums the columns and the
second does all the rest. The kernels are serial, so the number of threads changes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kd_seg.sparse.choose import choose
from kd_seg.sparse.compiled import versioned_kernel
from kd_seg.sparse.vectors import flush_denormals, restore_denormals

Values = npt.NDArray[Any]
"""Float32, or float64 for a check of gradients; rows [N, C] are seen as one line of values."""
Sums = npt.NDArray[np.float64]

ROWS = 16
"""Rows that are handled together: a loop over some hundreds of values becomes long vector instructions, one over the
columns of a row does not. What belongs to a column is repeated for them."""
PIECE = 4096
"""Rows that are summed in their own precision before they join a sum in float64."""


def norm_relu(rows: Tensor, norm: nn.Module, added: Tensor | None = None) -> Tensor:
    """``relu(norm(rows) + added)`` of rows [N, C]; a single row in training passes the norm as it is.

    Running statistics are kept as ``torch.nn.BatchNorm1d`` keeps them. May overwrite ``rows``.
    """
    if _by_kernel(rows, norm):
        made: Tensor = _NormReLU.apply(rows, norm.weight, norm.bias, added, norm)
        return made
    rows = norm(rows) if len(rows) > 1 or not norm.training else rows
    return torch.relu_(rows) if added is None else torch.relu(rows + added)


def _by_kernel(rows: Tensor, norm: nn.Module) -> bool:
    if not norm.training or len(rows) < 2 or type(norm) is not nn.BatchNorm1d or norm.momentum is None:
        return False
    plain = norm.affine and norm.track_running_stats and rows.dtype == norm.weight.dtype == torch.float32
    return plain and rows.device.type == "cpu" and choose(rows.device) == "numba"


class _NormReLU(torch.autograd.Function):
    """Batch norm with the batch's statistics, then the sum with what is added (or None), then ReLU."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, added: Tensor | None, norm: Any) -> Tensor:
        rows = rows.detach().contiguous()
        out, values = torch.empty_like(rows), _line(rows)
        affine = (weight.detach().numpy(), bias.detach().numpy(), norm.eps)
        moments = _forward(values, affine, values[:0] if added is None else _line(added.detach()), _line(out))
        _move(norm.running_mean.numpy(), norm.running_var.numpy(), moments, len(rows), norm.momentum)
        norm.num_batches_tracked.add_(1)  # a new version of the norm, too: what is made from its statistics is stale
        ctx.save_for_backward(rows, weight, out)
        ctx.moments, ctx.eps, ctx.adds = moments, norm.eps, added is not None
        return out

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None, None]:
        rows, weight, out = ctx.saved_tensors
        dx = torch.empty_like(rows)
        d_added = torch.empty_like(rows) if ctx.adds else None
        values, other = _line(rows), _line(dx)[:0] if d_added is None else _line(d_added)
        d_weight, d_bias = torch.empty_like(weight), torch.empty_like(weight)
        affine = (weight.detach().numpy(), d_weight.numpy(), d_bias.numpy())
        _backward(values, _line(dy.detach()), _line(out), affine, ctx.moments, ctx.eps, _line(dx), other)
        return dx, d_weight, d_bias, d_added, None


def _line(rows: Tensor) -> Values:
    """Rows as one line of values."""
    values: Values = rows.contiguous().view(-1).numpy()
    return values


@versioned_kernel
def _repeated(column: Values, like: Values) -> Values:
    """What belongs to a column, for ROWS rows, in another precision."""
    width = len(column)
    made = np.empty(ROWS * width, like.dtype)
    for j in range(ROWS * width):
        made[j] = column[j % width]
    return made


@versioned_kernel
def _moments(rows: Values, width: int) -> Sums:
    """Mean and variance [2, C] of the columns; summed about the mean of the first rows, so that nothing cancels."""
    line, count = ROWS * width, len(rows) // width
    about = np.zeros(width)
    known = min(ROWS, count)
    for j in range(known * width):
        about[j % width] += rows[j] / known
    pivot = _repeated(about, rows)
    first, second = np.empty(line, rows.dtype), np.empty(line, rows.dtype)
    sums = np.zeros((2, width))
    for begin in range(0, len(rows), PIECE * width):
        first[:] = 0
        second[:] = 0
        end = min(len(rows), begin + PIECE * width)
        for start in range(begin, end, line):
            some = rows[start : min(start + line, end)]
            for j in range(len(some)):
                value = some[j] - pivot[j]
                first[j] += value
                second[j] += value * value
        for j in range(line):
            sums[0, j % width] += first[j]
            sums[1, j % width] += second[j]
    for c in range(width):
        mean = sums[0, c] / count
        sums[0, c] = mean + pivot[c]
        sums[1, c] = max(sums[1, c] / count - mean * mean, 0.0)
    return sums


@versioned_kernel
def _forward(rows: Values, affine: tuple[Values, Values, float], added: Values, out: Values) -> Sums:
    """out = relu(norm(rows) + added), ``added`` may be empty; returns the moments. NaN stays NaN."""
    state = flush_denormals()
    weight, bias, eps = affine
    width = len(weight)
    moments = _moments(rows, width)
    scale = weight / np.sqrt(moments[1] + eps)
    shift = _repeated(bias - moments[0] * scale, rows)
    scale = _repeated(scale, rows)
    zero, line = rows.dtype.type(0), ROWS * width
    for start in range(0, len(rows), line):
        stop = min(start + line, len(rows))
        some, to = rows[start:stop], out[start:stop]
        if len(added) > 0:
            more = added[start:stop]
            for j in range(len(some)):
                value = some[j] * scale[j] + shift[j] + more[j]
                to[j] = zero if value < zero else value
        else:
            for j in range(len(some)):
                value = some[j] * scale[j] + shift[j]
                to[j] = zero if value < zero else value
    restore_denormals(state)
    return moments


@versioned_kernel
def _move(mean: Values, variance: Values, moments: Sums, count: int, momentum: float) -> None:
    """Move running statistics towards those of a batch of so many rows."""
    for c in range(len(mean)):
        mean[c] += momentum * (moments[0, c] - mean[c])
        variance[c] += momentum * (moments[1, c] * count / (count - 1) - variance[c])


@versioned_kernel
def _projections(rows: Values, dy: Values, out: Values, mean: Sums) -> Sums:
    """Sums [2, C] of the gradient g behind the ReLU and of ``g * (rows - mean)``."""
    width = len(mean)
    zero, line = rows.dtype.type(0), ROWS * width
    centre = _repeated(mean, rows)
    first, second = np.empty(line, rows.dtype), np.empty(line, rows.dtype)
    sums = np.zeros((2, width))
    for begin in range(0, len(rows), PIECE * width):
        first[:] = 0
        second[:] = 0
        end = min(len(rows), begin + PIECE * width)
        for start in range(begin, end, line):
            stop = min(start + line, end)
            some, slope, kept = rows[start:stop], dy[start:stop], out[start:stop]
            for j in range(len(some)):
                g = zero if kept[j] <= zero else slope[j]
                first[j] += g
                second[j] += g * (some[j] - centre[j])
        for j in range(line):
            sums[0, j % width] += first[j]
            sums[1, j % width] += second[j]
    return sums


@versioned_kernel
def _backward(
    rows: Values, dy: Values, out: Values, affine: tuple[Values, Values, Values], moments: Sums, eps: float,
    dx: Values, d_added: Values,
) -> None:  # fmt: skip
    """Gradients of rows, weight, bias and, unless it is empty, of what was added."""
    state = flush_denormals()
    weight, d_weight, d_bias = affine
    width, count = len(weight), len(rows) // len(weight)
    spread = 1.0 / np.sqrt(moments[1] + eps)
    sums = _projections(rows, dy, out, moments[0])
    d_bias[:] = sums[0]
    d_weight[:] = sums[1] * spread
    slant = -weight * spread * spread * spread * sums[1] / count
    offset = _repeated(-weight * spread * sums[0] / count - moments[0] * slant, rows)
    scale, slant = _repeated(weight * spread, rows), _repeated(slant, rows)
    zero, line = rows.dtype.type(0), ROWS * width
    for start in range(0, len(rows), line):
        stop = min(start + line, len(rows))
        some, slope, kept, to = rows[start:stop], dy[start:stop], out[start:stop], dx[start:stop]
        for j in range(len(some)):
            g = zero if kept[j] <= zero else slope[j]
            to[j] = g * scale[j] + some[j] * slant[j] + offset[j]
        if len(d_added) > 0:
            more = d_added[start:stop]
            for j in range(len(some)):
                more[j] = zero if kept[j] <= zero else slope[j]
    restore_denormals(state)
