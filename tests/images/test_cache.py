"""The teacher cache: whole shards, interruption, refusal with the command, damage; and what teachers read from disk."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from images_runs import export_maps, source
from images_scene import HEIGHT, WIDTH, Scene, write_scene
from PIL import Image

from kd_seg.caches.store import Build, Header, Store, build_store, fingerprint, read_header
from kd_seg.classes import load_classes
from kd_seg.core.config import validate
from kd_seg.core.errors import ConfigError, DataError
from kd_seg.images.projection.cameras import ProjectionSettings, look, shots
from kd_seg.images.regions.cache import RegionSource, build_regions, open_regions, read_regions
from kd_seg.images.teachers import Tools, build_teacher, teacher_settings
from kd_seg.images.units.cache import build_units, open_units, read_units
from kd_seg.scans import SemanticKitti

MEND = "kd-seg prepare CONFIG"
HOW = Build(MEND)
REBUILD = Build(MEND, rebuild=True)
CLASSES = load_classes()


def maker() -> Callable[[tuple[str, int]], dict[str, Any]]:
    return record


def record(key: tuple[str, int]) -> dict[str, Any]:
    """Arrays of odd lengths, empty for every third scan."""
    count = 0 if key[1] % 3 == 0 else key[1] % 7
    rng = np.random.default_rng(key[1])
    return {
        "rows": rng.integers(0, 100, count).astype(np.int32),
        "table": rng.normal(size=(count, 4)).astype(np.float16),
        "counts": np.array([key[1]], dtype=np.int32),
    }


KEYS = [("00", k) for k in range(120)] + [("02", k) for k in range(40, 60)]
HEADER = Header(
    "units", {"a": 1}, {"files": "x"}, {"labels": "2d"}, ["road"], {"00": {"poses": "1"}, "02": {"poses": "2"}}
)


def test_round_trip(tmp_path: Path) -> None:
    build_store(tmp_path / "c", HEADER, KEYS, maker, HOW)
    assert sorted(p.name for p in (tmp_path / "c/shards").iterdir()) == [
        "00_000000.safetensors", "00_000001.safetensors", "00_000002.safetensors", "02_000000.safetensors",
        "02_000001.safetensors",
    ]  # fmt: skip
    store = Store(tmp_path / "c", HEADER, KEYS, MEND)
    store = pickle.loads(pickle.dumps(store))
    for key in KEYS[::-1]:
        found = store.record(key, ("rows", "table", "counts"))
        for name, wanted in record(key).items():
            assert found[name].dtype == wanted.dtype
            np.testing.assert_array_equal(found[name], wanted)
        assert store.lengths(key, "table") == len(record(key)["table"])
    assert store.width("table") == 4
    with pytest.raises(DataError, match="00/000149"):
        store.record(("00", 149), ("rows",))


def test_an_interrupted_build_goes_on(tmp_path: Path) -> None:
    made: list[tuple[str, int]] = []

    def stopping(key: tuple[str, int]) -> dict[str, Any]:
        if key == ("00", 110):
            raise KeyboardInterrupt
        made.append(key)
        return record(key)

    with pytest.raises(KeyboardInterrupt):
        build_store(tmp_path / "c", HEADER, KEYS, lambda: stopping, HOW)
    assert len(list((tmp_path / "c/shards").iterdir())) == 2  # no part of the third
    with pytest.raises(DataError, match=rf"lacks shard 00_000002 \(3 in all\).*{MEND}"):
        Store(tmp_path / "c", HEADER, KEYS, MEND)
    made.clear()
    build_store(tmp_path / "c", HEADER, KEYS, lambda: lambda key: made.append(key) or record(key), HOW)  # type: ignore[func-returns-value]
    assert min(k for s, k in made if s == "00") == 100
    assert len(Store(tmp_path / "c", HEADER, KEYS, MEND).record(KEYS[-1], ("rows",))["rows"]) == len(
        record(KEYS[-1])["rows"]
    )


def test_parts_merge_by_being_there(tmp_path: Path) -> None:
    for part in (2, 1, 3):
        build_store(tmp_path / "c", HEADER, KEYS, maker, Build(MEND, part=(part, 3)))
    Store(tmp_path / "c", HEADER, KEYS, MEND)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"settings": {"a": 2}}, "other settings"),
        ({"teacher": {"files": "y"}}, "teacher's files changed"),
        ({"data": {"00": {"poses": "9"}}}, "poses of sequence 00 changed"),
        ({"data": {"05": {"poses": "1"}}}, "no sequence 05"),
    ],
)
def test_a_cache_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    build_store(tmp_path / "c", HEADER, KEYS[:5], maker, HOW)
    wanted = Header(**{**HEADER.__dict__, **change})
    with pytest.raises(DataError, match=f"{says}.*{MEND} --rebuild"):
        Store(tmp_path / "c", wanted, KEYS[:5], MEND)
    if "05" not in wanted.data:
        with pytest.raises(DataError, match=says):
            build_store(tmp_path / "c", wanted, KEYS[:5], maker, HOW)
        build_store(tmp_path / "c", wanted, KEYS[:5], maker, REBUILD)
        Store(tmp_path / "c", wanted, KEYS[:5], MEND)


def test_versions_and_absence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=MEND):
        Store(tmp_path / "c", HEADER, KEYS, MEND)
    build_store(tmp_path / "c", HEADER, KEYS[:5], maker, HOW)
    path = tmp_path / "c/header.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
    with pytest.raises(DataError, match=f"format 99, this build reads 1.*{MEND}"):
        read_header(tmp_path / "c", MEND)
    # a teacher whose files are not on this machine is not compared
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 1}))
    Store(tmp_path / "c", Header(**{**HEADER.__dict__, "teacher": {}}), KEYS[:5], MEND)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_has_a_sentence(tmp_path: Path, data: st.DataObject) -> None:
    """Cut or changed bytes are refused with the file's name, or change values; nothing else happens."""
    folder = tmp_path / "c"
    build_store(folder, HEADER, KEYS[:7], maker, REBUILD)
    path = folder / "shards/00_000000.safetensors"
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        store = Store(folder, HEADER, KEYS[:7], MEND)
        for key in KEYS[:7]:
            store.record(key, ("rows", "table"))
    except DataError as error:
        assert "00_000000" in str(error) or "no scan" in str(error)  # noqa: PT017


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_broken_headers_have_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "header.json").write_bytes(content)
    with pytest.raises(DataError, match="rebuild"):
        read_header(tmp_path, MEND)


