"""A kernel map as a stream that a convolution reads strictly forwards.

A tile is 512 consecutive output rows. For each tile, and in it for each cell of the kernel, the stream holds pairs of
an input row and an output row within the tile, in groups of 8. An incomplete group is filled up with pairs of the last
input row and a junk row behind the tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.kernels import kernel

Array = npt.NDArray[Any]


TILE = 512
"""Output rows per tile."""

GROUP = 8
SPARE = 64
"""Slots behind the end, which kernels may read ahead."""


@dataclass(frozen=True)
class Stream:
    """A kernel map in the order of work.

    Attributes:
        rin: [S] int32, input rows. rout: [S] uint16, output rows within the tile (TILE = junk).
        starts: [tiles * cells + 1] int32, first slot of each tile and cell.
        cells: of the kernel. rows_in, rows_out: rows of both sides. counts: [cells] int64, real pairs of each cell.
    """

    rin: npt.NDArray[np.int32]
    rout: npt.NDArray[np.uint16]
    starts: npt.NDArray[np.int32]
    cells: int
    rows_in: int
    rows_out: int
    counts: npt.NDArray[np.int64]

    @cached_property
    def addresses(self) -> tuple[int, int, int]:
        """Of rin, rout and starts."""
        return address(self.rin), address(self.rout), address(self.starts)


def address(array: Array) -> int:
    """Where an array's values lie; ``array.ctypes.data`` takes three times as long."""
    found: int = array.__array_interface__["data"][0]
    return found


def stream_of(pairs: npt.NDArray[np.int32], counts: npt.NDArray[np.int32], rows_in: int, rows_out: int) -> Stream:
    """The stream of a kernel map pairs [2, K, N] (input rows, output rows) of which counts [K] are used."""
    rin, rout, starts = _fill(pairs[0], pairs[1], counts, rows_in, rows_out)
    return Stream(rin, rout, starts, len(counts), rows_in, rows_out, counts.astype(np.int64))


@kernel
def _fill(inputs: Array, outputs: Array, counts: Array, rows_in: int, rows_out: int) -> tuple[Array, Array, Array]:
    cells = len(counts)
    tiles = -(-rows_out // TILE)
    places = np.zeros(tiles * cells + 1, dtype=np.int32)
    for cell in range(cells):
        for i in range(counts[cell]):
            places[outputs[cell, i] // TILE * cells + cell] += 1
    total = 0
    starts = np.empty(tiles * cells + 1, dtype=np.int32)
    for j in range(tiles * cells):
        starts[j] = total
        total += -(-places[j] // GROUP) * GROUP
        places[j] = starts[j]
    starts[tiles * cells] = total
    rin = np.empty(total + SPARE, dtype=np.int32)
    rout = np.empty(total + SPARE, dtype=np.uint16)
    rin[:] = rows_in - 1
    rout[:] = TILE
    for cell in range(cells):
        for i in range(counts[cell]):
            row = outputs[cell, i]
            j = row // TILE * cells + cell
            rin[places[j]] = inputs[cell, i]
            rout[places[j]] = row % TILE
            places[j] += 1
    return rin, rout, starts
