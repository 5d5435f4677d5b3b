"""Registration and fusion against known motion; clearance and caps against plain NumPy; provenance."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instances_world import BUS, CAR, PERSON, TRUCK, World, make_world, work
from scipy.spatial import cKDTree

from kd_seg.classes import load_classes
from kd_seg.core.errors import DataError
from kd_seg.core.geometry import invert, rotation_z, transform
from kd_seg.instances.fusion import Fuser, prepare_fusion
from kd_seg.instances.icp import Motion, Target, _plane_step, _point_step, icp
from kd_seg.instances.nearness import keep_fused
from kd_seg.instances.registration import Method, RegistrationLimits, box_shift, diagonal, register, speed_limits
from kd_seg.instances.settings import CloudSettings, FusionSettings, LibrarySettings, RegistrationSettings
from kd_seg.instances.table import RegistrationTable, relative
from kd_seg.scans import Cloud, Kind

CLASSES = load_classes()
LIBRARY = LibrarySettings(decoy_cars=1.0, decoy_clutter=1.0)
REGISTRATION = RegistrationSettings()
FUSION = FusionSettings(library=LIBRARY, cloud=CloudSettings(skip=0.0))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), scans=7, start=3, background=9000)


@pytest.fixture(scope="module")
def cache(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    prepare_fusion(folder, world.data(), CLASSES, FUSION, work())
    return folder


def fuser(cache: Path, world: World, **changes: object) -> Fuser:
    wanted = FUSION.model_copy(update={"cloud": FUSION.cloud.model_copy(update=changes)})
    return Fuser.open(cache, world.data(), CLASSES, wanted, "kd-seg prepare test")


def corner(rng: np.random.Generator, count: int = 400) -> np.ndarray:
    """Two sides of a vehicle and a bit of roof."""
    long = np.c_[rng.uniform(-4, 4, count), np.full(count, -1.2), rng.uniform(0, 3, count)]
    back = np.c_[np.full(count // 3, -4.0), rng.uniform(-1.2, 1.2, count // 3), rng.uniform(0, 3, count // 3)]
    roof = np.c_[rng.uniform(-4, 4, count // 3), rng.uniform(-1.2, 1.2, count // 3), np.full(count // 3, 3.0)]
    return np.concatenate([long, back, roof])


@pytest.mark.parametrize("plane", [True, False])
@pytest.mark.parametrize("away", [0.0, 40.0])
def test_icp_finds_a_known_motion(plane: bool, away: float) -> None:
    rng = np.random.default_rng(0)
    place = np.array([away, 5.0, 0.0])
    shape = corner(rng) + place
    turn = Motion(np.deg2rad(3.0), np.zeros(3))
    truth = Motion(turn.yaw, place + np.array([0.3, -0.2, 0.02 if plane else 0.0]) - turn.apply(place[None])[0])
    other = corner(rng) + place if plane else shape
    fit = icp(shape, Target(truth.apply(other)), Motion.none(), iterations=60, plane=plane)
    error = np.linalg.norm(fit.motion.apply(shape) - truth.apply(shape), axis=1).mean()
    assert error < (0.03 if plane else 0.015)
    assert abs(fit.motion.yaw - truth.yaw) < np.deg2rad(0.5)
    assert fit.inliers > 0.95


def test_a_point_step_without_prior_is_the_closed_form() -> None:
    """The closed form: psi = atan2(sum(a_x b_y - a_y b_x), sum(a_x b_x + a_y b_y)) of centred pairs, then the shift."""
    rng = np.random.default_rng(0)
    a, truth = rng.normal(size=(30, 3)) + np.array([20.0, -3.0, 1.0]), Motion(0.4, np.array([1.0, -2.0, 0.3]))
    step, rms = _point_step(a, truth.apply(a), np.ones(4), np.zeros(4), True)
    assert step[3] == pytest.approx(0.4)
    assert np.allclose(step[:3], truth.shift)
    assert rms == pytest.approx(np.sqrt(((truth.apply(a) - a) ** 2).sum(1).mean()))
    held, _ = _point_step(a, truth.apply(a), np.array([0.0, 0.0, 0.5, 0.0]), np.array([0.0, 0.0, 1e9, 0.0]), False)
    assert held[2] == pytest.approx(0.5)
    assert held[3] == 0.0


def test_a_plane_step_solves_its_linear_system() -> None:
    rng = np.random.default_rng(1)
    a, n = rng.normal(size=(40, 3)), rng.normal(size=(40, 3))
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    b = a + rng.normal(0, 0.01, a.shape)
    step, rms = _plane_step(a, b, n, np.zeros(4), np.zeros(4), True)
    centred = a - a.mean(0)
    rows = np.c_[n, n[:, 1] * centred[:, 0] - n[:, 0] * centred[:, 1]]
    residual = ((b - a) * n).sum(1)
    wanted = np.linalg.lstsq(rows, residual, rcond=None)[0]
    turned = Motion(wanted[3], np.zeros(3)).apply(a.mean(0, keepdims=True))[0]
    assert step[3] == pytest.approx(wanted[3])
    assert np.allclose(step[:3], wanted[:3] + a.mean(0) - turned)
    assert rms == pytest.approx(np.sqrt((residual**2).mean()))


def test_motions_compose() -> None:
    a, b = Motion(0.3, np.array([1.0, 2.0, 3.0])), Motion(-0.8, np.array([0.5, 0.0, -1.0]))
    xyz = np.random.default_rng(0).normal(size=(5, 3))
    assert np.allclose(b.after(a).apply(xyz), b.apply(a.apply(xyz)))
    assert np.allclose(a.apply(xyz), xyz @ rotation_z(0.3).T + a.shift)


def test_gates_fall_back_in_steps() -> None:
    rng = np.random.default_rng(1)
    shape = corner(rng)
    target = Target(shape + np.array([2.0, 0.0, 0.0]))
    near, far = box_shift(shape, target.xyz), np.array([30.0, 0.0, 0.0])
    assert np.allclose(near, [2.0, 0.0, 0.0], atol=1e-9)
    free = RegistrationLimits(40.0, 1.3 * diagonal(shape) + 0.5)
    best = register(shape, target, [near], 0.1, free, REGISTRATION)
    assert (best.method, best.rms < 0.05, best.inliers > 0.9) == (Method.ICP, True, True)
    strict = REGISTRATION.model_copy(update={"inliers": 1.1})
    assert register(shape, target, [near], 0.1, free, strict).method == Method.TRANSLATION
    few = register(
        shape[:4], target, [box_shift(shape[:4], target.xyz)], 0.1, RegistrationLimits(400.0, 100.0), REGISTRATION
    )
    assert few.method == Method.SHIFT
    # too fast for the class: only standing still passes, unless the object would then be too long
    assert register(shape, target, [near], 0.1, RegistrationLimits(4.0, 14.0), REGISTRATION).method == Method.EGO
    assert register(shape, target, [far], 0.1, RegistrationLimits(4.0, 5.0), REGISTRATION).method == Method.DROPPED


def test_speed_limits_follow_the_class_names() -> None:
    limits = dict(zip(CLASSES.names, speed_limits(CLASSES.names, REGISTRATION), strict=True))
    assert (limits["truck"], limits["motorcyclist"], limits["bicyclist"], limits["person"]) == (40, 40, 15, 4)


def test_registrations_match_the_true_motion(cache: Path, world: World) -> None:
    """Every moving pair ends nearer to the truth than ego-motion alone does, and near in absolute terms."""
    opened = fuser(cache, world)
    assert opened.table is not None
    pairs = opened.table.pairs("00")
    assert set(pairs["key"].tolist()) == {TRUCK, PERSON, CAR}
    expected = sum(min(t - 3, 4) for t in range(3, 10)) * 3
    assert len(pairs) == expected
    instances = opened.library.sequence("00")
    for word, limit in ((TRUCK, 0.15), (PERSON, 0.15), (CAR, 0.25)):
        errors, before = [], []
        for pair in pairs[pairs["key"] == word]:
            s, t = int(pair["s"]), int(pair["t"])
            number = int(instances.appearances(word, s, s)[0])
            points = instances.points(number)[:, :3]
            moved = transform(relative(world.poses[t], world.poses[s]), points)
            found = opened.table.find("00", word, t, s)
            assert found is not None
            truth = transform(world.motion(word, s, t), points)
            errors.append(np.linalg.norm(found.motion.apply(moved) - truth, axis=1).mean())
            before.append(np.linalg.norm(moved - truth, axis=1).mean())
        assert np.median(errors) < limit, word
        assert np.median(errors) < 0.5 * np.median(before), word


def test_later_scans_and_strides(world: World, tmp_path: Path) -> None:
    both = FUSION.model_copy(update={"cloud": CloudSettings(earlier=2, later=2, stride=2, skip=0.0)})
    assert both.cloud.offsets() == (2, -2, 4, -4)
    prepare_fusion(tmp_path, world.data(), CLASSES, both, work())
    scan = world.data().scan("00", 6)
    opened = Fuser.open(tmp_path, world.data(), CLASSES, both, "x")
    cloud = opened.fuse(scan, Cloud.of_scan(scan), np.random.default_rng(0))
    assert set(cloud.origin[cloud.kind == Kind.FUSED].tolist()) == {2, -2}
    with pytest.raises(ValueError, match="below 128"):
        CloudSettings(earlier=64, stride=2)


def test_the_fused_cloud_lies_on_the_objects(cache: Path, world: World) -> None:
    """Fused points of truck, person and standing bus lie on the true box of the present scan, of all four scans."""
    scan = world.data().scan("00", 8)
    own = Cloud.of_scan(scan)
    cloud = fuser(cache, world).fuse(scan, own, np.random.default_rng(0))
    assert cloud.own == len(own)
    assert np.array_equal(cloud.points[: cloud.own], own.points)
    assert np.array_equal(cloud.words[: cloud.own], own.words)
    assert not cloud.origin[: cloud.own].any()
    assert (cloud.source[cloud.own :] == -1).all()
    fused = cloud.take(cloud.kind == Kind.FUSED)
    assert set(fused.words.tolist()) == {TRUCK, PERSON, BUS}
    for word, height, off in ((TRUCK, 3.2, 0.25), (BUS, 3.0, 0.06), (PERSON, 1.8, 0.3)):
        rows = fused.words == word
        assert set(fused.origin[rows].tolist()) == {1, 2, 3, 4}
        placed = invert(world.objects[word][8]) @ world.poses[8]
        local = transform(placed, fused.points[rows, :3])
        length, width, _ = {TRUCK: (8.0, 2.5, 0), BUS: (11.0, 2.6, 0), PERSON: (0.5, 0.5, 0)}[word]
        outside = np.maximum(np.abs(local[:, :2]) - [length / 2, width / 2], 0).max(1)
        assert np.quantile(outside, 0.95) < off, word
        assert np.all((local[:, 2] > -0.3) & (local[:, 2] < height + 0.3))


def test_decoys_balance_the_fused_points(cache: Path, world: World) -> None:
    scan = world.data().scan("00", 8)
    cloud = fuser(cache, world).fuse(scan, Cloud.of_scan(scan), np.random.default_rng(1))
    fused, decoys = ((cloud.kind == k).sum() for k in (Kind.FUSED, Kind.DECOY))
    assert 0.7 < decoys / fused < 1.6
    words = set((cloud.words[cloud.kind == Kind.DECOY] & 0xFFFF).tolist())
    assert words <= {252, 50}
    assert 50 in words
    plain = fuser(cache, world, decoys=False).fuse(scan, Cloud.of_scan(scan), np.random.default_rng(1))
    assert not (plain.kind == Kind.DECOY).any()


def test_no_own_point_is_doubled(cache: Path, world: World) -> None:
    """Rows of the present scan are there once; nothing fused lies within 2 cm of them (trap 3)."""
    scan = world.data().scan("00", 9)
    own = Cloud.of_scan(scan)
    cloud = fuser(cache, world).fuse(scan, own, np.random.default_rng(2))
    assert (cloud.source >= 0).sum() == len(own)
    assert len(np.unique(cloud.source[cloud.source >= 0])) == len(own)
    distance, _ = cKDTree(own.points[:, :3]).query(cloud.points[cloud.own :, :3])
    assert distance.min() >= 0.02 - 1e-5


def test_only_keys_of_the_present_scan_are_fused(cache: Path, world: World) -> None:
    scan = world.data().scan("00", 8)
    own = Cloud.of_scan(scan)
    without = own.take(own.words != TRUCK)
    cloud = fuser(cache, world).fuse(scan, without, np.random.default_rng(0))
    assert set(cloud.words[cloud.kind == Kind.FUSED].tolist()) == {BUS, PERSON}
    first = world.data().scan("00", 3)
    alone = fuser(cache, world).fuse(first, Cloud.of_scan(first), np.random.default_rng(0))
    assert len(alone) == alone.own


def test_some_instances_are_left_unfused(cache: Path, world: World) -> None:
    scan = world.data().scan("00", 8)
    opened = fuser(cache, world, skip=0.5, decoys=False)
    seen = [
        len(set(c.words[c.kind == Kind.FUSED].tolist()))
        for c in (opened.fuse(scan, Cloud.of_scan(scan), np.random.default_rng(i)) for i in range(40))
    ]
    assert min(seen) == 0
    assert max(seen) == 3
    assert 1.0 < np.mean(seen) < 2.0


def test_caps(cache: Path, world: World) -> None:
    scan = world.data().scan("00", 8)
    opened = fuser(cache, world, per_instance=50, per_cloud=90, decoys=False)
    cloud = opened.fuse(scan, Cloud.of_scan(scan), np.random.default_rng(0))
    fused = cloud.words[cloud.own :]
    assert len(fused) <= 90
    assert np.unique(fused, return_counts=True)[1].max() <= 50


def test_alignments_differ_as_they_should(cache: Path, world: World) -> None:
    """Ego-motion alone leaves the truck's motion in; the released centroid shift even moves the standing bus."""
    scan = world.data().scan("00", 8)

    def error(alignment: str, word: int) -> float:
        opened = fuser(cache, world, alignment=alignment, decoys=False)
        cloud = opened.fuse(scan, Cloud.of_scan(scan), np.random.default_rng(0))
        rows = (cloud.words == word) & (cloud.kind == Kind.FUSED)
        local = transform(invert(world.objects[word][8]) @ world.poses[8], cloud.points[rows, :3])
        half = np.array({TRUCK: [4.0, 1.25], BUS: [5.5, 1.3]}[word])
        return float(np.abs(np.abs(local[:, :2]) - half).min(1).mean())

    assert error("registered", TRUCK) < 0.1 < error("ego", TRUCK)
    assert error("ego", BUS) < 0.03 < error("centroid", BUS)


