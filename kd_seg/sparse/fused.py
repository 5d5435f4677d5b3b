"""Convolutions for inference on the CPU: what follows a convolution happens while its rows are in registers.

Batch norm is folded into weights and bias; activation, residual, a 1x1 shortcut and a scale behind the activation are
part of the convolution; input and output may be columns of wider buffers, so a concatenation is never copied.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kd_seg.sparse.choose import choose
from kd_seg.sparse.numba_backend import Control, aligned
from kd_seg.sparse.packing import pack
from kd_seg.sparse.stream import Stream, address
from kd_seg.sparse.widths import LANES

Float32 = npt.NDArray[np.float32]


def fusible(network: nn.Module, features: Tensor) -> bool:
    """Whether a network may run fused on these features: inference, float32, on the CPU's own kernels."""
    if network.training or torch.is_grad_enabled() or features.dtype != torch.float32:
        return False
    return features.device.type == "cpu" and choose(features.device) == "numba"


@dataclass(frozen=True)
class Affine:
    """``y = x * scale + shift`` per channel [C] float64; what a batch norm does in eval mode."""

    scale: Tensor
    shift: Tensor

    @classmethod
    def of(cls, norm: nn.Module) -> Affine:
        """A batch norm's running statistics, weight and bias as one affine map."""
        state = {name: tensor.double() for name, tensor in norm.state_dict().items()}
        scale = state["weight"] / torch.sqrt(state["running_var"] + norm.eps)
        return cls(scale, state["bias"] - state["running_mean"] * scale)


class FusedConvolution:
    """A convolution's weights, packed once, with what follows it.

    Args:
        weight: [out, ..., in] in KRSC layout, or [out, in] of a linear layer.
        norm: between convolution and activation; folded into the weights.
        bias: [out], added to the convolution.
        slope: of the activation below 0: 0 = ReLU, 1 = none.
        behind: applied to what is activated.
        shortcut: weights [out, in'] of a 1x1 convolution of a second input, added before the activation.
    """

    def __init__(
        self,
        weight: Tensor,
        norm: Affine | None = None,
        bias: Tensor | None = None,
        slope: float = 1.0,
        behind: Affine | None = None,
        shortcut: Tensor | None = None,
    ) -> None:
        cells = weight.detach().double().reshape(weight.shape[0], -1, weight.shape[-1])
        added = torch.zeros(len(cells), dtype=torch.float64) if bias is None else bias.detach().double()
        if norm is not None:
            cells = cells * norm.scale[:, None, None]
            added = added * norm.scale + norm.shift
        self.width_out, self.cells, self.width_in = cells.shape
        self.blocks = -(-self.width_out // LANES)
        self.weights = self._packed(cells)
        self.bias = self._channels(added, 0.0)
        self.scale = self._channels(behind.scale if behind else None, 1.0)
        self.shift = self._channels(behind.shift if behind else None, 0.0)
        self.slope = np.full(1, slope, np.float32)
        self.zeros = self._channels(None, 0.0)
        self.width_shortcut = 0 if shortcut is None else shortcut.shape[-1]
        self.shortcut = None if shortcut is None else self._packed(shortcut.detach().double()[:, None])
        held = (self.weights, self.bias, self.scale, self.shift, self.slope, self.zeros)
        self.addresses = (*(address(a) for a in held), 0 if self.shortcut is None else address(self.shortcut))

    def _packed(self, cells: Tensor) -> Float32:
        packed = aligned((cells.shape[1], cells.shape[2] * self.blocks * LANES))
        pack(np.ascontiguousarray(cells.float().numpy()), packed)
        return packed

    def _channels(self, values: Tensor | None, otherwise: float) -> Float32:
        made = aligned((self.blocks * LANES,))
        made[:] = otherwise
        if values is not None:
            made[: self.width_out] = values.float().numpy()
        return made

    def __call__(
        self,
        x: Tensor,
        out: Tensor,
        stream: Stream,
        cells: npt.NDArray[np.int32],
        before: Tensor | None = None,
        after: Tensor | None = None,
        shortcut: Tensor | None = None,
    ) -> Tensor:
        """Convolve x [rows in, in] into out [rows out, out]; both may be columns of wider tensors.

        Args:
            stream, cells: the kernel map, and which of its cells those of the weights are.
            before, after: [rows out, out], added before and behind the activation.
            shortcut: [rows out, in'], input of the shortcut's weights.
        """
        weights, bias, scale, shift, slope, zeros, sc_weights = self.addresses
        before_address, before_stride = (zeros, 0) if before is None else _rows(before)
        after_address, after_stride = (zeros, 0) if after is None else _rows(after)
        sc_address, sc_stride = (0, 0) if shortcut is None else _rows(shortcut)
        control = Control(stream.rows_out)
        job = np.array(
            [
                *_rows(x), self.width_in, weights, self.blocks, *stream.addresses, stream.cells,
                address(cells), len(cells),
                sc_address, sc_stride, self.width_shortcut, sc_weights, stream.cells // 2, bias,
                stream.rows_out, self.width_out, *_rows(out),
                before_address, before_stride, after_address, after_stride, scale, shift, slope, *control.addresses,
            ],
            np.int64,
        )  # fmt: skip
        work = float(stream.counts[cells].sum()) * self.width_in * self.width_out
        control.run(job, (self, x, out, stream, cells, before, after, shortcut), work)
        return out


def _rows(rows: Tensor) -> tuple[int, int]:
    """Address of a matrix and bytes from row to row."""
    return rows.data_ptr(), 4 * rows.stride(0)


# ---------------------------------------------------------------- buffers

_REUSE: ContextVar[bool] = ContextVar("reuse", default=False)


@contextmanager
def reusing_buffers() -> Iterator[None]:
    """Within it fused networks write into buffers of their own, valid until the thread's next forward pass.

    For callers that are done with logits and levels by then: memory stays flat, and no fresh page is touched.
    """
    token = _REUSE.set(True)
    try:
        yield
    finally:
        _REUSE.reset(token)


class Buffers:
    """Named matrices [rows, width]: fresh ones, or this thread's own, which grow and are kept."""

    def __init__(self) -> None:
        self._local = threading.local()

    def __call__(self, name: str, rows: int, width: int) -> Tensor:
        """A matrix that holds anything; under ``reusing_buffers`` the one of that name."""
        if not _REUSE.get():
            return torch.empty(rows, width)
        kept: dict[str, Tensor] = self._local.__dict__
        room = kept.get(name)
        if room is None or room.numel() < rows * width:
            room = torch.empty(rows * width + rows * width // 8)
            kept[name] = room
        return room[: rows * width].view(rows, width)


# ---------------------------------------------------------------- networks


def _tensors(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers; ``Module.parameters`` would take a tenth of a small network's time."""
    found = [tensor for tensor in (*module._parameters.values(), *module._buffers.values()) if tensor is not None]
    for child in module._modules.values():
        if child is not None:
            found += _tensors(child)
    return found


class FusedCache:
    """A network's fused form, made again when a weight has changed."""

    def __init__(self) -> None:
        self._made: tuple[Any, Any] | None = None

    def get(self, network: nn.Module, make: Any) -> Any:
        """``make(network)``, kept while the network's tensors are those that it was made of."""
        key = tuple(
            (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in _tensors(network)
        )
        if self._made is None or self._made[0] != key:
            self._made = (key, make(network))
        return self._made[1]

    def __deepcopy__(self, memo: Any) -> FusedCache:
        return FusedCache()

    def __reduce__(self) -> Any:
        return (FusedCache, ())
