"""The convolution over a stream of row pairs and the gradient of its weights: compiled, without threads of their own.

What a call needs lies in a row of integers, a job (see ``TileJob``): addresses, strides in bytes and counts. Threads
that run the same job take tiles of it from a common counter, so a helper that comes late, or never, costs nothing.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from kd_seg.sparse.compiled import versioned_kernel
from kd_seg.sparse.packing import blocks_together
from kd_seg.sparse.stream import TILE
from kd_seg.sparse.vectors import (
    OUTER_ROWS,
    TALL,
    exchange,
    fill_rows,
    finish_rows,
    flush_denormals,
    multiply_one,
    multiply_rest,
    multiply_three,
    multiply_two,
    outer_one,
    outer_one_row,
    outer_one_tall,
    outer_two,
    outer_two_row,
    prefetch,
    read_i32,
    restore_denormals,
    take,
)
from kd_seg.sparse.widths import BLOCKS, GROUP, LANES, REST, ROWS

_MOST = max(BLOCKS)
_WIDE = 4 * LANES
"""Bytes of 16 channels."""
_AHEAD = 4 * GROUP
"""Pairs between a group in work and the one whose input rows are fetched."""
_STEP, _REST = ROWS, REST
_OUTER = OUTER_ROWS
_TALL = TALL


class TileJob(IntEnum):
    """Places in a job; addresses point to float32 unless said otherwise, strides are in bytes."""

    X = 0
    STRIDE_X = 1
    WIDTH_IN = 2
    WEIGHTS = 3
    """[cells, blocks, WIDTH_IN, 16], 64-byte aligned."""
    BLOCKS = 4
    """Times 16 output channels."""
    RIN = 5
    ROUT = 6
    STARTS = 7
    """The stream's int32, uint16 and int32."""
    STREAM_CELLS = 8
    CELLS = 9
    """int32: the stream's cell of each of the weights' cells."""
    CELL_COUNT = 10
    SHORTCUT = 11
    """Input of a 1x1 convolution over the stream's centre; 0 = none."""
    STRIDE_SHORTCUT = 12
    WIDTH_SHORTCUT = 13
    WEIGHTS_SHORTCUT = 14
    CENTRE = 15
    BIAS = 16
    """[16 blocks]."""
    ROWS_OUT = 17
    WIDTH_OUT = 18
    OUT = 19
    STRIDE_OUT = 20
    BEFORE = 21
    """Added before the activation (stride 0: one row for all)."""
    STRIDE_BEFORE = 22
    AFTER = 23
    """Added behind it."""
    STRIDE_AFTER = 24
    SCALE = 25
    SHIFT = 26
    """[16 blocks], applied to what is activated."""
    SLOPE = 27
    """One float: slope of the activation below 0."""
    COUNTER = 28
    """int64: the next tile."""
    STATES = 29
    """int64 for each tile: see ``State``."""


X, STRIDE_X, WIDTH_IN, WEIGHTS, BLOCK_COUNT = (int(TileJob(i)) for i in range(5))
RIN, ROUT, STARTS, STREAM_CELLS, CELLS, CELL_COUNT = (int(TileJob(i)) for i in range(5, 11))
SHORTCUT, STRIDE_SHORTCUT, WIDTH_SHORTCUT, WEIGHTS_SHORTCUT, CENTRE = (int(TileJob(i)) for i in range(11, 16))
BIAS, ROWS_OUT, WIDTH_OUT, OUT, STRIDE_OUT = (int(TileJob(i)) for i in range(16, 21))
BEFORE, STRIDE_BEFORE, AFTER, STRIDE_AFTER, SCALE, SHIFT, SLOPE, COUNTER = (int(TileJob(i)) for i in range(21, 29))
STATES = int(TileJob.STATES)


class State(IntEnum):
    """What has happened to a tile of a job: a helper's may be taken from it until it writes."""

    OPEN = 0
    COMPUTED = 1
    """By a helper, in its own scratch."""
    WRITTEN = 2
    """By a helper, just now, so it must be waited for."""
    DONE = 3
    TAKEN = 4
    """From a helper, or before one began."""


