"""Voxels for tests of sparse convolutions, and convolutions by dense grids and by looking every neighbour up."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

Triple = tuple[int, int, int]


def random_voxels(seed: int, count: int, shape: Triple, batches: int = 2) -> Tensor:
    """Sorted unique coordinates [V, 4] int32 within a shape; all cells where ``count`` is larger."""
    cells = batches * int(np.prod(shape))
    rng = np.random.default_rng(seed)
    keys = np.sort(rng.choice(cells, min(count, cells), replace=False))
    rows = np.stack(np.unravel_index(keys, (batches, *shape)), axis=1)
    return torch.from_numpy(rows.astype(np.int32))


def dense(features: Tensor, coordinates: Tensor, shape: Triple, batches: int) -> Tensor:
    """Features [V, d] in a dense grid [batch, d, x, y, z]."""
    grid = features.new_zeros(batches, *shape, features.shape[1])
    b, x, y, z = coordinates.long().unbind(1)
    grid[b, x, y, z] = features
    return grid.permute(0, 4, 1, 2, 3)


def at(grid: Tensor, coordinates: Tensor) -> Tensor:
    """Rows [V, d] of a dense grid [batch, d, x, y, z]."""
    b, x, y, z = coordinates.long().unbind(1)
    return grid.permute(0, 2, 3, 4, 1)[b, x, y, z]


def conv3d_weight(weight: Tensor) -> Tensor:
    """Weights [out, x, y, z, in] as torch's conv3d has them."""
    return weight.permute(0, 4, 1, 2, 3)
