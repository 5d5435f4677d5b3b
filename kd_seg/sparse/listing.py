"""A stream from pairs in any order, each with its cell: they are counted, then put in their places."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.sparse.compiled import versioned_kernel
from kd_seg.sparse.stream import GROUP, SPARE, TILE

Array = npt.NDArray[Any]


@versioned_kernel
def lists_by_cell(
    inputs: npt.NDArray[np.int32],
    outputs: npt.NDArray[np.int32],
    cells: npt.NDArray[np.int32],
    kinds: int,
    rows_in: int,
    rows_out: int,
) -> tuple[Array, Array, Array, Array]:
    """Pairs (inputs, outputs) [N] with their cells, of which there are ``kinds``: rin, rout, starts, pairs per cell."""
    tiles = -(-rows_out // TILE)
    places = np.zeros(tiles * kinds + 1, dtype=np.int32)
    counts = np.zeros(kinds, dtype=np.int64)
    for i in range(len(inputs)):
        places[(outputs[i] // TILE) * kinds + cells[i]] += 1
        counts[cells[i]] += 1
    total = 0
    starts = np.empty(tiles * kinds + 1, dtype=np.int32)
    rin = np.empty(len(inputs) + tiles * kinds * (GROUP - 1) + SPARE, dtype=np.int32)
    rout = np.empty(len(rin), dtype=np.uint16)
    for j in range(tiles * kinds):
        starts[j] = total
        real = places[j]
        places[j] = total
        whole = -(-real // GROUP) * GROUP
        for i in range(total + real, total + whole):
            rin[i] = rows_in - 1
            rout[i] = TILE
        total += whole
    starts[tiles * kinds] = total
    rin[total : total + SPARE] = 0
    rout[total : total + SPARE] = TILE
    for i in range(len(inputs)):
        j = (outputs[i] // TILE) * kinds + cells[i]
        rin[places[j]] = inputs[i]
        rout[places[j]] = outputs[i] % TILE
        places[j] += 1
    return rin, rout, starts, counts
