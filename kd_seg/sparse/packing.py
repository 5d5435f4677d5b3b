"""Weights in the order in which the convolution kernels read them.

``packed`` is [cells, in * 16 blocks of outputs], zeros before: for each cell, and in it for each group of blocks that a
micro-kernel keeps in registers, the group's outputs of one input channel after those of the one before.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kd_seg.sparse.compiled import versioned_kernel
from kd_seg.sparse.widths import BLOCKS, LANES

Float32 = npt.NDArray[np.float32]

_MOST = max(BLOCKS)


@versioned_kernel
def blocks_together(left: int) -> int:
    """How many of the blocks that are left a micro-kernel takes next."""
    if left == 4 and _MOST == 3:  # 2 + 2 is better than 3 + 1
        return 2
    return min(left, _MOST)


@versioned_kernel
def pack(weight: Float32, packed: Float32) -> None:
    """Weights [out, cells, in], contiguous, of a convolution."""
    width_out, cells, width = weight.shape
    blocks = -(-width_out // LANES)
    block = 0
    while block < blocks:
        wide = blocks_together(blocks - block)
        first, start, line = block * LANES, block * width * LANES, wide * LANES
        for cell in range(cells):
            for o in range(min(line, width_out - first)):
                for c in range(width):
                    packed[cell, start + c * line + o] = weight[first + o, cell, c]
        block += wide


@versioned_kernel
def pack_transposed(weight: Float32, packed: Float32) -> None:
    """The same weights [in, cells, out], contiguous, for the convolution that carries gradients back."""
    width, cells, width_out = weight.shape
    blocks = -(-width_out // LANES)
    block = 0
    while block < blocks:
        wide = blocks_together(blocks - block)
        first, start, line = block * LANES, block * width * LANES, wide * LANES
        channels = min(line, width_out - first)
        for c in range(width):  # outermost, so that weights are read one after the other
            for cell in range(cells):
                for o in range(channels):
                    packed[cell, start + c * line + o] = weight[c, cell, first + o]
        block += wide
