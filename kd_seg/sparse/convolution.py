"""Sparse convolutions over voxels, without bias, one state_dict for every device.

A thin cover over spconv that keeps its users out of its traps (field T4-T14): the algorithm is chosen in one place,
biases live in the following norm, rows are counted, and pooling is plain torch. On the CPU, and on any device where an
axis of the grid wraps around, spconv's Native algorithm runs on kernel maps of ours.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from kd_seg.core.errors import DataError
from kd_seg.sparse.backend import spconv
from kd_seg.sparse.kernel_maps import FLAT, Rows, Wraps, strided_map, submanifold_map
from kd_seg.sparse.pooling import mean_rows

SparseTensor = Any
"""spconv's SparseConvTensor: features [V, d], indices [V, 4], spatial_shape, indice_dict."""

Triple = tuple[int, int, int]


def sparse_tensor(features: Tensor, coordinates: Tensor, spatial_shape: Triple, batch_size: int) -> SparseTensor:
    """A sparse tensor of features [V, d] at coordinates [V, 4]; coordinates must be unique and inside the shape.

    Raises DataError where the rows do not match, which spconv would answer with a crash.
    """
    if len(features) != len(coordinates):
        raise DataError(f"A sparse tensor has {len(features)} feature rows and {len(coordinates)} coordinates.")
    # Non-contiguous indices give wrong numbers without a word (field T9).
    indices = coordinates.int().contiguous()
    return spconv().SparseConvTensor(features, indices, list(spatial_shape), batch_size)


def _triple(values: Any) -> Triple:
    x, y, z = (int(value) for value in values)
    return x, y, z


def _map_data(
    convolution: Any, x: SparseTensor, out_indices: Tensor, out_shape: list[int], pairs: Rows, counts: Rows
) -> Any:
    """A kernel map as spconv keeps it."""
    return spconv().core.IndiceData(
        out_indices,
        x.indices,
        torch.from_numpy(pairs).to(x.indices.device),
        torch.from_numpy(counts).to(x.indices.device),
        x.spatial_shape,
        out_shape,
        is_subm=convolution.subm,
        algo=convolution.algo,
        ksize=convolution.kernel_size,
        stride=convolution.stride,
        dilation=convolution.dilation,
        padding=convolution.padding,
    )


def _initialise(convolution: Any, fan_in: int) -> None:
    nn.init.normal_(convolution.weight, std=math.sqrt(2.0 / fan_in))


def _own_maps(x: SparseTensor, wraps: Wraps) -> bool:
    """Whether kernel maps are made here: always on the CPU, and wherever an axis wraps, which spconv does not know."""
    return x.features.device.type == "cpu" or any(wraps)


def _prepared(convolution: Any, x: SparseTensor, wraps: Wraps) -> Any:
    """The spconv module with the algorithm that suits its input; it is no part of the state_dict."""
    algorithms = spconv().ConvAlgo
    algorithm = algorithms.Native if _own_maps(x, wraps) else algorithms.MaskImplicitGemm
    if convolution.algo != algorithm:
        convolution.algo = algorithm
    return convolution


class Submanifold(nn.Module):
    """Submanifold convolution: output voxels are the input's.

    Args:
        width_in, width_out: channels.
        kernel: odd cells per axis.
        key: convolutions of one level and kernel share their kernel map under this name.
    """

    def __init__(self, width_in: int, width_out: int, kernel: Triple, key: str) -> None:
        super().__init__()
        cells = math.prod(kernel)
        self.convolution = spconv().SubMConv3d(
            width_in, width_out, list(kernel), bias=False, indice_key=f"{key}_{'x'.join(map(str, kernel))}"
        )
        _initialise(self.convolution, width_in * cells)

    def forward(self, x: SparseTensor, wraps: Wraps = FLAT) -> SparseTensor:
        """Same voxels, ``width_out`` channels; a kernel map of ours is made once per key."""
        convolution = _prepared(self.convolution, x, wraps)
        if _own_maps(x, wraps) and len(x.indices) and x.find_indice_pair(convolution.indice_key) is None:
            size = _triple(convolution.kernel_size)
            pairs, counts = submanifold_map(x.indices.cpu().numpy(), _triple(x.spatial_shape), size, wraps)
            x.indice_dict[convolution.indice_key] = _map_data(convolution, x, x.indices, x.spatial_shape, pairs, counts)
        return convolution(x)


class Down(nn.Module):
    """Strided convolution: output voxels are all cells whose window holds an input voxel.

    Args:
        kernel, stride: per axis; kernel 2 stride 2 halves without overlap, kernel 3 stride 2 pads by 1.
        key: ``Up`` undoes the one with the same key.
    """

    def __init__(self, width_in: int, width_out: int, kernel: Triple, stride: Triple, key: str) -> None:
        super().__init__()
        self.stride = stride
        padding = [1 if k == 3 else 0 for k in kernel]
        self.convolution = spconv().SparseConv3d(
            width_in, width_out, list(kernel), list(stride), padding, bias=False, indice_key=key
        )
        _initialise(self.convolution, width_in * math.prod(kernel))

    def forward(self, x: SparseTensor, wraps: Wraps = FLAT) -> SparseTensor:
        """Coarser voxels, ``width_out`` channels; their rows are sorted where the kernel map is ours."""
        convolution = _prepared(self.convolution, x, wraps)
        if not _own_maps(x, wraps) or not len(x.indices):
            return convolution(x)
        coordinates, shape, pairs, counts = strided_map(
            x.indices.cpu().numpy(),
            _triple(x.spatial_shape),
            _triple(convolution.kernel_size),
            _triple(convolution.stride),
            _triple(convolution.padding),
            wraps,
        )
        indices = torch.from_numpy(coordinates).to(x.indices.device)
        data = _map_data(convolution, x, indices, list(shape), pairs, counts)
        features = spconv().functional.indice_conv(
            x.features, convolution.weight, data.indice_pairs, data.indice_pair_num, len(indices), convolution.algo
        )
        out = spconv().SparseConvTensor(features, indices, list(shape), x.batch_size)
        out.indice_dict = x.indice_dict
        out.indice_dict[convolution.indice_key] = data
        return out


class Up(nn.Module):
    """Inverse of the ``Down`` with the same key: output voxels are that one's input voxels."""

    def __init__(self, width_in: int, width_out: int, kernel: Triple, key: str) -> None:
        super().__init__()
        self.convolution = spconv().SparseInverseConv3d(width_in, width_out, list(kernel), indice_key=key, bias=False)
        _initialise(self.convolution, width_in * math.prod(kernel))

    def forward(self, x: SparseTensor, wraps: Wraps = FLAT) -> SparseTensor:
        """The finer voxels, ``width_out`` channels."""
        return _prepared(self.convolution, x, wraps)(x)


def pool_rows(rows: Tensor, index: Tensor, count: int, reduce: str) -> Tensor:
    """Pool rows [N, d] into [count, d] by ``index`` [N] (-1 = left out); ``reduce`` is "mean" or "amax".

    Empty places are 0. (spconv's own pools start the maximum at 0 and have no CPU mean: field T12.)
    """
    if reduce == "mean" and rows.device.type == "cpu" and not rows.requires_grad:
        return torch.from_numpy(mean_rows(rows.numpy(), index.numpy(), count))
    inside = index >= 0
    if not bool(inside.all()):
        rows, index = rows[inside], index[inside]
    pooled = rows.new_zeros(count, rows.shape[1])
    target = index[:, None].expand(-1, rows.shape[1])
    return pooled.scatter_reduce(0, target, rows, reduce, include_self=False)