OPEN, COMPUTED, WRITTEN, DONE, TAKEN = (int(state) for state in State)


@versioned_kernel
def _multiply_groups(
    x: int, stride: int, rin: int, rout: int, pairs: int, weights: int, acc: int, blocks: int, width: int
) -> None:
    """acc[rout] += x[rin] @ weights for the pairs of one cell and tile."""
    stride_acc = blocks * _WIDE
    block = 0
    while block < blocks:
        wide = blocks_together(blocks - block)
        near = weights + block * width * _WIDE
        sums = acc + block * _WIDE
        whole = pairs - pairs % _STEP
        for pair in range(0, whole, _STEP):
            at, to = rin + 4 * pair, rout + 2 * pair
            for row in range(_STEP):
                prefetch(x + stride * read_i32(at + 4 * (_AHEAD + row)))
            if wide == 1:
                multiply_one(x, stride, at, to, near, sums, stride_acc, width)
            elif wide == 2:
                multiply_two(x, stride, at, to, near, sums, stride_acc, width)
            else:
                multiply_three(x, stride, at, to, near, sums, stride_acc, width)
        for pair in range(whole, pairs, _REST):
            multiply_rest(x, stride, rin + 4 * pair, rout + 2 * pair, near, sums, stride_acc, width)
        block += wide


