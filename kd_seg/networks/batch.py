"""What goes into a network and what comes out: Encoding, Encoded, Batch, Level, Output."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kd_seg.core.kernels import kernel
from kd_seg.scans import Points
from kd_seg.voxels import Grid, Voxels, majority_labels, point_features, voxelize


@dataclass(frozen=True)
class Encoding:
    """How points become a network's input; stored in the checkpoint.

    Attributes:
        grid: where voxels are.
        features: names of the point features (voxels/features.py).
    """

    grid: Grid
    features: tuple[str, ...]


@dataclass(frozen=True)
class Encoded:
    """One cloud, voxelized and with its point features.

    Attributes:
        features: [N, F] float32 per point (also of points outside the grid).
        voxels: coordinates [V, 3], inverse [N], counts [V].
        labels: [V] uint8 train id by majority, 0 = ignored; zeros where no labels were given.
    """

    features: npt.NDArray[np.float32]
    voxels: Voxels
    labels: npt.NDArray[np.uint8]


def encode(points: Points, labels: npt.NDArray[np.uint8] | None, encoding: Encoding) -> Encoded:
    """Voxelize points [N, 4] with train ids [N] (or None) and compute their features."""
    voxels = voxelize(points, encoding.grid)
    if labels is None:
        voted = np.zeros(len(voxels.coordinates), dtype=np.uint8)
    else:
        voted = majority_labels(voxels, labels)
    return Encoded(point_features(points, voxels, encoding.grid, encoding.features), voxels, voted)


@dataclass(frozen=True)
class Batch:
    """Several encoded clouds as one sparse input; rows of sample b lie between its offsets.

    Attributes:
        features: [N, F] float32, point features.
        inverse: [N] int64, voxel row of each point, -1 outside the grid.
        coordinates: [V, 4] int32 (batch, x, y, z) or (batch, rho, phi, z), rows sorted, no duplicates.
        spatial_shape: cells per axis, in the order of the coordinates.
        point_offsets, voxel_offsets: [B + 1] int64.
        labels: [V] int64 train ids, 0 = ignored.
        wraps: axes of the grid whose last cell is beside the first (phi of a cylindrical one).
        views: what objectives asked the loader to build, by view name.
    """

    features: Tensor
    inverse: Tensor
    coordinates: Tensor
    spatial_shape: tuple[int, int, int]
    point_offsets: Tensor
    voxel_offsets: Tensor
    labels: Tensor
    wraps: tuple[bool, bool, bool] = (False, False, False)
    views: dict[str, Any] = field(default_factory=dict)

    @property
    def batch_size(self) -> int:
        """Number of clouds."""
        return len(self.point_offsets) - 1

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device, views included (their ``to`` is called, or each tensor's)."""
        moved = {f.name: move(getattr(self, f.name), device) for f in fields(self)}
        return replace(self, **moved)


def move(value: Any, device: torch.device | str) -> Any:
    """``value`` on another device: tensors and things with ``to``, inside lists, tuples and dicts too."""
    if isinstance(value, dict):
        return {key: move(item, device) for key, item in value.items()}
    if isinstance(value, list):
        return [move(item, device) for item in value]
    if isinstance(value, tuple):
        return tuple(move(item, device) for item in value)
    return value.to(device) if hasattr(value, "to") else value


def collate(clouds: list[Encoded], grid: Grid) -> Batch:
    """Stack encoded clouds of one grid into a Batch (CPU tensors)."""
    point_offsets = np.cumsum([0] + [len(c.features) for c in clouds])
    voxel_offsets = np.cumsum([0] + [len(c.voxels.coordinates) for c in clouds])
    coordinates = np.empty((voxel_offsets[-1], 4), dtype=np.int32)
    inverse = np.empty(point_offsets[-1], dtype=np.int64)
    for b, cloud in enumerate(clouds):
        points = slice(point_offsets[b], point_offsets[b + 1])
        rows = slice(voxel_offsets[b], voxel_offsets[b + 1])
        _place(cloud.voxels.inverse, cloud.voxels.coordinates, b, voxel_offsets[b], inverse[points], coordinates[rows])
    features = clouds[0].features if len(clouds) == 1 else np.concatenate([c.features for c in clouds])
    return Batch(
        features=torch.from_numpy(features),
        inverse=torch.from_numpy(inverse),
        coordinates=torch.from_numpy(coordinates),
        spatial_shape=grid.shape,
        point_offsets=torch.from_numpy(point_offsets),
        voxel_offsets=torch.from_numpy(voxel_offsets),
        labels=torch.from_numpy(np.concatenate([c.labels for c in clouds]).astype(np.int64)),
        wraps=grid.wraps,
    )


@kernel
def _place(
    inverse: npt.NDArray[np.int32],
    coordinates: npt.NDArray[np.int32],
    sample: int,
    first: int,
    rows_of: npt.NDArray[Any],
    out: npt.NDArray[Any],
) -> None:
    """One cloud's rows of a batch: voxel rows counted from ``first`` (-1 stays), coordinates behind the sample."""
    for i in range(len(inverse)):
        rows_of[i] = inverse[i] + first if inverse[i] >= 0 else -1
    for row in range(len(coordinates)):
        out[row, 0] = sample
        for axis in range(3):
            out[row, 1 + axis] = coordinates[row, axis]


@dataclass(frozen=True)
class Level:
    """A named feature tap of a network.

    Attributes:
        features: [V_l, d].
        coordinates: [V_l, 4] int32 at this level's stride: stride-1 coordinates divided by ``stride``, floored, and,
            where kernels are wider than strides (cylinder), neighbours of these.
        stride: cells of the input grid per cell here, per axis.
    """

    features: Tensor
    coordinates: Tensor
    stride: tuple[int, int, int]


@dataclass(frozen=True)
class Output:
    """A network's output.

    Attributes:
        logits: [V, C] per voxel, rows as in the batch's coordinates.
        levels: feature taps by name; ``levels["penultimate"]`` always exists, at stride 1, rows as the logits.
        point_logits: [N, C] of a network that tells points of one voxel apart (``spv``, out of training), rows as the
            batch's features and meaningless outside the grid; None where the voxel's logits are its points'.
    """

    logits: Tensor
    levels: dict[str, Level]
    point_logits: Tensor | None = None

    def rows(self, inverse: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [R, C], and the row of each point [N] from its voxel ``inverse`` [N]; -1 outside the grid."""
        if self.point_logits is None:
            return self.logits, inverse
        own = torch.arange(len(inverse), device=inverse.device)
        return self.point_logits, torch.where(inverse >= 0, own, -1)