# ---------------------------------------------------------------- maps on disk


def tools(data: SemanticKitti) -> Tools:
    from kd_seg.images.units.class_maps import load_class_map

    return Tools(data.root, CLASSES, load_class_map("cityscapes_19", CLASSES).vocabulary)


def test_units_of_exported_maps(tmp_path: Path) -> None:
    root = write_scene(tmp_path / "data", Scene(), ("00", "01"), count=3, pictures=(0, 2))
    maps = export_maps(tmp_path / "maps", root)
    data = SemanticKitti(root)
    build_units(source(maps), tmp_path / "cache", data, CLASSES, tools(data), HOW)
    store = open_units(source(maps), tmp_path / "cache", data, CLASSES, MEND)
    assert store.header.provenance == {"labels": "2d", "data": [], "sequences": []}
    for key in data.keys():  # noqa: SIM118
        units = read_units(store, key)
        points, views, answered = store.record(key, ("counts",))["counts"]
        assert points == len(data.scan(*key).points)
        if key[1] == 1:  # no picture: no units, no error
            assert (len(units), views, answered) == (0, 0, 0)
            continue
        assert (views, answered) == (1, 1)
        assert {store.header.vocabulary[k] for k in units.klass} >= {"car", "road", "building"}
        assert units.confidence.tolist() == pytest.approx([0.8] * len(units), abs=1e-3)
        labels = data.scan(*key).labels
        assert labels is not None
        train = CLASSES.to_train(labels, "x")
        car = units.rows(units.klass.tolist().index(13))
        assert (train[car] == 1).mean() > 0.95
    # a picture that the exporter left out has no answer, and is counted
    (maps / "sequences/00/class/000000.png").unlink()
    build_units(source(maps), tmp_path / "cache", data, CLASSES, tools(data), REBUILD)
    store = open_units(source(maps), tmp_path / "cache", data, CLASSES, MEND)
    assert store.record(("00", 0), ("counts",))["counts"][1:].tolist() == [1, 0]


def test_changes_on_disk_are_noticed(tmp_path: Path) -> None:
    root = write_scene(tmp_path / "data", Scene(), count=2)
    maps = export_maps(tmp_path / "maps", root)
    data = SemanticKitti(root)
    build_units(source(maps), tmp_path / "cache", data, CLASSES, tools(data), HOW)
    Image.new("L", (WIDTH, HEIGHT)).save(maps / "sequences/00/class/000001.png")
    with pytest.raises(DataError, match=f"teacher's files changed.*{MEND}"):
        open_units(source(maps), tmp_path / "cache", data, CLASSES, MEND)
    with pytest.raises(DataError, match=MEND):  # other settings are another cache, which is not there
        open_units(source(maps, noise={"wrong": 0.2}), tmp_path / "cache", data, CLASSES, MEND)
    before = fingerprint(data)
    (root / "sequences/00/labels/000000.label").write_bytes(b"")
    assert fingerprint(SemanticKitti(root)) == before  # labels are nothing to it
    (root / "sequences/00/image_2/000000.png").write_bytes(b"x")
    assert fingerprint(SemanticKitti(root)) != before


