"""Sparse convolutions over voxels, without bias: one state_dict, whatever computes them.

Weights are [channels out, kernel cells, channels in], spconv's KRSC layout, under ``convolution.weight``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor, nn

from kd_seg.sparse import numba_backend, spconv_backend, torch_backend
from kd_seg.sparse.choose import choose
from kd_seg.sparse.streams import inverse_streams, strided_streams, submanifold_stream
from kd_seg.sparse.tensor import FLAT, SparseTensor, Triple, Wraps

_COMPUTE: dict[str, ModuleType] = {"numba": numba_backend, "spconv": spconv_backend, "torch": torch_backend}


@dataclass(frozen=True)
class Window:
    """Cells per axis of a kernel, its stride and padding, and the name under which its map is kept."""

    size: Triple
    stride: Triple
    padding: Triple
    key: str


class Weights(nn.Module):
    """The weights [out, x, y, z, in] of one convolution."""

    def __init__(self, width_in: int, width_out: int, kernel: Triple) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width_out, *kernel, width_in))
        nn.init.normal_(self.weight, std=math.sqrt(2.0 / (width_in * math.prod(kernel))))


def _compute(x: SparseTensor, weight: Tensor) -> ModuleType:
    # Without a row of features their type says little; the weights decide.
    return _COMPUTE[choose(x.features.device, weight.dtype)]


class Submanifold(nn.Module):
    """Submanifold convolution (Graham et al., CVPR 2018): output voxels are the input's.

    Args:
        width_in, width_out: channels.
        kernel: odd cells per axis.
        key: name of the level; kept in front of the kernel map's name where spconv makes it.
    """

    def __init__(self, width_in: int, width_out: int, kernel: Triple, key: str) -> None:
        super().__init__()
        self.window = Window(kernel, (1, 1, 1), (0, 0, 0), f"{key}_{'x'.join(map(str, kernel))}")
        self.convolution = Weights(width_in, width_out, kernel)

    def forward(self, x: SparseTensor, wraps: Wraps = FLAT) -> SparseTensor:
        """Same voxels, ``width_out`` channels; a kernel map is made once per level and kernel."""
        weight = self.convolution.weight
        made: SparseTensor = _compute(x, weight).submanifold(x, self.window, weight, wraps)
        return made

    def pairs(self, x: SparseTensor, wraps: Wraps = FLAT) -> int:
        """Pairs of input and output voxels; each costs ``width_in * width_out`` multiply-adds."""
        stream, cells = submanifold_stream(x.sites, self.window.size, wraps)
        return int(stream.counts[cells].sum())


class Down(nn.Module):
    """Strided convolution: output voxels are all cells whose window holds an input voxel.

    Args:
        kernel, stride: per axis; kernel 2 stride 2 halves without overlap, kernel 3 stride 2 pads by 1.
        key: ``Up`` undoes the one with the same key.
    """

    def __init__(self, width_in: int, width_out: int, kernel: Triple, stride: Triple, key: str) -> None:
        super().__init__()
        x, y, z = (1 if side == 3 else 0 for side in kernel)
        self.window = Window(kernel, stride, (x, y, z), key)
        self.convolution = Weights(width_in, width_out, kernel)

    def forward(self, x: SparseTensor, wraps: Wraps = FLAT) -> SparseTensor:
        """Coarser voxels, ``width_out`` channels; their rows are sorted where the kernel map is ours."""
        weight = self.convolution.weight
        made: SparseTensor = _compute(x, weight).down(x, self.window, weight, wraps)
        return made

    def pairs(self, x: SparseTensor, wraps: Wraps = FLAT) -> int:
        """Pairs of input and output voxels."""
        window = self.window
        made = strided_streams(x.sites, window.size, window.stride, window.padding, window.key, wraps)
        return int(made.down.counts.sum())


class Up(nn.Module):
    """Inverse of the ``Down`` with the same key: output voxels are that one's input voxels."""

    def __init__(self, width_in: int, width_out: int, kernel: Triple, key: str) -> None:
        super().__init__()
        self.window = Window(kernel, kernel, (0, 0, 0), key)
        self.convolution = Weights(width_in, width_out, kernel)

    def forward(self, x: SparseTensor, wraps: Wraps = FLAT) -> SparseTensor:
        """The finer voxels, ``width_out`` channels."""
        weight = self.convolution.weight
        made: SparseTensor = _compute(x, weight).up(x, self.window, weight, wraps)
        return made

    def pairs(self, x: SparseTensor, wraps: Wraps = FLAT) -> int:
        """Pairs of input and output voxels, after a forward pass of the numba backend."""
        return int(inverse_streams(x.sites, self.window.key).up.counts.sum())
