"""``cylinder``: the asymmetrical network of Cylinder3D (Zhu et al., CVPR 2021), made for cylindrical grids.

Points pass a small MLP and are pooled by maximum; asymmetric residual blocks (3x1x3 and 1x3x3 cells along rho, phi, z)
lead down and up; a context module of three one-dimensional convolutions scales the result. Where the grid's phi spans a
turn, cells on both sides of the seam are neighbours at every level, which the published network lacks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kd_seg.core.errors import ConfigError
from kd_seg.networks.batch import Batch, Level, Output
from kd_seg.networks.fused_cylinder import LEAK, FusedCylinder
from kd_seg.networks.registry import NETWORKS
from kd_seg.sparse import Down, SparseTensor, Submanifold, Up, pool_rows, sparse_tensor
from kd_seg.sparse.fused import FusedCache, fusible

Triple = tuple[int, int, int]
Wraps = tuple[bool, bool, bool]

CUBE: Triple = (3, 3, 3)
ACROSS: Triple = (3, 1, 3)
ALONG: Triple = (1, 3, 3)
LINES: tuple[Triple, Triple, Triple] = ((3, 1, 1), (1, 3, 1), (1, 1, 3))

WIDTHS = {"nano": 8, "small": 16, "base": 32}
"""Width w by size."""

STRIDES: tuple[Triple, ...] = ((2, 2, 2), (2, 2, 2), (2, 2, 1), (2, 2, 1))


@dataclass(frozen=True)
class Kernels:
    """Cells of the submanifold kernels.

    Attributes:
        stem, encoder: the two kernels of an asymmetric block. decoder: of its three steps. context: of its three lines.
    """

    stem: tuple[Triple, Triple] = (ALONG, ACROSS)
    encoder: tuple[Triple, Triple] = (ACROSS, ALONG)
    decoder: tuple[Triple, Triple, Triple] = (ALONG, ACROSS, CUBE)
    context: tuple[Triple, Triple, Triple] = LINES


KERNELS = Kernels()


class CylinderStep(nn.Module):
    """Submanifold convolution, leaky ReLU (0.01), batch norm: the order of Cylinder3D."""

    def __init__(self, width_in: int, width_out: int, kernel: Triple, level: int) -> None:
        super().__init__()
        self.convolution = Submanifold(width_in, width_out, kernel, f"level{level}")
        self.norm = nn.BatchNorm1d(width_out)

    def forward(self, x: SparseTensor, wraps: Wraps) -> SparseTensor:
        """Same voxels, ``width_out`` channels."""
        return activated(self.convolution(x, wraps), self.norm)


def activated(x: SparseTensor, norm: nn.Module) -> SparseTensor:
    """Leaky ReLU and batch norm of rows [V, d]; a single row in training passes without norm, having no variance."""
    features = nn.functional.leaky_relu(x.features, LEAK)
    return x.replace_feature(norm(features) if len(features) > 1 or not norm.training else features)


class Asymmetric(nn.Module):
    """The sum of two branches: ``first`` then ``second`` kernel, and the other way round."""

    def __init__(self, width_in: int, width_out: int, kernels: tuple[Triple, Triple], level: int) -> None:
        super().__init__()
        first, second = kernels
        self.one = nn.ModuleList(
            [CylinderStep(width_in, width_out, first, level), CylinderStep(width_out, width_out, second, level)]
        )
        self.other = nn.ModuleList(
            [CylinderStep(width_in, width_out, second, level), CylinderStep(width_out, width_out, first, level)]
        )

    def forward(self, x: SparseTensor, wraps: Wraps) -> SparseTensor:
        """Same voxels, ``width_out`` channels."""
        one, other = x, x
        for step in self.one:
            one = step(one, wraps)
        for step in self.other:
            other = step(other, wraps)
        return one.replace_feature(one.features + other.features)


class CylinderEncoder(nn.Module):
    """Asymmetric block, then a strided convolution; hands on both."""

    def __init__(self, width_in: int, width_out: int, kernels: tuple[Triple, Triple], level: int) -> None:
        super().__init__()
        self.block = Asymmetric(width_in, width_out, kernels, level - 1)
        self.down = Down(width_out, width_out, CUBE, STRIDES[level - 1], f"down{level}")

    def forward(self, x: SparseTensor, wraps: Wraps) -> tuple[SparseTensor, SparseTensor]:
        """The skip at the finer level and the voxels of the coarser."""
        skip = self.block(x, wraps)
        return skip, self.down(skip, wraps)


class CylinderDecoder(nn.Module):
    """Submanifold step, inverse of the paired strided convolution, the skip added, three asymmetric steps."""

    def __init__(self, width_in: int, width_out: int, kernels: tuple[Triple, Triple, Triple], level: int) -> None:
        super().__init__()
        self.before = CylinderStep(width_in, width_out, CUBE, level + 1)
        self.up = Up(width_out, width_out, CUBE, f"down{level + 1}")
        self.steps = nn.ModuleList(CylinderStep(width_out, width_out, kernel, level) for kernel in kernels)

    def forward(self, x: SparseTensor, skip: SparseTensor, wraps: Wraps) -> SparseTensor:
        """Voxels of ``skip``."""
        x = self.up(self.before(x, wraps), wraps)
        x = x.replace_feature(x.features + skip.features)
        for step in self.steps:
            x = step(x, wraps)
        return x


class ContextBlock(nn.Module):
    """Dimension-decomposition context: ``y = x * sum_axis sigmoid(BN(conv_axis x))`` over the three axes."""

    def __init__(self, width: int, kernels: tuple[Triple, Triple, Triple]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(Submanifold(width, width, kernel, "level0") for kernel in kernels)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in kernels)

    def forward(self, x: SparseTensor, wraps: Wraps) -> SparseTensor:
        """Same voxels and channels."""
        scale = torch.zeros_like(x.features)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            rows = convolution(x, wraps).features
            scale = scale + torch.sigmoid(norm(rows) if len(rows) > 1 or not norm.training else rows)
        return x.replace_feature(x.features * scale)


class PointNet(nn.Module):
    """MLP on every point inside the grid, then the maximum per voxel and a linear layer (Cylinder3D's stem).

    Args:
        features: point features F. hidden: width of the widest layer. width: per voxel.
    """

    def __init__(self, features: int, hidden: int, width: int) -> None:
        super().__init__()
        widths = [features, hidden // 4, hidden // 2, hidden]
        self.input_norm = nn.BatchNorm1d(features)
        self.layers = nn.ModuleList(nn.Linear(widths[i], widths[i + 1], bias=False) for i in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm1d(w) for w in widths[1:])
        self.last = nn.Linear(hidden, hidden)
        self.compress = nn.Linear(hidden, width)

    def forward(self, features: Tensor, inverse: Tensor, voxels: int) -> Tensor:
        """[V, width] from point features [N, F] and each point's voxel [N] (-1 outside)."""
        inside = inverse >= 0
        rows, index = features[inside], inverse[inside]
        alone = len(rows) == 1 and self.training  # one row has no variance
        rows = rows if alone else self.input_norm(rows)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            rows = layer(rows)
            rows = torch.relu(rows if alone else norm(rows))
        pooled = pool_rows(self.last(rows), index, voxels, "amax")
        return torch.relu(self.compress(pooled))


class Cylinder(nn.Module):
    """Asymmetrical sparse network; point features in, logits per voxel out.

    Args:
        width: w; 32 as published. features: point features F. classes: logits C.
        kernels: of the submanifold convolutions. hidden: width of the widest layer on points; 8 w unless given.

    Levels: "enc0" (context block, stride 1, w), "enc1".."enc4" (2w, 4w, 8w, 16w; phi and rho halve each time, z at the
    first two), "dec3".."dec0" (16w, 8w, 4w, 2w), "penultimate" (4w: "dec0" beside its scaled self).
    """

    def __init__(
        self, width: int, features: int, classes: int, kernels: Kernels = KERNELS, hidden: int | None = None
    ) -> None:
        super().__init__()
        widths = [width * factor for factor in (1, 2, 4, 8, 16)]
        self.points = PointNet(features, hidden or 8 * width, 16)
        self.stem = Asymmetric(16, width, kernels.stem, 0)
        self.encoders = nn.ModuleList(
            CylinderEncoder(widths[i], widths[i + 1], kernels.encoder, i + 1) for i in range(4)
        )
        inputs = (16 * width, 16 * width, 8 * width, 4 * width)
        outputs = (16 * width, 8 * width, 4 * width, 2 * width)
        self.decoders = nn.ModuleList(CylinderDecoder(inputs[i], outputs[i], kernels.decoder, 3 - i) for i in range(4))
        self.context = ContextBlock(2 * width, kernels.context)
        self.head = Submanifold(4 * width, classes, CUBE, "level0")
        self.bias = nn.Parameter(torch.zeros(classes))
        self.channels = {f"enc{i}": w for i, w in enumerate(widths)}
        self.channels |= {f"dec{3 - i}": w for i, w in enumerate(outputs)}
        self.channels["penultimate"] = 4 * width
        self.fused = FusedCache()

    def forward(self, batch: Batch) -> Output:
        """Logits [V, C] and the named levels of a batch; a batch without voxels gives empty ones."""
        if len(batch.coordinates) == 0:
            return self._empty(batch)
        if fusible(self, batch.features):
            return self._fused(batch)
        wraps = batch.wraps
        rows = self.points(batch.features, batch.inverse, len(batch.coordinates))
        x = sparse_tensor(rows, batch.coordinates, batch.spatial_shape, batch.batch_size)
        x = self.stem(x, wraps)
        levels = {"enc0": _level(x, 0)}
        skips = []
        for i, encoder in enumerate(self.encoders):
            skip, x = encoder(x, wraps)
            skips.append(skip)
            levels[f"enc{i + 1}"] = _level(x, i + 1)
        for i, decoder in enumerate(self.decoders):
            x = decoder(x, skips[3 - i], wraps)
            levels[f"dec{3 - i}"] = _level(x, 3 - i)
        joined = torch.cat([self.context(x, wraps).features, x.features], dim=1)
        x = x.replace_feature(joined)
        levels["penultimate"] = _level(x, 0)
        return Output(self.head(x, wraps).features + self.bias, levels)

    def _fused(self, batch: Batch) -> Output:
        logits, found = self.fused.get(self, FusedCylinder)(batch)
        levels = {
            name: Level(rows, sites.coordinates, _stride(0 if name == "penultimate" else int(name[3:])))
            for name, (rows, sites) in found.items()
        }
        return Output(logits, levels)

    def _empty(self, batch: Batch) -> Output:
        """No voxels: empty rows that keep a gradient path to the bias."""
        rows = batch.features.new_zeros
        levels = {
            name: Level(rows(0, width), batch.coordinates[:0], _stride(0 if name == "penultimate" else int(name[3:])))
            for name, width in self.channels.items()
        }
        return Output(rows(0, len(self.bias)) + self.bias, levels)


def _level(x: SparseTensor, depth: int) -> Level:
    return Level(x.features, x.indices, _stride(depth))


def _stride(depth: int) -> Triple:
    rho = phi = z = 1
    for stride in STRIDES[:depth]:
        rho, phi, z = rho * stride[0], phi * stride[1], z * stride[2]
    return (rho, phi, z)


@NETWORKS.register("cylinder")
def build(size: str, features: int, classes: int) -> Cylinder:
    """The cylindrical network of a named size; ConfigError names the sizes there are."""
    if size not in WIDTHS:
        raise ConfigError(f"cylinder has no size {size!r}; it has: {', '.join(WIDTHS)}.")
    return Cylinder(WIDTHS[size], features, classes)
