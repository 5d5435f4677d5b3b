"""Each library's layout against the offsets that the library documents, one kernel cell at a time."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from kd_seg.importing import layouts
from kd_seg.sparse import Down, Submanifold, Up, sparse_tensor


def torchsparse_offsets(side: int) -> list[tuple[int, int, int]]:
    """torchsparse 1.4, get_kernel_offsets: odd sides x fastest, even ones z fastest."""
    steps = range(-side // 2 + 1, side // 2 + 1)
    if side**3 % 2 == 1:
        return [(x, y, z) for z in steps for y in steps for x in steps]
    return [(x, y, z) for x in steps for y in steps for z in steps]


def minkowski_offsets(side: int) -> list[tuple[int, int, int]]:
    """MinkowskiEngine 0.5, kernel_region.hpp: x fastest; even sides begin at 0."""
    first = 0 if side % 2 == 0 else -(side // 2)
    found = []
    for number in range(side**3):
        place, rest = [], number
        for _ in range(3):
            place.append(rest % side + first)
            rest //= side
        found.append((place[0], place[1], place[2]))
    return found


def spconv_offsets(side: int) -> list[tuple[int, int, int]]:
    """spconv 1 and 2: z fastest; even sides begin at 0."""
    first = 0 if side % 2 == 0 else -(side // 2)
    steps = range(first, first + side)
    return list(product(steps, steps, steps))


LIBRARIES = {
    "torchsparse": (layouts.torchsparse, torchsparse_offsets),
    "minkowski": (layouts.minkowski, minkowski_offsets),
    "spconv1": (layouts.spconv1, spconv_offsets),
    "spconv2": (layouts.spconv2, spconv_offsets),
    "spconv2_zyx": (layouts.spconv2_zyx, lambda side: [(x, y, z) for z, y, x in spconv_offsets(side)]),
}


def weight_with(library: str, side: int, cell: int, width_in: int, width_out: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A kernel in a library's shape that is zero but in one cell, and that cell's matrix [in, out]."""
    matrix = torch.randn(width_in, width_out, generator=torch.Generator().manual_seed(cell))
    flat = torch.zeros(side**3, width_in, width_out)
    flat[cell] = matrix
    if library in ("torchsparse", "minkowski"):
        return flat, matrix
    cube = flat.reshape(side, side, side, width_in, width_out)
    return (cube if library == "spconv1" else cube.permute(4, 0, 1, 2, 3).contiguous()), matrix


