"""The streams of sites, made once and kept with them; for the numba backend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_seg.core.errors import UsageError
from kd_seg.sparse.maps import Pairs, strided_pairs, submanifold_pairs
from kd_seg.sparse.stream import Stream, stream_of
from kd_seg.sparse.tensor import Sites, Triple, Wraps

CUBE: Triple = (3, 3, 3)


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
    pairs, counts = submanifold_pairs(sites, size, wraps).by_cell(True)
    return stream_of(pairs, counts, len(sites), len(sites))


def strided_streams(sites: Sites, size: Triple, stride: Triple, padding: Triple, key: str, wraps: Wraps) -> Strided:
    """Streams of a strided convolution; its output sites remember them under ``key`` for the way back."""
    name = ("stream", "down", key)
    if name not in sites.maps:
        made = _made_strided(sites, *strided_pairs(sites, size, stride, padding, key, wraps))
        made.coarse.maps["stream", "up", key] = made
        sites.maps[name] = made
    kept: Strided = sites.maps[name]
    return kept


def _made_strided(fine: Sites, map_: Pairs, coarse: Sites) -> Strided:
    pairs, counts = map_.pairs, map_.counts
    return Strided(
        stream_of(pairs, counts, len(fine), len(coarse)),
        stream_of(np.ascontiguousarray(pairs[::-1]), counts, len(coarse), len(fine)),
        fine,
        coarse,
    )


def inverse_streams(sites: Sites, key: str) -> Strided:
    """Streams of the strided convolution ``key`` that made these sites."""
    made: Strided | None = sites.maps.get(("stream", "up", key))
    if made is None:
        raise UsageError(f"An Up convolution has the key {key!r}, but no Down with that key made its input.")
    return made
