"""Clutter in boxes and masks: planes through the ground, and depth clusters, against plain restatements."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_seg.images.units.clutter import ClutterSettings, above_ground, cut_depth, fit_ground


def ground(rng: np.random.Generator, slope: np.ndarray, height: float, noise: float = 0.02) -> np.ndarray:
    xy = rng.uniform(0, 12, (900, 2)) + (5.0, -3.0)
    return np.column_stack([xy, xy @ slope + height + rng.normal(0, noise, 900)])


@given(st.integers(0, 10**6), st.floats(-0.2, 0.2), st.floats(-0.2, 0.2), st.floats(-3, 1))
def test_the_plane_of_the_ground_is_found_beside_a_car(seed: int, a: float, b: float, height: float) -> None:
    rng = np.random.default_rng(seed)
    flat = ground(rng, np.array([a, b]), height)
    car = np.column_stack([rng.uniform((9.0, 1.0), (13.5, 3.0), (200, 2)), np.zeros(200)])
    car[:, 2] = car[:, :2] @ [a, b] + height + rng.uniform(0.4, 1.5, 200)
    plane = fit_ground(np.concatenate([flat, car]).astype(np.float32))
    assert plane is not None
    corners = np.array([[5.0, -3.0], [17.0, -3.0], [5.0, 9.0], [17.0, 9.0]])
    found = corners @ plane[:2] + plane[2]
    np.testing.assert_allclose(found, corners @ [a, b] + height, atol=0.05)
    kept = above_ground(car.astype(np.float32), np.concatenate([flat, car]).astype(np.float32), ClutterSettings())
    assert kept.all()
    low = car.copy()
    low[:, 2] = low[:, :2] @ [a, b] + height + 0.02
    none = above_ground(low.astype(np.float32), np.concatenate([flat, car]).astype(np.float32), ClutterSettings())
    assert not none.any()


def test_too_little_or_too_steep_is_no_ground() -> None:
    rng = np.random.default_rng(0)
    assert fit_ground(np.zeros((5, 3), np.float32)) is None
    one_cell = np.column_stack([rng.uniform(0.0, 0.4, (50, 2)), np.zeros(50)]).astype(np.float32)
    assert fit_ground(one_cell) is None
    assert fit_ground(ground(rng, np.array([1.0, 0.0]), 0.0).astype(np.float32)) is None
    kept = above_ground(one_cell, one_cell, ClutterSettings())
    assert kept.all(), "where there is no plane all points stay"
    assert len(above_ground(one_cell[:0], one_cell, ClutterSettings())) == 0


def by_loop(depth: np.ndarray, pixels: np.ndarray, box: np.ndarray, s: ClutterSettings) -> set[int]:
    order = np.argsort(depth, kind="stable")
    clusters: list[list[int]] = []
    for k, row in enumerate(order):
        before = float(depth[order[k - 1]]) if k else 0.0
        if not k or float(depth[row]) - before > max(s.gap_m, s.gap_relative * before):
            clusters.append([])
        clusters[-1].append(int(row))
    centre, half = (box[:2] + box[2:]) / 2, np.maximum((box[2:] - box[:2]) / 2, 0.5)
    best, found = -1.0, set()
    for cluster in clusters:
        if len(cluster) < max(s.least_points, s.least_share * len(depth)):
            continue
        offset = (((pixels[cluster] - centre) / half) ** 2).sum(axis=1)
        score = float(np.exp(-offset / (2 * s.spread**2)).sum())
        if score > best + 1e-12:
            best, found = score, set(cluster)
    return found


@given(st.integers(0, 10**6), st.integers(1, 60), st.sampled_from([1, 5]), st.sampled_from([0.0, 0.15, 0.6]))
def test_the_cluster_of_most_weight_about_the_middle_is_kept(seed: int, count: int, least: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    depth = rng.choice([4.0, 9.0, 25.0], count) + rng.uniform(0, 1.2, count)
    box = np.array([100.0, 50, 180, 120])
    pixels = rng.uniform(box[:2], box[2:], (count, 2))
    settings = ClutterSettings(least_points=least, least_share=share)
    kept = cut_depth(depth.astype(np.float32), pixels.astype(np.float32), box.astype(np.float32), settings)
    expected = by_loop(depth.astype(np.float32), pixels.astype(np.float32), box, settings)
    assert set(np.flatnonzero(kept).tolist()) == expected


def test_nothing_in_a_box_is_nothing() -> None:
    none = np.zeros(0, np.float32)
    assert cut_depth(none, none.reshape(0, 2), np.array([0, 0, 1, 1], np.float32), ClutterSettings()).tolist() == []
    with pytest.raises(ValueError, match="gap_m"):
        ClutterSettings(gap_m=0)
