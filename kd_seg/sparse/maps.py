"""Kernel maps of sites as lists of pairs, made once and kept with the sites; for the torch and spconv backends."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kd_seg.core.errors import UsageError
from kd_seg.sparse.kernel_maps import Rows, strided_map, submanifold_map
from kd_seg.sparse.tensor import Sites, Triple, Wraps


@dataclass(frozen=True)
class KernelPairs:
    """A kernel map: ``pairs`` [2, K, N] (input rows, output rows), of which counts [K] are used.

    Of a submanifold map the counts of the centre and of the mirrored half are 0, as spconv has it.
    """

    pairs: Rows
    counts: Rows

    def by_cell(self, submanifold: bool) -> tuple[Rows, Rows]:
        """Pairs and counts with every cell of a submanifold map counted."""
        if not submanifold:
            return self.pairs, self.counts
        counts, centre = self.counts.copy(), len(self.counts) // 2
        counts[centre + 1 :] = counts[:centre][::-1]
        counts[centre] = self.pairs.shape[2]
        pairs = self.pairs.copy()
        pairs[:, centre] = np.arange(self.pairs.shape[2])
        return pairs, counts


def submanifold_pairs(sites: Sites, size: Triple, wraps: Wraps) -> KernelPairs:
    """The map of a submanifold convolution on sites; DataError where they are not sorted and unique."""
    key = ("pairs", size, wraps)
    if key not in sites.maps:
        sites.maps[key] = KernelPairs(*submanifold_map(rows_of(sites.coordinates), sites.shape, size, wraps))
    made: KernelPairs = sites.maps[key]
    return made


def strided_pairs(
    sites: Sites, size: Triple, stride: Triple, padding: Triple, key: str, wraps: Wraps
) -> tuple[KernelPairs, Sites]:
    """The map of a strided convolution and its output sites, which remember both under ``key`` for the way back."""
    name = ("pairs", "down", key)
    kept: tuple[KernelPairs, weakref.ref[Sites]] | None = sites.maps.get(name)
    coarse = kept[1]() if kept else None
    if kept and coarse is not None:
        return kept[0], coarse
    found, shape, *rows = strided_map(rows_of(sites.coordinates), sites.shape, size, stride, padding, wraps)
    made = KernelPairs(*rows)
    coordinates = torch.from_numpy(found).to(sites.coordinates.device)
    coarse = Sites(coordinates, shape, sites.batch_size, shared=sites.shared)
    coarse.maps["pairs", "up", key] = (made, sites)
    sites.maps[name] = (made, weakref.ref(coarse))  # held weakly, or memory would wait for the collector of circles
    return made, coarse


def inverse_pairs(sites: Sites, key: str) -> tuple[KernelPairs, Sites]:
    """The map of the strided convolution ``key`` that made these sites, and its input sites."""
    made: tuple[KernelPairs, Sites] | None = sites.maps.get(("pairs", "up", key))
    if made is None:
        raise UsageError(f"An Up convolution has the key {key!r}, but no Down with that key made its input.")
    return made


def rows_of(coordinates: Tensor) -> Rows:
    """Coordinates as an array on the CPU."""
    rows: Rows = coordinates.cpu().numpy()
    return rows
