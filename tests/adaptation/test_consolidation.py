"""Voting over time, trust, instances and agreement, against plain re-statements."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_seg.adaptation.agreement import Agreement
from kd_seg.adaptation.settings import DriveTeacherSettings, TrustSettings
from kd_seg.adaptation.teacher import fuses
from kd_seg.adaptation.tracks import Tracker, clusters
from kd_seg.adaptation.trust import TrustThresholds, score
from kd_seg.adaptation.views import turned
from kd_seg.adaptation.vote import Vote, vote, world_codes


def distribution(rng: np.random.Generator, count: int, classes: int = 3) -> np.ndarray:
    values = rng.random((count, classes)).astype(np.float32) + 0.01
    values /= values.sum(axis=1, keepdims=True)
    values[rng.random(count) < 0.1] = 0.0
    return values


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_votes_are_means_of_the_scans_means(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scans = [(rng.integers(-1, 6, n), distribution(rng, n)) for n in rng.integers(1, 12, 4)]
    own = scans[0][0]
    found = vote(own, scans)
    for row, place in enumerate(own):
        means = []
        for codes, values in scans:
            hits = values[(codes == place) & (place >= 0) & (values.sum(axis=1) > 0)]
            if len(hits):
                means.append(hits.mean(axis=0))
        assert found.scans[row] == len(means)
        if not means:
            assert not found.distribution[row].any()
            assert found.agreement[row] == 0
            continue
        np.testing.assert_allclose(found.distribution[row], np.mean(means, axis=0), atol=1e-5)
        winner = found.distribution[row].argmax()
        alike = np.mean([mean.argmax() == winner for mean in means])
        assert found.agreement[row] == pytest.approx(alike, abs=1e-6)


def test_a_scan_without_points_gets_no_votes_and_gives_none() -> None:
    empty = (np.zeros(0, np.int64), np.zeros((0, 3), np.float32))
    other = (np.array([4, 4]), np.full((2, 3), 1 / 3, np.float32))
    found = vote(empty[0], [empty, other])
    assert found.distribution.shape == (0, 3)
    assert len(found.agreement) == len(found.scans) == 0
    np.testing.assert_array_equal(vote(other[0], [empty, other]).scans, [1, 1])


def test_world_places_do_not_collide_and_points_without_one_have_none() -> None:
    xyz = np.array([[0.05, 0, 0], [0.15, 0, 0], [-0.05, 0, 0], [0, 0.25, 0], [np.nan, 0, 0], [1e9, 0, 0]])
    codes = world_codes(xyz, 0.2)
    assert codes[0] == codes[1]
    assert len({codes[0], codes[2], codes[3]}) == 3
    assert codes[4] == codes[5] == -1


def make_vote(class_id: np.ndarray, probability: np.ndarray, agreement: np.ndarray, classes: int = 3) -> Vote:
    values = np.zeros((len(class_id), classes), np.float32)
    values[np.arange(len(class_id)), class_id] = probability
    return Vote(values, agreement.astype(np.float32), np.ones(len(class_id), np.int32))


def test_the_surest_share_of_each_class_and_range_is_trusted() -> None:
    rng = np.random.default_rng(0)
    count = 6000
    class_id = rng.integers(0, 2, count)
    points = np.zeros((count, 4), np.float32)
    points[:, 0] = rng.uniform(0, 60, count)
    probability = np.where(class_id == 0, rng.uniform(0.9, 1.0, count), rng.uniform(0.5, 0.7, count))
    probability = np.where(points[:, 0] > 30, probability * 0.9, probability)
    found = make_vote(class_id, probability, np.ones(count))
    thresholds = TrustThresholds(TrustSettings(share=0.3, least=0.2), 3)
    thresholds.add(class_id, score(found), points)
    trusted = thresholds.trusted(class_id, score(found), points)
    for own in (0, 1):
        for near, far in ((0, 15), (15, 30), (30, 60)):
            part = (class_id == own) & (points[:, 0] >= near) & (points[:, 0] < far)
            assert trusted[part].mean() == pytest.approx(0.3, abs=0.06)
            assert score(found)[part & trusted].min() >= score(found)[part & ~trusted].max() - 1 / 512
    assert thresholds.table()[2].min() > 1


def test_nothing_below_the_floor_is_trusted_and_disagreement_lowers_trust() -> None:
    class_id, points = np.zeros(4, np.int64), np.ones((4, 4), np.float32)
    found = make_vote(class_id, np.array([0.9, 0.9, 0.45, 0.0]), np.array([1.0, 0.0, 1.0, 0.0]))
    thresholds = TrustThresholds(TrustSettings(share=1.0, least=0.5), 3)
    thresholds.add(class_id, score(found), points)
    assert thresholds.trusted(class_id, score(found), points).tolist() == [True, False, False, False]


def test_clusters_are_touching_points_of_one_class() -> None:
    rng = np.random.default_rng(1)
    first = rng.uniform(0, 1, (40, 3))
    second = first + [10, 0, 0]
    other = first + [0.5, 0, 0]
    few = rng.uniform(0, 0.3, (4, 3)) + [20, 0, 0]
    far = first + [500, 0, 0]
    xyz = np.concatenate([first, second, other, few, far])
    class_id = np.repeat([0, 0, 1, 0, 0], [40, 40, 40, 4, 40])
    number = clusters(xyz, class_id, (0, 1))
    assert len(set(number[:40])) == len(set(number[40:80])) == len(set(number[80:120])) == 1
    assert len({number[0], number[40], number[80]}) == 3
    assert number.max() == 3
    assert not number[120:].any()


def test_objects_keep_their_identity_while_they_move_and_pass() -> None:
    tracker, seen = Tracker(), []
    for scan in range(8):
        if scan == 4:  # hidden for one scan
            places = np.array([[20.0 - 1.5 * scan, 3, 0]])
            tracker.link(scan, places, np.array([0]))
            continue
        places = np.array([[1.0 * scan, 0, 0], [20.0 - 1.5 * scan, 3, 0], [50.0, 0, 0]])
        seen.append(tracker.link(scan, places, np.array([0, 0, 1])))
    assert len({tuple(row) for row in seen}) == 1
    assert len(set(seen[0])) == 3
    late = tracker.link(20, np.array([[50.0, 0, 0]]), np.array([1]))
    assert late[0] not in seen[0]
    assert tracker.link(21, np.zeros((0, 3)), np.zeros(0, np.int64)).shape == (0,)


def test_agreement_counts_places_seen_twice() -> None:
    found = Agreement(("road", "car"))
    one = np.array([[1, 0], [1, 0], [0, 1], [0, 0]], np.float32)
    found.add(np.array([5, 6, 7, 8]), one)
    two = np.array([[1, 0], [0, 1], [0, 1]], np.float32)
    found.add(np.array([5, 6, 9]), two)
    content = found.to_json()
    assert content["agreement"] == 0.5
    assert content["flicker"] == 0.5
    assert content["points"] == 6
    assert content["classes"]["road"]["share"] == 0.5
    assert content["classes"]["car"]["agreement"] == 0.0
    found.begin_sequence()
    found.add(np.array([5]), np.array([[0, 1]], np.float32))
    assert found.to_json()["agreement"] == 0.5


def test_views_turn_and_mirror() -> None:
    points = np.array([[1, 0, 2, 0.5], [0, 1, 0, 0.1]], np.float32)
    assert turned(points, 0, 4) is points
    np.testing.assert_allclose(turned(points, 2, 4)[:, :3], [[-1, 0, 2], [0, -1, 0]], atol=1e-6)
    mirrored = turned(points, 1, 4)
    np.testing.assert_allclose(mirrored[:, :2], [[0, -1], [-1, 0]], atol=1e-6)
    assert (mirrored[:, 3] == points[:, 3]).all()


def test_clouds_are_fused_where_scans_are_sparse() -> None:
    assert fuses(DriveTeacherSettings(), 20_000, True)
    assert not fuses(DriveTeacherSettings(), 120_000, True)
    assert not fuses(DriveTeacherSettings(), 20_000, False)
    assert fuses(DriveTeacherSettings(fuse="ego"), 120_000, True)
    assert not fuses(DriveTeacherSettings(fuse="off"), 20_000, True)
