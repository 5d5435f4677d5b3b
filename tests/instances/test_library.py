"""The instance library: what it holds, how it is found again, when it is refused, and that a killed build goes on."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from instances_world import BUS, CAR, PERSON, TRUCK, World, make_world, work

from kd_seg.classes import load_classes
from kd_seg.core.errors import DataError
from kd_seg.core.geometry import transform
from kd_seg.instances.build import build_library
from kd_seg.instances.clusters import Clusters
from kd_seg.instances.decoys import CLUTTER, clutter_keys
from kd_seg.instances.fusion import Fuser, prepare_fusion
from kd_seg.instances.library import InstanceLibrary, library_plan
from kd_seg.instances.linking import link_keys, standing_classes
from kd_seg.instances.records import RECORD, Role, as_bytes, from_bytes
from kd_seg.instances.settings import CloudSettings, FusionSettings, LibrarySettings
from kd_seg.scans import Cloud, Scan, SemanticKitti

CLASSES = load_classes()
SETTINGS = LibrarySettings(decoy_cars=1.0, decoy_clutter=0.5)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), scans=5, start=97)


@pytest.fixture(scope="module")
def cache(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    build_library(folder, world.data(), CLASSES, SETTINGS, work())
    return folder


def cache_folder(cache: Path, world: World) -> Path:
    return library_plan(cache, world.data(), CLASSES, SETTINGS).folder


def opened(cache: Path, world: World) -> InstanceLibrary:
    return InstanceLibrary(cache, world.data(), CLASSES, SETTINGS, "kd-seg prepare test")


def test_records_are_the_points_of_full_words(cache: Path, world: World) -> None:
    instances = opened(cache, world).sequence("00")
    scan = world.data().scan("00", 99)
    assert scan.labels is not None
    numbers = [n for n in instances.at(99) if instances.records["role"][n] == Role.HARD]
    assert sorted(int(instances.records["key"][n]) for n in numbers) == sorted([TRUCK, BUS, PERSON])
    for n in numbers:
        record = instances.records[n]
        rows = instances.rows(int(n))
        assert np.array_equal(rows, np.flatnonzero(scan.labels == record["word"]))
        assert np.array_equal(instances.points(int(n)), scan.points[rows])
        assert record["moving"] == (record["word"] != BUS)
        assert (
            CLASSES.names[record["train"] - 1]
            == {TRUCK: "truck", BUS: "other-vehicle", PERSON: "person"}[record["key"]]
        )
        assert np.allclose(record["centroid"], scan.points[rows, :3].mean(0), atol=1e-4)
        assert np.array_equal(record["lower"], scan.points[rows, :3].min(0))


def test_appearances_are_bounded_by_scans_and_cross_shards(cache: Path, world: World) -> None:
    instances = opened(cache, world).sequence("00")
    found = instances.appearances(TRUCK, 98, 100)
    assert instances.records["scan"][found].tolist() == [98, 99, 100]
    assert len(list((cache_folder(cache, world) / "shards").iterdir())) == 2
    assert len(instances.appearances(TRUCK, 10, 20)) == 0
    assert len(instances.appearances(12345, 0, 1000)) == 0


def test_decoys_are_cars_and_clutter(cache: Path, world: World) -> None:
    records = opened(cache, world).sequence("00").records
    cars = records[records["role"] == Role.DECOY_CAR]
    assert set(cars["key"].tolist()) == {CAR}
    clutter = records[records["role"] == Role.DECOY_CLUTTER]
    assert len(clutter) > 5
    assert set((clutter["word"] & 0xFFFF).tolist()) == {50}
    seen_in = {int(k): len(np.unique(clutter["scan"][clutter["key"] == k])) for k in np.unique(clutter["key"])}
    assert np.mean([n >= 4 for n in seen_in.values()]) > 0.7
    size = (clutter["upper"] - clutter["lower"])[:, :2].max(1)
    assert size.max() < 3.2


def test_clutter_keys_do_not_depend_on_the_viewpoint() -> None:
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-20, 20, (3000, 3)).astype(np.float32)
    raw = rng.choice([50, 70], 3000).astype(np.uint16)
    pose = np.eye(4)
    pose[:3, 3] = [3.0, -2.0, 0.5]
    keys = clutter_keys(xyz, raw, np.eye(4), 0.3, 7)
    moved = clutter_keys((xyz - pose[:3, 3]).astype(np.float32), raw, pose, 0.3, 7)
    assert (keys == moved).mean() > 0.999
    assert (keys[keys > 0] >= CLUTTER).all()
    assert np.array_equal((keys[keys > 0] >> np.uint64(40)) & np.uint64(0xFFFF), raw[keys > 0])
    assert 0.02 < (keys > 0).mean() < 0.3
    assert (clutter_keys(xyz, raw, np.eye(4), 0.0, 7) == 0).all()
    assert (clutter_keys(xyz, raw, np.eye(4), 0.3, 8) != keys).any()


def test_instances_without_a_number_and_small_ones_stay_out(tmp_path: Path) -> None:
    world = make_world(tmp_path / "w", scans=1, background=100)
    path = tmp_path / "w" / "sequences" / "00" / "labels" / "000000.label"
    words = np.fromfile(path, "<u4")
    words[words == TRUCK] = 258
    person = np.flatnonzero(words == PERSON)
    words[person[4:]] = 0
    words.tofile(path)
    build_library(tmp_path / "c", world.data(), CLASSES, SETTINGS, work())
    library = InstanceLibrary(tmp_path / "c", world.data(), CLASSES, SETTINGS, "x")
    assert set(library.sequence("00").records["key"][hard_rows(library)].tolist()) == {BUS}


def hard_rows(library: InstanceLibrary) -> np.ndarray:
    return library.sequence("00").records["role"] == Role.HARD


def test_an_interrupted_build_goes_on_and_parts_add_up(cache: Path, world: World, tmp_path: Path) -> None:
    whole = cache_folder(cache, world)
    build_library(tmp_path, world.data(), CLASSES, SETTINGS, work(shard=(2, 2)))
    with pytest.raises(DataError, match=r"lacks 1 of 2 shards .*finish it with: kd-seg prepare test"):
        opened(tmp_path, world)
    build_library(tmp_path, world.data(), CLASSES, SETTINGS, work(shard=(1, 2)))
    part = cache_folder(tmp_path, world)
    first, second = "00_000000.safetensors", "00_000001.safetensors"
    for name in (first, second):
        assert (whole / "shards" / name).read_bytes() == (part / "shards" / name).read_bytes()
    kept = (part / "shards" / first).stat().st_mtime_ns
    (part / "shards" / second).unlink()
    build_library(tmp_path, world.data(), CLASSES, SETTINGS, work())
    assert (part / "shards" / first).stat().st_mtime_ns == kept
    assert opened(tmp_path, world).size == opened(cache, world).size


def test_a_library_of_other_data_is_refused_with_the_command(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.root, tmp_path / "w")
    data = SemanticKitti(tmp_path / "w")
    build_library(tmp_path / "c", data, CLASSES, SETTINGS, work())
    folder = library_plan(tmp_path / "c", data, CLASSES, SETTINGS).folder
    label = tmp_path / "w" / "sequences" / "00" / "labels" / "000099.label"
    words = np.fromfile(label, "<u4")
    words[0] ^= 1 << 16
    words.tofile(label)
    changed = SemanticKitti(tmp_path / "w")
    with pytest.raises(DataError, match=r"labels of sequence 00 changed; rebuild it with: go --rebuild"):
        InstanceLibrary(tmp_path / "c", changed, CLASSES, SETTINGS, "go")
    with pytest.raises(DataError, match="does not fit: labels of sequence 00 changed"):
        build_library(tmp_path / "c", changed, CLASSES, SETTINGS, work())
    build_library(tmp_path / "c", changed, CLASSES, SETTINGS, work(rebuild=True))
    InstanceLibrary(tmp_path / "c", changed, CLASSES, SETTINGS, "go")
    header = {"kind": "kd_seg instance library", "format": 1, "data": {}, "settings": {}}  # as 0.1.0 wrote it
    (folder / "header.json").write_text(json.dumps(header))
    with pytest.raises(DataError, match="library of format 1, this build reads 2; rebuild it with: go --rebuild"):
        InstanceLibrary(tmp_path / "c", changed, CLASSES, SETTINGS, "go")
    (folder / "header.json").write_text("{")
    with pytest.raises(DataError, match="is broken; rebuild the instance library"):
        InstanceLibrary(tmp_path / "c", changed, CLASSES, SETTINGS, "go")
    with pytest.raises(DataError, match=r"There is no instance library .* build it with: go"):
        InstanceLibrary(tmp_path / "none", changed, CLASSES, SETTINGS, "go")


def test_a_broken_shard_is_named(cache: Path, world: World, tmp_path: Path) -> None:
    shutil.copytree(cache, tmp_path / "c")
    path = cache_folder(tmp_path / "c", world) / "shards" / "00_000000.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"00_000000.safetensors is damaged .*; delete this file of the inst"):
        opened(tmp_path / "c", world).sequence("00")


def test_tables_survive_as_bytes_and_other_layouts_are_refused() -> None:
    table = np.zeros(3, dtype=RECORD)
    table["key"], table["centroid"] = [1, 2, 1 << 60], np.arange(9).reshape(3, 3)
    assert np.array_equal(from_bytes(as_bytes(table), RECORD), table)
    assert from_bytes(as_bytes(table[:0]), RECORD).shape == (0,)
    with pytest.raises(ValueError, match="no table"):
        from_bytes(as_bytes(table)[:, :-1], RECORD)


def test_two_processes_build_the_same(cache: Path, world: World, tmp_path: Path) -> None:
    build_library(tmp_path, world.data(), CLASSES, SETTINGS, work(workers=2))
    a, b = opened(cache, world).sequence("00"), opened(tmp_path, world).sequence("00")
    assert np.array_equal(a.records, b.records)


def test_pickling_leaves_the_maps_behind(cache: Path, world: World) -> None:
    library = opened(cache, world)
    library.sequence("00").points(0)
    again = pickle.loads(pickle.dumps(library))
    assert np.array_equal(again.sequence("00").points(0), library.sequence("00").points(0))


def test_clusters_join_touching_cells_of_one_class(tmp_path: Path) -> None:
    world = make_world(tmp_path, scans=2, background=50)
    sequence = world.data().sequences["00"]
    folder = sequence.folder
    for k in range(2):
        inverse = np.linalg.inv(world.poses[k])
        poles = np.array(
            [[5.0, 5.0, z] for z in np.arange(-1.5, 2, 0.2)] + [[9.0, 5.0, z] for z in np.arange(-1, 1, 0.2)]
        )
        sign = np.array([[5.0, 5.0, 2.2], [5.1, 5.0, 2.2]])
        xyz = np.concatenate([poles, sign]) @ inverse[:3, :3].T + inverse[:3, 3]
        np.c_[xyz, np.zeros(len(xyz))].astype("<f4").tofile(folder / "velodyne" / f"{k:06d}.bin")
        np.r_[np.full(len(poles), 80), np.full(2, 81)].astype("<u4").tofile(folder / "labels" / f"{k:06d}.label")
    settings = LibrarySettings(stuff=["pole", "traffic-sign"], decoy_clutter=0.0, minimum=2)
    build_library(tmp_path / "c", world.data(), CLASSES, settings, work())
    records = InstanceLibrary(tmp_path / "c", world.data(), CLASSES, settings, "x").sequence("00").records
    assert set(records["role"].tolist()) == {Role.STUFF}
    keys = np.unique(records["key"])
    assert len(keys) == 3
    assert all((records["key"] == k).sum() == 2 for k in keys)
    clusters = Clusters.of_sequence(world.data().sequences["00"], (80,))
    assert len(np.unique(clusters.component)) == 2


def test_linking_joins_a_car_that_starts_to_move_and_nothing_else(cache: Path, world: World) -> None:
    records = opened(cache, world).sequence("00").records
    records = records[np.isin(records["key"], [TRUCK, BUS])].copy()
    poses = world.data().sequences["00"].poses
    assert poses is not None
    standing = standing_classes(CLASSES.names)
    assert np.array_equal(link_keys(records, poses, standing), records)
    parked = (7 << 16) | 13
    late = (records["key"] == BUS) & (records["scan"] >= 99)
    records["key"][late], records["moving"][late] = parked, True
    linked = link_keys(records, poses, standing)
    assert set(linked["key"][linked["train"] == 5].tolist()) == {min(parked, BUS)}
    assert set(linked["key"][linked["train"] == 4].tolist()) == {TRUCK}


def starting_truck(world: World, root: Path) -> SemanticKitti:
    """The world with a truck whose word is that of a standing one before scan 99 (it moves all the time)."""
    shutil.copytree(world.root, root)
    for scan in (97, 98):
        path = root / "sequences" / "00" / "labels" / f"{scan:06d}.label"
        words = np.fromfile(path, "<u4")
        words[words == TRUCK] = STANDING
        words.tofile(path)
    return SemanticKitti(root)


STANDING = (5 << 16) | 18


def link_nearby(monkeypatch: pytest.MonkeyPatch) -> None:
    """The truck of the world moves 1.2 m between two scans, more than one that starts does."""
    monkeypatch.setattr("kd_seg.instances.linking.NEAR_VEHICLE", 2.0)


def test_keys_are_linked_where_moving_classes_are_classes_of_their_own(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link_nearby(monkeypatch)
    data, classes = starting_truck(world, tmp_path / "w"), load_classes("semantic_kitti_25")
    settings = LibrarySettings(decoy_clutter=0.0, link=True)
    build_library(tmp_path / "c", data, classes, settings, work())
    records = InstanceLibrary(tmp_path / "c", data, classes, settings, "go").sequence("00").records
    trucks = records[np.isin(records["word"], [TRUCK, STANDING])]
    assert set(trucks["key"].tolist()) == {min(TRUCK, STANDING)}
    assert set(trucks["train"].tolist()) == {4, 25}


@pytest.mark.parametrize(("now", "other"), [(99, 98), (98, 99)])
def test_linked_objects_are_registered_where_either_appearance_moves(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: int, other: int
) -> None:
    link_nearby(monkeypatch)
    data = starting_truck(world, tmp_path / "w")
    cloud = CloudSettings(earlier=1, later=1, decoys=False, skip=0.0)
    settings = FusionSettings(library=LibrarySettings(decoy_clutter=0.0, link=True), cloud=cloud)
    prepare_fusion(tmp_path / "c", data, CLASSES, settings, work())
    fuser = Fuser.open(tmp_path / "c", data, CLASSES, settings, "go")
    scan = data.scan("00", now)
    fused = fuser.fuse(scan, Cloud.of_scan(scan), np.random.default_rng(0))
    word = TRUCK if now == 99 else STANDING
    rows = (fused.words == word) & (fused.origin == now - other)
    assert rows.sum() > 20
    own = fused.points[(fused.words == word) & (fused.origin == 0), :3]
    truth = transform(world.motion(TRUCK, other, now), points_of(data.scan("00", other), (TRUCK, STANDING)))
    shift = fused.points[rows, :3].mean(axis=0) - truth.mean(axis=0)
    assert np.abs(shift[:2]).max() < 0.3
    assert len(own) > 20


def points_of(scan: Scan, words: tuple[int, ...]) -> np.ndarray:
    assert scan.labels is not None
    return scan.points[np.isin(scan.labels, words), :3]


def test_changed_points_are_noticed(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.root, tmp_path / "w")
    data = SemanticKitti(tmp_path / "w")
    build_library(tmp_path / "c", data, CLASSES, SETTINGS, work())
    for scan in data:
        (scan.file_points + np.float32([0, 0, 1, 0])).tofile(scan.points_path)
    with pytest.raises(DataError, match=r"points of sequence 00 changed; rebuild it with: go --rebuild"):
        InstanceLibrary(tmp_path / "c", SemanticKitti(tmp_path / "w"), CLASSES, SETTINGS, "go")


def test_changed_labels_of_any_scan_are_noticed_where_they_are_used(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.root, tmp_path / "w")
    data = SemanticKitti(tmp_path / "w")
    settings = FusionSettings(library=SETTINGS, cloud=CloudSettings(earlier=1, alignment="ego"))
    prepare_fusion(tmp_path / "c", data, CLASSES, settings, work())
    path = tmp_path / "w" / "sequences" / "00" / "labels" / "000098.label"  # neither first, middle nor last
    words = np.fromfile(path, "<u4")
    words[words == PERSON] = 40
    words.tofile(path)
    fuser = Fuser.open(tmp_path / "c", SemanticKitti(tmp_path / "w"), CLASSES, settings, "go")
    for index, changed in ((97, False), (98, True), (99, False)):
        scan = fuser.library.data.scan("00", index)
        if changed:
            with pytest.raises(DataError, match=r"labels of scan 00/000098 changed .* rebuild it with: go --rebuild"):
                fuser.fuse(scan, Cloud.of_scan(scan), np.random.default_rng(0))
        else:
            fuser.fuse(scan, Cloud.of_scan(scan), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("times", "says"),
    [
        ([0.0] * 101, "scan 98 is not later than scan 97"),
        ([10.0 - 0.1 * k for k in range(101)], "scan 98 is not later than scan 97"),
        ([0.1 * k for k in range(99)], "has 99 rows, scan 99 needs row 99"),
    ],
)
def test_moving_objects_need_times_that_increase(world: World, tmp_path: Path, times: list[float], says: str) -> None:
    shutil.copytree(world.root, tmp_path / "w")
    path = tmp_path / "w" / "sequences" / "00" / "times.txt"
    path.write_text("".join(f"{time}\n" for time in times))
    settings = FusionSettings(library=SETTINGS, cloud=CloudSettings(earlier=1))
    with pytest.raises(DataError, match=f"times.txt.*{says}"):
        prepare_fusion(tmp_path / "c", SemanticKitti(tmp_path / "w"), CLASSES, settings, work())
    path.unlink()
    assert prepare_fusion(tmp_path / "d", SemanticKitti(tmp_path / "w"), CLASSES, settings, work())


def test_damaged_components_are_named(world: World, tmp_path: Path) -> None:
    settings = LibrarySettings(stuff=["building"], decoy_clutter=0.0)
    build_library(tmp_path, world.data(), CLASSES, settings, work())
    folder = library_plan(tmp_path, world.data(), CLASSES, settings).folder
    shutil.rmtree(folder / "shards")
    path = folder / "clusters" / "00.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"clusters/00.npz is damaged .* delete it and prepare again"):
        build_library(tmp_path, world.data(), CLASSES, settings, work())


def test_a_library_that_recorded_less_of_its_data_still_opens(cache: Path, world: World, tmp_path: Path) -> None:
    shutil.copytree(cache, tmp_path / "c")
    path = cache_folder(tmp_path / "c", world) / "header.json"
    header = json.loads(path.read_text())
    del header["data"]["00"]["points"]
    path.write_text(json.dumps(header))
    assert opened(tmp_path / "c", world).size == opened(cache, world).size


def test_the_fused_cloud_needs_no_labels_folder_for_prediction(world: World) -> None:
    """A student's path never touches the library: a cloud without labels has no words at all."""
    cloud = Cloud.of_scan(world.data().scan("00", 98), with_labels=False)
    assert not cloud.words.any()
