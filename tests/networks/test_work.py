"""Multiply-adds against counting by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from kd_seg.networks import Batch, Encoding, build_network, collate, encode
from kd_seg.networks.work import multiply_adds
from kd_seg.sparse import Down, Submanifold, Up, sparse_tensor
from kd_seg.voxels import CartesianGrid, CylindricalGrid

SHAPE = (16, 16, 16)


class Small(nn.Module):
    """One convolution of each kind, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.same = Submanifold(4, 5, (3, 3, 3), "same")
        self.down = Down(5, 6, (2, 2, 2), (2, 2, 2), "down")
        self.up = Up(6, 7, (2, 2, 2), "down")
        self.head = nn.Linear(7, 3)

    def forward(self, batch: Batch) -> torch.Tensor:
        x = sparse_tensor(torch.zeros(len(batch.coordinates), 4), batch.coordinates, SHAPE, 1)
        rows: torch.Tensor = self.head(self.up(self.down(self.same(x))).features)
        return rows


def batch_of(points: np.ndarray, grid: CartesianGrid | CylindricalGrid) -> Batch:
    return collate([encode(points, None, Encoding(grid, ("xyz", "remission")))], grid)


def test_every_pair_is_counted() -> None:
    points = np.random.default_rng(0).uniform(0, 16, (200, 4)).astype(np.float32)
    batch = batch_of(points, CartesianGrid((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (16.0, 16.0, 16.0)))
    cells = batch.coordinates[:, 1:].numpy()
    near = (np.abs(cells[:, None] - cells[None]) <= 1).all(axis=2).sum()
    expected = near * 4 * 5 + len(cells) * (5 * 6 + 6 * 7 + 7 * 3)
    network = Small().train()
    assert multiply_adds(network, batch) == expected
    assert multiply_adds(network, batch) == expected, "no hook stays behind"
    assert network.training


@pytest.mark.parametrize(("name", "grid"), [("unet", CartesianGrid((0.5,) * 3)), ("cylinder", CylindricalGrid())])
def test_networks_have_work(name: str, grid: CartesianGrid | CylindricalGrid) -> None:
    points = np.random.default_rng(1).uniform(-20, 20, (500, 4)).astype(np.float32)
    points[:, 2] = np.abs(points[:, 2]) / 10
    network = build_network(name, "nano", 4, 19)
    one, half = multiply_adds(network, batch_of(points, grid)), multiply_adds(network, batch_of(points[:250], grid))
    assert 0 < half < one
