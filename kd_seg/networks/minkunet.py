"""``minkunet``: the MinkUNets of published code (Choy et al., CVPR 2019; SPVNAS, mmdetection3d, OpenPCSeg, Pointcept).

The same blocks as ``unet``, and what published weights depend on beside them: a voxel has the features of its first
point, cells are counted from each scan's lowest occupied one, widths grow in the first block of a level, and some heads
read three levels. Grids for it are in docs/published.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise, product

import torch
from torch import Tensor, nn

from kd_seg.core.errors import ConfigError
from kd_seg.networks.batch import Batch, Level, Output
from kd_seg.networks.correspondence import find_rows
from kd_seg.networks.registry import NETWORKS
from kd_seg.networks.unet import CUBE, HALVE, Decoder, ResidualBlock, normalised
from kd_seg.sparse import Down, SparseTensor, Submanifold, sparse_tensor

Shape = tuple[int, int, int]

OPTIONS = ("stem5", "down", "three", "cut")
"""What may follow the widths in the text of a size; see Layout."""


@dataclass(frozen=True)
class MinkUNetLayout:
    """Widths, depths and what else differs between published MinkUNets.

    Attributes:
        stem: width of each convolution at stride 1 before the first halving.
        encoder, decoder: (width, residual blocks) per level, finest encoder level and coarsest decoder level first.
        stem5: the stem's kernels are 5 x 5 x 5 (Pointcept), not 3 x 3 x 3.
        down: widths grow in the halving (Pointcept), not in the first block after it.
        three: the head reads strides 16, 4 and 1, the coarser two by trilinear interpolation (OpenPCSeg).
        cut: a voxel at the far border of an odd side has no voxel at the next stride (mmdetection3d on spconv).
    """

    stem: tuple[int, ...]
    encoder: tuple[tuple[int, int], ...]
    decoder: tuple[tuple[int, int], ...]
    stem5: bool = False
    down: bool = False
    three: bool = False
    cut: bool = False

    def text(self) -> str:
        """The size as a checkpoint has it, such as "32-32 32x2-64x2-128x2-256x2 256x2-128x2-96x2-96x2 three"."""
        levels = ["-".join(f"{w}x{b}" for w, b in side) for side in (self.encoder, self.decoder)]
        return " ".join(["-".join(map(str, self.stem)), *levels, *(o for o in OPTIONS if getattr(self, o))])


def _named(stem: int, blocks: tuple[int, int, int, int], scale: float = 1.0, **options: bool) -> MinkUNetLayout:
    """The usual widths times a factor, cut to whole numbers."""
    encoder = tuple((int(scale * w), b) for w, b in zip((32, 64, 128, 256), blocks, strict=True))
    decoder = tuple((int(scale * w), 2) for w in (256, 128, 96, 96))
    return MinkUNetLayout((stem,) if options.get("stem5") else (stem, stem), encoder, decoder, **options)


SIZES = {
    "18-w16": _named(16, (2, 2, 2, 2), 0.5),
    "18-w20": _named(20, (2, 2, 2, 2), 0.64),
    "18-w32": _named(32, (2, 2, 2, 2)),
    "34-w32": _named(32, (2, 3, 4, 6)),
    "34-w32-cut": _named(32, (2, 3, 4, 6), cut=True),
    "34v2-w32": _named(32, (2, 3, 4, 6), three=True),
    "34v2-w51": _named(51, (2, 3, 4, 6), 1.6, three=True),
    "spunet": _named(32, (2, 3, 4, 6), stem5=True, down=True),
}

_SIZE = re.compile(r"(\d+(?:-\d+)*) (\d+x\d+(?:-\d+x\d+)*) (\d+x\d+(?:-\d+x\d+)*)((?: [a-z0-9]+)*)")


def read_layout(size: str) -> MinkUNetLayout:
    """The layout of a named size, or of a text as ``MinkUNetLayout.text`` gives it; ConfigError shows what it is."""
    if size in SIZES:
        return SIZES[size]
    found = _SIZE.fullmatch(size)
    if found is None:
        raise ConfigError(
            f"minkunet has no size {size!r}; it has {', '.join(SIZES)}, or give widths of the stem, widths x blocks of "
            f"encoder and decoder, and options, as in {SIZES['34v2-w32'].text()!r}."
        )
    stem = tuple(int(w) for w in found[1].split("-"))
    encoder, decoder = (tuple(_pair(part) for part in found[i].split("-")) for i in (2, 3))
    options = found[4].split()
    wrong = [option for option in options if option not in OPTIONS]
    if wrong or len(encoder) != len(decoder) or (("three" in options) and len(encoder) != 4):
        raise ConfigError(
            f"minkunet cannot have size {size!r}: as many decoder as encoder levels, four of them for a head of three, "
            f"and options out of {', '.join(OPTIONS)}."
        )
    return MinkUNetLayout(stem, encoder, decoder, **dict.fromkeys(options, True))


def _pair(text: str) -> tuple[int, int]:
    width, _, blocks = text.partition("x")
    return int(width), int(blocks)


class StemBlock(nn.Module):
    """Submanifold convolution, batch norm, ReLU."""

    def __init__(self, width_in: int, width_out: int, side: int) -> None:
        super().__init__()
        self.convolution = Submanifold(width_in, width_out, (side, side, side), "level0")
        self.norm = nn.BatchNorm1d(width_out)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Same voxels, ``width_out`` channels."""
        return normalised(self.convolution(x), self.norm)


