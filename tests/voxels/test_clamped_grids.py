"""Grids whose border cells take what lies beyond, against the pre-processing of published code, stated anew."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_seg.core.errors import ConfigError
from kd_seg.voxels import CartesianGrid, CylindricalGrid, grid_from_json, point_features, voxelize

BOX = CartesianGrid((0.5, 0.5, 0.25), (-4.0, -3.0, -2.0), (4.0, 3.5, 1.0), clamp=True)
ROLL = CylindricalGrid((12, 9, 5), (0.0, -3.1415926, -2.0), (11.0, 3.1415926, 2.0), clamp=True)


def cloud(seed: int, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = np.concatenate([rng.uniform(-8, 8, (count, 3)), rng.random((count, 1))], axis=1)
    points[rng.random(count) < 0.1, 1] = 0.0
    return points.astype(np.float32)


@given(st.integers(0, 10_000), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_cartesian_is_clip_then_floor(seed: int, count: int) -> None:
    points = cloud(seed, count)
    clipped = np.clip(points[:, :3].astype(np.float64), BOX.lower, BOX.upper)
    wanted = np.floor((clipped - BOX.lower) * (1.0 / np.array(BOX.voxel_size))).astype(int)
    voxels = voxelize(points, BOX)
    np.testing.assert_array_equal(voxels.coordinates[voxels.inverse], wanted)
    features = point_features(points, voxels, BOX, ("clamped", "remission"))
    np.testing.assert_allclose(features[:, :3], np.clip(points[:, :3], BOX.lower, BOX.upper), rtol=1e-6)
    np.testing.assert_array_equal(features[:, 3], points[:, 3])


@given(st.integers(0, 10_000), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_cylindrical_is_cylinder3d(seed: int, count: int) -> None:
    points = cloud(seed, count)
    x, y, z = points[:, :3].astype(np.float64).T
    polar = np.stack([np.sqrt(x * x + y * y), np.arctan2(y, x), z], axis=1)
    lower, upper = np.array(ROLL.lower), np.array(ROLL.upper)
    step = (upper - lower) / (np.array(ROLL.cells) - 1)
    cells = np.floor((np.clip(polar, lower, upper) - lower) / step).astype(int)
    voxels = voxelize(points, ROLL)
    np.testing.assert_array_equal(voxels.coordinates[voxels.inverse], cells)
    features = point_features(points, voxels, ROLL, ("cylinder9",))
    centre = (cells + 0.5) * step + lower
    wanted = np.concatenate([polar - centre, polar, points[:, :2], points[:, 3:]], axis=1)
    np.testing.assert_allclose(features, wanted, atol=1e-5)


def test_cells_shape_and_seam() -> None:
    assert BOX.cells == (17, 14, 13)
    assert BOX.shape == (32, 16, 16)
    assert ROLL.shape == (12, 9, 5)
    assert ROLL.wraps == (False, False, False)
    behind = np.array([[-3.0, 0.0, 0.0, 0.5], [-3.0, -0.0, 0.0, 0.5]], np.float32)
    voxels = voxelize(behind, ROLL)
    # pi and -pi are the two ends of the roll, not one place
    assert sorted(voxels.coordinates[voxels.inverse][:, 1]) == [0, 8]


@pytest.mark.parametrize("grid", [BOX, ROLL])
def test_what_is_not_finite_stays_outside(grid: CartesianGrid | CylindricalGrid) -> None:
    points = np.zeros((4, 4), np.float32)
    points[0, 0], points[1, 1], points[2, 2] = np.nan, np.inf, -np.inf
    assert (voxelize(points, grid).inverse >= 0).tolist() == [False, False, False, True]
    assert (point_features(points, voxelize(points, grid), grid, ("xyz",))[:3] == 0).all()


@pytest.mark.parametrize("grid", [BOX, ROLL])
def test_stored_and_read(grid: CartesianGrid | CylindricalGrid) -> None:
    assert grid_from_json(grid.to_json()) == grid
    assert "clamp" not in CartesianGrid((0.1,) * 3).to_json()


def test_wrong_ones_say_so() -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        CylindricalGrid((1, 9, 5), clamp=True)
    points = cloud(1, 5)
    voxels = voxelize(points, ROLL)
    with pytest.raises(ConfigError, match="needs a grid of kind cartesian"):
        point_features(points, voxels, ROLL, ("clamped",))
