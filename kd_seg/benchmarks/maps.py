"""``kd-seg bench maps``: kernel maps of a scan as the convolutions take them: streams, lists of pairs, and spconv's.

A stream is what the CPU's own kernels read. Lists of pairs are what 0.1.0 computed with, and what the spconv and torch
backends still take on the CPU. spconv's are those of its users.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kd_seg.benchmarks.timing import BenchRow, Rival, compare
from kd_seg.core.errors import DataError
from kd_seg.networks import Batch, Encoding, collate, encode
from kd_seg.sparse.backend import spconv
from kd_seg.sparse.kernel_maps import strided_map, submanifold_map
from kd_seg.sparse.stream import TILE, Stream
from kd_seg.sparse.streams import strided_streams, submanifold_stream
from kd_seg.sparse.tensor import FLAT, Sites, Triple
from kd_seg.voxels import CartesianGrid

Triples = npt.NDArray[np.int64]

CUBE: Triple = (3, 3, 3)
HALVINGS = 4
"""Of the U-Net, whose five levels are the last rows."""


@dataclass(frozen=True)
class Striding:
    """A strided convolution."""

    size: Triple
    stride: Triple
    padding: Triple


HALVE = Striding((2, 2, 2), (2, 2, 2), (0, 0, 0))
OVERLAP = Striding(CUBE, (2, 2, 2), (1, 1, 1))
"""The strided convolutions of unet and cylinder."""

Plan = tuple[Striding | None, ...]
"""Maps to make one after the other: a strided one, whose output the next has, or None for a submanifold 3x3x3 map."""


@dataclass(frozen=True)
class Made:
    """A map: a stream, or pairs [2, K, N] and counts [K]; and the coordinates [V, 4] and [U, 4] of both sides.

    Of the lists of a submanifold map the first half of the cells is used, as the other mirrors it.
    """

    stream: Stream | None
    pairs: Any
    counts: Any
    fine: Any
    coarse: Any
    submanifold: bool

    def named(self) -> Triples:
        """Sorted rows (cell, input voxel, output voxel), voxels as numbers that do not depend on the order of rows."""
        found = self._of_lists() if self.stream is None else self._of_stream(self.stream)
        if self.submanifold:
            found = found[found[:, 0] < 13]
        named = np.column_stack([found[:, 0], _codes(self.fine)[found[:, 1]], _codes(self.coarse)[found[:, 2]]])
        rows: Triples = named[np.lexsort(named.T[::-1])]
        return rows

    @staticmethod
    def _of_stream(stream: Stream) -> Triples:
        filled = stream.starts[-1]
        place = np.repeat(np.arange(len(stream.starts) - 1), np.diff(stream.starts))
        rout = stream.rout[:filled].astype(np.int64)
        found = np.column_stack([place % stream.cells, stream.rin[:filled], place // stream.cells * TILE + rout])
        real: Triples = found[rout < TILE]
        return real

    def _of_lists(self) -> Triples:
        pairs, counts = np.asarray(self.pairs), np.asarray(self.counts)
        each = [np.column_stack([np.full(n, c), pairs[0, c, :n], pairs[1, c, :n]]) for c, n in enumerate(counts)]
        pairs_of: Triples = np.concatenate(each).astype(np.int64)
        return pairs_of


def _codes(coordinates: Any) -> Triples:
    batch, x, y, z = np.asarray(coordinates).astype(np.int64).T
    codes: Triples = ((batch << 16 | x) << 16 | y) << 16 | z
    return codes


def rows(points: npt.NDArray[np.float32], voxel_size: float, repeats: int) -> list[BenchRow]:
    """Times on the CPU of a submanifold map, of strided ones (streams: both ways), and of all maps of a U-Net.

    Args:
        points: [N, 4]. voxel_size: edge length in metres. repeats: turns taken.

    Maps are compared before timing, as sets of (cell, input, output). Raises DataError for a cloud without voxels.
    """
    grid = CartesianGrid((voxel_size, voxel_size, voxel_size))
    encoding = Encoding(grid, ("xyz", "remission"))
    batch = collate([encode(np.ascontiguousarray(points[:, :4], dtype=np.float32), None, encoding)], grid)
    if len(batch.coordinates) == 0:
        raise DataError("The cloud has no point inside the grid; take another.")
    plans: dict[str, Plan] = {
        "submanifold 3x3x3": (None,),
        "strided 2x2x2": (HALVE,),
        "strided 3x3x3": (OVERLAP,),
        "all of a U-Net's five levels": (None, HALVE) * HALVINGS + (None,),
    }
    return [row for name, plan in plans.items() for row in compare(_rivals(name, batch, plan), repeats)]


def _rivals(name: str, batch: Batch, plan: Plan) -> list[Rival]:
    unit = 2**HALVINGS
    x, y, z = (-(-side // unit) * unit for side in batch.spatial_shape)
    shape = (x, y, z)
    expected = [made.named() for made in _lists(batch, shape, plan)]

    def check(found: list[Made]) -> None:
        assert len(found) == len(expected)
        for made, right in zip(found, expected, strict=True):
            assert np.array_equal(made.named(), right)

    def rival(what: str, make: Callable[[Batch, Triple, Plan], list[Made]], ours: bool = False) -> Rival:
        return Rival(f"{name}: {what}", lambda: make(batch, shape, plan), check, ours=ours)

    return [
        rival("kd_seg, streams", _streams, ours=True),
        rival("kd_seg 0.1.0, lists of pairs, also for torch", _lists),
        rival("spconv as it is", _spconv),
    ]


def _streams(batch: Batch, shape: Triple, plan: Plan) -> list[Made]:
    sites, made = Sites(batch.coordinates, shape, batch.batch_size), []
    for number, step in enumerate(plan):
        own = sites.coordinates
        if step is None:
            stream = submanifold_stream(sites, CUBE, FLAT)[0]
        else:
            found = strided_streams(sites, step.size, step.stride, step.padding, str(number), FLAT)
            stream, sites = found.down, found.coarse
        made.append(Made(stream, None, None, own, sites.coordinates, step is None))
    return made


def _lists(batch: Batch, shape: Triple, plan: Plan) -> list[Made]:
    rows, made = batch.coordinates.numpy(), []
    for step in plan:
        fine = rows
        if step is None:
            pairs, counts = submanifold_map(rows, shape, CUBE)
        else:
            rows, shape, pairs, counts = strided_map(rows, shape, step.size, step.stride, step.padding)
        made.append(Made(None, pairs, counts, fine, rows, step is None))
    return made


def _spconv(batch: Batch, shape: Triple, plan: Plan) -> list[Made]:
    module = spconv()
    rows, made, sides = batch.coordinates, [], list(shape)
    one, none = [1, 1, 1], [0, 0, 0]
    for step in plan:
        fine = rows
        window = (list(CUBE), one, none) if step is None else (list(step.size), list(step.stride), list(step.padding))
        native = module.ConvAlgo.Native
        found: tuple[torch.Tensor, Any, Any] = module.ops.get_indice_pairs(
            rows, batch.batch_size, sides, native, *window, one, none, step is None, False
        )
        if step is not None:
            rows, sides = found[0], _halved(sides, step)
        made.append(Made(None, found[-2], found[-1], fine, rows, step is None))
    return made


def _halved(sides: list[int], step: Striding) -> list[int]:
    given = zip(sides, step.size, step.stride, step.padding, strict=True)
    return [(n + 2 * p - k) // s + 1 for n, k, s, p in given]
