"""Streams against a look-up of every cell: each pair once, in its tile and cell, and groups filled up with junk."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_voxels import random_voxels

from kd_seg.core.errors import DataError
from kd_seg.sparse.stream import GROUP, SPARE, TILE, Stream
from kd_seg.sparse.streams import Strided, inverse_streams, strided_streams, submanifold_stream
from kd_seg.sparse.tensor import FLAT, Sites, Triple

Pairs = set[tuple[int, int, int]]

KINDS: list[tuple[Triple, Triple, Triple]] = [
    ((2, 2, 2), (2, 2, 2), (0, 0, 0)),
    ((3, 3, 3), (2, 2, 2), (1, 1, 1)),
    ((3, 3, 3), (2, 2, 1), (1, 1, 1)),
    ((3, 3, 3), (3, 3, 3), (1, 1, 1)),
    ((3, 3, 3), (3, 3, 3), (0, 0, 0)),
    ((3, 1, 3), (2, 1, 3), (1, 0, 1)),
    ((2, 2, 2), (3, 3, 3), (0, 0, 0)),
]
"""Kernel, stride and padding."""

SHAPES: list[Triple] = [(8, 12, 6), (9, 13, 7), (7, 6, 5), (3, 16, 140)]


def pairs_of(stream: Stream) -> Pairs:
    """(cell, input row, output row) of a stream, whose form is checked on the way."""
    tiles = -(-stream.rows_out // TILE)
    assert len(stream.starts) == tiles * stream.cells + 1
    assert len(stream.rin) >= stream.starts[-1] + SPARE
    found, counts = [], np.zeros(stream.cells, np.int64)
    for j in range(tiles * stream.cells):
        tile, cell = divmod(j, stream.cells)
        slots = slice(stream.starts[j], stream.starts[j + 1])
        assert (slots.stop - slots.start) % GROUP == 0
        rin, rout = stream.rin[slots], stream.rout[slots]
        real = rout < TILE
        assert (np.diff(real.astype(int)) <= 0).all(), "junk stands behind the pairs"
        assert (~real).sum() < GROUP
        assert ((rin >= 0) & (rin < stream.rows_in)).all()
        counts[cell] += real.sum()
        rows_out = (rout[real] + tile * TILE).tolist()
        found += [(cell, i, o) for i, o in zip(rin[real].tolist(), rows_out, strict=True)]
    assert counts.tolist() == stream.counts.tolist()
    assert len(found) == len(set(found))
    return set(found)


def sites_of(seed: int, count: int, shape: Triple) -> Sites:
    """Random sites of two clouds."""
    return Sites(random_voxels(seed, count, shape), shape, 2)


def looked_up(
    sites: Sites, kind: tuple[Triple, Triple, Triple], around: bool
) -> tuple[Triple, list[tuple[int, ...]], Pairs]:
    """Shape, coordinates and pairs of a strided convolution's output, each of its cells looked up."""
    size, stride, padding = kind
    made = [(n + 2 * p - k) // s + 1 for n, k, s, p in zip(sites.shape, size, stride, padding, strict=True)]
    if around:
        made[1] = -(-sites.shape[1] // stride[1])
    rows = {tuple(c): i for i, c in enumerate(sites.coordinates.tolist())}
    hits = []
    for output in np.ndindex(2, *made):
        for cell, offset in enumerate(np.ndindex(*size)):
            at = [o * s - p + k for o, s, p, k in zip(output[1:], stride, padding, offset, strict=True)]
            if around:
                at[1] %= sites.shape[1]
            row = rows.get((output[0], *at))
            if row is not None:
                hits.append((cell, row, output))
    outputs = sorted({output for _, _, output in hits})
    number = {output: i for i, output in enumerate(outputs)}
    return (made[0], made[1], made[2]), outputs, {(cell, row, number[output]) for cell, row, output in hits}


def strided(sites: Sites, kind: tuple[Triple, Triple, Triple], around: bool = False) -> Strided:
    """The streams of a kind."""
    return strided_streams(sites, *kind, "d", (False, around, False))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 400), st.sampled_from(KINDS), st.booleans(), st.sampled_from(SHAPES))
def test_strided_streams_hold_every_pair_once(
    seed: int, count: int, kind: tuple[Triple, Triple, Triple], around: bool, shape: Triple
) -> None:
    sites = sites_of(seed, count, shape)
    found = strided(sites, kind, around)
    made, outputs, expected = looked_up(sites, kind, around)
    assert found.coarse.shape == made
    assert [tuple(row) for row in found.coarse.coordinates.tolist()] == outputs
    assert pairs_of(found.down) == expected
    assert pairs_of(found.up) == {(cell, output, row) for cell, row, output in expected}
    again = inverse_streams(found.coarse, "d")
    assert (again.down, again.up, again.fine) == (found.down, found.up, sites)


@pytest.mark.parametrize("kind", KINDS)
def test_strided_streams_over_many_tiles(kind: tuple[Triple, Triple, Triple]) -> None:
    sites = sites_of(5, 4000, (31, 30, 29))
    found = strided(sites, kind)
    expected = looked_up(sites, kind, False)[2]
    assert len(found.up.starts) > 7 * found.up.cells
    assert pairs_of(found.down) == expected
    assert pairs_of(found.up) == {(cell, output, row) for cell, row, output in expected}


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(0, 700), st.booleans(), st.sampled_from(SHAPES))
def test_submanifold_streams_hold_every_neighbour_once(seed: int, count: int, around: bool, shape: Triple) -> None:
    sites = sites_of(seed, count, shape)
    rows = {tuple(c): i for i, c in enumerate(sites.coordinates.tolist())}
    expected = set()
    for (batch, x, y, z), out in rows.items():
        for cell, (i, j, k) in enumerate(np.ndindex(3, 3, 3)):
            near_y = (y + j - 1) % shape[1] if around else y + j - 1
            near = rows.get((batch, x + i - 1, near_y, z + k - 1))
            if near is not None:
                expected.add((cell, near, out))
    stream, cells = submanifold_stream(sites, (3, 3, 3), (False, around, False))
    assert pairs_of(stream) == expected
    assert cells.tolist() == list(range(27))


@pytest.mark.parametrize("kind", KINDS[:3])
def test_rows_that_are_not_sorted_are_refused(kind: tuple[Triple, Triple, Triple]) -> None:
    backwards = Sites(torch.flip(random_voxels(1, 50, (8, 12, 6)), [0]), (8, 12, 6), 2)
    with pytest.raises(DataError, match="not sorted"):
        strided_streams(backwards, *kind, "d", FLAT)
    with pytest.raises(ValueError, match="middle axis"):
        strided_streams(sites_of(1, 50, (8, 12, 6)), *kind, "d", (True, False, False))
