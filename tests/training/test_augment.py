"""Augmentation is a similarity of the whole cloud; mixing is a choice of rows by angle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_seg.scans import Cloud, stack
from kd_seg.training.augment import augment
from kd_seg.training.config import AugmentSettings
from kd_seg.training.mixing import foreign, laser_mix, polar_mix

PLAIN = {"rotation_deg": 0.0, "flip": False, "scale": 0.0, "translation_m": (0.0, 0.0, 0.0)}


def cloud(rng: np.random.Generator, own: int = 40, fused: int = 15) -> Cloud:
    count = own + fused
    points = np.column_stack([rng.uniform(-30, 30, (count, 2)), rng.uniform(-2, 3, count), rng.random(count)])
    ids = rng.integers(0, 4, count)
    words = np.where(ids > 0, 10 | ids << 16, 40).astype(np.uint32)
    origin = np.r_[np.zeros(own, np.int8), np.ones(fused, np.int8)]
    source = np.r_[np.arange(own), np.full(fused, -1)].astype(np.int32)
    return Cloud(points.astype(np.float32), words, origin, (origin > 0).astype(np.uint8), source, own)


def distances(points: np.ndarray) -> np.ndarray:
    xyz = points[:, :3].astype(np.float64)
    return np.linalg.norm(xyz[:, None] - xyz[None], axis=2)


@given(st.integers(0, 10**6), st.booleans(), st.floats(0, 0.3))
def test_all_distances_change_by_one_factor_within_the_scale(seed: int, flip: bool, scale: float) -> None:
    rng = np.random.default_rng(seed)
    before = cloud(rng)
    after = augment(before, AugmentSettings(flip=flip, scale=scale), rng)
    a, b = distances(before.points), distances(after.points)
    factor = b.sum() / a.sum()
    assert abs(factor - 1) <= scale + 1e-6
    np.testing.assert_allclose(b, factor * a, atol=1e-3)
    np.testing.assert_array_equal(after.points[:, 3], before.points[:, 3])
    up, before_up = (cloud.points[:, 2] - cloud.points[0, 2] for cloud in (after, before))
    np.testing.assert_allclose(up, factor * before_up, atol=1e-3, err_msg="heights stay heights")


def test_nothing_asked_changes_nothing_and_a_seed_repeats() -> None:
    made = cloud(np.random.default_rng(1))
    np.testing.assert_array_equal(augment(made, AugmentSettings(**PLAIN), np.random.default_rng(0)).points, made.points)
    strong = AugmentSettings(drop=0.5, jitter_m=0.1, remission_noise=0.3)
    one, same, other = (augment(made, strong, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.points, same.points)
    assert one.points.shape != other.points.shape or not np.array_equal(one.points, other.points)
    assert ((one.points[:, 3] >= 0) & (one.points[:, 3] <= 1)).all()


def test_flips_are_a_quarter_each_and_turns_cover_their_range() -> None:
    made = cloud(np.random.default_rng(2))
    signs = {(1, 1): 0, (1, -1): 0, (-1, 1): 0, (-1, -1): 0}
    for seed in range(400):
        out = augment(made, AugmentSettings(**{**PLAIN, "flip": True}), np.random.default_rng(seed))
        signs[tuple(np.sign(out.points[0, :2] * made.points[0, :2]).astype(int).tolist())] += 1
    assert min(signs.values()) > 60
    turns = []
    for seed in range(200):
        out = augment(made, AugmentSettings(**{**PLAIN, "rotation_deg": 30.0}), np.random.default_rng(seed))
        a, b = made.points[0, :2], out.points[0, :2]
        turns.append(np.degrees(np.arctan2(a[0] * b[1] - a[1] * b[0], a @ b)))
    assert np.abs(turns).max() <= 30.001
    assert np.quantile(turns, 0.05) < -20
    assert np.quantile(turns, 0.95) > 20


@given(st.integers(0, 10**6), st.floats(0.05, 0.9))
def test_only_the_students_own_points_are_dropped(seed: int, drop: float) -> None:
    rng = np.random.default_rng(seed)
    made = cloud(rng)
    out = augment(made, AugmentSettings(**PLAIN, drop=drop), rng)
    kept = out.source[: out.own]
    assert (np.diff(kept) > 0).all()
    np.testing.assert_array_equal(out.points[: out.own], made.points[kept])
    np.testing.assert_array_equal(out.words[out.own :], made.words[made.own :])
    assert len(out) - out.own == len(made) - made.own


@given(st.integers(0, 10**6), st.integers(1, 9))
def test_laser_mix_takes_each_own_row_by_its_band(seed: int, bands: int) -> None:
    rng = np.random.default_rng(seed)
    first = cloud(rng, fused=0)
    second = foreign(cloud(rng, fused=0), first.words)
    mixed = laser_mix(first, second, bands)
    expected = []
    for part, odd in ((first, 0), (second, 1)):
        for row in part.points:
            pitch = np.degrees(np.arctan2(float(row[2]), np.hypot(float(row[0]), float(row[1]))))
            band = min(int((3.0 - min(max(pitch, -25.0), 3.0)) / 28.0 * bands), bands - 1)
            if band % 2 == odd:
                expected.append(row)
    np.testing.assert_array_equal(mixed.points, np.array(expected, np.float32).reshape(-1, 4))


@given(st.integers(0, 10**6))
def test_guests_never_share_an_instance_with_the_hosts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = cloud(rng), cloud(rng)
    guest = foreign(second, first.words)
    things = guest.words[guest.words >> 16 > 0]
    assert not set(things.tolist()) & set(first.words[first.words >> 16 > 0].tolist())
    same = second.words[:, None] == second.words[None]
    np.testing.assert_array_equal(guest.words[:, None] == guest.words[None], same)
    assert (guest.source == -1).all()


@given(st.integers(0, 10**6))
def test_polar_mix_swaps_half_a_turn_or_none_and_adds_things_thrice(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = cloud(rng, fused=0)
    second = foreign(cloud(rng, fused=0), first.words)
    mixed = polar_mix(first, second, frozenset({10}), rng)
    things = int((second.words & 0xFFFF == 10).sum())
    base = len(mixed) - 3 * things
    hosts, guests = mixed.source[:base] >= 0, mixed.source[:base] < 0
    assert hosts.sum() + guests.sum() == base
    if not guests.any() and things:
        assert base <= len(first)
    yaw = -np.arctan2(mixed.points[:base, 1], mixed.points[:base, 0])
    if guests.any() and hosts.any():
        gaps = np.sort(yaw[guests])
        assert gaps[-1] - gaps[0] <= np.pi + 1e-6, "the guests lie within half a turn"
        inside = (yaw[hosts] > gaps[0]) & (yaw[hosts] < gaps[-1])
        assert not inside.any()
    pasted = mixed.points[base:].reshape(3, things, 4)
    np.testing.assert_array_equal(pasted[0], second.points[second.words & 0xFFFF == 10])
    for copy in pasted[1:]:
        np.testing.assert_allclose(np.hypot(*copy[:, :2].T), np.hypot(*pasted[0][:, :2].T), rtol=1e-4)
        np.testing.assert_array_equal(copy[:, 2:], pasted[0][:, 2:])


def test_stacked_clouds_keep_own_rows_first_and_in_order() -> None:
    rng = np.random.default_rng(0)
    a, b, c = cloud(rng, 3, 2), cloud(rng, 4, 1), cloud(rng, 2, 0)
    made = stack([a, b], [c])
    assert made.own == 7
    expected = [a.points[:3], b.points[:4], a.points[3:], b.points[4:], c.points]
    np.testing.assert_array_equal(made.points, np.concatenate(expected))
    with pytest.raises(ValueError, match="need at least one"):
        stack([], [])
