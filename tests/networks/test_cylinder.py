"""The cylindrical network: levels, batches, empty and single inputs, gradients, the seam at phi = +-pi."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_data import tiny_cloud

from kd_seg.core.errors import ConfigError
from kd_seg.networks import Batch, Encoded, Encoding, build_network, collate, encode
from kd_seg.voxels import CartesianGrid, CylindricalGrid

GRID = CylindricalGrid((48, 64, 16), (0.0, -np.pi, -3.0), (30.0, np.pi, 3.0))
ENCODING = Encoding(GRID, ("cylinder9",))


def clouds(count: int) -> list[Encoded]:
    rng = np.random.default_rng(3)
    return [encode(tiny_cloud(rng)[0], None, ENCODING) for _ in range(count)]


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network("cylinder", "nano", 9, 19)


def settle(network: torch.nn.Module, batch: Batch) -> None:
    """Give batch norms the statistics of real features, so that eval mode computes with ordinary numbers."""
    network.train()
    with torch.no_grad():
        for _ in range(10):
            network(batch)
    network.eval()


def test_every_level_has_the_width_and_stride_it_names(network: torch.nn.Module) -> None:
    batch = collate(clouds(2), GRID)
    output = network.eval()(batch)
    assert output.logits.shape == (len(batch.coordinates), 19)
    assert set(output.levels) == set(network.channels)
    strides = {"enc0": (1, 1, 1), "enc1": (2, 2, 2), "enc2": (4, 4, 4), "enc3": (8, 8, 4), "enc4": (16, 16, 4)}
    for name, level in output.levels.items():
        assert level.features.shape == (len(level.coordinates), network.channels[name])
        assert level.stride == strides[{"penultimate": "enc0"}.get(name, name.replace("dec", "enc"))]
        rows = level.coordinates.numpy()
        assert np.array_equal(np.lexsort(rows.T[::-1]), np.arange(len(rows)))
        # a 3x3x3 window reaches further than the cell itself: every coarse cell of a voxel is there, and more
        coarse = np.unique(batch.coordinates.numpy() // np.array([1, *level.stride]), axis=0)
        assert {tuple(c) for c in coarse} <= {tuple(c) for c in rows}
    assert torch.equal(output.levels["penultimate"].coordinates, batch.coordinates)


def test_base_has_the_published_size() -> None:
    parameters = sum(p.numel() for p in build_network("cylinder", "base", 9, 20).parameters())
    assert 55.5e6 < parameters < 56.5e6


def test_two_clouds_together_answer_as_apart(network: torch.nn.Module) -> None:
    first, second = clouds(2)
    together = collate([first, second], GRID)
    settle(network, together)
    both = network(together).logits
    apart = torch.cat([network(collate([c], GRID)).logits for c in (first, second)])
    assert both.std() > 1e-3
    assert torch.allclose(both, apart, atol=1e-4)


def test_no_points_give_no_logits_in_both_modes(network: torch.nn.Module) -> None:
    outside = np.array([[500.0, 0, 0, 0.5], [np.nan, 0, 0, 0]], dtype=np.float32)
    for points in (np.zeros((0, 4), np.float32), outside):
        empty = collate([encode(points, None, ENCODING)], GRID)
        for mode in (True, False):
            output = network.train(mode)(empty)
            assert output.logits.shape == (0, 19)
            assert output.logits.requires_grad
            assert output.levels["enc4"].stride == (16, 16, 4)
            assert {n: v.features.shape for n, v in output.levels.items()} == {
                n: (0, w) for n, w in network.channels.items()
            }


@pytest.mark.parametrize("count", [1, 2])
def test_a_single_point_or_voxel_trains(network: torch.nn.Module, count: int) -> None:
    points = np.full((count, 4), 2.0, np.float32)
    output = network.train()(collate([encode(points, None, ENCODING)], GRID))
    output.logits.sum().backward()
    assert torch.isfinite(output.logits).all()


def test_points_outside_do_not_matter(network: torch.nn.Module) -> None:
    points = tiny_cloud(np.random.default_rng(5))[0]
    points = points[np.hypot(points[:, 0], points[:, 1]) < 29]
    more = np.concatenate([points, np.full((50, 4), 300.0, np.float32)])
    for mode in (True, False):
        network.train(mode)
        a, b = (network(collate([encode(p, None, ENCODING)], GRID)).logits for p in (points, more))
        torch.testing.assert_close(a, b)


def test_every_parameter_gets_a_gradient(network: torch.nn.Module) -> None:
    network.train().zero_grad()
    network(collate(clouds(2), GRID)).logits.square().mean().backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_a_step_against_the_gradient_lowers_the_loss() -> None:
    torch.manual_seed(1)
    network = build_network("cylinder", "nano", 9, 4).train()
    batch = collate(clouds(1), GRID)
    target = (batch.coordinates[:, 3] // 4).long()
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(batch).logits, target)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def turned(batch: Batch, cells: int) -> tuple[Batch, torch.Tensor]:
    """The batch with every voxel moved by ``cells`` along phi, and where each of its rows went."""
    coordinates = batch.coordinates.clone()
    coordinates[:, 2] = (coordinates[:, 2] + cells) % GRID.shape[1]
    order = torch.from_numpy(np.lexsort(coordinates.numpy().T[::-1]))
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    inverse = torch.where(batch.inverse < 0, -1, place[batch.inverse.clamp_min(0)])
    return replace(batch, coordinates=coordinates[order], inverse=inverse), place


def test_nothing_changes_at_the_seam(network: torch.nn.Module) -> None:
    """Turning the voxels by a multiple of the coarsest stride turns the logits and nothing else."""
    batch = collate(clouds(1), GRID)
    settle(network, batch)
    expected = network(batch).logits
    for cells in (16, 32):
        moved, place = turned(batch, cells)
        torch.testing.assert_close(network(moved).logits[place], expected, rtol=1e-3, atol=1e-4)
    flat, place = turned(replace(batch, wraps=(False, False, False)), 32)
    assert (network(flat).logits[place] - expected).abs().max() > 1e-2


def test_other_grids_work() -> None:
    """The published 360 cells are no multiple of 16; a cartesian grid has no seam."""
    points = tiny_cloud(np.random.default_rng(3))[0]
    for grid in (CylindricalGrid.cylinder3d(), CartesianGrid((0.4, 0.4, 0.4))):
        encoding = Encoding(grid, ("cylinder9",))
        batch = collate([encode(points, None, encoding)], grid)
        output = build_network("cylinder", "nano", 9, 3)(batch)
        assert output.logits.shape == (len(batch.coordinates), 3)
        assert torch.isfinite(output.logits).all()


def test_unknown_size_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="nano, small, base"):
        build_network("cylinder", "huge", 9, 19)