def test_a_missing_table_names_the_command(cache: Path, world: World) -> None:
    with pytest.raises(DataError, match=r"There is no registration table .*; build it with: kd-seg prepare test"):
        fuser(cache, world, earlier=3)
    assert fuser(cache, world, earlier=3, alignment="ego").table is None
    again = pickle.loads(pickle.dumps(fuser(cache, world)))
    assert isinstance(again.table, RegistrationTable)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.integers(0, 200), st.integers(0, 200), st.floats(0.0, 0.3), st.integers(1, 4))
def test_keep_fused_against_plain(seed: int, n: int, m: int, clearance: float, per_cell: int) -> None:
    rng = np.random.default_rng(seed)
    own = rng.uniform(-1, 1, (n, 3)).astype(np.float32)
    fused = rng.uniform(-1.2, 1.2, (m, 3)).astype(np.float32)
    if n and m:
        fused[: min(3, m)] = own[0]
    clearance = max(clearance, 1e-6)
    keep = keep_fused(own, fused, clearance, 0.25, per_cell)
    squared = ((fused[:, None].astype(np.float64) - own[None].astype(np.float64)) ** 2).sum(2)
    clear = ~(squared < clearance * clearance).any(1) if n else np.ones(m, bool)
    counts: dict[tuple[int, ...], int] = {}
    for i in range(m):
        if clear[i]:
            cell = tuple(np.floor(fused[i].astype(np.float32) / 0.25).astype(int).tolist())
            counts[cell] = counts.get(cell, 0) + 1
            clear[i] = counts[cell] <= per_cell
    assert np.array_equal(keep, clear)


def test_keep_fused_far_away_and_at_the_bitmap_border() -> None:
    own = np.array([[500.0, -500.0, 0.0], [127.99, 0.0, 0.0]], dtype=np.float32)
    fused = np.array([[500.005, -500.0, 0.0], [128.0, 0.0, 0.0], [130.0, 0.0, 0.0]], dtype=np.float32)
    assert keep_fused(own, fused, 0.02, 0.05, 8).tolist() == [False, False, True]
