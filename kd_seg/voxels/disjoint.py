"""Disjoint sets in one array, for kernels that find connected things: entries lead to their set's least member."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from kd_seg.core.kernels import kernel


@kernel
def join(parent: npt.NDArray[Any], a: int, b: int) -> None:
    """Make one set of those of ``a`` and ``b``; ``parent`` [n] starts as arange(n)."""
    while parent[a] != a:
        parent[a] = parent[parent[a]]
        a = parent[a]
    while parent[b] != b:
        parent[b] = parent[parent[b]]
        b = parent[b]
    parent[max(a, b)] = min(a, b)


@kernel
def settle(parent: npt.NDArray[Any]) -> None:
    """Let every entry of ``parent`` [N] be its set's least member, in place."""
    for i in range(len(parent)):
        parent[i] = parent[parent[i]]
