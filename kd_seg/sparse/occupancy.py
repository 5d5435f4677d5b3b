"""Streams of 3x3x3 submanifold maps from occupancy bits, without a list of pairs in between.

The voxels of a slab of equal x are kept as bits: one 64-bit mask per column (y) and block of 62 cells along z. Bits 1
to 62 are the block's cells, bits 0 and 63 repeat the cells below and above it. So the three neighbours of a voxel in a
column are three bits, and their rows follow from the row of the mask's first voxel and the number of bits below. Three
slabs are kept; no branch depends on what is occupied.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.sparse.compiled import versioned_kernel
from kd_seg.sparse.stream import GROUP, SPARE, TILE
from kd_seg.sparse.vectors import popcount

Array = npt.NDArray[Any]


CELLS = 27
BLOCK = 62
"""Cells along z per mask."""

_ONE = np.uint64(1)
_SEVEN = np.uint64(7)


@versioned_kernel
def is_sorted(coordinates: npt.NDArray[np.int32], shape: tuple[int, int, int]) -> bool:
    """Whether rows (batch, x, y, z) are sorted, unique and inside ``shape``."""
    before = np.int64(-1)
    fit = True
    for i in range(len(coordinates)):
        b, x, y, z = coordinates[i, 0], coordinates[i, 1], coordinates[i, 2], coordinates[i, 3]
        key = ((np.int64(b) * shape[0] + x) * shape[1] + y) * shape[2] + z
        fit &= (b >= 0) & (x >= 0) & (x < shape[0]) & (y >= 0) & (y < shape[1]) & (z >= 0) & (z < shape[2])
        fit &= key > before
        before = key
    return fit


@versioned_kernel
def _write_slab(coordinates: Array, first: int, last: int, blocks: int, masks: Array, starts: Array) -> None:
    """Set the bits of the rows ``first`` to ``last`` of one slab; masks [y + 2, blocks] are zeros before."""
    for row in range(first, last):
        y, z = coordinates[row, 2] + 1, coordinates[row, 3]
        block, cell = z // BLOCK, z % BLOCK
        at = y * blocks + block
        if masks[at] == 0:
            starts[at] = row
        masks[at] |= _ONE << np.uint64(cell + 1)
        if cell == 0 and block > 0:
            if masks[at - 1] == 0:
                starts[at - 1] = row
            masks[at - 1] |= _ONE << np.uint64(63)
        if cell == BLOCK - 1 and block + 1 < blocks:
            if masks[at + 1] == 0:
                starts[at + 1] = row
            masks[at + 1] |= _ONE


@versioned_kernel
def _clear_slab(coordinates: Array, first: int, last: int, blocks: int, masks: Array) -> None:
    for row in range(first, last):
        y = coordinates[row, 2] + 1
        block = coordinates[row, 3] // BLOCK
        at = y * blocks
        for i in range(max(0, block - 1), min(blocks, block + 2)):
            masks[at + i] = 0


@versioned_kernel
def _close_seam(side: int, blocks: int, masks: Array, starts: Array) -> None:
    """The columns beyond both ends of y repeat those of the other end."""
    for i in range(blocks):
        masks[i], starts[i] = masks[side * blocks + i], starts[side * blocks + i]
        masks[(side + 1) * blocks + i], starts[(side + 1) * blocks + i] = masks[blocks + i], starts[blocks + i]


@versioned_kernel
def _find_neighbours(
    coordinates: Array, begin: int, end: int, first: int, blocks: int, slabs: tuple[int, ...],
    masks: Array, starts: Array, near: Array, bits: Array,
) -> None:  # fmt: skip
    """Three bits, and their first row, in each of 9 columns, for rows of one slab in the tile from ``first`` on."""
    for row in range(begin, end):
        place = np.uint64(row - first)
        z = coordinates[row, 3]
        down = np.uint64(z % BLOCK)  # one below the voxel's bit
        below = (_ONE << down) - _ONE
        column = np.uint64(coordinates[row, 2] * blocks + z // BLOCK)
        to = place
        for slab in slabs:
            at = column + np.uint64(slab)
            for _ in range(3):
                mask = masks[at]
                bits[to] = np.uint32(mask >> down) & np.uint32(7)
                near[to] = starts[at] + np.int32(popcount(mask & below))
                at += np.uint64(blocks)
                to += np.uint64(TILE)


@versioned_kernel
def _append(
    near: Array,
    bits: Array,
    rows: int,
    dz: int,
    filled: int,
    rin: Array,
    rout: Array,
) -> int:
    """Append the pairs of one cell for ``rows`` rows of a tile; returns the new end. No branch: what is no pair is
    overwritten by the next."""
    to = np.uint64(filled)
    shift = np.uint32(dz)
    under = np.uint32((1 << dz) - 1)
    for r in range(np.uint64(rows)):
        three = bits[r]
        lower = three & under
        rin[to] = near[r] + np.int32((lower & np.uint32(1)) + (lower >> np.uint32(1)))
        rout[to] = r
        to += np.uint64(three >> shift & np.uint32(1))
    return int(to)


@versioned_kernel
def submanifold_lists(
    coordinates: npt.NDArray[np.int32], side: int, height: int, wraps: bool, rin: Array, rout: Array
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Fill the stream of a 3x3x3 submanifold map; returns starts and the pairs of each cell.

    Args:
        coordinates: [V, 4] (batch, x, y, z), sorted and unique. side, height: cells along y and z.
        wraps: whether y wraps around.
        rin, rout: room for 27 pairs per voxel, 8 per tile and cell, and SPARE.
    """
    voxels = len(coordinates)
    blocks = -(-height // BLOCK)
    slab_size = (side + 2) * blocks
    masks = np.zeros(3 * slab_size, dtype=np.uint64)
    starts = np.zeros(3 * slab_size, dtype=np.int32)
    bounds = np.zeros((3, 2), dtype=np.int64)  # rows that are written into each slab
    held = np.full(3, -5, dtype=np.int64)  # which slab of the batch it is
    near = np.empty(9 * TILE, dtype=np.int32)
    bits = np.empty(9 * TILE, dtype=np.uint32)
    totals = np.zeros(CELLS, dtype=np.int64)
    tile_starts = np.empty(-(-voxels // TILE) * CELLS + 1, dtype=np.int32)
    filled, tile, row = 0, 0, 0
    while row < voxels:
        batch, x = int(coordinates[row, 0]), int(coordinates[row, 1])
        last = _slab_end(coordinates, row, batch, x)
        for step in range(3):
            wanted = (batch << 32) + x + step - 1
            slab = (x + step) % 3
            if held[slab] == wanted:
                continue
            begin = end = 0  # a slab below that is not held is empty
            if step == 1:
                begin, end = row, last
            elif step == 2:
                begin, end = last, _slab_end(coordinates, last, batch, x + 1)
            of = slice(slab * slab_size, (slab + 1) * slab_size)
            _clear_slab(coordinates, bounds[slab, 0], bounds[slab, 1], blocks, masks[of])
            if wraps:
                masks[slab * slab_size : slab * slab_size + blocks] = 0
                masks[(slab + 1) * slab_size - blocks : (slab + 1) * slab_size] = 0
            _write_slab(coordinates, begin, end, blocks, masks[of], starts[of])
            if wraps:
                _close_seam(side, blocks, masks[of], starts[of])
            held[slab], bounds[slab, 0], bounds[slab, 1] = wanted, begin, end
        slabs = (x % 3 * slab_size, (x + 1) % 3 * slab_size, (x + 2) % 3 * slab_size)
        while row < last:
            first = row // TILE * TILE
            stop = min(last, first + TILE)
            _find_neighbours(coordinates, row, stop, first, blocks, slabs, masks, starts, near, bits)
            row = stop
            if row == first + TILE or row == voxels:
                filled = _close_tile(near, bits, row - first, tile, tile_starts, totals, filled, rin, rout, voxels)
                tile += 1
    tile_starts[tile * CELLS] = filled
    rin[filled : filled + SPARE] = 0
    rout[filled : filled + SPARE] = TILE
    return tile_starts, totals


@versioned_kernel
def _slab_end(coordinates: Array, begin: int, batch: int, x: int) -> int:
    """First row from ``begin`` on that is not at (batch, x)."""
    end = begin
    while end < len(coordinates) and coordinates[end, 0] == batch and coordinates[end, 1] == x:
        end += 1
    return end


@versioned_kernel
def _close_tile(
    near: Array, bits: Array, rows: int, tile: int, starts: Array, totals: Array, filled: int,
    rin: Array, rout: Array, voxels: int,
) -> int:  # fmt: skip
    """Write a tile's pairs behind what is filled, groups filled up; returns the new end."""
    for column in range(9):
        rows_here = near[column * TILE : (column + 1) * TILE]
        bits_here = bits[column * TILE : (column + 1) * TILE]
        for dz in range(3):
            cell = 3 * column + dz
            starts[tile * CELLS + cell] = filled
            end = _append(rows_here, bits_here, rows, dz, filled, rin, rout)
            totals[cell] += end - filled
            filled += -(-(end - filled) // GROUP) * GROUP
            for i in range(end, filled):
                rin[i] = voxels - 1
                rout[i] = TILE
    return filled
