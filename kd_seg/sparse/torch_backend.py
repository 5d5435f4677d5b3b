"""Sparse convolutions with torch alone: a gather, a matrix product and a scatter per kernel cell.

Runs on any device in any precision, and is the reference that the other backends are tested against.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kd_seg.sparse.maps import KernelPairs, inverse_pairs, strided_pairs, submanifold_pairs
from kd_seg.sparse.tensor import SparseTensor, Wraps


def submanifold(x: SparseTensor, window: Any, weight: Tensor, wraps: Wraps) -> SparseTensor:
    """Submanifold convolution of x with weights [out, x, y, z, in]."""
    pairs = submanifold_pairs(x.sites, window.size, wraps)
    lists = _lists(x, pairs, ("torch", window.size, wraps), True)
    return x.replace_feature(_convolve(x.features, weight, lists, len(x.sites)))


def down(x: SparseTensor, window: Any, weight: Tensor, wraps: Wraps) -> SparseTensor:
    """Strided convolution."""
    pairs, coarse = strided_pairs(x.sites, window.size, window.stride, window.padding, window.key, wraps)
    lists = _lists(x, pairs, ("torch", "down", window.key), False)
    return SparseTensor(_convolve(x.features, weight, lists, len(coarse)), coarse)


def up(x: SparseTensor, window: Any, weight: Tensor, wraps: Wraps) -> SparseTensor:
    """Inverse of the strided convolution with the same key."""
    pairs, fine = inverse_pairs(x.sites, window.key)
    lists = [(put, taken) for taken, put in _lists(x, pairs, ("torch", "up", window.key), False)]
    return SparseTensor(_convolve(x.features, weight, lists, len(fine)), fine)


def _lists(x: SparseTensor, pairs: KernelPairs, key: Any, mirrored: bool) -> list[tuple[Tensor, Tensor]]:
    """(input rows, output rows) of each kernel cell on x's device."""
    if key not in x.sites.maps:
        rows, counts = pairs.by_cell(mirrored)
        device = x.features.device
        x.sites.maps[key] = [
            tuple(torch.from_numpy(side[cell, :count]).to(device).long() for side in rows)
            for cell, count in enumerate(counts.tolist())
        ]
    made: list[tuple[Tensor, Tensor]] = x.sites.maps[key]
    return made


def _convolve(features: Tensor, weight: Tensor, lists: list[tuple[Tensor, Tensor]], rows: int) -> Tensor:
    """Sum over cells of features[input rows] @ weight of the cell, at the output rows."""
    cells = weight.reshape(weight.shape[0], -1, weight.shape[-1])
    paths = weight[:0].sum() + features[:0].sum()  # gradients are zeros, not None, even without any pair
    out = features.new_zeros(rows, len(cells)) + paths
    for cell, (taken, put) in enumerate(lists):
        if len(taken):
            product = features.index_select(0, taken) @ cells[:, cell].T
            out = out.to(product.dtype).index_add(0, put, product)
    return out
