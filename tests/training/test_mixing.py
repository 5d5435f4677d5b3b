"""LaserMix and PolarMix keep every row's knowledge, own rows first, and no ghost instances."""

import numpy as np
import pytest
from tiny_data import tiny_cloud

from kd_seg.classes import load_classes
from kd_seg.scans import Cloud
from kd_seg.training.mixing import MixSettings, build_mixer, foreign, laser_mix, polar_mix

THINGS = frozenset({10, 252})


def cloud(seed: int, fused: int = 300) -> Cloud:
    """A tiny cloud whose first car has twins among the fused rows."""
    points, words = tiny_cloud(np.random.default_rng(seed))
    rows = np.flatnonzero(words >> 16 == 1)[:fused]
    points, words = np.concatenate([points, points[rows] + np.float32(0.01)]), np.concatenate([words, words[rows]])
    own = len(points) - len(rows)
    origin = np.zeros(len(points), np.int8)
    origin[own:] = 1
    source = np.arange(len(points), dtype=np.int32)
    source[own:] = -1
    return Cloud(points, words, origin, (origin > 0).astype(np.uint8), source, own)


def pitch(points):
    return np.clip(np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1]))), -25, 3)


@pytest.mark.parametrize("bands", [3, 4, 6])
def test_laser_mix_alternates_by_pitch_from_the_top(bands):
    a, b = cloud(0), foreign(cloud(1), cloud(0).words)
    mixed = laser_mix(a, b, bands)
    band = np.minimum(((3 - pitch(mixed.points.astype(np.float64))) / 28 * bands).astype(int), bands - 1)
    guests = (mixed.source < 0) & (mixed.origin == 0)
    assert (band[guests] % 2 == 1).all()
    assert (band[mixed.source >= 0] % 2 == 0).all()
    assert guests.any()
    assert (mixed.source >= 0).any()


def test_own_rows_stay_first_and_fused_rows_follow_their_instance():
    a, b = cloud(2), foreign(cloud(3), cloud(2).words)
    for mixed in (laser_mix(a, b, 4), polar_mix(a, b, THINGS, np.random.default_rng(0))):
        assert (mixed.origin[: mixed.own] == 0).all()
        assert (mixed.origin[mixed.own :] == 1).all()
        own = set(mixed.words[: mixed.own].tolist())
        assert set(mixed.words[mixed.own :].tolist()) <= own


def test_guests_keep_class_and_get_ids_of_their_own():
    a, b = cloud(4), cloud(5)
    guest = foreign(b, a.words)
    np.testing.assert_array_equal(guest.words & 0xFFFF, b.words & 0xFFFF)
    ids = guest.words[guest.words >> 16 > 0] >> 16
    assert ids.min() > (a.words >> 16).max()
    assert ((guest.words >> 16 == 0) == (b.words >> 16 == 0)).all()


def test_polar_mix_pastes_things_three_times_at_their_range():
    a, b = cloud(6, fused=0), foreign(cloud(7, fused=0), cloud(6).words)
    cars = np.isin(b.words & 0xFFFF, [10])
    mixed = polar_mix(a, b, THINGS, np.random.default_rng(3))
    added = mixed.points[-3 * cars.sum() :]
    flat = np.linalg.norm(added[:, :2], axis=1).reshape(3, -1)
    np.testing.assert_allclose(flat[1], flat[0], rtol=1e-4)
    np.testing.assert_allclose(flat[2], flat[0], rtol=1e-4)
    words = mixed.words[-3 * cars.sum() :].reshape(3, -1)
    assert len({frozenset(row.tolist()) for row in words}) == 3


def test_the_share_of_mixed_samples_is_the_probability():
    mixer = build_mixer(MixSettings(kind="laser", probability=0.3), load_classes())
    a, rng = cloud(8), np.random.default_rng(0)
    same = sum(mixer(a, lambda: cloud(9), rng) is a for _ in range(300))
    assert same == pytest.approx(210, abs=30)
