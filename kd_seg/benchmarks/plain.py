"""The students as most repositories run them: np.unique voxels, spconv's own kernel maps, or torch gather-scatter.

They share weights and architecture with ours, so that a benchmark's rivals give the same results.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kd_seg.networks import Encoded, Encoding
from kd_seg.scans import Points
from kd_seg.sparse import Down, SparseTensor, Submanifold, Up
from kd_seg.sparse.backend import spconv
from kd_seg.voxels import CartesianGrid, Voxels, point_features


def plain_spconv(network: nn.Module) -> nn.Module:
    """A copy of a network whose convolutions are spconv's modules as they are, with kernel maps made by spconv.

    On CUDA they take spconv's default algorithm there, implicit GEMM; a CPU has the native one alone.
    """
    cuda = next(network.parameters()).is_cuda
    algorithm = spconv().ConvAlgo.MaskImplicitGemm if cuda else spconv().ConvAlgo.Native

    def plain(layer: Any) -> nn.Module:
        layer.convolution.algo = algorithm
        convolution: nn.Module = layer.convolution
        return convolution

    return _replaced(network, plain)


def gather_scatter(network: nn.Module) -> nn.Module:
    """A copy whose convolutions are torch's index_select, mm and index_add over spconv's kernel maps."""

    def plain(layer: Any) -> nn.Module:
        layer.convolution.algo = spconv().ConvAlgo.Native
        return GatherScatter(layer.convolution)

    return _replaced(network, plain)


def _replaced(network: nn.Module, change: Callable[[Any], nn.Module]) -> nn.Module:
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, (Submanifold, Down, Up)):
                setattr(parent, name, change(child))
    return network


class GatherScatter(nn.Module):
    """One sparse convolution written with torch alone, given the kernel map.

    Args:
        convolution: the spconv module whose weight and geometry it takes.
    """

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: SparseTensor) -> SparseTensor:
        """What the spconv module would give."""
        layer: Any = self.convolution
        data = x.find_indice_pair(layer.indice_key)
        if data is None:
            data = self._make_map(x)
            x.indice_dict[layer.indice_key] = data
        indices = data.indices if layer.inverse else data.out_indices
        shape = data.spatial_shape if layer.inverse else data.out_spatial_shape
        out = spconv().SparseConvTensor(self._sum(x.features, data, len(indices)), indices, shape, x.batch_size)
        out.indice_dict = x.indice_dict
        return out

    def _sum(self, features: Tensor, data: Any, count: int) -> Tensor:
        layer: Any = self.convolution
        weight = layer.weight.reshape(layer.out_channels, -1, layer.in_channels)
        pairs, counts = data.indice_pairs.long(), data.indice_pair_num.tolist()
        source, target = (pairs[1], pairs[0]) if layer.inverse else (pairs[0], pairs[1])
        out = features.new_zeros(count, layer.out_channels)
        cells = weight.shape[1]
        centre = cells // 2 if layer.subm else -1
        for cell in range(cells):
            if cell == centre:
                out = out + features @ weight[:, cell].T
                continue
            # A submanifold map lists the first half of its cells; the second is the first with in and out swapped.
            mirrored = layer.subm and cell > centre
            listed = cells - 1 - cell if mirrored else cell
            rows = slice(0, counts[listed])
            taken, put = (target, source) if mirrored else (source, target)
            product = features.index_select(0, taken[listed, rows]) @ weight[:, cell].T
            out = out.index_add(0, put[listed, rows], product)
        return out

    def _make_map(self, x: SparseTensor) -> Any:
        layer: Any = self.convolution
        core = spconv()
        geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        out_indices, pairs, counts = core.ops.get_indice_pairs(
            x.indices, x.batch_size, x.spatial_shape, layer.algo, *geometry, layer.output_padding, layer.subm
        )
        shape = (
            x.spatial_shape
            if layer.subm
            else core.ops.get_conv_output_size(
                x.spatial_shape, layer.kernel_size, layer.stride, layer.padding, layer.dilation
            )
        )
        return core.core.IndiceData(
            out_indices, x.indices, pairs, counts, x.spatial_shape, shape, layer.subm, layer.algo,
            layer.kernel_size, layer.stride, layer.dilation, layer.padding,
        )  # fmt: skip


def plain_encode(points: Points, labels: npt.NDArray[np.uint8] | None, encoding: Encoding) -> Encoded:
    """Voxels by np.unique on packed cells, majority labels by np.unique on (voxel, label); cartesian grids."""
    grid = encoding.grid
    if not isinstance(grid, CartesianGrid):
        raise TypeError("the plain path has cartesian grids only")
    scale = 1.0 / np.array(grid.size)  # the product and the quotient differ at voxel borders: one formula everywhere
    cells = np.floor((points[:, :3].astype(np.float64) - grid.lower) * scale).astype(np.int64)
    inside = np.flatnonzero(((cells >= 0) & (cells < grid.cells)).all(axis=1))
    x, y, z = cells[inside].T
    keys = (x * grid.shape[1] + y) * grid.shape[2] + z
    found, inverse_inside, counts = np.unique(keys, return_inverse=True, return_counts=True)
    coordinates = np.stack([*np.divmod(found // grid.shape[2], grid.shape[1]), found % grid.shape[2]], axis=1)
    inverse = np.full(len(points), -1, dtype=np.int32)
    inverse[inside] = inverse_inside.reshape(-1)
    voxels = Voxels(coordinates.astype(np.int32), inverse, counts.astype(np.int32))
    voted = np.zeros(len(found), dtype=np.uint8)
    if labels is not None:
        judged = inside[labels[inside] > 0]
        pair, votes = np.unique(inverse[judged].astype(np.int64) * 256 + labels[judged], return_counts=True)
        order = np.lexsort((-pair, votes))
        voted[pair[order] // 256] = pair[order] % 256
    return Encoded(point_features(points, voxels, grid, encoding.features), voxels, voted)


def same(ours: Tensor, theirs: Tensor) -> None:
    """AssertionError unless two networks' logits agree to 1e-3 of their largest value."""
    assert ours.shape == theirs.shape, f"{list(theirs.shape)} logits, expected {list(ours.shape)}"
    error = float((ours - theirs).abs().max() / ours.abs().max().clamp_min(1e-9))
    assert error < 1e-3, f"logits differ by {error:.2g} of their largest value"
    assert torch.isfinite(theirs).all()
