"""``unet`` for inference on the CPU: the same layers, fused; skip connections are written where they are read."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from kd_seg.networks.batch import Batch
from kd_seg.sparse.fused import Affine, Buffers, FusedConvolution
from kd_seg.sparse.streams import Strided, strided_streams, submanifold_stream
from kd_seg.sparse.tensor import FLAT, Sites, Triple

CUBE: Triple = (3, 3, 3)
HALVE: Triple = (2, 2, 2)
EIGHT = np.arange(8, dtype=np.int32)
"""All cells of a halving."""


class _Block:
    """Two convolutions and a shortcut."""

    def __init__(self, block: Any) -> None:
        self.first = FusedConvolution(block.first.convolution.weight, Affine.of(block.first_norm), slope=0.0)
        linear = block.shortcut.weight if isinstance(block.shortcut, nn.Linear) else None
        self.second = FusedConvolution(
            block.second.convolution.weight, Affine.of(block.second_norm), slope=0.0, shortcut=linear
        )

    def __call__(self, x: Tensor, out: Tensor, sites: Sites, middle: Tensor) -> Tensor:
        stream, cells = submanifold_stream(sites, CUBE, FLAT)
        self.first(x, middle, stream, cells)
        if self.second.shortcut is None:
            return self.second(middle, out, stream, cells, before=x)
        return self.second(middle, out, stream, cells, shortcut=x)


class FusedUNet:
    """The fused form of a ``UNet``; holds copies of its weights."""

    def __init__(self, network: Any) -> None:
        self.depth: int = network.depth
        self.buffers = Buffers()
        self.stem = [
            FusedConvolution(block.convolution.convolution.weight, Affine.of(block.norm), slope=0.0)
            for block in network.stem
        ]
        self.down = [self._strided(e.down, e.norm) for e in network.encoders]
        self.up = [self._strided(d.up, d.norm) for d in network.decoders]
        self.encoders = [[_Block(block) for block in e.blocks] for e in network.encoders]
        self.decoders = [[_Block(block) for block in d.blocks] for d in network.decoders]
        self.head = FusedConvolution(network.head.weight, bias=network.head.bias)

    @staticmethod
    def _strided(layer: Any, norm: nn.Module) -> FusedConvolution:
        return FusedConvolution(layer.convolution.weight, Affine.of(norm), slope=0.0)

    def __call__(self, pooled: Tensor, batch: Batch, shape: Triple) -> tuple[Tensor, dict[str, tuple[Tensor, Sites]]]:
        """Logits [V, C] and features of the levels with their sites, from voxel features [V, F]."""
        sites = [Sites(batch.coordinates.int().contiguous(), shape, batch.batch_size)]
        steps: list[Strided] = []
        for level in range(self.depth):
            steps.append(strided_streams(sites[level], HALVE, HALVE, (0, 0, 0), f"down{level + 1}", FLAT))
            sites.append(steps[level].coarse)
        levels: dict[str, tuple[Tensor, Sites]] = {}
        joined = [self._joined(level, sites[level]) for level in range(self.depth)]
        x = self._encode(pooled, sites, steps, joined, levels)
        for level in reversed(range(self.depth)):
            x = self._decode(x, level, sites[level], steps[level], joined[level])
            levels[f"dec{level}"] = (x, sites[level])
        stream, cells = submanifold_stream(sites[0], (1, 1, 1), FLAT)
        logits = self.head(x, self.buffers("logits", len(sites[0]), self.head.width_out), stream, cells)
        return logits, levels

    def _joined(self, level: int, sites: Sites) -> Tensor:
        """Room for what comes from below and, beside it, the encoder's features."""
        width = self.up[self.depth - 1 - level].width_out + self._width(level)
        return self.buffers(f"joined{level}", len(sites), width)

    def _width(self, level: int) -> int:
        return self.stem[-1].width_out if level == 0 else self.down[level - 1].width_out

    def _encode(
        self,
        x: Tensor,
        sites: list[Sites],
        steps: list[Strided],
        joined: list[Tensor],
        levels: dict[str, tuple[Tensor, Sites]],
    ) -> Tensor:
        stream, cells = submanifold_stream(sites[0], CUBE, FLAT)
        for i, convolution in enumerate(self.stem):
            last = i == len(self.stem) - 1
            out = self._skip(joined[0], 0) if last else self.buffers(f"stem{i}", len(sites[0]), convolution.width_out)
            x = convolution(x, out, stream, cells)
        levels["enc0"] = (x, sites[0])
        for level in range(1, self.depth + 1):
            rows, width = len(sites[level]), self._width(level)
            blocks = self.encoders[level - 1]
            skips = not blocks and level < self.depth
            out = self._skip(joined[level], level) if skips else self.buffers(f"down{level}", rows, width)
            x = self.down[level - 1](x, out, steps[level - 1].down, EIGHT)
            for i, block in enumerate(blocks):
                into_joined = i == len(blocks) - 1 and level < self.depth
                name = f"encoder{level} {i}"
                out = self._skip(joined[level], level) if into_joined else self.buffers(name, rows, width)
                x = block(x, out, sites[level], self.buffers(f"middle{level}", rows, width))
            levels[f"enc{level}"] = (x, sites[level])
        return x

    def _skip(self, joined: Tensor, level: int) -> Tensor:
        return joined[:, joined.shape[1] - self._width(level) :]

    def _decode(self, x: Tensor, level: int, sites: Sites, step: Strided, joined: Tensor) -> Tensor:
        number = self.depth - 1 - level
        up, rows = self.up[number], len(sites)
        up(x, joined[:, : up.width_out], step.up, EIGHT)
        x = joined
        for i, block in enumerate(self.decoders[number]):
            width = block.second.width_out
            out = self.buffers(f"decoder{level} {i}", rows, width)
            x = block(x, out, sites, self.buffers(f"middle{level}", rows, width))
        return x
