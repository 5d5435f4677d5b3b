"""``kd-seg bench maps``: kernel maps of a scan's voxels, ours and spconv's, and what ours are worth to a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.benchmarks.plain import by, plain_spconv
from kd_seg.benchmarks.timing import BenchRow, Rival, compare
from kd_seg.core.errors import DataError
from kd_seg.networks import Batch, Encoding, build_network, collate, encode
from kd_seg.sparse.backend import spconv
from kd_seg.sparse.kernel_maps import strided_map, submanifold_map
from kd_seg.voxels import CartesianGrid

Triple = tuple[int, int, int]

STRIDED: tuple[tuple[Triple, Triple, Triple], ...] = (
    ((2, 2, 2), (2, 2, 2), (0, 0, 0)),
    ((3, 3, 3), (2, 2, 2), (1, 1, 1)),
)
"""Kernel, stride and padding of the strided maps: unet's and cylinder's."""


def rows(
    points: npt.NDArray[np.float32], voxel_size: float, repeats: int, network: str = "unet", size: str = "small"
) -> list[BenchRow]:
    """Times on the CPU of submanifold and strided maps, and of a network's forward pass, with ours and spconv's maps.

    Args:
        points: [N, 4]. voxel_size: edge length in metres. repeats: turns taken.
        network, size: the network of the last two rows (fresh weights, eval mode).

    Every pair is compared before timing: the maps as sets of (cell, input, output), the logits to 1e-3. Raises
    DataError for a cloud without voxels.
    """
    grid = CartesianGrid((voxel_size, voxel_size, voxel_size))
    encoding = Encoding(grid, ("xyz", "remission"))
    batch = collate([encode(np.ascontiguousarray(points[:, :4], dtype=np.float32), None, encoding)], grid)
    if len(batch.coordinates) == 0:
        raise DataError("The cloud has no point inside the grid; take another.")
    found = compare(_submanifold(batch), repeats)
    for size3, stride, padding in STRIDED:
        found += compare(_strided(batch, size3, stride, padding), repeats)
    return found + compare(_networks(batch, network, size), repeats)


def _spconv_pairs(batch: Batch, size: Triple, stride: Triple, padding: Triple, submanifold: bool) -> Callable[[], Any]:
    module = spconv()
    shape, native, ones = list(batch.spatial_shape), module.ConvAlgo.Native, [1, 1, 1]
    window = (list(size), list(stride), list(padding))
    return lambda: module.ops.get_indice_pairs(
        batch.coordinates, 1, shape, native, *window, ones, [0, 0, 0], submanifold, False
    )


def _submanifold(batch: Batch) -> list[Rival]:
    coordinates, size = batch.coordinates.numpy(), (3, 3, 3)
    expected = _triples(*submanifold_map(coordinates, batch.spatial_shape, size))
    name = "submanifold 3x3x3 map"

    def check(found: Any) -> None:
        assert np.array_equal(_triples(found[-2], found[-1]), expected)

    return [
        Rival(f"kd_seg {name}", lambda: submanifold_map(coordinates, batch.spatial_shape, size), check, ours=True),
        Rival(f"spconv {name}", _spconv_pairs(batch, size, (1, 1, 1), (0, 0, 0), True), check),
    ]


def _strided(batch: Batch, size: Triple, stride: Triple, padding: Triple) -> list[Rival]:
    coordinates, shape = batch.coordinates.numpy(), batch.spatial_shape
    made, _, pairs, counts = strided_map(coordinates, shape, size, stride, padding)
    expected = _named(pairs, counts, made)
    name = f"strided {'x'.join(map(str, size))} map"

    def check(found: Any) -> None:
        assert np.array_equal(_named(found[-2], found[-1], np.asarray(found[0])), expected)

    def ours() -> Any:
        made, _, pairs, counts = strided_map(coordinates, shape, size, stride, padding)
        return made, pairs, counts

    return [
        Rival(f"kd_seg {name}", ours, check, ours=True),
        Rival(f"spconv {name}", _spconv_pairs(batch, size, stride, padding, False), check),
    ]


def _triples(pairs: Any, counts: Any) -> npt.NDArray[np.int64]:
    """(cell, input row, output row) of a map, sorted."""
    pairs, counts = np.asarray(pairs), np.asarray(counts)
    found = [np.column_stack([np.full(n, c), pairs[0, c, :n], pairs[1, c, :n]]) for c, n in enumerate(counts)]
    return _sorted(np.concatenate(found).astype(np.int64))


def _named(pairs: Any, counts: Any, made: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """The same with output rows named by their coordinates, whose order spconv leaves open."""
    order = np.lexsort(made.T[::-1])
    rank = np.empty(len(made), dtype=np.int64)
    rank[order] = np.arange(len(made))
    triples = _triples(pairs, counts)
    triples[:, 2] = rank[triples[:, 2]]
    return _sorted(triples)


def _sorted(triples: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    rows: npt.NDArray[np.int64] = triples[np.lexsort(triples.T[::-1])]
    return rows


def _networks(batch: Batch, name: str, size: str) -> list[Rival]:
    import torch

    torch.manual_seed(0)
    ours = build_network(name, size, batch.features.shape[1], 19).eval()
    theirs = plain_spconv(ours)

    def forward(network: Any) -> Callable[[], Any]:
        def run() -> Any:
            with torch.inference_mode():
                return network(batch).logits

        return run

    expected = forward(ours)()

    def check(found: Any) -> None:
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)

    return [
        Rival(f"{name} {size} forward, kd_seg maps", by("spconv", forward(ours)), check, ours=True),
        Rival(f"{name} {size} forward, spconv maps", by("spconv", forward(theirs)), check),
    ]
