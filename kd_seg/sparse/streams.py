"""The streams of sites, made once and kept with them; for the numba backend."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from kd_seg.core.errors import UsageError
from kd_seg.sparse.halving import halve
from kd_seg.sparse.kernel_maps import Rows, check_rows, check_wraps, strided_shape
from kd_seg.sparse.listing import lists_by_cell
from kd_seg.sparse.maps import rows_of, submanifold_pairs
from kd_seg.sparse.occupancy import is_sorted, submanifold_lists
from kd_seg.sparse.stream import SPARE, TILE, Stream, stream_of
from kd_seg.sparse.striding import stride_rows
from kd_seg.sparse.tensor import Sites, Triple, Wraps

CUBE: Triple = (3, 3, 3)
HALVE: Triple = (2, 2, 2)


@dataclass(frozen=True)
class Strided:
    """A strided convolution's streams, ``down`` from fine to coarse sites and ``up`` back."""

    down: Stream
    up: Stream
    fine: Sites
    coarse: Sites


def submanifold_stream(sites: Sites, size: Triple, wraps: Wraps) -> tuple[Stream, npt.NDArray[np.int32]]:
    """A stream of sites, and which of its cells those of a kernel of ``size`` are.

    Kernels of 1 or 3 cells per axis share the stream of 3x3x3 cells.
    """
    within = all(side in (1, 3) for side in size)
    key = ("stream", CUBE if within else size, wraps)
    if key not in sites.maps:
        sites.maps[key] = _made_submanifold(sites, key[1], wraps)
    stream: Stream = sites.maps[key]
    if not within:
        return stream, np.arange(stream.cells, dtype=np.int32)
    x, y, z = (np.arange(3) if side == 3 else np.array([1]) for side in size)
    return stream, np.ravel(9 * x[:, None, None] + 3 * y[:, None] + z).astype(np.int32)


def _made_submanifold(sites: Sites, size: Triple, wraps: Wraps) -> Stream:
    if size == CUBE:
        return cube_stream(rows_of(sites.coordinates), sites.shape, wraps)
    pairs, counts = submanifold_pairs(sites, size, wraps).by_cell(True)
    return stream_of(pairs, counts, len(sites), len(sites))


def cube_stream(coordinates: Rows, shape: Triple, wraps: Wraps) -> Stream:
    """The stream of a 3x3x3 submanifold map; DataError for coordinates that are not sorted and unique."""
    check_wraps(wraps)
    check_rows(is_sorted(coordinates, shape), shape)
    voxels = len(coordinates)
    room = 27 * voxels + 27 * 8 * -(-voxels // TILE) + SPARE
    rin, rout = np.empty(room, np.int32), np.empty(room, np.uint16)
    starts, counts = submanifold_lists(coordinates, shape[1], shape[2], wraps[1], rin, rout)
    filled = starts[-1] + SPARE
    return Stream(rin[:filled], rout[:filled], starts, 27, voxels, voxels, counts)


def _strided(fine: Sites, size: Triple, stride: Triple, padding: Triple, wraps: Wraps) -> Strided:
    """Streams both ways, and the coarse sites."""
    made = strided_shape(fine.shape, size, stride, padding, wraps)
    coordinates = rows_of(fine.coordinates)
    check_rows(is_sorted(coordinates, fine.shape), fine.shape)
    if size == stride == HALVE and padding == (0, 0, 0) and all(side % 2 == 0 for side in fine.shape):
        found, outputs, cells = halve(coordinates, fine.shape[1], fine.shape[2])
        inputs = np.arange(len(coordinates), dtype=np.int32)
    else:
        found, inputs, outputs, cells = stride_rows(coordinates, fine.shape, made, size, stride, padding, wraps[1])
    coarse = Sites(torch.from_numpy(found), made, fine.batch_size, shared=fine.shared)
    kinds = size[0] * size[1] * size[2]
    return Strided(
        _by_cell(inputs, outputs, cells, kinds, len(fine), len(coarse)),
        _by_cell(outputs, inputs, cells, kinds, len(coarse), len(fine)),
        fine,
        coarse,
    )


def _by_cell(inputs: Rows, outputs: Rows, cells: Rows, kinds: int, rows_in: int, rows_out: int) -> Stream:
    rin, rout, starts, counts = lists_by_cell(inputs, outputs, cells, kinds, rows_in, rows_out)
    return Stream(rin, rout, starts, kinds, rows_in, rows_out, counts)


def strided_streams(sites: Sites, size: Triple, stride: Triple, padding: Triple, key: str, wraps: Wraps) -> Strided:
    """Streams of a strided convolution; its output sites remember them under ``key`` for the way back."""
    name = ("stream", "down", key)
    kept: tuple[Stream, Stream, weakref.ref[Sites]] | None = sites.maps.get(name)
    coarse = kept[2]() if kept else None
    if kept and coarse is not None:
        return Strided(kept[0], kept[1], sites, coarse)
    made = _strided(sites, size, stride, padding, wraps)
    # Coarse sites hold fine ones, not the other way round: without a circle, memory is free as soon as it can be.
    made.coarse.maps["stream", "up", key] = (made.down, made.up, sites)
    sites.maps[name] = (made.down, made.up, weakref.ref(made.coarse))
    return made


def inverse_streams(sites: Sites, key: str) -> Strided:
    """Streams of the strided convolution ``key`` that made these sites."""
    made: tuple[Stream, Stream, Sites] | None = sites.maps.get(("stream", "up", key))
    if made is None:
        raise UsageError(f"An Up convolution has the key {key!r}, but no Down with that key made its input.")
    return Strided(*made, sites)
