"""``image_unet``: a ResNet-style encoder and decoder for pictures, in plain torch; it teaches and is never served.

It fits the one Trainer because it takes the same Batch, of which it uses the view "pictures" alone, and gives the
same Output, whose rows are then cells of the pictures at half their size instead of voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd_seg.core.errors import ConfigError
from kd_seg.networks.batch import Batch, Level, Output, move
from kd_seg.networks.registry import NETWORKS

PICTURES = "pictures"
"""Name of the view that holds the network's input."""

STRIDE = 2
"""Pixels per cell of the output, per axis."""

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)

SIZES = {"nano": ((16, 24, 32, 64), 1), "small": ((32, 48, 96, 160), 2), "base": ((64, 96, 192, 320), 3)}
"""Widths at strides 2, 4, 8, 16, and residual blocks per stage."""


@dataclass(frozen=True)
class Pictures:
    """Pictures of a batch and what is known of some of their pixels.

    Attributes:
        images: [K, 3, H, W] uint8 RGB; K may be less than the batch size, and 0.
        picture: [P] picture of each labelled pixel. place: [P, 2] float32 (column, row).
        labels: [P] int64 train ids, above 0.
    """

    images: Tensor
    picture: Tensor
    place: Tensor
    labels: Tensor

    def to(self, device: torch.device | str) -> Pictures:
        """The same on another device."""
        return Pictures(*(move(v, device) for v in (self.images, self.picture, self.place, self.labels)))


class ImageResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, width_in: int, width_out: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(width_out)
        self.second = nn.Conv2d(width_out, width_out, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(width_out)
        plain = width_in == width_out and stride == 1
        self.shortcut = nn.Identity() if plain else nn.Conv2d(width_in, width_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, width_in, H, W] to [B, width_out, H / stride, W / stride]."""
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(y)) + self.shortcut(x))


class ImageUNet(nn.Module):
    """Encoder to stride 16, decoder back to stride 2.

    Levels: "penultimate" (decoder output at stride 2); coordinates are (picture, row, column, 0).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, widths: tuple[int, ...], blocks: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 5, 2, 2, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
        self.encoders = nn.ModuleList(
            nn.Sequential(
                ImageResidualBlock(below, width, 2), *(ImageResidualBlock(width, width) for _ in range(blocks - 1))
            )
            for below, width in pairwise(widths)
        )
        self.decoders = nn.ModuleList(
            ImageResidualBlock(above + width, width) for above, width in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], classes, 1)
        self.channels = {"penultimate": widths[0]}
        self.register_buffer("mean", torch.tensor(MEAN).reshape(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).reshape(1, 3, 1, 1) * 255, persistent=False)

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [K, C, h, w] and features [K, d, h, w] of pictures [K, 3, H, W] uint8, h = ceil(H / 2).

        Pictures are padded at the right and lower border to multiples of 16; what lies there is cut off again.
        """
        height, width = images.shape[2:]
        x = (images.float() - self.mean) / self.deviation
        x = F.pad(x, (0, -width % 16, 0, -height % 16))
        kept = [self.stem(x)]
        for encoder in self.encoders:
            kept.append(encoder(kept[-1]))
        x = kept.pop()
        for decoder in self.decoders:
            skip = kept.pop()
            x = decoder(torch.cat([F.interpolate(x, skip.shape[2:], mode="bilinear"), skip], dim=1))
        features = x[:, :, : -(-height // STRIDE), : -(-width // STRIDE)]
        return self.head(features), features

    def forward(self, batch: Batch) -> Output:
        """Logits [K h w, C] of the batch's pictures, row-major; ConfigError for a batch without the view."""
        pictures = batch.views.get(PICTURES)
        if pictures is None:
            raise ConfigError(
                "image_unet reads pictures, and this batch has none; train it with the objective image_labels, "
                "and use it as a teacher (kind: trained), not as a student."
            )
        images = pictures.images
        if len(images) == 0:
            features = images.new_zeros((0, self.channels["penultimate"], 1, 1), dtype=torch.float32)
            logits = self.head(features)
        else:
            logits, features = self.predict(images)
        count, _, high, wide = features.shape
        index = torch.arange(count * high * wide, device=images.device)
        zero = torch.zeros_like(index)
        at = torch.stack([index // (high * wide), index // wide % high, index % wide, zero], dim=1).int()
        level = Level(_rows(features), at, (STRIDE, STRIDE, 1))
        return Output(_rows(logits), {"penultimate": level})


def _rows(maps: Tensor) -> Tensor:
    """[K, d, h, w] to rows [K h w, d]."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


@NETWORKS.register("image_unet")
def build(size: str, features: int, classes: int) -> ImageUNet:
    """The image network of a named size (ConfigError for another); point features do not matter to it."""
    if size not in SIZES:
        raise ConfigError(f"image_unet has no size {size!r}; it has: {', '.join(SIZES)}.")
    return ImageUNet(*SIZES[size], classes)
