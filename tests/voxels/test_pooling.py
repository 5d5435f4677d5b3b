"""Majority labels, means, maxima and point features against plain NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voxel_reference import majority, real_scan

from kd_seg.core.errors import ConfigError
from kd_seg.voxels import (
    FEATURE_WIDTHS,
    CartesianGrid,
    CylindricalGrid,
    Voxels,
    feature_width,
    majority_labels,
    max_features,
    mean_features,
    point_features,
    voxelize,
)

GRID = CartesianGrid((0.5, 0.5, 0.5), (-4.0, -4.0, -4.0), (4.0, 4.0, 4.0))


def cloud(seed: int, count: int) -> np.ndarray:
    points = np.random.default_rng(seed).normal(0, 2, (count, 4)).astype(np.float32)
    points[::9, 0] = np.nan
    return points


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 400), st.sampled_from([2, 3, 20, 256]))
def test_majority(seed: int, count: int, classes: int) -> None:
    points = cloud(seed, count)
    labels = np.random.default_rng(seed).integers(0, classes, count).astype(np.uint8)
    voxels = voxelize(points, GRID)
    np.testing.assert_array_equal(majority_labels(voxels, labels), majority(voxels.inverse, len(voxels), labels))


def test_majority_on_a_real_scan() -> None:
    points = real_scan()
    labels = (np.random.default_rng(0).integers(0, 20, len(points)) * (points[:, 3] > 0.2)).astype(np.uint8)
    voxels = voxelize(points, CartesianGrid((0.2, 0.2, 0.2)))
    np.testing.assert_array_equal(majority_labels(voxels, labels), majority(voxels.inverse, len(voxels), labels))


def test_majority_ties_and_ignored() -> None:
    inverse = np.array([0, 0, 0, 0, 0, 1, 1, 2, 2, 2, -1], dtype=np.int32)
    labels = np.array([7, 3, 7, 3, 0, 0, 0, 0, 0, 9, 5], dtype=np.uint8)
    voxels = Voxels(np.zeros((3, 3), np.int32), inverse, np.array([5, 2, 3], np.int32))
    assert majority_labels(voxels, labels).tolist() == [3, 0, 9]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 400), st.integers(1, 9))
def test_mean_and_max(seed: int, count: int, width: int) -> None:
    points = cloud(seed, count)
    values = np.random.default_rng(seed).normal(0, 100, (count, width)).astype(np.float32)
    voxels = voxelize(points, GRID)
    sums = np.zeros((len(voxels), width))
    largest = np.full((len(voxels), width), -np.inf, dtype=np.float32)
    inside = voxels.inverse >= 0
    np.add.at(sums, voxels.inverse[inside], values[inside].astype(np.float64))
    np.maximum.at(largest, voxels.inverse[inside], values[inside])
    np.testing.assert_array_equal(mean_features(voxels, values), (sums / voxels.counts[:, None]).astype(np.float32))
    np.testing.assert_array_equal(max_features(voxels, values), largest)


def test_rows_must_match() -> None:
    voxels = voxelize(cloud(0, 10), GRID)
    with pytest.raises(ValueError, match="9 rows for a cloud of 10 points"):
        majority_labels(voxels, np.zeros(9, np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        majority_labels(voxels, np.zeros(10, np.int64))
    with pytest.raises(ValueError, match=r"\[N, F\]"):
        mean_features(voxels, np.zeros(10, np.float32))


@pytest.mark.parametrize("grid", [GRID, CylindricalGrid((40, 36, 16), (0.0, -math.pi, -4.0), (6.0, math.pi, 4.0))])
def test_features(grid: CartesianGrid | CylindricalGrid) -> None:
    points = cloud(3, 500)
    points[5] = [1e3, 0, 0, 0.5]
    points[7, 3] = np.inf
    voxels = voxelize(points, grid)
    cartesian = isinstance(grid, CartesianGrid)  # "clamped" is of cartesian grids alone
    names = tuple(name for name in FEATURE_WIDTHS if cartesian or name != "clamped")
    features = point_features(points, voxels, grid, names)
    assert features.shape == (500, feature_width(names)) == (500, 22 if cartesian else 19)
    assert np.isfinite(features).all()
    broken = ~np.isfinite(points[:, :3]).all(axis=1)
    assert (features[broken] == 0).all()
    start = np.cumsum([0, *(FEATURE_WIDTHS[name] for name in names)])
    part = {name: features[:, start[i] : start[i + 1]] for i, name in enumerate(names)}
    whole = ~broken
    np.testing.assert_array_equal(part["xyz"][whole], points[whole, :3])
    np.testing.assert_array_equal(part["height"][whole, 0], points[whole, 2])
    np.testing.assert_allclose(part["range"][whole, 0], np.linalg.norm(points[whole, :3], axis=1), rtol=1e-6)
    assert part["remission"][7] == 0
    assert (part["offset"][voxels.inverse < 0] == 0).all()
    assert (np.abs(part["offset"]) <= 0.5).all()
    rho, phi = np.hypot(points[:, 0], points[:, 1]), np.arctan2(points[:, 1], points[:, 0])
    places = np.stack([rho, phi, points[:, 2]], axis=1) if isinstance(grid, CylindricalGrid) else points[:, :3]
    inside = voxels.inverse >= 0
    centres = np.array(grid.lower) + (voxels.coordinates[voxels.inverse[inside]] + 0.5) * np.array(grid.size)
    offset = places[inside] - centres
    np.testing.assert_allclose(part["offset"][inside], offset / np.array(grid.size), atol=1e-4)
    nine = part["cylinder9"][inside]
    np.testing.assert_allclose(nine[:, :3], offset, atol=1e-5)
    np.testing.assert_allclose(nine[:, 3:6], np.stack([rho, phi, points[:, 2]], axis=1)[inside], rtol=1e-5)
    np.testing.assert_array_equal(nine[:, 6:8], points[inside, :2])


def test_features_of_a_real_scan() -> None:
    """The kernels against plain NumPy, number by number."""
    points = real_scan()
    voxels = voxelize(points, GRID)
    features = point_features(points, voxels, GRID, ("offset", "remission", "xyz"))
    places = (points[:, :3].astype(np.float64) - np.array(GRID.lower)) * (1.0 / np.array(GRID.size))
    offset = places - voxels.coordinates[voxels.inverse] - 0.5
    offset[voxels.inverse < 0] = 0.0
    expected = np.concatenate([offset, points[:, 3:], points[:, :3]], axis=1)
    np.testing.assert_array_equal(features, expected.astype(np.float32))


def test_the_usual_features_are_those_of_the_general_kernel() -> None:
    points = cloud(3, 500)
    points[5], points[6, 1], points[7, 3], points[8, 2] = [1e3, 0, 0, 0.5], np.nan, np.inf, -np.inf
    voxels = voxelize(points, GRID)
    assert (voxels.inverse < 0).any()
    usual = point_features(points, voxels, GRID, ("xyz", "remission", "offset"))
    wide = point_features(np.pad(points, ((0, 0), (0, 1))), voxels, GRID, ("xyz", "remission", "offset"))
    np.testing.assert_array_equal(usual.view(np.uint32), wide.view(np.uint32))


def test_features_by_name() -> None:
    points = cloud(4, 20)
    voxels = voxelize(points, GRID)
    assert point_features(points[:0], voxelize(points[:0], GRID), GRID, ("offset", "xyz")).shape == (0, 6)
    with pytest.raises(ConfigError, match="no point feature 'colour'; known: xyz"):
        point_features(points, voxels, GRID, ("colour",))
    with pytest.raises(ValueError, match="remission needs"):
        point_features(points[:, :3], voxels, GRID, ("remission",))
