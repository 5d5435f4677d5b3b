"""Randomised intensities: within their ranges, the same for the same seed, and nothing but intensity changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_data import tiny_cloud, write_tiny

from kd_seg.scans import Cloud, Points, SemanticKitti
from kd_seg.training.augment import augment
from kd_seg.training.config import AugmentSettings
from kd_seg.training.intensity import IntensitySettings, randomise

PLAIN = {
    "share": 1.0, "constant": 0.0, "gamma": (1.0, 1.0), "median": (0.2, 0.2), "offset": 0.0, "per_beam": 0.0,
    "per_object": 0.0, "per_point": 0.0, "warp": 0.0, "zeros": 0.0, "steps": (65535,),
}  # fmt: skip
"""Nothing but a gain to a median of 0.2."""


def cloud(seed: int = 0) -> tuple[Points, np.ndarray]:
    points, words = tiny_cloud(np.random.default_rng(seed), 800)
    points[:, 3] = np.random.default_rng(seed + 1).gamma(4.0, 0.07, len(points)).clip(0, 1)
    return points, words


def changed(seed: int = 3, **keys: object) -> tuple[np.ndarray, Points, np.ndarray]:
    points, words = cloud()
    return randomise(points, words, IntensitySettings(**(PLAIN | keys)), np.random.default_rng(seed)), points, words


@given(seed=st.integers(0, 1 << 30))
@settings(deadline=None, max_examples=60)
def test_intensities_stay_in_range_and_depend_on_the_seed_alone(seed: int) -> None:
    points, words = cloud()
    before = points.copy()
    first, again = (randomise(points, words, IntensitySettings(), np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.dtype == np.float32
    assert first.shape == (len(points),)
    assert np.isfinite(first).all()
    assert first.min() >= 0.0
    assert first.max() <= 1.0
    assert np.array_equal(points, before)


def test_the_gain_brings_the_median_where_it_is_asked() -> None:
    value, points, _ = changed()
    assert np.median(value[value > 0]) == pytest.approx(0.2, abs=0.002)
    below = value < 1.0
    ratio = value[below] / points[below, 3]
    assert np.ptp(ratio[np.isfinite(ratio) & (points[below, 3] > 0.05)]) < 0.01


def test_a_gamma_stretches_ratios() -> None:
    value, points, _ = changed(gamma=(2.0, 2.0))
    rows = (value < 0.9) & (points[:, 3] > 0.05)
    slope = np.polyfit(np.log(points[rows, 3]), np.log(value[rows]), 1)[0]
    assert slope == pytest.approx(2.0, abs=0.05)


def test_a_warp_keeps_the_order_of_intensities() -> None:
    value, points, _ = changed(warp=1.5)
    order = np.argsort(points[:, 3], kind="stable")
    assert (np.diff(value[order]) >= -1e-6).all()
    plain = changed()[0]
    assert np.abs(value - plain).max() > 0.02


def test_an_instance_has_one_gain() -> None:
    value, points, words = changed(seed=5, per_object=0.9)
    gains = {}
    for word in np.unique(words[words >> 16 > 0]):
        rows = (words == word) & (value < 1.0) & (points[:, 3] > 0.1)
        ratio = value[rows] / points[rows, 3]
        assert np.ptp(ratio) < 0.02
        gains[int(word)] = float(np.median(ratio))
    assert np.ptp(list(gains.values())) > 0.05


def test_beams_have_gains_of_their_own() -> None:
    value, points, _ = changed(per_beam=0.5)
    elevation = np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))
    beam = np.floor((elevation + 90.0) / 0.4)
    rows = (value < 1.0) & (points[:, 3] > 0.1)
    ratio = value[rows] / points[rows, 3]
    within = [np.ptp(ratio[beam[rows] == b]) for b in np.unique(beam[rows])]
    assert max(within) < 0.02
    assert np.std(ratio) > 0.02


def test_whole_clouds_lose_their_intensity() -> None:
    value, _, _ = changed(constant=1.0)
    assert len(np.unique(value)) == 1


def test_points_read_zero_and_steps_are_whole() -> None:
    value, _, _ = changed(steps=(50,))
    assert np.abs(value * 50 - np.round(value * 50)).max() < 1e-4
    shares = [(changed(seed=k, zeros=0.8)[0] == 0).mean() for k in range(30)]
    assert 0.6 < max(shares) <= 0.83
    assert min(shares) < 0.2


def test_the_share_leaves_the_rest_alone() -> None:
    points, words = cloud()
    rng = np.random.default_rng(0)
    same = [
        np.array_equal(randomise(points, words, IntensitySettings(share=0.6), rng), points[:, 3]) for _ in range(300)
    ]
    assert np.mean(same) == pytest.approx(0.4, abs=0.1)
    assert len(randomise(points[:0], words[:0], IntensitySettings(share=1.0), rng)) == 0


def test_augmenting_changes_intensity_alone_where_nothing_else_is_asked(tmp_path: Path) -> None:
    whole = Cloud.of_scan(SemanticKitti(write_tiny(tmp_path)).scan("00", 0))
    points = whole.points.copy()
    still = AugmentSettings(
        rotation_deg=0, flip=False, scale=0, translation_m=(0, 0, 0), intensity=IntensitySettings(share=1.0)
    )
    moved = augment(whole, still, np.random.default_rng(2))
    assert moved.points[:, :3] == pytest.approx(points[:, :3], abs=1e-5)
    assert not np.array_equal(moved.points[:, 3], points[:, 3])
    assert np.array_equal(whole.points, points)
