"""``kd-seg bench convolution``: single sparse convolutions and whole forward passes on a scan's voxels, four ways."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kd_seg.benchmarks.plain import by, plain_spconv
from kd_seg.benchmarks.timing import BenchRow, Rival, compare
from kd_seg.core.errors import DataError
from kd_seg.networks import Batch, Encoding, build_network, collate, encode
from kd_seg.networks.work import multiply_adds
from kd_seg.sparse import SparseTensor, Submanifold, sparse_tensor
from kd_seg.sparse.fused import reusing_buffers
from kd_seg.voxels import CartesianGrid

WIDTHS = (16, 32, 64)
"""Channels in and out of the single layers."""


def rows(points: npt.NDArray[np.float32], voxel_size: float, repeats: int, size: str = "nano") -> list[BenchRow]:
    """Times on the CPU of 3x3x3 layers and of a U-Net's forward pass: ours, 0.1.0's, spconv as it is, and torch.

    Args:
        points: [N, 4]. voxel_size: metres. repeats: turns taken. size: of the U-Net.

    Kernel maps of single layers are made beforehand, those of forward passes in the time. All outputs are compared
    first, to 1e-4 of the largest value. Every row has its multiply-adds and the share of the peak of torch.mm of two
    512 x 512 matrices, measured here. Raises DataError for a cloud without voxels.
    """
    grid = CartesianGrid((voxel_size, voxel_size, voxel_size))
    encoding = Encoding(grid, ("xyz", "remission"))
    batch = collate([encode(np.ascontiguousarray(points[:, :4], dtype=np.float32), None, encoding)], grid)
    if len(batch.coordinates) == 0:
        raise DataError("The cloud has no point inside the grid; take another.")
    torch.manual_seed(0)
    found: list[BenchRow] = []
    for width in WIDTHS:
        found += _layer(batch, width, repeats)
    found += _network(batch, size, repeats)
    peak = gemm_peak()
    return [replace(row, peak_share=2e3 * (row.gmacs or 0.0) / row.ms / peak) for row in found]


def gemm_peak() -> float:
    """Thousands of millions of operations a second of torch.mm on two 512 x 512 matrices, best of 200."""
    a, b = torch.rand(512, 512), torch.rand(512, 512)
    best = float("inf")
    for _ in range(200):
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return 2e-9 * 512**3 / best


def _layer(batch: Batch, width: int, repeats: int) -> list[BenchRow]:
    layer = Submanifold(width, width, (3, 3, 3), "level")
    given = sparse_tensor(torch.randn(len(batch.coordinates), width), batch.coordinates, batch.spatial_shape, 1)
    plain = plain_spconv(nn.Sequential(layer))
    work = 1e-9 * layer.pairs(given) * width**2

    def run(module: Callable[[SparseTensor], SparseTensor]) -> Callable[[], Tensor]:
        def once() -> Tensor:
            with torch.inference_mode():
                return module(given).features

        return once

    timed = compare(_rivals(f"{width} -> {width}", run(layer), run(plain)), repeats)
    return [replace(row, gmacs=work) for row in timed]


def _network(batch: Batch, size: str, repeats: int) -> list[BenchRow]:
    network = build_network("unet", size, batch.features.shape[1], 19).eval()
    plain = plain_spconv(network)

    def run(module: Any) -> Callable[[], Tensor]:
        def once() -> Tensor:
            with torch.inference_mode(), reusing_buffers():
                logits: Tensor = module(batch).logits
                return logits

        return once

    timed = compare(_rivals(f"unet {size} forward", run(network), run(plain)), repeats)
    return [replace(row, gmacs=1e-9 * multiply_adds(network, batch)) for row in timed]


def _rivals(name: str, ours: Callable[[], Tensor], plain: Callable[[], Tensor]) -> list[Rival]:
    expected = by("torch", ours)()

    def check(found: Tensor) -> None:
        error = float((found - expected).abs().max() / expected.abs().max())
        assert error < 1e-4, f"{name}: outputs differ by {error:.2g} of the largest"

    return [
        Rival(f"{name}: kd_seg", by("numba", ours), check, ours=True),
        Rival(f"{name}: kd_seg 0.1.0, spconv's native algorithm on our maps", by("spconv", ours), check),
        Rival(f"{name}: spconv as it is", by("spconv", plain), check),
        Rival(f"{name}: torch gather-scatter", by("torch", ours), check),
    ]
