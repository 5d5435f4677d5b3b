"""Rays that meet moving things, and normals, against plain geometry."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kd_seg.streets.layout.world import _near, _straighten
from kd_seg.streets.objects.catalogue import Item


def rays(rng: np.random.Generator, count: int) -> np.ndarray:
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return np.column_stack([rng.normal(0, 5, (count, 3)), directions]).astype(np.float32)


@given(st.integers(0, 10**6), st.floats(0.1, 8.0))
def test_rays_near_a_ball_are_those_that_a_fine_walk_finds(seed: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    made, centre = rays(rng, 80), rng.normal(0, 6, 3).astype(np.float32)
    found = set(_near(made, centre, np.float32(radius)).tolist())
    for n, ray in enumerate(made.astype(np.float64)):
        along = max(float((centre - ray[:3]) @ ray[3:]), 0.0)
        gap = np.linalg.norm(ray[:3] + along * ray[3:] - centre)
        if gap < radius - 5e-3:
            assert n in found
        if gap > radius + 5e-3:
            assert n not in found


@given(st.integers(0, 10**6))
def test_normals_get_unit_length_and_cosines_no_sign(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = rays(rng, 40)
    normal = (rng.normal(size=(40, 3)) * rng.uniform(0.01, 50, (40, 1))).astype(np.float32)
    unit = normal.astype(np.float64) / np.linalg.norm(normal.astype(np.float64), axis=1, keepdims=True)
    cosine = _straighten(normal, made)
    np.testing.assert_allclose(normal, unit, atol=1e-5)
    np.testing.assert_allclose(cosine, np.abs((unit * made[:, 3:]).sum(axis=1)), atol=1e-5)
    assert _straighten(np.zeros((1, 3), np.float32), made[:1]).tolist() == [0.0]


def test_an_item_is_its_prototype_stretched() -> None:
    plain = Item("bush", 0.0, 0.0, 0.0, 5).mesh()
    tall = Item("bush", 9.0, 9.0, 1.0, 5, stretch=(1.0, 1.0, 2.0)).mesh()
    np.testing.assert_allclose(tall.vertices, plain.vertices * [1, 1, 2], rtol=1e-6)
