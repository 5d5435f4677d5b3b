"""Patchiness of the ground: noise that is the same for every ray that meets a place."""

from __future__ import annotations

from typing import Any

import numpy as np

from kd_seg.core.kernels import kernel

FINE, COARSE = 2.5, 0.55
"""Lumps per metre of the two layers: 0.4 and 1.8 m."""
SCALE = 1.85
"""Brings the sum of the layers to a standard deviation of 1."""


@kernel
def texture(x: float, y: float) -> float:
    """Relative brightness of the ground at a place of the world (metres): mean 0, standard deviation 1."""
    return SCALE * (_lumps(x * FINE, y * FINE) + _lumps(x * COARSE + 31.0, y * COARSE - 17.0))


@kernel
def _lumps(x: float, y: float) -> float:
    """Noise between -1 and 1 drawn at whole places and straight in between."""
    i, j = np.floor(x), np.floor(y)
    u, v = x - i, y - j
    a, b = np.int64(i), np.int64(j)
    low = (1.0 - u) * _chance(a, b) + u * _chance(a + 1, b)
    high = (1.0 - u) * _chance(a, b + 1) + u * _chance(a + 1, b + 1)
    lump: float = (1.0 - v) * low + v * high
    return lump


@kernel
def _chance(i: np.int64, j: np.int64) -> Any:
    """A number between -1 and 1 for a whole place, by its hash (Teschner et al., VMV 2003, section 4.1)."""
    mixed = (i * 73856093) ^ (j * 19349663)
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    mixed = mixed ^ (mixed >> 16)
    return (mixed & 0xFFFF) / 32767.5 - 1.0
