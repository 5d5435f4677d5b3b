"""``unet``: a residual sparse U-Net of the MinkUNet family (Choy et al., CVPR 2019), with submanifold blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kd_seg.core.errors import ConfigError
from kd_seg.networks.batch import Batch, Level, Output
from kd_seg.networks.fused_unet import FusedUNet
from kd_seg.networks.registry import NETWORKS
from kd_seg.sparse import Down, SparseTensor, Submanifold, Up, pool_rows, sparse_tensor
from kd_seg.sparse.fused import FusedCache, fusible
from kd_seg.sparse.normalisation import norm_relu

HALVE = (2, 2, 2)
CUBE = (3, 3, 3)


@dataclass(frozen=True)
class Size:
    """Widths and depths: ``encoder[0]`` at stride 1, then one halving per entry; the decoder goes back up.

    Attributes:
        encoder: widths, stem first.
        encoder_blocks: residual blocks per encoder level, stem excluded (the stem has ``stem_blocks``).
        decoder: widths from the coarsest upwards, one less than the encoder.
        decoder_blocks: residual blocks per decoder level.
        stem_blocks: convolutions at stride 1 before the first halving.
    """

    encoder: tuple[int, ...]
    encoder_blocks: tuple[int, ...]
    decoder: tuple[int, ...]
    decoder_blocks: tuple[int, ...]
    stem_blocks: int = 2

    def text(self) -> str:
        """The size in words, such as "32-32 32x1-64x1-96x1-128x1 96x1-64x1-48x1-32x1"; see ``read_size``."""
        encoder = zip(self.encoder[1:], self.encoder_blocks, strict=True)
        decoder = zip(self.decoder, self.decoder_blocks, strict=True)
        levels = ["-".join(f"{width}x{blocks}" for width, blocks in side) for side in (encoder, decoder)]
        return " ".join(["-".join([str(self.encoder[0])] * self.stem_blocks), *levels])


SIZES = {
    "nano": Size((16, 24, 32, 48, 64), (1, 1, 1, 1), (48, 32, 24, 16), (1, 1, 1, 1), stem_blocks=1),
    "small": Size((32, 32, 64, 96, 128), (1, 1, 1, 1), (96, 64, 48, 32), (1, 1, 1, 1)),
    "base": Size((32, 32, 64, 128, 256), (2, 3, 4, 6), (256, 128, 96, 96), (2, 2, 2, 2)),
}

_STEM, _LEVELS = r"[1-9]\d*(?:-[1-9]\d*)*", r"[1-9]\d*x\d+(?:-[1-9]\d*x\d+)*"
_SIZE = re.compile(rf"({_STEM}) ({_LEVELS}) ({_LEVELS})")


def read_size(size: str) -> Size:
    """The widths of a named size or of a text: stem, then width x residual blocks per encoder and decoder level.

    Raises ConfigError, which shows what a size looks like, for any other text.
    """
    if size in SIZES:
        return SIZES[size]
    found = _SIZE.fullmatch(size)
    if found is None:
        raise ConfigError(
            f"unet has no size {size!r}; it has: {', '.join(SIZES)}, or give widths of the stem and widths x blocks of "
            f"encoder and decoder, as in {SIZES['small'].text()!r}."
        )
    stem = [int(width) for width in found[1].split("-")]
    encoder, decoder = ([tuple(map(int, level.split("x"))) for level in found[i].split("-")] for i in (2, 3))
    if len(encoder) != len(decoder) or len(set(stem)) > 1 or not all(blocks for _, blocks in decoder):
        raise ConfigError(
            f"unet cannot have size {size!r}: as many decoder as encoder levels, one width in the stem, and at least "
            "one block per decoder level, which joins what it reads."
        )
    return Size(
        (stem[0], *(width for width, _ in encoder)),
        tuple(blocks for _, blocks in encoder),
        tuple(width for width, _ in decoder),
        tuple(blocks for _, blocks in decoder),
        len(stem),
    )


def normalised(x: SparseTensor, norm: nn.Module, added: Tensor | None = None) -> SparseTensor:
    """``relu(norm(x) + added)`` on the features of a sparse tensor; no rows pass as they are."""
    return x.replace_feature(norm_relu(x.features, norm, added))


class ConvolutionBlock(nn.Module):
    """Submanifold convolution, batch norm, ReLU."""

    def __init__(self, width_in: int, width_out: int, key: str) -> None:
        super().__init__()
        self.convolution = Submanifold(width_in, width_out, CUBE, key)
        self.norm = nn.BatchNorm1d(width_out)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Same voxels, ``width_out`` channels."""
        return normalised(self.convolution(x), self.norm)


class ResidualBlock(nn.Module):
    """Two submanifold convolutions and a shortcut (a 1x1 projection where widths differ)."""

    def __init__(self, width_in: int, width_out: int, key: str) -> None:
        super().__init__()
        self.first = Submanifold(width_in, width_out, CUBE, key)
        self.first_norm = nn.BatchNorm1d(width_out)
        self.second = Submanifold(width_out, width_out, CUBE, key)
        self.second_norm = nn.BatchNorm1d(width_out)
        self.shortcut = nn.Linear(width_in, width_out, bias=False) if width_in != width_out else nn.Identity()

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Same voxels, ``width_out`` channels."""
        y = normalised(self.first(x), self.first_norm)
        return normalised(self.second(y), self.second_norm, self.shortcut(x.features))


class Encoder(nn.Module):
    """Halve the resolution, then residual blocks."""

    def __init__(self, width_in: int, width_out: int, blocks: int, level: int) -> None:
        super().__init__()
        self.down = Down(width_in, width_out, HALVE, HALVE, f"down{level}")
        self.norm = nn.BatchNorm1d(width_out)
        self.blocks = nn.ModuleList(ResidualBlock(width_out, width_out, f"level{level}") for _ in range(blocks))

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Voxels at twice the stride."""
        x = normalised(self.down(x), self.norm)
        for block in self.blocks:
            x = block(x)
        return x


