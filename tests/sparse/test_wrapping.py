"""Kernel maps around a seam, strided maps against a look-up, and coordinates that no map is made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_seg.core.errors import DataError
from kd_seg.sparse import Down, Submanifold, Up, sparse_tensor
from kd_seg.sparse.kernel_maps import strided_map, submanifold_map

SHAPE = (8, 12, 4)
AROUND = (False, True, False)
Triple = tuple[int, int, int]


def voxels(seed: int, count: int, shape: Triple = SHAPE, batches: int = 2) -> np.ndarray:
    """Sorted unique coordinates [V, 4]."""
    rng = np.random.default_rng(seed)
    cells = batches * int(np.prod(shape))
    keys = np.sort(rng.choice(cells, min(count, cells), replace=False))
    return np.stack(np.unravel_index(keys, (batches, *shape)), axis=1).astype(np.int32)


def ordered(coordinates: np.ndarray) -> np.ndarray:
    """Order that sorts coordinates."""
    return np.lexsort(coordinates.T[::-1])


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(0, 300),
    st.sampled_from([(3, 3, 3), (1, 3, 3), (3, 1, 3), (5, 5, 1), (1, 3, 1), (3, 3, 5)]),
    st.booleans(),
    st.integers(5, 12),
)
def test_submanifold_map_around_the_seam(seed: int, count: int, size: Triple, around: bool, side: int) -> None:
    shape = (5, side, 6)
    coordinates = voxels(seed, count, shape)
    pairs, counts = submanifold_map(coordinates, shape, size, (False, around, False))
    rows = {tuple(c): i for i, c in enumerate(coordinates.tolist())}
    expected = set()
    for out, (b, x, y, z) in enumerate(coordinates.tolist()):
        for cell, (i, j, k) in enumerate(np.ndindex(*size)):
            near_y = y + j - size[1] // 2
            near = (b, x + i - size[0] // 2, near_y % side if around else near_y, z + k - size[2] // 2)
            if near in rows:
                expected.add((cell, rows[near], out))
    cells = int(np.prod(size))
    found = {(cells // 2, i, i) for i in range(len(coordinates))}
    for cell in range(cells // 2):
        for at in range(counts[cell]):
            for c in (cell, cells - 1 - cell):
                found.add((c, int(pairs[0, c, at]), int(pairs[1, c, at])))
    assert found == expected
    assert 2 * counts.sum() + len(coordinates) == len(expected)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(0, 300),
    st.sampled_from([((2, 2, 2), (2, 2, 2), 0), ((3, 3, 3), (2, 2, 2), 1), ((3, 3, 3), (2, 2, 1), 1)]),
    st.booleans(),
    st.sampled_from([12, 13, 15]),
)
def test_strided_map_against_a_look_up(
    seed: int, count: int, kind: tuple[Triple, Triple, int], around: bool, side: int
) -> None:
    size, stride, pad = kind
    full = (6, side, 4)
    coordinates = voxels(seed, count, full)
    made, shape, pairs, counts = strided_map(coordinates, full, size, stride, (pad, pad, pad), (False, around, False))
    sides = [(n + 2 * pad - k) // s + 1 for n, k, s in zip(full, size, stride, strict=True)]
    if around:
        sides[1] = -(-side // stride[1])
    assert shape == tuple(sides)
    rows = {tuple(c): i for i, c in enumerate(coordinates.tolist())}
    expected = set()
    for output in np.ndindex(2, *shape):
        for cell, offset in enumerate(np.ndindex(*size)):
            at = [o * s - pad + k for o, s, k in zip(output[1:], stride, offset, strict=True)]
            if around:
                at[1] %= side
            row = rows.get((output[0], *at))
            if row is not None:
                expected.add((cell, row, output))
    outputs = sorted({e[2] for e in expected})
    assert [tuple(c) for c in made.tolist()] == outputs
    found = {
        (cell, int(pairs[0, cell, i]), outputs[pairs[1, cell, i]])
        for cell in range(len(counts))
        for i in range(counts[cell])
    }
    assert found == expected
    assert counts.sum() == len(expected)


def test_a_turned_cloud_gives_a_turned_answer() -> None:
    """Down, submanifold, up: turning the input by cells turns the output, across the seam too."""
    torch.manual_seed(0)
    layers = [
        Submanifold(3, 5, (3, 3, 3), "a"),
        Down(5, 6, (3, 3, 3), (2, 2, 2), "d"),
        Submanifold(6, 6, (1, 3, 3), "b"),
        Up(6, 4, (3, 3, 3), "d"),
        Submanifold(4, 2, (3, 1, 3), "a"),
    ]
    coordinates = voxels(3, 350)
    features = torch.randn(len(coordinates), 3, dtype=torch.float64)

    def run(turn: int) -> tuple[torch.Tensor, torch.Tensor]:
        turned = coordinates.copy()
        turned[:, 2] = (turned[:, 2] + turn) % SHAPE[1]
        order = ordered(turned)
        start = features[order].clone().requires_grad_()
        x = sparse_tensor(start, torch.from_numpy(turned[order]), SHAPE, 2)
        for layer in layers:
            x = layer.double()(x, AROUND)
        (x.features**2).sum().backward()
        back = np.argsort(order)
        return x.features.detach()[back], start.grad[back]

    expected, gradient = run(0)
    assert expected.abs().max() > 0.1
    for turn in (2, 6, 10):
        found, turned_gradient = run(turn)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(turned_gradient, gradient)


def test_without_a_seam_wrapping_changes_nothing() -> None:
    coordinates = voxels(4, 200)
    coordinates = coordinates[(coordinates[:, 2] > 1) & (coordinates[:, 2] < SHAPE[1] - 2)]
    used = []
    for around in (False, True):
        pairs, counts = submanifold_map(coordinates, SHAPE, (3, 3, 3), (False, around, False))
        used.append([pairs[:, c, :n].tolist() for c, n in enumerate(counts)])
    assert used[0] == used[1]


@pytest.mark.parametrize(
    "rows",
    [
        [[0, 1, 1, 1], [0, 1, 1, 0]],
        [[0, 1, 1, 1], [0, 1, 1, 1]],
        [[0, 8, 1, 1]],
        [[0, 1, 12, 1]],
        [[0, 1, 1, -1]],
        [[-1, 1, 1, 1]],
        [[1, 0, 0, 0], [0, 0, 0, 0]],
    ],
)
def test_unsorted_repeated_and_stray_voxels_are_refused(rows: list[list[int]]) -> None:
    coordinates = np.array(rows, dtype=np.int32)
    with pytest.raises(DataError, match="not sorted, hold a voxel twice or leave the shape"):
        submanifold_map(coordinates, SHAPE, (3, 3, 3))
    with pytest.raises(DataError, match="make them with voxelize"):
        strided_map(coordinates, SHAPE, (2, 2, 2), (2, 2, 2), (0, 0, 0))


def test_only_the_middle_axis_wraps() -> None:
    coordinates = voxels(5, 10)
    with pytest.raises(ValueError, match="middle axis"):
        submanifold_map(coordinates, SHAPE, (3, 3, 3), (True, False, False))
    with pytest.raises(ValueError, match="middle axis"):
        strided_map(coordinates, SHAPE, (3, 3, 3), (2, 2, 2), (1, 1, 1), (False, False, True))
