"""Grids are values: shapes, JSON, and sentences about wrong ones; kernels compile where no cache can be written."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from kd_seg.core.errors import ConfigError
from kd_seg.voxels import CartesianGrid, CylindricalGrid, Grid, grid_from_json, voxelize


@pytest.mark.parametrize(
    "grid",
    [
        CartesianGrid((0.05, 0.1, 0.2)),
        CartesianGrid((0.3, 0.3, 0.3), (0, -10, -2), (50, 10, 2)),
        CylindricalGrid(),
        CylindricalGrid.cylinder3d(),
        CylindricalGrid((10, 20, 5), (1.0, 0.0, -1.0), (5.0, 1.0, 1.0)),
    ],
)
def test_json_round_trip(grid: Grid) -> None:
    assert grid_from_json(json.loads(json.dumps(grid.to_json()))) == grid


@pytest.mark.parametrize("size", [0.05, 0.1, 0.2, 0.15, 0.37])
def test_shape_is_padded(size: float) -> None:
    grid = CartesianGrid((size, size, size))
    for cells, side in zip(grid.cells, grid.shape, strict=True):
        assert 0 <= side - cells < 16
        assert side % 16 == 0
    if size in (0.05, 0.1, 0.2):
        assert grid.shape == grid.cells


def test_default_ranges() -> None:
    grid = CartesianGrid((0.1, 0.1, 0.1))
    assert min(-grid.lower[0], -grid.lower[1], grid.upper[0], grid.upper[1]) >= 80.8
    assert grid.upper[2] > 80.8 * math.sin(math.radians(4.0))
    assert grid.lower[2] < -80.8 * math.sin(math.radians(25.0))
    assert CylindricalGrid().shape == (816, 368, 48)
    assert CylindricalGrid.cylinder3d().shape == (480, 360, 32)
    assert CylindricalGrid((10, 20, 5), (1.0, 0.0, -1.0), (5.0, 1.0, 1.0)).shape == (16, 32, 16)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"kind": "spherical"}, "must be one of cartesian, cylindrical"),
        ({}, "kind is None"),
        ({"kind": "cartesian"}, "cannot be read"),
        ({"kind": "cartesian", "voxel_size": [0.1, 0.1, 0.1], "colour": [1]}, "colour"),
        ({"kind": "cartesian", "voxel_size": [0.1, 0.1]}, "three numbers"),
        ({"kind": "cartesian", "voxel_size": 0.1}, "cannot be read"),
        ({"kind": "cartesian", "voxel_size": [0.1, 0.1, 0.0]}, "positive"),
        ({"kind": "cartesian", "voxel_size": [0.1, 0.1, math.nan]}, "finite"),
        ({"kind": "cartesian", "voxel_size": [1e-5, 1, 1]}, "too large"),
        ({"kind": "cartesian", "voxel_size": [1, 1, 1], "lower": [9, 0, 0], "upper": [8, 1, 1]}, "below"),
        ({"kind": "cylindrical", "cells": [480, 0, 32]}, "whole numbers"),
        ({"kind": "cylindrical", "lower": [-1, 0, 0], "upper": [8, 1, 1]}, "rho starts at 0"),
        ({"kind": "cylindrical", "lower": [0, 0, 0], "upper": [8, 7, 1]}, "2 pi"),
    ],
)
def test_wrong_grids_say_so(content: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        grid_from_json(content)


@pytest.mark.parametrize("start", [0.0, -math.pi / 2, -math.pi])
def test_no_point_is_lost_at_the_seam_of_a_whole_turn(start: float) -> None:
    near = np.array([0.0, 1e-38, 1e-30, 1e-17, 2e-16, 1e-15, 1e-9, 1e-8])
    across = np.concatenate([near, -near])
    along, zero = np.full(len(across), 5.0), np.zeros(len(across))
    ways = {0.0: (along, 5 * across), -math.pi / 2: (5 * across, -along), -math.pi: (-along, 5 * across)}
    points = np.column_stack([*ways[start], zero]).astype(np.float32)
    for cells in range(1, 400):
        grid = CylindricalGrid((4, cells, 2), (0.0, start, -1.0), (10.0, start + 2 * math.pi, 1.0))
        assert (voxelize(points, grid).inverse >= 0).all(), cells
