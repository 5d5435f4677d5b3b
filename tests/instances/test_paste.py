"""Paired copy-paste: free places, ground, range, shadows, fresh keys, and twins that stay together."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from instances_world import World, make_world, work

from kd_seg.classes import load_classes
from kd_seg.instances.fusion import Fuser, prepare_fusion
from kd_seg.instances.ground_grid import Circle, GroundGrid
from kd_seg.instances.paste import CELL_DEG, Paster, PasteSettings, _cells, _same_direction, insert
from kd_seg.instances.settings import CloudSettings, FusionSettings
from kd_seg.scans import Cloud, Kind

CLASSES = load_classes()
FUSION = FusionSettings(cloud=CloudSettings(skip=0.0))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), scans=6, background=9000)


@pytest.fixture(scope="module")
def fuser(world: World, tmp_path_factory: pytest.TempPathFactory) -> Fuser:
    cache: Path = tmp_path_factory.mktemp("cache")
    prepare_fusion(cache, world.data(), CLASSES, FUSION, work())
    return Fuser.open(cache, world.data(), CLASSES, FUSION, "kd-seg prepare test")


def paster(fuser: Fuser, twin: bool = True, **changes: object) -> Paster:
    settings = PasteSettings(classes=["person", "truck"], ground=["road"], tries=60, **changes)  # type: ignore[arg-type]
    return Paster.build(fuser, CLASSES, settings, twin)


def pasted_rows(cloud: Cloud) -> np.ndarray:
    return np.flatnonzero(cloud.kind[: cloud.own] == Kind.PASTED)


def test_instances_stand_free_on_the_ground_with_keys_of_their_own(fuser: Fuser, world: World) -> None:
    scan = world.data().scan("00", 5)
    before = Cloud.of_scan(scan)
    cloud = paster(fuser, mirror=0.0, yaw_deg=0.0)(before, np.random.default_rng(0))
    rows = pasted_rows(cloud)
    assert len(rows) >= 10
    words = np.unique(cloud.words[rows])
    assert not np.isin(words, before.words).any()
    assert set((words & 0xFFFF).tolist()) <= {254, 258}
    for word in words:
        mine = cloud.points[: cloud.own][cloud.words[: cloud.own] == word, :3]
        assert mine[:, 2].min() == pytest.approx(-1.7, abs=0.15)
        others = before.points[(before.words & 0xFFFF != 40) & (before.points[:, 2] < 2.5), :3]
        centre = 0.5 * (mine.min(axis=0) + mine.max(axis=0))[:2]
        assert np.linalg.norm(others[:, :2] - centre, axis=1).min() > 1.0


def test_own_rows_stay_first_and_the_twin_goes_along(fuser: Fuser, world: World) -> None:
    before = Cloud.of_scan(world.data().scan("00", 5))
    cloud = paster(fuser)(before, np.random.default_rng(1))
    assert (cloud.origin[: cloud.own] == 0).all()
    assert (cloud.kind[cloud.own :] == Kind.FUSED).all()
    assert len(cloud) > cloud.own
    for word in np.unique(cloud.words[cloud.own :]):
        own = cloud.points[: cloud.own][cloud.words[: cloud.own] == word, :3]
        fused = cloud.points[cloud.own :][cloud.words[cloud.own :] == word, :3]
        assert len(own) > 0
        assert np.linalg.norm(np.median(own, axis=0) - np.median(fused, axis=0)) < 2.5
    alone = paster(fuser, twin=False)(before, np.random.default_rng(1))
    assert alone.own == len(alone)


def test_range_is_kept(fuser: Fuser, world: World) -> None:
    cloud = paster(fuser, twin=False, mirror=0.0, yaw_deg=0.0, draws=1)(
        Cloud.of_scan(world.data().scan("00", 4)), np.random.default_rng(3)
    )
    rows = pasted_rows(cloud)
    flat = np.sort(np.linalg.norm(cloud.points[rows, :2], axis=1))
    ranges = []
    for name, number in [c for group in paster(fuser).candidates.values() for c in group]:
        points = fuser.library.sequence(name).points(number)
        ranges.append(np.sort(np.linalg.norm(points[:, :2], axis=1)))
    assert any(np.abs(np.quantile(r, [0, 1]) - flat[[0, -1]]).max() < 0.05 for r in ranges)


def row_cloud(points: list[tuple[float, float, float]], word: int) -> Cloud:
    count = len(points)
    array = np.column_stack([np.array(points, np.float32), np.zeros(count, np.float32)]).astype(np.float32)
    zeros = np.zeros(count)
    return Cloud(
        array, np.full(count, word, np.uint32), zeros.astype(np.int8), zeros.astype(np.uint8),
        np.arange(count, dtype=np.int32), count,
    )  # fmt: skip


def test_what_is_hidden_goes_away_on_both_sides() -> None:
    scene = row_cloud([(20.0, 0.01, 0.01), (20.0, 5.0, 0.0), (4.0, 4.0, 0.0)], 50)
    guest = row_cloud([(10.0, 0.005, 0.005), (8.0, 8.0, 0.0)], 30 | 7 << 16)
    mixed = insert(scene, guest)
    assert mixed.points[:, :2].tolist() == [[20.0, 5.0], [4.0, 4.0], [10.0, pytest.approx(0.005)]]
    hidden = insert(row_cloud([(1.0, 0.0, 0.0)], 50), row_cloud([(5.0, 0.0, 0.0)], 30))
    assert len(hidden) == 1
    assert CELL_DEG[0] < 0.5


def test_a_paster_pickles_and_draws_by_seed(fuser: Fuser, world: World) -> None:
    before = Cloud.of_scan(world.data().scan("00", 2))
    made = paster(fuser)
    first = made(before, np.random.default_rng(9))
    again = pickle.loads(pickle.dumps(made))(before, np.random.default_rng(9))
    np.testing.assert_array_equal(first.points, again.points)


def test_nothing_to_paste_leaves_the_cloud_alone(fuser: Fuser, world: World) -> None:
    before = Cloud.of_scan(world.data().scan("00", 2))
    none = Paster.build(fuser, CLASSES, PasteSettings(classes=["bicycle"]), True)
    assert none(before, np.random.default_rng(0)) is before


def test_a_site_knows_its_ground_and_its_gaps() -> None:
    rng = np.random.default_rng(0)
    ground = np.c_[rng.uniform(-30, 30, (20000, 2)), np.full(20000, -1.7), np.zeros(20000)].astype(np.float32)
    ground[:, 2] += 0.02 * ground[:, 0]
    wall = np.c_[np.full(500, 10.0), rng.uniform(-5, 5, 500), rng.uniform(-1, 2, 500), np.zeros(500)].astype(np.float32)
    bridge = wall + np.array([-20.0, 0.0, 5.0, 0.0], dtype=np.float32)
    points = np.concatenate([ground, wall, bridge])
    site = GroundGrid.survey(points, np.arange(len(points)) < len(ground))
    assert site.ground_height(Circle(-20.0, 3.0, 2.0)) == pytest.approx(-1.7 - 0.4, abs=0.05)
    assert site.ground_height(Circle(60.0, 60.0, 2.0)) is None
    assert site.is_free(Circle(-10.0, 0.0, 2.0), 1.0)  # the bridge is above everyone's head
    for x in np.arange(0.0, 20.0, 0.37):
        true_gap = np.linalg.norm(wall[:, :2] - [x, 0.0], axis=1).min()
        if site.is_free(Circle(float(x), 0.0, 1.0), 1.0):
            assert true_gap >= 2.0
        else:
            assert true_gap < 2.0 + 2.0 * 0.5 * np.sqrt(2.0)
    site.taken.append(Circle(-20.0, 0.0, 2.0))
    assert not site.is_free(Circle(-24.0, 0.0, 1.5), 1.0)
    assert site.is_free(Circle(-25.0, 0.0, 1.5), 1.0)
    assert not site.is_free(Circle(500.0, 0.0, 1.0), 1.0)


def test_the_sector_holds_every_point_of_a_guests_cells() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        angle, spread = rng.uniform(-np.pi, np.pi), rng.uniform(0.01, 3.0)
        turn = angle + rng.uniform(-spread, spread, 40)
        guest = np.c_[10 * np.cos(turn), 10 * np.sin(turn), np.zeros(40), np.zeros(40)].astype(np.float32)
        scene = np.c_[rng.uniform(-40, 40, (3000, 2)), np.zeros(3000), np.zeros(3000)].astype(np.float32)
        shared = np.isin(_cells(scene).code, _cells(guest).code)
        assert _same_direction(scene, guest)[shared].all()
