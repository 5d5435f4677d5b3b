"""``cylinder`` for inference on the CPU: the same layers, fused; all kernels of a level read one stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kd_seg.networks.batch import Batch
from kd_seg.sparse.fused import Affine, Buffers, FusedConvolution
from kd_seg.sparse.streams import strided_streams, submanifold_stream
from kd_seg.sparse.tensor import Sites, Triple, Wraps

LEAK = 0.01
"""Slope below 0 of the network's activation."""

_ALL = np.arange(27, dtype=np.int32)


class _Step:
    """Convolution, leaky ReLU, batch norm."""

    def __init__(self, step: Any) -> None:
        layer = step.convolution
        self.size: Triple = layer.window.size
        self.convolution = FusedConvolution(layer.convolution.weight, slope=LEAK, behind=Affine.of(step.norm))

    @property
    def width(self) -> int:
        """Channels that come out."""
        return self.convolution.width_out

    def __call__(self, x: Tensor, out: Tensor, sites: Sites, wraps: Wraps, after: Tensor | None = None) -> Tensor:
        stream, cells = submanifold_stream(sites, self.size, wraps)
        return self.convolution(x, out, stream, cells, after=after)


class _Asymmetric:
    """Two branches of two steps; the sum is part of the last."""

    def __init__(self, block: Any, name: str, buffers: Buffers) -> None:
        self.one, self.other = ([_Step(step) for step in branch] for branch in (block.one, block.other))
        self.name, self.buffers = name, buffers

    def __call__(self, x: Tensor, sites: Sites, wraps: Wraps) -> Tensor:
        rows, width = len(sites), self.one[0].width
        first, one, out = (self.buffers(f"{self.name} {part}", rows, width) for part in ("first", "one", "out"))
        self.one[1](self.one[0](x, first, sites, wraps), one, sites, wraps)
        return self.other[1](self.other[0](x, first, sites, wraps), out, sites, wraps, after=one)


class FusedCylinder:
    """The fused form of a ``Cylinder``; holds copies of its weights, except those of its point network."""

    def __init__(self, network: Any) -> None:
        self.points = network.points
        self.buffers = buffers = Buffers()
        self.stem = _Asymmetric(network.stem, "stem", buffers)
        self.blocks = [_Asymmetric(e.block, f"encoder{i}", buffers) for i, e in enumerate(network.encoders)]
        self.windows = [e.down.window for e in network.encoders]
        self.down = [FusedConvolution(e.down.convolution.weight) for e in network.encoders]
        self.before = [_Step(d.before) for d in network.decoders]
        self.up = [FusedConvolution(d.up.convolution.weight) for d in network.decoders]
        self.steps = [[_Step(step) for step in d.steps] for d in network.decoders]
        pairs = list(zip(network.context.convolutions, network.context.norms, strict=True))
        self.lines = [(c.window.size, FusedConvolution(c.convolution.weight, Affine.of(norm))) for c, norm in pairs]
        self.head = FusedConvolution(network.head.convolution.weight, bias=network.bias)

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, tuple[Tensor, Sites]]]:
        """Logits [V, C] and features of the levels with their sites."""
        wraps = batch.wraps
        x = self.points(batch.features, batch.inverse, len(batch.coordinates))
        sites = Sites(batch.coordinates.int().contiguous(), batch.spatial_shape, batch.batch_size)
        x = self.stem(x, sites, wraps)
        levels = {"enc0": (x, sites)}
        skips = []
        for i, (block, down, window) in enumerate(zip(self.blocks, self.down, self.windows, strict=True)):
            skip = block(x, sites, wraps)
            step = strided_streams(sites, window.size, window.stride, window.padding, window.key, wraps)
            skips.append((skip, step))
            sites = step.coarse
            x = down(skip, self.buffers(f"down{i}", len(sites), down.width_out), step.down, _ALL)
            levels[f"enc{i + 1}"] = (x, sites)
        for i in range(4):
            skip, step = skips.pop()
            x = self._decode(i, x, skip, step, wraps)
            levels[f"dec{3 - i}"] = (x, step.fine)
        sites = step.fine
        joined = self._context(x, sites, wraps)
        levels["penultimate"] = (joined, sites)
        stream, cells = submanifold_stream(sites, (3, 3, 3), wraps)
        return self.head(joined, self.buffers("logits", len(sites), self.head.width_out), stream, cells), levels

    def _decode(self, i: int, x: Tensor, skip: Tensor, step: Any, wraps: Wraps) -> Tensor:
        coarse, fine = step.coarse, step.fine
        width = self.up[i].width_out
        x = self.before[i](x, self.buffers(f"before{i}", len(coarse), width), coarse, wraps)
        x = self.up[i](x, self.buffers(f"up{i}", len(fine), width), step.up, _ALL, after=skip)
        for number, convolution in enumerate(self.steps[i]):
            x = convolution(x, self.buffers(f"step{i} {number}", len(fine), width), fine, wraps)
        return x

    def _context(self, x: Tensor, sites: Sites, wraps: Wraps) -> Tensor:
        """The rows scaled by the context beside the rows."""
        width = x.shape[1]
        joined = self.buffers("joined", len(sites), 2 * width)
        line = self.buffers("line", len(sites), width)
        scale = self.buffers("scale", len(sites), width).zero_()
        for size, convolution in self.lines:
            scale += torch.sigmoid_(convolution(x, line, *submanifold_stream(sites, size, wraps)))
        torch.mul(x, scale, out=joined[:, :width])
        joined[:, width:] = x
        return joined
