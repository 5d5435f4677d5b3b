"""Every network that convolves voxels, small, with a batch of two clouds: for tests of devices and precisions."""

from __future__ import annotations

import numpy as np
import torch
from tiny_data import tiny_cloud
from torch import nn

from kd_seg.networks import Batch, Encoding, build_network, collate, encode
from kd_seg.networks.spv import BOXES, FEATURES
from kd_seg.voxels import CartesianGrid, CylindricalGrid, feature_width

TURN = CylindricalGrid((48, 64, 16), (0.0, -np.pi, -3.0), (30.0, np.pi, 3.0))
ROLL = CylindricalGrid((48, 64, 16), (0.0, -3.1415926, -3.0), (30.0, 3.1415926, 3.0), clamp=True)
SECTOR = CylindricalGrid((48, 64, 16), (0.0, -1.5, -3.0), (30.0, 1.5, 3.0))
CUBES = CartesianGrid((0.3, 0.3, 0.3), (-20.1, -20.1, -3.0), (20.1, 20.1, 3.0))

NETWORKS: dict[str, tuple[str, str, Encoding]] = {
    "unet nano": ("unet", "nano", Encoding(CUBES, ("xyz", "remission", "offset"))),
    "unet small": ("unet", "small", Encoding(CUBES, ("xyz", "remission"))),
    "cylinder over a turn": ("cylinder", "nano", Encoding(TURN, ("cylinder9",))),
    "cylinder over a sector": ("cylinder", "nano", Encoding(SECTOR, ("cylinder9",))),
    "minkunet": ("minkunet", "18-w16", Encoding(CUBES, ("xyz", "remission"))),
    "minkunet on three levels": ("minkunet", "34v2-w32", Encoding(CUBES, ("xyz", "remission"))),
    "spv": ("spv", "4x64", Encoding(BOXES["semantickitti"], FEATURES)),
    "cylinder3d": ("cylinder3d", "w8", Encoding(ROLL, ("cylinder9",))),
}
"""Network, size and encoding by a name for tests."""


def settled(name: str) -> tuple[nn.Module, Batch]:
    """A network with settled batch norms, and a batch of two clouds."""
    network, size, encoding = NETWORKS[name]
    rng = np.random.default_rng(3)
    batch = collate([encode(tiny_cloud(rng)[0], None, encoding) for _ in range(2)], encoding.grid)
    torch.manual_seed(0)
    here = build_network(network, size, feature_width(encoding.features), 19)
    with torch.no_grad():
        for _ in range(10):
            here.train()(batch)
    return here, batch