class Decoder(nn.Module):
    """Double the resolution, join the encoder's features, then residual blocks."""

    def __init__(self, width_in: int, width_skip: int, width_out: int, blocks: int, level: int) -> None:
        super().__init__()
        self.up = Up(width_in, width_out, HALVE, f"down{level + 1}")
        self.norm = nn.BatchNorm1d(width_out)
        widths = [width_out + width_skip] + [width_out] * blocks
        self.blocks = nn.ModuleList(ResidualBlock(widths[i], widths[i + 1], f"level{level}") for i in range(blocks))

    def forward(self, x: SparseTensor, skip: SparseTensor) -> SparseTensor:
        """Voxels of ``skip``."""
        x = normalised(self.up(x), self.norm)
        x = x.replace_feature(torch.cat([x.features, skip.features], dim=1))
        for block in self.blocks:
            x = block(x)
        return x


class UNet(nn.Module):
    """Residual sparse U-Net: point features are averaged per voxel, logits come per voxel.

    Args:
        size: widths and depths.
        features: point features F.
        classes: logits C.

    Levels: "enc0" (stride 1) .. "enc4" (stride 16), "dec3" .. "dec0" (stride 8 .. 1); "penultimate" is "dec0".
    """

    def __init__(self, size: Size, features: int, classes: int) -> None:
        super().__init__()
        widths = size.encoder
        depth = len(widths) - 1
        stem = [features] + [widths[0]] * size.stem_blocks
        self.stem = nn.ModuleList(ConvolutionBlock(stem[i], stem[i + 1], "level0") for i in range(size.stem_blocks))
        self.encoders = nn.ModuleList(
            Encoder(widths[i], widths[i + 1], size.encoder_blocks[i], i + 1) for i in range(depth)
        )
        inputs = (widths[-1], *size.decoder[:-1])
        self.decoders = nn.ModuleList(
            Decoder(inputs[i], widths[depth - 1 - i], size.decoder[i], size.decoder_blocks[i], depth - 1 - i)
            for i in range(depth)
        )
        self.head = nn.Linear(size.decoder[-1], classes)
        self.channels = {f"enc{i}": w for i, w in enumerate(widths)}
        self.channels |= {f"dec{depth - 1 - i}": w for i, w in enumerate(size.decoder)}
        self.channels["penultimate"] = size.decoder[-1]
        self.depth = depth
        self.fused = FusedCache()

    def forward(self, batch: Batch) -> Output:
        """Logits [V, C] and the named levels of a batch; a batch without voxels gives empty ones."""
        count = len(batch.coordinates)
        pooled = pool_rows(batch.features, batch.inverse, count, "mean")
        if count == 0:
            return self._empty(pooled, batch.coordinates)
        step = 2**self.depth
        side_x, side_y, side_z = (-(-side // step) * step for side in batch.spatial_shape)
        if fusible(self, pooled):
            return self._fused(pooled, batch, (side_x, side_y, side_z))
        x = sparse_tensor(pooled, batch.coordinates, (side_x, side_y, side_z), batch.batch_size)
        for block in self.stem:
            x = block(x)
        encoded = [x]
        for encoder in self.encoders:
            encoded.append(encoder(encoded[-1]))
        levels = {f"enc{i}": _level(t, 2**i) for i, t in enumerate(encoded)}
        x = encoded[-1]
        for i, decoder in enumerate(self.decoders):
            level = self.depth - 1 - i
            x = decoder(x, encoded[level])
            levels[f"dec{level}"] = _level(x, 2**level)
        levels["penultimate"] = levels["dec0"]
        return Output(self.head(x.features), levels)

    def _fused(self, pooled: Tensor, batch: Batch, shape: tuple[int, int, int]) -> Output:
        logits, found = self.fused.get(self, FusedUNet)(pooled, batch, shape)
        levels = {
            name: Level(rows, sites.coordinates, _stride(2 ** self._exponent(name)))
            for name, (rows, sites) in found.items()
        }
        levels["penultimate"] = levels["dec0"]
        return Output(logits, levels)

    def _empty(self, pooled: Tensor, coordinates: Tensor) -> Output:
        """No voxels: empty rows that keep a gradient path to the head."""
        levels = {
            name: Level(pooled.new_zeros(0, width), coordinates[:0], _stride(2 ** self._exponent(name)))
            for name, width in self.channels.items()
        }
        return Output(self.head(levels["penultimate"].features), levels)

    @staticmethod
    def _exponent(name: str) -> int:
        return 0 if name == "penultimate" else int(name[3:])


def _level(x: SparseTensor, stride: int) -> Level:
    return Level(x.features, x.indices, _stride(stride))


def _stride(stride: int) -> tuple[int, int, int]:
    return (stride, stride, stride)


@NETWORKS.register("unet")
def build(size: str, features: int, classes: int) -> UNet:
    """The U-Net of a size; ConfigError says what sizes look like."""
    return UNet(read_size(size), features, classes)
