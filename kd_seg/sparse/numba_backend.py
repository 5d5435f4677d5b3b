"""Sparse convolutions by this package's kernels: float32 on the CPU, forward and backward.

The gradient of the input is a convolution too: of a submanifold map by the same stream with its cells mirrored, of a
strided one by the stream of its inverse. Results do not depend on the number of threads.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kd_seg.sparse.kernels import State, TileJob, convolve, weight_gradient
from kd_seg.sparse.packing import pack, pack_transposed
from kd_seg.sparse.stream import TILE, Stream, address
from kd_seg.sparse.streams import inverse_streams, strided_streams, submanifold_stream
from kd_seg.sparse.tensor import SparseTensor, Wraps
from kd_seg.sparse.threads import offer, share
from kd_seg.sparse.widths import LANES

Float32 = npt.NDArray[np.float32]
_LOCAL = threading.local()


@dataclass(frozen=True)
class Route:
    """A stream and the cell in it of each kernel cell, for the way forward and for the gradient of the input."""

    stream: Stream
    cells: npt.NDArray[np.int32]
    back: Stream
    back_cells: npt.NDArray[np.int32]


def submanifold(x: SparseTensor, window: Any, weight: Tensor, wraps: Wraps) -> SparseTensor:
    """Submanifold convolution of x with weights [out, x, y, z, in]."""
    stream, cells = submanifold_stream(x.sites, window.size, wraps)
    mirrored = (stream.cells - 1 - cells).astype(np.int32)
    return x.replace_feature(_Convolution.apply(x.features, weight, Route(stream, cells, stream, mirrored)))


def down(x: SparseTensor, window: Any, weight: Tensor, wraps: Wraps) -> SparseTensor:
    """Strided convolution."""
    made = strided_streams(x.sites, window.size, window.stride, window.padding, window.key, wraps)
    cells = np.arange(made.down.cells, dtype=np.int32)
    route = Route(made.down, cells, made.up, cells)
    return SparseTensor(_Convolution.apply(x.features, weight, route), made.coarse)


def up(x: SparseTensor, window: Any, weight: Tensor, wraps: Wraps) -> SparseTensor:
    """Inverse of the strided convolution with the same key."""
    made = inverse_streams(x.sites, window.key)
    cells = np.arange(made.down.cells, dtype=np.int32)
    route = Route(made.up, cells, made.down, cells)
    return SparseTensor(_Convolution.apply(x.features, weight, route), made.fine)


class _Convolution(torch.autograd.Function):
    """One convolution along a route."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, route: Route) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.route = route
        return _forward(features, _cells(weight), route.stream, route.cells)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        route = ctx.route
        dx = dw = None
        if ctx.needs_input_grad[0]:
            dx = _forward(dy, _cells(weight), route.back, route.back_cells, back=True)
        if ctx.needs_input_grad[1]:
            dw = _weight_gradient(features, dy, route).reshape(weight.shape)
        return dx, dw, None


def _cells(weight: Tensor) -> Float32:
    """Weights [out, x, y, z, in] as an array [out, cells, in]."""
    cells: Float32 = weight.detach().contiguous().reshape(weight.shape[0], -1, weight.shape[-1]).numpy()
    return cells


