"""The students as most repositories run them: np.unique voxels and spconv with its own kernel maps.

They share weights and architecture with ours, so that a benchmark's rivals give the same results.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kd_seg.networks import Encoded, Encoding
from kd_seg.scans import Points
from kd_seg.sparse import Down, SparseTensor, Submanifold, Up, using
from kd_seg.sparse.spconv_backend import with_spconv_maps
from kd_seg.sparse.tensor import FLAT, Wraps
from kd_seg.voxels import CartesianGrid, Voxels, point_features

T = TypeVar("T")


def plain_spconv(network: nn.Module) -> nn.Module:
    """A copy of a network whose convolutions are spconv's, with kernel maps made by spconv.

    On CUDA they take spconv's default algorithm there, implicit GEMM; a CPU has the native one alone. Run it under
    ``using("spconv")``, or a network in eval mode would run fused.
    """
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            kind = _KINDS.get(type(child))
            if kind is not None:
                setattr(parent, name, PlainConvolution(kind, child))
    return network


_KINDS: dict[type[nn.Module], str] = {Submanifold: "submanifold", Down: "down", Up: "up"}


class PlainConvolution(nn.Module):
    """One of our convolutions, computed by spconv alone."""

    def __init__(self, kind: str, layer: nn.Module) -> None:
        super().__init__()
        self.kind = kind
        self.convolution = layer

    def forward(self, x: SparseTensor, wraps: Wraps = FLAT) -> SparseTensor:
        """What the layer would give; axes do not wrap around."""
        layer: Any = self.convolution
        return with_spconv_maps(self.kind, x, layer.window, layer.convolution.weight)


def by(backend: str, run: Callable[[], T]) -> Callable[[], T]:
    """``run`` with the backend of sparse convolutions chosen."""

    def chosen() -> T:
        with using(backend):
            return run()

    return chosen


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
