"""``spv``: the LiDAR branch of 2DPASS (Yan et al., ECCV 2022), an encoder of sparse voxels and points side by side.

Every scale is voxelized from the points, so that coarse cells need not be unions of fine ones (63 cells of 1.587 m
cover 100 m at scale 16); the head reads a point's cell at each scale. So points of one voxel may differ, and the
network gives logits per point as well.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from kd_seg.core.errors import ConfigError
from kd_seg.networks.batch import Batch, Level, Output
from kd_seg.networks.registry import NETWORKS
from kd_seg.sparse import SparseTensor, Submanifold, pool_rows, sparse_tensor
from kd_seg.voxels import CartesianGrid

CUBE = (3, 3, 3)
SLOPE = 0.1
"""Of the leaky ReLUs."""

HIDDEN = 128
"""Width of the head's hidden layer."""

BOXES = {
    "semantickitti": CartesianGrid((0.1, 0.1, 0.1), (-50.0, -50.0, -4.0), (50.0, 50.0, 2.0)),
    "nuscenes": CartesianGrid((0.1, 0.1, 0.1), (-50.0, -50.0, -4.0), (50.0, 50.0, 3.0)),
}
"""The grid that each published configuration was trained in."""

FEATURES = ("xyz", "remission")
"""Point features in the order that published weights want them."""


@dataclass(frozen=True)
class Scales:
    """Size of the network: cells of scale 1 per cell at the output of each block, width, and name of the box."""

    scales: tuple[int, ...]
    width: int
    box: str

    def text(self) -> str:
        """As a checkpoint has it: "2-4-8-16 64 semantickitti"."""
        return f"{'-'.join(map(str, self.scales))} {self.width} {self.box}"


SIZES = {
    "4x64": Scales((2, 4, 8, 16), 64, "semantickitti"),
    "6x256": Scales((2, 4, 8, 16, 16, 16), 256, "semantickitti"),
}


def read_scales(size: str) -> Scales:
    """The scales of a named size or of a text as ``Scales.text`` gives it; ConfigError says what a size looks like."""
    if size in SIZES:
        return SIZES[size]
    found = re.fullmatch(r"(\d+(?:-\d+)*) (\d+) (\w+)", size)
    if found is None or found[3] not in BOXES:
        raise ConfigError(
            f"spv has no size {size!r}; it has {', '.join(SIZES)}, or give scales, width and box "
            f"({', '.join(BOXES)}), as in {SIZES['4x64'].text()!r}."
        )
    return Scales(tuple(int(s) for s in found[1].split("-")), int(found[2]), found[3])


@dataclass(frozen=True)
class Partition:
    """Cells of one scale.

    Attributes:
        coordinates: [V, 4] int32, sorted. rows: [P] int64, row of each point's cell.
    """

    coordinates: Tensor
    rows: Tensor

    def __len__(self) -> int:
        return len(self.coordinates)


def partition(xyz: Tensor, sample: Tensor, box: CartesianGrid, scale: int) -> Partition:
    """The cells of points [P, 3] of samples [P] in a box of ``cells / scale`` cells, rounded up, per axis."""
    count = xyz.new_tensor([math.ceil(n / scale) for n in box.cells])
    lower, upper = xyz.new_tensor(box.lower), xyz.new_tensor(box.upper)
    # multiplied before it is divided, as in the released code: where a point lies on a border, rounding decides
    cells = (count * (xyz - lower) / (upper - lower)).long()
    side = [math.ceil(n / scale) + 1 for n in box.cells]
    codes = ((sample.long() * side[0] + cells[:, 0]) * side[1] + cells[:, 1]) * side[2] + cells[:, 2]
    found, rows = torch.unique(codes, return_inverse=True)
    return Partition(_uncoded(found, side), rows)


def _uncoded(codes: Tensor, side: list[int]) -> Tensor:
    parts = []
    for n in reversed(side):
        parts.append(codes % n)
        codes = torch.div(codes, n, rounding_mode="floor")
    return torch.stack([codes, *reversed(parts)], dim=1).int()


def _normed(norm: nn.Module, rows: Tensor) -> Tensor:
    """Batch norm; a single row in training passes as it is, as it has no variance."""
    return norm(rows) if len(rows) > 1 or not norm.training else rows


