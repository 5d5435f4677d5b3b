"""What image teachers read from disk and what is kept of it: units and regions of exported maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from images_runs import export_maps, source
from images_scene import HEIGHT, WIDTH, Scene, write_scene
from PIL import Image

from kd_seg.caches import Work
from kd_seg.classes import load_classes
from kd_seg.core.config import validate
from kd_seg.core.errors import ConfigError, DataError
from kd_seg.images.fingerprint import fingerprint
from kd_seg.images.projection.cameras import ProjectionSettings, seen_views, shots
from kd_seg.images.regions.cache import RegionSource, build_regions, open_regions, read_regions
from kd_seg.images.teachers import Tools, build_teacher, teacher_settings
from kd_seg.images.units.cache import build_units, open_units, read_units
from kd_seg.scans import SemanticKitti

FIX_COMMAND = "kd-seg prepare CONFIG"
HOW = Work(FIX_COMMAND)
REBUILD = Work(FIX_COMMAND, rebuild=True)
CLASSES = load_classes()


# ---------------------------------------------------------------- maps on disk


def tools(data: SemanticKitti) -> Tools:
    from kd_seg.images.units.class_maps import load_class_map

    return Tools(data.root, CLASSES, load_class_map("cityscapes_19", CLASSES).vocabulary)


def test_units_of_exported_maps(tmp_path: Path) -> None:
    root = write_scene(tmp_path / "data", Scene(), ("00", "01"), count=3, pictures=(0, 2))
    maps = export_maps(tmp_path / "maps", root)
    data = SemanticKitti(root)
    build_units(source(maps), tmp_path / "cache", data, CLASSES, tools(data), HOW)
    store = open_units(source(maps), tmp_path / "cache", data, CLASSES, FIX_COMMAND)
    assert store.header.provenance == {"labels": "2d", "data": [], "sequences": []}
    for key in data.keys():  # noqa: SIM118
        units = read_units(store, key)
        points, views, answered = store.record(key, ("counts",))["counts"]
        assert points == len(data.scan(*key).points)
        if key[1] == 1:  # no picture: no units, no error
            assert (len(units), views, answered) == (0, 0, 0)
            continue
        assert (views, answered) == (1, 1)
        assert {store.header.vocabulary[k] for k in units.teacher_class} >= {"car", "road", "building"}
        assert units.confidence.tolist() == pytest.approx([0.8] * len(units), abs=1e-3)
        labels = data.scan(*key).labels
        assert labels is not None
        train = CLASSES.to_train(labels, "x")
        car = units.rows(units.teacher_class.tolist().index(13))
        assert (train[car] == 1).mean() > 0.95
    # a picture that the exporter left out has no answer, and is counted
    (maps / "sequences/00/class/000000.png").unlink()
    build_units(source(maps), tmp_path / "cache", data, CLASSES, tools(data), REBUILD)
    store = open_units(source(maps), tmp_path / "cache", data, CLASSES, FIX_COMMAND)
    assert store.record(("00", 0), ("counts",))["counts"][1:].tolist() == [1, 0]


def test_changes_on_disk_are_noticed(tmp_path: Path) -> None:
    root = write_scene(tmp_path / "data", Scene(), count=2)
    maps = export_maps(tmp_path / "maps", root)
    data = SemanticKitti(root)
    build_units(source(maps), tmp_path / "cache", data, CLASSES, tools(data), HOW)
    Image.new("L", (WIDTH, HEIGHT)).save(maps / "sequences/00/class/000001.png")
    with pytest.raises(DataError, match=f"teacher's files changed.*{FIX_COMMAND}"):
        open_units(source(maps), tmp_path / "cache", data, CLASSES, FIX_COMMAND)
    with pytest.raises(DataError, match=FIX_COMMAND):  # other settings are another cache, which is not there
        open_units(source(maps, noise={"wrong": 0.2}), tmp_path / "cache", data, CLASSES, FIX_COMMAND)
    before = fingerprint(data)
    (root / "sequences/00/labels/000000.label").write_bytes(b"")
    assert fingerprint(SemanticKitti(root)) == before  # it does not depend on labels
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
        teacher.predict(shot)
    Image.new("L", (WIDTH, HEIGHT - 1)).save(path)
    with pytest.raises(DataError, match=f"{WIDTH}x{HEIGHT - 1}"):
        teacher.predict(shot)
    Image.new("RGB", (WIDTH, HEIGHT)).save(path)
    with pytest.raises(DataError, match="8-bit grey"):
        teacher.predict(shot)
    path.write_bytes(b"no png")
    with pytest.raises(DataError, match="not a readable picture"):
        teacher.predict(shot)
    path.unlink()
    np.save(maps / "sequences/00/features/000000.npy", np.full((2, 3, 4), np.nan, np.float32))
    with pytest.raises(DataError, match="NaN"):
        teacher.predict(shot)
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
    store = open_regions(asked, tmp_path / "cache", data, FIX_COMMAND)
    assert read_regions(store, ("00", 0)) == []
    (view,) = read_regions(store, ("00", 1))
    scan = data.scan("00", 1)
    (seen,) = seen_views(scan, data.sequences["00"], ProjectionSettings())
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
