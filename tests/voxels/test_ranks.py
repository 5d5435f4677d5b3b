"""Ranks of remissions: what a student sees of intensity that no sensor's calibration changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kd_seg.voxels import CartesianGrid, point_features, voxelize
from kd_seg.voxels.features import remission_ranks


def cloud(remission: np.ndarray) -> np.ndarray:
    points = np.random.default_rng(0).uniform(-20, 20, (len(remission), 4)).astype(np.float32)
    points[:, 2] /= 10
    points[:, 3] = remission
    return points


@given(arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 255)))
def test_ranks_are_those_of_counting(steps: np.ndarray) -> None:
    values = (steps / 255).astype(np.float32)
    expected = [((values < v).sum() + 0.5 * (values == v).sum()) / len(values) for v in values]
    np.testing.assert_allclose(remission_ranks(cloud(values)), expected, atol=1e-6)


@pytest.mark.parametrize(("gain", "gamma"), [(0.1, 1.0), (0.9, 2.0), (0.5, 0.5)])
def test_another_calibration_changes_no_rank(gain: float, gamma: float) -> None:
    values = np.random.default_rng(1).integers(0, 101, 500) / np.float32(100)
    np.testing.assert_array_equal(remission_ranks(cloud(values)), remission_ranks(cloud(gain * values**gamma)))


def test_without_intensity_every_point_is_in_the_middle() -> None:
    np.testing.assert_array_equal(remission_ranks(cloud(np.zeros(9, np.float32))), np.full(9, 0.5, np.float32))


def test_points_that_are_not_finite_have_no_rank_and_no_say() -> None:
    points = cloud(np.array([0.1, 0.2, 0.3, 0.4], np.float32))
    points[0, 3], points[1, 0] = np.nan, np.inf
    np.testing.assert_allclose(remission_ranks(points), [0.0, 0.0, 0.25, 0.75])


def test_the_feature_is_a_column_of_its_own() -> None:
    points = cloud(np.linspace(0, 1, 40, dtype=np.float32))
    grid = CartesianGrid((0.5, 0.5, 0.5))
    found = point_features(points, voxelize(points, grid), grid, ("rank", "xyz", "offset"))
    np.testing.assert_array_equal(found[:, 0], remission_ranks(points))
    np.testing.assert_array_equal(found[:, 1:4], points[:, :3])
