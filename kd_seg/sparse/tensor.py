"""Sparse tensors: features on active sites, and the kernel maps that convolutions of the same sites share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from kd_seg.core.errors import DataError

Triple = tuple[int, int, int]
Wraps = tuple[bool, bool, bool]

FLAT: Wraps = (False, False, False)
"""No axis wraps around."""


@dataclass(frozen=True, eq=False)
class Sites:
    """The voxels of a sparse tensor.

    Attributes:
        coordinates: [V, 4] int32 (batch, x, y, z), unique, inside ``shape``; sorted where kernel maps are ours.
        shape: cells per axis. batch_size: number of clouds.
        maps: kernel maps made so far, by backend, kind and kernel; filled by the convolutions.
        shared: what all levels of one input share.
    """

    coordinates: Tensor
    shape: Triple
    batch_size: int
    maps: dict[Any, Any] = field(default_factory=dict)
    shared: dict[Any, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.coordinates)


@dataclass(frozen=True, eq=False)
class SparseTensor:
    """Features [V, d] on sites; rows of both correspond."""

    features: Tensor
    sites: Sites

    @property
    def indices(self) -> Tensor:
        """Coordinates [V, 4] int32 (batch, x, y, z)."""
        return self.sites.coordinates

    @property
    def spatial_shape(self) -> Triple:
        """Cells per axis."""
        return self.sites.shape

    @property
    def batch_size(self) -> int:
        """Number of clouds."""
        return self.sites.batch_size

    def replace_feature(self, features: Tensor) -> SparseTensor:
        """Other features [V, e] on the same sites."""
        return replace(self, features=features)


def sparse_tensor(features: Tensor, coordinates: Tensor, spatial_shape: Triple, batch_size: int) -> SparseTensor:
    """A sparse tensor of features [V, d] at coordinates [V, 4]; coordinates must be unique and inside the shape.

    Raises DataError where the numbers of rows differ.
    """
    if len(features) != len(coordinates):
        raise DataError(f"A sparse tensor has {len(features)} feature rows and {len(coordinates)} coordinates.")
    x, y, z = (int(side) for side in spatial_shape)
    # Non-contiguous indices give wrong numbers in spconv without a message.
    return SparseTensor(features, Sites(coordinates.to(torch.int32).contiguous(), (x, y, z), batch_size))