class MinkUNetEncoder(nn.Module):
    """Halve the resolution, then residual blocks; ``width_down`` channels between the two."""

    def __init__(self, width_in: int, width_down: int, width_out: int, blocks: int, level: int) -> None:
        super().__init__()
        self.down = Down(width_in, width_down, HALVE, HALVE, f"down{level}")
        self.norm = nn.BatchNorm1d(width_down)
        widths = [width_down] + [width_out] * blocks
        self.blocks = nn.ModuleList(ResidualBlock(a, b, f"level{level}") for a, b in pairwise(widths))

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Voxels at twice the stride."""
        x = normalised(self.down(x), self.norm)
        for block in self.blocks:
            x = block(x)
        return x


class MinkUNet(nn.Module):
    """A published MinkUNet: logits per voxel from the features of each voxel's first point.

    Args:
        layout: widths, depths and variants.
        features: point features F.
        classes: logits C.

    Levels: "penultimate", the last decoder level, at stride 1. A head of three levels is kept as a layer per level, and
    the classes of the coarser two are interpolated instead of their features, which is the same as it is linear.
    """

    def __init__(self, layout: MinkUNetLayout, features: int, classes: int) -> None:
        super().__init__()
        self.layout = layout
        stem = (features, *layout.stem)
        self.stem = nn.ModuleList(StemBlock(a, b, 5 if layout.stem5 else CUBE[0]) for a, b in pairwise(stem))
        widths = [layout.stem[-1]] + [width for width, _ in layout.encoder]
        self.encoders = nn.ModuleList(
            MinkUNetEncoder(widths[i], width if layout.down else widths[i], width, blocks, i + 1)
            for i, (width, blocks) in enumerate(layout.encoder)
        )
        inputs = [widths[-1]] + [width for width, _ in layout.decoder]
        depth = len(layout.encoder)
        self.decoders = nn.ModuleList(
            Decoder(inputs[i], widths[depth - 1 - i], width, blocks, depth - 1 - i)
            for i, (width, blocks) in enumerate(layout.decoder)
        )
        self.head = nn.Linear(inputs[-1], classes)
        coarse = (inputs[0], inputs[2]) if layout.three else ()
        self.coarse_heads = nn.ModuleList(nn.Linear(width, classes, bias=False) for width in coarse)
        self.channels = {"penultimate": inputs[-1]}

    def forward(self, batch: Batch) -> Output:
        """Logits [V, C] of a batch; a batch without voxels gives empty ones."""
        count = len(batch.coordinates)
        if count == 0:
            empty = batch.features.new_zeros(0, self.channels["penultimate"])
            return Output(self.head(empty), {"penultimate": Level(empty, batch.coordinates, (1, 1, 1))})
        coordinates = from_lowest(batch)
        x = sparse_tensor(
            batch.features[first_points(batch.inverse, count)], coordinates, self._shape(batch, coordinates),
            batch.batch_size,
        )  # fmt: skip
        for block in self.stem:
            x = block(x)
        kept = [x]
        for encoder in self.encoders:
            kept.append(encoder(kept[-1]))
        decoded = [kept[-1]]
        for decoder, skip in zip(self.decoders, kept[-2::-1], strict=True):
            decoded.append(decoder(decoded[-1], skip))
        features = decoded[-1].features
        logits = self.head(features)
        for head, level, stride in zip(self.coarse_heads, (0, 2), (16, 4), strict=False):
            coarse = decoded[level].replace_feature(head(decoded[level].features))
            logits = logits + interpolate(coarse, coordinates, stride)
        return Output(logits, {"penultimate": Level(features, batch.coordinates, (1, 1, 1))})

    def _shape(self, batch: Batch, coordinates: Tensor) -> Shape:
        """Just the occupied cells where borders are cut off, else the grid's, padded so that halving loses none."""
        if self.layout.cut:
            x, y, z = (int(side) + 1 for side in coordinates[:, 1:].amax(dim=0))
            return x, y, z
        step = 2 ** len(self.layout.encoder)
        x, y, z = (-(-side // step) * step for side in batch.spatial_shape)
        return x, y, z


def first_points(inverse: Tensor, voxels: int) -> Tensor:
    """Row [voxels] of the first point of each voxel, from each point's voxel [N] (-1 = none)."""
    points = torch.arange(len(inverse), device=inverse.device)
    inside = inverse >= 0
    first = points.new_full((voxels,), len(inverse))
    return first.scatter_reduce(0, inverse[inside], points[inside], "amin")


def from_lowest(batch: Batch) -> Tensor:
    """Coordinates [V, 4] counted from the lowest occupied cell of each sample, per axis."""
    coordinates = batch.coordinates.clone()
    bounds = batch.voxel_offsets.tolist()
    for first, last in pairwise(bounds):
        if last > first:
            coordinates[first:last, 1:] -= coordinates[first:last, 1:].amin(dim=0)
    return coordinates


def interpolate(x: SparseTensor, coordinates: Tensor, stride: int) -> Tensor:
    """Trilinear interpolation [V, d] of a coarse level at fine cells [V, 4]; corners without a voxel are left out.

    The weights of the corners that exist are scaled to a sum of 1, as in torchsparse's ``calc_ti_weights``.
    """
    cells = torch.div(coordinates[:, 1:], stride, rounding_mode="floor")
    features = x.features.float()  # as autocast takes products in float32
    share = (coordinates[:, 1:] - cells * stride).float() / stride
    total = features.new_zeros(len(coordinates), features.shape[1])
    weights = features.new_zeros(len(coordinates))
    for corner in product((0, 1), repeat=3):
        step = cells.new_tensor(corner)
        weight = torch.where(step == 1, share, 1.0 - share).prod(dim=1)
        near = weight > 0
        at = torch.cat([coordinates[near, :1], cells[near] + step], dim=1)
        rows = find_rows(at, x.indices)
        found = rows >= 0
        places, weight = near.nonzero()[found, 0], weight[near][found]
        total = total.index_add(0, places, weight[:, None] * features[rows[found]])
        weights = weights.index_add(0, places, weight)
    return total / (weights[:, None] + 1e-8)


@NETWORKS.register("minkunet")
def build(size: str, features: int, classes: int) -> MinkUNet:
    """The MinkUNet of a size; ConfigError says what sizes look like."""
    return MinkUNet(read_layout(size), features, classes)
