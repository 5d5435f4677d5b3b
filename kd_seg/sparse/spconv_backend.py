"""Sparse convolutions by spconv: its implicit GEMM on CUDA, its native algorithm on kernel maps of ours elsewhere.

Maps of ours serve the CPU, and any device where an axis of the grid wraps around, which spconv does not know.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from kd_seg.core.errors import UsageError
from kd_seg.sparse.backend import spconv
from kd_seg.sparse.maps import KernelPairs, inverse_pairs, strided_pairs, submanifold_pairs
from kd_seg.sparse.tensor import Sites, SparseTensor, Wraps


def submanifold(x: SparseTensor, window: Any, weight: Tensor, wraps: Wraps) -> SparseTensor:
    """Submanifold convolution of x with weights [out, x, y, z, in]."""
    if not _own_maps(x, wraps):
        return with_spconv_maps("submanifold", x, window, weight)
    if len(x.sites) == 0:
        return x.replace_feature(_nothing(x.features, weight))
    pairs = submanifold_pairs(x.sites, window.size, wraps)
    return x.replace_feature(_native("indice_subm_conv", x.features, weight, pairs, len(x.sites)))


def down(x: SparseTensor, window: Any, weight: Tensor, wraps: Wraps) -> SparseTensor:
    """Strided convolution."""
    if not _own_maps(x, wraps):
        return with_spconv_maps("down", x, window, weight)
    pairs, coarse = strided_pairs(x.sites, window.size, window.stride, window.padding, window.key, wraps)
    if len(coarse) == 0:
        return SparseTensor(_nothing(x.features, weight), coarse)
    return SparseTensor(_native("indice_conv", x.features, weight, pairs, len(coarse)), coarse)


def up(x: SparseTensor, window: Any, weight: Tensor, wraps: Wraps) -> SparseTensor:
    """Inverse of the strided convolution with the same key."""
    if not _own_maps(x, wraps):
        return with_spconv_maps("up", x, window, weight)
    pairs, fine = inverse_pairs(x.sites, window.key)
    if len(fine) == 0:
        return SparseTensor(_nothing(x.features, weight), fine)
    return SparseTensor(_native("indice_inverse_conv", x.features, weight, pairs, len(fine)), fine)


def _own_maps(x: SparseTensor, wraps: Wraps) -> bool:
    return x.features.device.type == "cpu" or any(wraps)


def _nothing(features: Tensor, weight: Tensor) -> Tensor:
    """No rows, with a gradient path to features and weights."""
    return features.new_zeros(0, len(weight)) + weight[:0].sum() + features[:0].sum()


def in_autocast(features: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Features and weights in the type that autocast asks for on their device.

    spconv casts them itself only where gradients are recorded; else half features meet float32 weights, for which it
    has no kernel, or all stays float32.
    """
    kind = features.device.type
    if not torch.is_autocast_enabled(kind):
        return features, weight
    dtype = torch.get_autocast_dtype(kind)
    return features.to(dtype), weight.to(dtype)


def _native(name: str, features: Tensor, weight: Tensor, pairs: KernelPairs, rows: int) -> Tensor:
    module = spconv()
    device = features.device
    features, weight = in_autocast(features, weight)
    made: Tensor = getattr(module.functional, name)(
        features,
        weight,
        torch.from_numpy(pairs.pairs).to(device),
        torch.from_numpy(pairs.counts).to(device),
        rows,
        module.ConvAlgo.Native,
    )
    return made


def with_spconv_maps(kind: str, x: SparseTensor, window: Any, weight: Tensor) -> SparseTensor:
    """The convolution ("submanifold", "down" or "up") by spconv's module, maps and algorithm for x's device."""
    core = spconv()
    cuda = x.features.device.type == "cuda"
    algorithm = core.ConvAlgo.MaskImplicitGemm if cuda else core.ConvAlgo.Native
    module = _module(kind, weight.shape[-1], weight.shape[0], window, algorithm)
    features, weight = in_autocast(x.features, weight)
    given = core.SparseConvTensor(features, x.indices, list(x.spatial_shape), x.batch_size)
    maps = x.sites.shared.setdefault("spconv", {})
    given.indice_dict = maps
    # Its forward would take the module's own weight, which threads that share the module could not set safely.
    made = module._conv_forward(torch.is_grad_enabled(), given, weight, None, name=module.name)
    maps.update(made.indice_dict)  # spconv writes into a copy
    if kind == "submanifold":
        return x.replace_feature(made.features)
    if kind == "up":
        fine = x.sites.maps.get(("spconv", "up", window.key))
        if fine is None:
            raise UsageError(f"An Up convolution has the key {window.key!r}, but no Down with that key made its input.")
        return SparseTensor(made.features, fine)
    side_x, side_y, side_z = (int(side) for side in made.spatial_shape)
    coarse = Sites(made.indices, (side_x, side_y, side_z), x.batch_size, shared=x.sites.shared)
    coarse.maps["spconv", "up", window.key] = x.sites
    return SparseTensor(made.features, coarse)


_KINDS = {"submanifold": "SubMConv3d", "down": "SparseConv3d", "up": "SparseInverseConv3d"}


@lru_cache(maxsize=512)
def _module(kind: str, width_in: int, width_out: int, window: Any, algorithm: Any) -> Any:
    geometry = {"indice_key": window.key, "bias": False, "algo": algorithm}
    if kind != "up":
        geometry |= {"stride": list(window.stride), "padding": list(window.padding)}
    return getattr(spconv(), _KINDS[kind])(width_in, width_out, list(window.size), **geometry)
