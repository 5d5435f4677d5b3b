"""Rigid motions as a group, and what is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from kd_seg.core.errors import DataError
from kd_seg.core.geometry import check_rigid, invert, rigid, rotation_z, transform, yaw_of

SEEDS = st.integers(0, 10**6)


def motion(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rigid(Rotation.random(random_state=seed).as_matrix(), rng.normal(0, 100, 3))


@given(SEEDS, SEEDS)
def test_motions_are_a_group(a: int, b: int) -> None:
    one, other = motion(a), motion(b)
    np.testing.assert_allclose(one @ invert(one), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(invert(one @ other), invert(other) @ invert(one), atol=1e-9)
    np.testing.assert_allclose(invert(invert(one)), one, atol=1e-12)


@given(SEEDS, SEEDS)
def test_points_move_as_by_the_product(a: int, b: int) -> None:
    one, other = motion(a), motion(b)
    points = np.random.default_rng(a).normal(0, 50, (7, 3)).astype(np.float32)
    moved = transform(one, transform(other, points))
    np.testing.assert_allclose(moved, transform(one @ other, points), atol=1e-8)
    assert moved.dtype == np.float64
    gaps = np.linalg.norm(points[1:].astype(np.float64) - points[:-1], axis=1)
    np.testing.assert_allclose(np.linalg.norm(np.diff(moved, axis=0), axis=1), gaps, atol=1e-8)
    assert transform(one, points[:0]).shape == (0, 3)


@given(st.floats(-3.1, 3.1), st.floats(-3.1, 3.1))
def test_turns_about_the_up_axis_add(a: float, b: float) -> None:
    np.testing.assert_allclose(rotation_z(a) @ rotation_z(b), rotation_z(a + b), atol=1e-12)
    assert yaw_of(rotation_z(a)) == pytest.approx(a)
    assert yaw_of(rigid(rotation_z(a), [1, 2, 3])) == pytest.approx(a)
    np.testing.assert_allclose(rotation_z(np.pi / 2) @ [1, 0, 0], [0, 1, 0], atol=1e-12)


@given(SEEDS, st.floats(0, 0.1))
def test_small_errors_of_rotations_are_told_from_large_ones(seed: int, error: float) -> None:
    pose = motion(seed)
    pose[:3, :3] *= 1 + error
    off = (1 + error) ** 2 - 1
    if off < 0.9e-3:
        np.testing.assert_array_equal(check_rigid(pose, "x"), pose)
    elif off > 1.1e-3:
        with pytest.raises(DataError, match="is not a rigid motion"):
            check_rigid(pose, "x")


@given(SEEDS)
def test_mirrors_are_refused(seed: int) -> None:
    pose = motion(seed)
    pose[:3, 0] *= -1
    with pytest.raises(DataError, match=r"poses\.txt, line 3 is not a rigid motion"):
        check_rigid(pose, "poses.txt, line 3")