class VoxelBlock(nn.Module):
    """Two submanifold convolutions and a projected shortcut, with leaky ReLUs."""

    def __init__(self, width: int, key: str) -> None:
        super().__init__()
        self.first = Submanifold(width, width, CUBE, key)
        self.first_norm = nn.BatchNorm1d(width)
        self.second = Submanifold(width, width, CUBE, key)
        self.second_norm = nn.BatchNorm1d(width)
        self.shortcut = nn.Linear(width, width, bias=False)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Same voxels and channels."""
        first = self.first(x)
        y = self.second(first.replace_feature(leaky_relu(_normed(self.first_norm, first.features), SLOPE)))
        rows = _normed(self.second_norm, y.features) + self.shortcut(x.features)
        activated: SparseTensor = y.replace_feature(leaky_relu(rows, SLOPE))
        return activated


class PointEncoder(nn.Module):
    """Rows of voxels beside what their neighbourhoods of 2 x 2 x 2 cells hold."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.own = nn.Linear(width, width)
        self.around = nn.ModuleList([nn.Linear(width, width // 2), nn.Linear(width // 2, width // 2)])
        self.norms = nn.ModuleList(nn.BatchNorm1d(width // 2) for _ in range(2))
        self.widen = nn.Linear(width // 2, width)
        self.joined = nn.ModuleList([nn.Linear(2 * width, width), nn.Linear(width, width)])

    def forward(self, rows: Tensor, coordinates: Tensor) -> Tensor:
        """Rows [V, width] of voxels at ``coordinates`` [V, 4]."""
        halved = torch.cat([coordinates[:, :1], torch.div(coordinates[:, 1:], 2, rounding_mode="floor")], dim=1)
        side = [int(n) + 1 for n in halved.amax(dim=0)]
        codes = ((halved[:, 0].long() * side[1] + halved[:, 1]) * side[2] + halved[:, 2]) * side[3] + halved[:, 3]
        found, group = torch.unique(codes, return_inverse=True)
        around = pool_rows(rows, group, len(found), "mean")
        for layer, norm in zip(self.around, self.norms, strict=True):
            around = _normed(norm, leaky_relu(layer(around), SLOPE))
        around = leaky_relu(self.widen(around), SLOPE)[group]
        both = torch.cat([leaky_relu(self.own(rows), SLOPE), around], dim=1)
        logits: Tensor = self.joined[1](leaky_relu(self.joined[0](both), SLOPE))
        return logits


class ScaleBlock(nn.Module):
    """Voxel and point encoder at one scale, pooled over the points to the next."""

    def __init__(self, width: int, number: int) -> None:
        super().__init__()
        self.voxels = nn.ModuleList(VoxelBlock(width, f"scale{number}") for _ in range(2))
        self.points = PointEncoder(width)

    def forward(self, rows: Tensor, here: Partition, after: Partition, samples: int) -> tuple[Tensor, Tensor]:
        """Rows [V', width] at the cells of ``after``: of its point encoder, and of both together."""
        x, y, z = (int(n) + 1 for n in here.coordinates[:, 1:].amax(dim=0))
        tensor = sparse_tensor(rows, here.coordinates, (x, y, z), samples)
        for block in self.voxels:
            tensor = block(tensor)
        encoded = self.points(rows + tensor.features, here.coordinates)
        count = len(after)
        point = pool_rows(encoded[here.rows], after.rows, count, "mean")
        return point, point + pool_rows(tensor.features[here.rows], after.rows, count, "mean")


class SPV(nn.Module):
    """The LiDAR branch of 2DPASS.

    Args:
        size: scales, width and box.
        features: point features F; the first three are x, y, z in metres.
        classes: logits C.

    Levels: "penultimate", the head's hidden layer, averaged over the points of each voxel.
    """

    def __init__(self, size: Scales, features: int, classes: int) -> None:
        super().__init__()
        self.size = size
        self.box = BOXES[size.box]
        self.points = nn.ModuleList([nn.Linear(features + 6, size.width), nn.Linear(size.width, size.width)])
        self.blocks = nn.ModuleList(ScaleBlock(size.width, number) for number in range(len(size.scales)))
        # one layer on the scales side by side, kept as a layer per scale: rows are fewer before they go to the points
        self.hidden = nn.ModuleList(nn.Linear(size.width, HIDDEN, bias=i == 0) for i in range(len(size.scales)))
        self.head = nn.Linear(HIDDEN, classes)
        self.channels = {"penultimate": HIDDEN}

    def forward(self, batch: Batch) -> Output:
        """Logits [V, C], the means of their points', and out of training those of the points; ConfigError for a batch
        in another grid than that of the size.
        """
        if batch.spatial_shape != self.box.shape:
            raise ConfigError(
                f"spv of size {self.size.text()!r} works in a grid of voxel_size 0.1 from {self.box.lower} to "
                f"{self.box.upper}; set grid.lower and grid.upper so."
            )
        count = len(batch.coordinates)
        inside = batch.inverse >= 0
        own = batch.inverse[inside]
        if count == 0:
            pooled = batch.features.new_zeros(0, HIDDEN)
            level = Level(pooled, batch.coordinates, (1, 1, 1))
            empty = None if self.training else self.head(batch.features.new_zeros(len(inside), HIDDEN))
            return Output(self.head(pooled), {"penultimate": level}, empty)
        hidden = self._hidden(batch, batch.features[inside], own)
        pooled = pool_rows(hidden, own, count, "mean")
        output = Output(self.head(pooled), {"penultimate": Level(pooled, batch.coordinates, (1, 1, 1))})
        if self.training:
            return output
        each = self.head(hidden)
        spread = each.new_zeros(len(inside), each.shape[1])
        spread[inside] = each
        return Output(output.logits, output.levels, spread)

    def _hidden(self, batch: Batch, features: Tensor, own: Tensor) -> Tensor:
        """The head's hidden layer [P, HIDDEN] of the points inside the grid."""
        sample = batch.coordinates[own, 0]
        cells = {s: partition(features[:, :3], sample, self.box, s) for s in {1, *self.size.scales}}
        here = cells[1]
        rows = self.points[1](torch.relu(self.points[0](self._placed(features, here))))
        rows = pool_rows(rows, here.rows, len(here), "mean")
        parts = []
        for block, hidden, scale in zip(self.blocks, self.hidden, self.size.scales, strict=True):
            point, rows = block(rows, here, cells[scale], batch.batch_size)
            here = cells[scale]
            parts.append(hidden(point)[here.rows])
        return torch.relu(reduce(torch.add, parts))

    def _placed(self, features: Tensor, cells: Partition) -> Tensor:
        """Features [P, F + 6]: the points' own, then x, y, z from the mean of the cell's points and from its corner."""
        xyz = features[:, :3]
        mean = pool_rows(xyz, cells.rows, len(cells), "mean")[cells.rows]
        corner = cells.coordinates[cells.rows, 1:] * xyz.new_tensor(self.box.size) + xyz.new_tensor(self.box.lower)
        return torch.cat([features, xyz - mean, xyz - corner], dim=1)


@NETWORKS.register("spv")
def build(size: str, features: int, classes: int) -> SPV:
    """The network of a size; ConfigError says what sizes look like."""
    return SPV(read_scales(size), features, classes)