def _forward(
    features: Tensor, weight: Float32, stream: Stream, cells: npt.NDArray[np.int32], back: bool = False
) -> Tensor:
    """Features [rows in, in] through weights [out, cells, in] along a stream: [rows out, out].

    ``back``: gradients [rows in, out] through the same weights the other way, to [rows out, in].
    """
    features = features.detach().contiguous()
    width_in, width_out = weight.shape[::2] if back else weight.shape[::-2]
    out = torch.empty(stream.rows_out, width_out)
    if stream.rows_out == 0 or stream.rows_in == 0:
        return out.zero_()
    blocks = -(-width_out // LANES)
    packed = aligned((len(cells), width_in * blocks * LANES))
    (pack_transposed if back else pack)(weight, packed)
    zeros, ones, slope = constants(blocks)
    nothing, control = address(zeros), Control(stream.rows_out)
    job = np.array(
        [
            features.data_ptr(), 4 * width_in, width_in, address(packed), blocks, *stream.addresses, stream.cells,
            address(cells), len(cells), 0, 0, 0, 0, 0, nothing,
            stream.rows_out, width_out, out.data_ptr(), 4 * width_out, nothing, 0, nothing, 0,
            address(ones), nothing, address(slope), *control.addresses,
        ],
        np.int64,
    )  # fmt: skip
    work = float(stream.counts[cells].sum()) * width_in * width_out
    held = (features, packed, stream, cells, zeros, ones, slope, out)
    control.run(job, held, work)
    return out


class Control:
    """How far a job's tiles are, for the threads that work at it."""

    def __init__(self, rows_out: int) -> None:
        self.counter, self.states = np.zeros(1, np.int64), np.zeros(-(-rows_out // TILE), np.int64)
        self.addresses = address(self.counter), address(self.states)

    def run(self, job: npt.NDArray[np.int64], held: Any, multiply_adds: float) -> None:
        """Do a job, with helpers where it is worth it; ``held`` is all memory that the job names."""
        offer(partial(_work, job, (self, held)), self.states, State.WRITTEN, multiply_adds)


def _work(job: npt.NDArray[np.int64], held: Any, helper: bool) -> None:
    """Work at a job with this thread's scratch; whoever holds a call holds the job's memory."""
    convolve(job, address(scratch(int(job[TileJob.BLOCKS]))), helper)


def _weight_gradient(features: Tensor, dy: Tensor, route: Route) -> Tensor:
    """Gradient [out, cells, in] of the weights."""
    stream, cells = route.stream, route.cells
    features, dy = features.detach().contiguous(), dy.detach().contiguous()
    width_in, width_out = features.shape[1], dy.shape[1]
    if stream.rows_out == 0 or stream.rows_in == 0:
        return torch.zeros(width_out, len(cells), width_in)
    blocks = -(-width_out // LANES)
    tiles = -(-stream.rows_out // TILE)
    parts = min(4, -(-tiles // 8))
    sums = aligned((parts, len(cells), width_in, blocks * LANES))
    counter = np.zeros(1, np.int64)
    addresses = (*stream.addresses, stream.cells)

    def work() -> None:
        weight_gradient(
            features.data_ptr(), 4 * width_in, width_in, dy.numpy(), addresses, cells,
            aligned((TILE + 1, blocks * LANES)), sums, address(counter),
        )  # fmt: skip

    share(work, (), float(stream.counts[cells].sum()) * width_in * width_out if parts > 1 else 0.0)
    total = torch.from_numpy(sums[..., :width_out]).sum(dim=0)
    return total.permute(2, 0, 1)


def aligned(shape: tuple[int, ...]) -> Float32:
    """Zeros whose first value lies at a multiple of 64 bytes, as vectors do."""
    count = int(np.prod(shape))
    room = np.zeros(count + LANES, np.float32)
    start = -room.ctypes.data % 64 // 4
    made: Float32 = room[start : start + count].reshape(shape)
    return made


def constants(blocks: int) -> tuple[Float32, Float32, Float32]:
    """Zeros and ones for 16 ``blocks`` channels, and the slope 1 of no activation."""
    kept: tuple[Float32, Float32, Float32] | None = getattr(_LOCAL, "constants", None)
    if kept is None or len(kept[0]) < blocks * LANES:
        kept = (aligned((blocks * LANES,)), aligned((blocks * LANES,)), np.ones(1, np.float32))
        kept[1][:] = 1.0
        _LOCAL.constants = kept
    return kept


def scratch(blocks: int) -> Float32:
    """This thread's accumulators for a tile of 16 ``blocks`` channels."""
    kept: Float32 | None = getattr(_LOCAL, "scratch", None)
    if kept is None or kept.size < (TILE + 1) * blocks * LANES:
        kept = aligned(((TILE + 1) * blocks * LANES,))
        _LOCAL.scratch = kept
    return kept