@versioned_kernel
def convolve(job: npt.NDArray[np.int64], acc: int, helper: bool) -> None:
    """Take tiles of a job until none is left. ``acc``: scratch of (TILE + 1) rows of 16 blocks, 64-byte aligned.

    Who is no helper also computes, at the end, all tiles that helpers have begun and not yet begun to write: one that
    had to leave its core in the middle of a tile is not waited for.
    """
    state = flush_denormals()
    tiles = -(-job[ROWS_OUT] // TILE)
    while True:
        tile = take(job[COUNTER])
        if tile >= tiles:
            break
        at = job[STATES] + 8 * tile
        if helper and exchange(at, OPEN, COMPUTED) == 0:
            continue
        _compute(job, acc, tile)
        if helper and exchange(at, COMPUTED, WRITTEN) == 0:
            continue
        _finish(job, acc, tile)
        exchange(at, WRITTEN if helper else OPEN, DONE)
    if not helper:
        for tile in range(tiles):
            at = job[STATES] + 8 * tile
            # In this order: a helper may go from one state to the next in between.
            if exchange(at, OPEN, TAKEN) == 1 or exchange(at, COMPUTED, TAKEN) == 1:
                _compute(job, acc, tile)
                _finish(job, acc, tile)
    restore_denormals(state)


@versioned_kernel
def _compute(job: npt.NDArray[np.int64], acc: int, tile: int) -> None:
    """Sums of one tile, in the scratch."""
    blocks, width = job[BLOCK_COUNT], job[WIDTH_IN]
    rin, rout, starts, stream_cells = job[RIN], job[ROUT], job[STARTS], job[STREAM_CELLS]
    size = width * blocks * _WIDE
    fill_rows(acc, job[BIAS], TILE + 1, blocks)
    for i in range(job[CELL_COUNT]):
        at = starts + 4 * (tile * stream_cells + read_i32(job[CELLS] + 4 * i))
        first, last = read_i32(at), read_i32(at + 4)
        _multiply_groups(
            job[X], job[STRIDE_X], rin + 4 * first, rout + 2 * first, last - first, job[WEIGHTS] + i * size,
            acc, blocks, width,
        )  # fmt: skip
    if job[SHORTCUT] != 0:
        at = starts + 4 * (tile * stream_cells + job[CENTRE])
        first, last = read_i32(at), read_i32(at + 4)
        _multiply_groups(
            job[SHORTCUT], job[STRIDE_SHORTCUT], rin + 4 * first, rout + 2 * first, last - first,
            job[WEIGHTS_SHORTCUT], acc, blocks, job[WIDTH_SHORTCUT],
        )  # fmt: skip


@versioned_kernel
def _finish(job: npt.NDArray[np.int64], acc: int, tile: int) -> None:
    """Write one tile, with what follows the convolution."""
    row = tile * TILE
    finish_rows(
        acc, job[BLOCK_COUNT] * _WIDE, min(TILE, job[ROWS_OUT] - row), job[WIDTH_OUT],
        job[OUT] + row * job[STRIDE_OUT], job[STRIDE_OUT],
        job[BEFORE] + row * job[STRIDE_BEFORE], job[STRIDE_BEFORE],
        job[AFTER] + row * job[STRIDE_AFTER], job[STRIDE_AFTER],
        job[SCALE], job[SHIFT], job[SLOPE],
    )  # fmt: skip


@versioned_kernel
def weight_gradient(
    x: int,
    stride: int,
    width: int,
    dy: npt.NDArray[np.float32],
    stream: tuple[int, int, int, int],
    cells: npt.NDArray[np.int32],
    scratch: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
    counter: int,
) -> None:
    """Gradient of the weights: out[part, i] += sum of x[rin].T @ dy[rout] over the pairs of cell i in a part's tiles.

    Args:
        x, stride, width: address of the input, bytes from row to row, channels.
        dy: [rows out, channels out].
        stream: addresses of rin, rout and starts; cells of the stream.
        cells: the stream's cell of each of the weights' cells.
        scratch: [TILE + 1, 16 blocks], zeros.
        out: [parts, cells, width, 16 blocks], zeros. Parts are fixed by the caller, so sums do not depend on threads.
        counter: address of the next part.
    """
    state = flush_denormals()
    rin, rout, starts, stream_cells = stream
    rows_out, width_out = dy.shape
    parts, blocks = out.shape[0], out.shape[3] // LANES
    tiles = -(-rows_out // TILE)
    while True:
        part = take(counter)
        if part >= parts:
            break
        for tile in range(part * tiles // parts, (part + 1) * tiles // parts):
            row = tile * TILE
            rows = min(TILE, rows_out - row)
            for r in range(rows):
                for c in range(width_out):
                    scratch[r, c] = dy[row + r, c]
            for i in range(len(cells)):
                at = starts + 4 * (tile * stream_cells + cells[i])
                first, last = read_i32(at), read_i32(at + 4)
                _outer_products(
                    x, stride, width, rin + 4 * first, rout + 2 * first, last - first, scratch.ctypes.data,
                    out[part, i].ctypes.data, blocks,
                )  # fmt: skip
    restore_denormals(state)


@versioned_kernel
def _outer_products(
    x: int, stride: int, width: int, rin: int, rout: int, pairs: int, dy: int, out: int, blocks: int
) -> None:
    """out [width, 16 blocks] += x[rin].T @ dy[rout] for the pairs of one cell and tile."""
    line = blocks * _WIDE
    block = 0
    while block < blocks:
        wide = min(blocks - block, 2, _MOST)
        right, to = dy + block * _WIDE, out + block * _WIDE
        channel = 0
        while channel < width:
            many = channel + _OUTER <= width
            tall = wide == 1 and channel + _TALL <= width
            near, sums = x + 4 * channel, to + channel * line
            if tall:
                outer_one_tall(near, stride, rin, rout, right, line, sums, line, pairs)
            elif wide == 2 and many:
                outer_two(near, stride, rin, rout, right, line, sums, line, pairs)
            elif wide == 2:
                outer_two_row(near, stride, rin, rout, right, line, sums, line, pairs)
            elif many:
                outer_one(near, stride, rin, rout, right, line, sums, line, pairs)
            else:
                outer_one_row(near, stride, rin, rout, right, line, sums, line, pairs)
            channel += _TALL if tall else _OUTER if many else 1
        block += wide