def block(side: int) -> torch.Tensor:
    """All cells of a cube, sorted."""
    cells = torch.tensor([(0, x, y, z) for x in range(side) for y in range(side) for z in range(side)])
    return cells.int()


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("side", [3, 5])
def test_submanifold_cells(library: str, side: int) -> None:
    convert, offsets = LIBRARIES[library]
    cells = block(5)
    rows = {tuple(cell[1:].tolist()): number for number, cell in enumerate(cells)}
    features = torch.randn(len(cells), 2, generator=torch.Generator().manual_seed(1))
    layer = Submanifold(2, 3, (side, side, side), "x")
    for cell in range(0, side**3, 1 if side == 3 else 7):
        weight, matrix = weight_with(library, side, cell, 2, 3)
        layer.convolution.weight.data = convert(weight).contiguous()
        made = layer(sparse_tensor(features, cells, (8, 8, 8), 1)).features
        dx, dy, dz = offsets(side)[cell]
        for number, (x, y, z) in enumerate(cells[:, 1:].tolist()):
            near = rows.get((x + dx, y + dy, z + dz))
            wanted = torch.zeros(3) if near is None else features[near] @ matrix
            torch.testing.assert_close(made[number], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("library", LIBRARIES)
def test_halving_and_back(library: str) -> None:
    convert, offsets = LIBRARIES[library]
    cells = block(4)
    features = torch.randn(len(cells), 2, generator=torch.Generator().manual_seed(1))
    down, up = Down(2, 2, (2, 2, 2), (2, 2, 2), "d"), Up(2, 2, (2, 2, 2), "d")
    for cell in range(8):
        weight, matrix = weight_with(library, 2, cell, 2, 2)
        down.convolution.weight.data = up.convolution.weight.data = convert(weight).contiguous()
        coarse = down(sparse_tensor(features, cells, (4, 4, 4), 1))
        fine = up(coarse)
        offset = torch.tensor(offsets(2)[cell])
        for number, place in enumerate(coarse.indices[:, 1:]):
            source = int(((cells[:, 1:] == place * 2 + offset).all(dim=1)).nonzero())
            torch.testing.assert_close(coarse.features[number], features[source] @ matrix, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(fine.features[source], coarse.features[number] @ matrix, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("width_in", "width_out"), [(2, 3), (3, 3)])
def test_single_cells_become_matrices(width_in: int, width_out: int) -> None:
    """spconv 2 computes ``mm(x, weight.view(in, out))`` whatever the shape of the parameter says."""
    x = torch.randn(5, width_in)
    stored = torch.randn(width_out, 1, 1, 1, width_in)
    wanted = x @ stored.view(width_in, width_out)
    torch.testing.assert_close(torch.nn.functional.linear(x, layouts.spconv2(stored)), wanted)
    torch.testing.assert_close(torch.nn.functional.linear(x, layouts.spconv2_zyx(stored)), wanted)
    matrix = torch.randn(width_in, width_out)
    for layout in (layouts.torchsparse, layouts.minkowski):
        torch.testing.assert_close(torch.nn.functional.linear(x, layout(matrix)), x @ matrix)
    first = layouts.spconv1(matrix.reshape(1, 1, 1, width_in, width_out))
    torch.testing.assert_close(torch.nn.functional.linear(x, first), x @ matrix)


def test_spconv_tells_its_versions_apart() -> None:
    second = torch.randn(8, 3, 3, 3, 4)
    torch.testing.assert_close(layouts.spconv(second), layouts.spconv2(second))
    first = torch.randn(3, 3, 3, 4, 8)
    torch.testing.assert_close(layouts.spconv(first), layouts.spconv1(first))
    assert layouts.spconv(torch.randn(1, 1, 1, 4, 8)).shape == (8, 4)
    assert layouts.spconv(torch.randn(8, 1, 1, 1, 4)).shape == (8, 4)


def test_shared_maps_use_the_first_cells() -> None:
    weight = torch.randn(3, 3, 3, 2, 4)
    weight.view(27, 2, 4)[9:] = torch.nan
    used = layouts.shared((1, 3, 3))(weight)
    assert used.shape == (4, 1, 3, 3, 2)
    torch.testing.assert_close(used[:, 0], weight[0].permute(3, 0, 1, 2))
    other = torch.randn(3, 1, 3, 2, 4)
    torch.testing.assert_close(layouts.shared((1, 3, 3))(other)[:, 0], other[:, 0].permute(3, 0, 1, 2))


@pytest.mark.parametrize("layout", [layouts.torchsparse, layouts.minkowski])
def test_what_is_no_cube_is_refused(layout: layouts.Layout) -> None:
    with pytest.raises(ValueError, match="cube"):
        layout(torch.zeros(9, 2, 2))
    with pytest.raises(ValueError, match="expected"):
        layout(torch.zeros(3, 3, 3, 2, 2))


def test_columns_keep_their_order() -> None:
    from kd_seg.importing.folding import drop_column

    state = {"head.bias": torch.arange(20.0)}
    drop_column(state, ("head.bias",), 0)
    np.testing.assert_array_equal(state["head.bias"], np.arange(1, 20))
    state = {"head.bias": torch.arange(20.0)}
    drop_column(state, ("head.bias",), -1)
    np.testing.assert_array_equal(state["head.bias"], np.arange(19))
