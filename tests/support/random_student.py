"""A student with random weights: its answers mean nothing, but they are answers."""

from __future__ import annotations

from pathlib import Path

import torch

from kd_seg.checkpoint import Spec, save_checkpoint
from kd_seg.classes import load_classes
from kd_seg.networks import Encoding, build_network
from kd_seg.scans import Sensor
from kd_seg.voxels import CartesianGrid


def write_student(
    path: Path, classes: str = "semantic_kitti_19", reach: float = 16.0, sensor: Sensor = Sensor()
) -> Path:
    """Save a nano student whose grid ends at +-``reach`` metres, so that some points of a scan lie outside."""
    torch.manual_seed(3)
    grid = CartesianGrid((0.4,) * 3, (-reach, -reach, -4.0), (reach, reach, 4.0))
    table = load_classes(classes)
    spec = Spec("unet", "nano", table, Encoding(grid, ("xyz", "remission", "offset")), sensor)
    save_checkpoint(path, build_network("unet", "nano", 7, len(table)), spec)
    return path
