"""Which fused points stay: not on top of an own point, and not too many in one small cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.kernels import kernel

Array = npt.NDArray[Any]


COARSE = 0.5
"""Cells in metres of the bitmap that finds the own points which may lie near a fused one."""

_SIDE = 512
_PRIME_X, _PRIME_Y, _PRIME_Z = 73856093, 19349663, 83492791


def keep_fused(
    own: npt.NDArray[np.float32], fused: npt.NDArray[np.float32], clearance: float, cell: float, per_cell: int
) -> npt.NDArray[np.bool_]:
    """Mask [M] of the fused points to keep.

    Dropped are points within ``clearance`` of an own point, and those after the first ``per_cell`` kept ones of a cell.

    Args:
        own: [N, >=3]; fused: [M, >=3]; both finite, metres, one frame.
        clearance: metres; 0 drops only exact doubles.
        cell: edge length in metres. per_cell: how many points it may take, in the order of the rows.
    """
    if len(fused) == 0:
        return np.zeros(0, dtype=bool)
    keep = _clear(np.ascontiguousarray(own), np.ascontiguousarray(fused), max(clearance, 1e-6))
    _limit(np.ascontiguousarray(fused), keep, cell, per_cell)
    return keep


@kernel
def _bin(value: Any) -> Any:
    return min(max(int(np.floor(value / COARSE)) + _SIDE // 2, 0), _SIDE - 1)


@kernel
def _slot(x: Any, y: Any, z: Any, mask: int) -> Any:
    return (x * _PRIME_X ^ y * _PRIME_Y ^ z * _PRIME_Z) & mask


@kernel
def _clear(own: Array, fused: Array, clearance: float) -> Array:
    """Mask of fused points without an own point nearer than ``clearance``."""
    near = np.zeros((_SIDE, _SIDE), dtype=np.bool_)
    reach = max(1, int(np.ceil(clearance / COARSE)))
    for i in range(len(fused)):
        x, y = _bin(fused[i, 0]), _bin(fused[i, 1])
        for a in range(max(x - reach, 0), min(x + reach + 1, _SIDE)):
            for b in range(max(y - reach, 0), min(y + reach + 1, _SIDE)):
                near[a, b] = True
    candidates = np.empty(len(own), dtype=np.int64)
    count: Any = 0
    for i in range(len(own)):
        if near[_bin(own[i, 0]), _bin(own[i, 1])]:
            candidates[count] = i
            count += 1
    size: Any = 16
    while size < 2 * count:
        size *= 2
    head = np.full(size, -1, dtype=np.int64)
    following = np.empty(count, dtype=np.int64)
    # cells twice as wide as the clearance: a ball touches at most two per axis
    scale = 0.5 / clearance
    for c in range(count):
        p = own[candidates[c]]
        x = np.int64(np.floor(p[0] * scale))
        y = np.int64(np.floor(p[1] * scale))
        z = np.int64(np.floor(p[2] * scale))
        slot = _slot(x, y, z, size - 1)
        following[c] = head[slot]
        head[slot] = c
    limit = clearance * clearance
    keep = np.ones(len(fused), dtype=np.bool_)
    for i in range(len(fused)):
        fx, fy, fz = np.float64(fused[i, 0]), np.float64(fused[i, 1]), np.float64(fused[i, 2])
        # the lower of the two cells per axis that the ball may touch
        x0 = np.int64(np.floor(fx * scale - 0.5))
        y0 = np.int64(np.floor(fy * scale - 0.5))
        z0 = np.int64(np.floor(fz * scale - 0.5))
        for corner in range(8):
            slot = _slot(x0 + (corner & 1), y0 + (corner >> 1 & 1), z0 + (corner >> 2), size - 1)
            near_by = head[slot]
            while near_by >= 0 and keep[i]:
                p = own[candidates[near_by]]
                dx, dy, dz = fx - p[0], fy - p[1], fz - p[2]
                if dx * dx + dy * dy + dz * dz < limit:
                    keep[i] = False
                near_by = following[near_by]
            if not keep[i]:
                break
    return keep


@kernel
def _limit(fused: Array, keep: Array, cell: float, per_cell: int) -> None:
    """Clear ``keep`` for points beyond the first ``per_cell`` kept ones of their cell."""
    size = 16
    while size < 2 * len(fused):
        size *= 2
    owner = np.full(size, -1, dtype=np.int64)
    count = np.zeros(size, dtype=np.int64)
    for i in range(len(fused)):
        if not keep[i]:
            continue
        x = np.int64(np.floor(fused[i, 0] / cell))
        y = np.int64(np.floor(fused[i, 1] / cell))
        z = np.int64(np.floor(fused[i, 2] / cell))
        slot = _slot(x, y, z, size - 1)
        while owner[slot] >= 0:
            j = owner[slot]
            if (
                np.int64(np.floor(fused[j, 0] / cell)) == x
                and np.int64(np.floor(fused[j, 1] / cell)) == y
                and np.int64(np.floor(fused[j, 2] / cell)) == z
            ):
                break
            slot = (slot + 1) & (size - 1)
        if owner[slot] < 0:
            owner[slot] = i
        count[slot] += 1
        keep[i] = count[slot] <= per_cell
