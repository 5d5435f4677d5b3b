"""Our kernel maps give the numbers that spconv's own maps give, forward and backward, bit by bit where order allows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_seg.sparse import Down, Submanifold, Up, sparse_tensor, using
from kd_seg.sparse.kernel_maps import strided_map, submanifold_map
from kd_seg.sparse.spconv_backend import with_spconv_maps

SHAPE = (16, 12, 8)


def random_voxels(rng: np.random.Generator, count: int, batches: int = 2) -> np.ndarray:
    """Sorted, unique coordinates [V, 4] within SHAPE."""
    cells = batches * np.prod(SHAPE)
    keys = np.sort(rng.choice(cells, min(count, cells), replace=False))
    b, rest = np.divmod(keys, np.prod(SHAPE))
    x, rest = np.divmod(rest, SHAPE[1] * SHAPE[2])
    y, z = np.divmod(rest, SHAPE[2])
    return np.column_stack([b, x, y, z]).astype(np.int32)


def reference_pairs(coordinates: np.ndarray, size: tuple[int, int, int]) -> set[tuple[int, int, int]]:
    """(cell, input row, output row) by looking every neighbour up."""
    rows = {tuple(c): i for i, c in enumerate(coordinates.tolist())}
    found = set()
    for out, (b, x, y, z) in enumerate(coordinates.tolist()):
        for cell, (i, j, k) in enumerate(np.ndindex(*size)):
            near = (b, x + i - size[0] // 2, y + j - size[1] // 2, z + k - size[2] // 2)
            if near in rows:
                found.add((cell, rows[near], out))
    return found


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 400), size=st.sampled_from([(3, 3, 3), (1, 3, 3), (5, 1, 3)]))
def test_submanifold_map_holds_every_neighbour_once(seed, count, size):
    coordinates = random_voxels(np.random.default_rng(seed), count)
    pairs, counts = submanifold_map(coordinates, SHAPE, size)
    cells = int(np.prod(size))
    found = {(cells // 2, i, i) for i in range(len(coordinates))}
    for cell in range(cells // 2):
        for at in range(counts[cell]):
            found.add((cell, int(pairs[0, cell, at]), int(pairs[1, cell, at])))
            mirror = cells - 1 - cell
            found.add((mirror, int(pairs[0, mirror, at]), int(pairs[1, mirror, at])))
    assert found == reference_pairs(coordinates, size)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kernel", "stride"), [((2, 2, 2), (2, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((3, 3, 3), (2, 2, 1))])
def test_down_and_up_equal_spconv(kernel, stride, seed):
    torch.manual_seed(seed)
    coordinates = torch.from_numpy(random_voxels(np.random.default_rng(seed), 300))
    features = torch.randn(len(coordinates), 6)
    down, up = Down(6, 5, kernel, stride, "d"), Up(5, 4, kernel, "d")
    answers = []
    for ours in (True, False):
        f = features.clone().requires_grad_()
        down.zero_grad()
        up.zero_grad()
        x = sparse_tensor(f, coordinates, SHAPE, 2)
        with using("spconv"):
            coarse = down(x) if ours else with_spconv_maps("down", x, down.window, down.convolution.weight)
            fine = up(coarse) if ours else with_spconv_maps("up", coarse, up.window, up.convolution.weight)
        fine.features.square().sum().backward()
        order = np.lexsort(coarse.indices.numpy().T[::-1])
        answers.append(
            (coarse.indices[order], coarse.features[order], fine.features, f.grad, down.convolution.weight.grad)
        )
    assert torch.equal(answers[0][0], answers[1][0])
    for mine, theirs in zip(answers[0][1:], answers[1][1:], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_output_rows_of_a_stride_are_sorted():
    coordinates = random_voxels(np.random.default_rng(5), 500)
    out, shape, _, counts = strided_map(coordinates, SHAPE, (2, 2, 2), (2, 2, 2), (0, 0, 0))
    assert shape == (8, 6, 4)
    assert counts.sum() == len(coordinates)
    assert np.array_equal(np.lexsort(out.T[::-1]), np.arange(len(out)))
    np.testing.assert_array_equal(out, np.unique(coordinates // [1, 2, 2, 2], axis=0))


@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3), (3, 1, 3), (3, 1, 1)])
def test_submanifold_equals_spconv_bit_by_bit(kernel):
    torch.manual_seed(0)
    coordinates = torch.from_numpy(random_voxels(np.random.default_rng(1), 700))
    layer = Submanifold(8, 8, kernel, "s")
    answers = []
    for ours in (True, False):
        f = torch.linspace(-1, 1, 8 * len(coordinates)).reshape(-1, 8).requires_grad_()
        layer.zero_grad()
        x = sparse_tensor(f, coordinates, SHAPE, 2)
        with using("spconv"):
            y = layer(x) if ours else with_spconv_maps("submanifold", x, layer.window, layer.convolution.weight)
        y.features.square().sum().backward()
        answers.append((y.features, f.grad, layer.convolution.weight.grad))
    assert torch.equal(answers[0][0], answers[1][0])
    for mine, theirs in zip(answers[0][1:], answers[1][1:], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