def test_map_errors(tmp_path: Path) -> None:
    root = write_scene(tmp_path / "data", Scene(), count=1)
    maps = export_maps(tmp_path / "maps", root, features=True)
    data = SemanticKitti(root)
    shot = shots(data.scan("00", 0), ProjectionSettings())[0]
    teacher = build_teacher(source(maps).teacher, tools(data))
    path = maps / "sequences/00/class/000000.png"
    Image.new("L", (WIDTH, HEIGHT), 77).save(path)
    with pytest.raises(DataError, match=r"class 77.*19 classes"):
        teacher.answer(shot)
    Image.new("L", (WIDTH, HEIGHT - 1)).save(path)
    with pytest.raises(DataError, match=f"{WIDTH}x{HEIGHT - 1}"):
        teacher.answer(shot)
    Image.new("RGB", (WIDTH, HEIGHT)).save(path)
    with pytest.raises(DataError, match="8-bit grey"):
        teacher.answer(shot)
    path.write_bytes(b"no png")
    with pytest.raises(DataError, match="not a readable picture"):
        teacher.answer(shot)
    path.unlink()
    np.save(maps / "sequences/00/features/000000.npy", np.full((2, 3, 4), np.nan, np.float32))
    with pytest.raises(DataError, match="NaN"):
        teacher.answer(shot)
    with pytest.raises(ConfigError, match="'root'"):
        teacher_settings({"kind": "maps", "roots": "x"})
    with pytest.raises(ConfigError, match="maps"):
        teacher_settings({"kind": "map"})
    wrong = source(maps, teacher={"kind": "maps", "root": str(maps), "vocabulary": ["a", "b", "c"]})
    with pytest.raises(DataError, match="teacher has 3 classes"):
        build_units(wrong, tmp_path / "cache", data, CLASSES, tools(data), HOW)


# ---------------------------------------------------------------- regions


@pytest.mark.parametrize("kind", ["view", "tile", "superpixel", "mask", "point"])
def test_regions_round_trip(tmp_path: Path, kind: str) -> None:
    root = write_scene(tmp_path / "data", Scene(), count=2, pictures=(1,))
    maps = export_maps(tmp_path / "maps", root, features=True)
    data = SemanticKitti(root)
    teacher = {"kind": "maps", "root": str(maps), "confidence_scale": 250}
    asked = validate(RegionSource, {"teacher": teacher, "regions": {"kind": kind, "min_pixels": 20}}, "x")
    build_regions(asked, tmp_path / "cache", data, tools(data), HOW)
    store = open_regions(asked, tmp_path / "cache", data, MEND)
    assert read_regions(store, ("00", 0)) == []
    (view,) = read_regions(store, ("00", 1))
    scan = data.scan("00", 1)
    (seen,) = look(scan, data.sequences["00"], ProjectionSettings())
    np.testing.assert_array_equal(view.rows, seen.pairs.rows)
    features = np.load(maps / "sequences/00/features/000001.npy")
    np.testing.assert_allclose(view.features, features.reshape(6, -1).T, atol=2e-3)
    assert (view.grid, view.picture) == ((12, 39), (HEIGHT, WIDTH))
    if kind == "point":
        assert view.regions == len(view.rows)
        return
    assert len(view.region) == len(view.rows)
    assert view.regions == {"view": 1, "tile": 48}.get(kind, view.regions)
    assert view.region.max() < view.regions
    total = np.bincount(view.target, weights=view.weight, minlength=view.regions)
    np.testing.assert_allclose(total[total > 0], 1.0, atol=1e-5)
    assert (total[np.unique(view.region[view.region >= 0])] > 0).all()


def test_features_are_needed(tmp_path: Path) -> None:
    root = write_scene(tmp_path / "data", Scene(), count=1)
    maps = export_maps(tmp_path / "maps", root)
    data = SemanticKitti(root)
    asked = RegionSource(teacher={"kind": "maps", "root": str(maps)})
    with pytest.raises(DataError, match="gives no features"):
        build_regions(asked, tmp_path / "cache", data, tools(data), HOW)


def test_workers_build_the_same(tmp_path: Path) -> None:
    done: list[int] = []
    build_store(tmp_path / "one", HEADER, KEYS, maker, HOW)
    build_store(tmp_path / "two", HEADER, KEYS, maker, Build(MEND, workers=2, advance=done.append))
    assert sum(done) == len(KEYS)
    for path in (tmp_path / "one/shards").iterdir():
        assert (tmp_path / "two/shards" / path.name).read_bytes() == path.read_bytes()
