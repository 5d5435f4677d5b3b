"""kd-seg prepare, kd-seg view --fused and the benchmarks of fusion, through the installed program or its functions."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from console_script import kd_seg, kd_seg_json
from instances_world import TRUCK, World, make_world, work

from kd_seg.benchmarks.fuse import rows
from kd_seg.core.errors import DataError, UsageError
from kd_seg.core.shard import parse_shard
from kd_seg.instances.paste import Paster, PasteSettings
from kd_seg.scans import Cloud, FileFormat, Kind
from kd_seg.training import read_training_config
from kd_seg.training.loader import choose_labelled
from kd_seg.training.prepare import prepare
from kd_seg.training.setup import Parts, TrainingScans, open_fuser, training_data

CONFIG = """
data: {root: ROOT, cache: CACHE, train: ["00"]}
grid: {voxel_size: 0.4}
fusion: {cloud: {skip: 0.0}}
objectives: [{kind: supervised}, {kind: multi_to_single, teacher: {mode: ema}}]
run: {steps: 1, device: cpu}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), scans=6)


@pytest.fixture(scope="module")
def config(world: World) -> Path:
    path = world.root / "config.yaml"
    path.write_text(CONFIG.replace("ROOT", str(world.root)).replace("CACHE", str(world.root / "cache")))
    return path


def test_prepare_through_the_program(config: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    answer = kd_seg_json("prepare", config, f"data.cache={cache}")
    assert answer["cache"] == str(cache)
    assert answer["prepared"] == ["instance library and registrations"]
    assert len(list(cache.glob("instances-*/registration-*/shards/00_000000.safetensors"))) == 1
    wrong = kd_seg("prepare", config, "--shard", "3/2", code=2)
    assert "--shard 3/2 is not of the form i/n" in wrong.stderr


def test_a_plain_run_needs_nothing(config: Path) -> None:
    assert prepare(read_training_config(config, ["objectives=[{kind: supervised}]", "run.folder=unused"]), work()) == []


def test_parts_of_a_build_wait_for_each_other(tmp_path: Path) -> None:
    """The first round of an array builds the library, the second one registers."""
    world = make_world(tmp_path / "world", scans=4, start=98, background=300)
    config = world.root / "config.yaml"
    config.write_text(CONFIG.replace("ROOT", str(world.root)).replace("CACHE", str(tmp_path / "cache")))
    config = read_training_config(config, ["run.folder=unused"])
    assert prepare(config, work(shard=(1, 2))) == ["this part of the instance library"]
    assert prepare(config, work(shard=(2, 2))) == ["instance library and registrations"]
    with pytest.raises(DataError, match="lacks 1 of 2 shards"):
        Parts.build(config)
    assert prepare(config, work(shard=(1, 2))) == ["instance library and registrations"]
    Parts.build(config)


def test_shards_are_named_from_one() -> None:
    assert parse_shard("2/8") == (2, 8)
    for text in ("0/3", "4/3", "a/b", "2", ""):
        with pytest.raises(UsageError, match="--shard"):
            parse_shard(text)


def test_few_labels_leave_the_other_scans_out(config: Path) -> None:
    """With data.labels below 1, no point of an unlabelled scan is fused, pasted or given to anyone."""
    config = read_training_config(config, ["data.labels=0.5", "run.folder=unused"])
    prepare(config, work())
    data = training_data(config.data)
    chosen = choose_labelled(data.keys(), 0.5, config.run.seed)
    assert len(chosen) == 3
    parts = Parts.build(config)
    view = parts.objectives[1].views()[0]
    used = {index for _, index in chosen}
    for name, index in data.keys():  # noqa: SIM118 - not a mapping
        scan = data.scan(name, index)
        cloud = view.extend(scan, Cloud.of_scan(scan), np.random.default_rng(0))
        origins = set(cloud.origin[cloud.kind == Kind.FUSED].tolist())
        assert {index - k for k in origins} <= used
        assert not origins or index in used
    fuser = open_fuser(config, TrainingScans.read(config), "kd-seg prepare c.yaml")
    paster = Paster.build(fuser, parts.pipeline.classes, PasteSettings(), twin=True)
    records = fuser.library.sequence("00").records
    assert {int(records["scan"][n]) for pairs in paster.candidates.values() for _, n in pairs} <= used


def test_objects_are_drawn_without_and_with_registration(world: World, tmp_path: Path) -> None:
    from kd_seg.classes import load_classes
    from kd_seg.views.fused_instances import fused_sheet

    classes = load_classes()
    scan = world.data().scan("00", 5)
    assert scan.labels is not None
    answer = classes.to_train(scan.labels, "x")
    sheet = fused_sheet(scan, classes, [("right", answer)])
    titles = [text.get_text() for text in sheet.figure.texts]
    own = int((scan.labels == TRUCK).sum())
    assert f"truck: one scan, {own} points" in titles
    assert "right: 100 % right" in titles
    sheet.save(tmp_path / "objects.png")
    assert (tmp_path / "objects.png").stat().st_size > 10_000


def test_objects_are_drawn_of_files_with_longer_names_and_more_columns(world: World, tmp_path: Path) -> None:
    from kd_seg.classes import load_classes
    from kd_seg.views.fused_instances import view_fused

    folder = tmp_path / "w" / "sequences" / "00"
    shutil.copytree(world.root / "sequences" / "00", folder)
    for path in sorted(folder.glob("*/*.bin")):
        points = np.fromfile(path, "<f4").reshape(-1, 4)
        np.column_stack([points, np.arange(len(points)) % 16]).astype("<f4").tofile(path.with_name(f"0000{path.name}"))
        path.unlink()
    for path in sorted(folder.glob("*/*.label")):
        path.rename(path.with_name(f"0000{path.name}"))
    sheet = view_fused(tmp_path / "w", "00/5", [], load_classes(), FileFormat(columns=5))
    assert any("fused and registered" in text.get_text() for text in sheet.figure.texts)


@pytest.mark.slow
def test_fusion_is_timed_against_plain_ways(world: World) -> None:
    found = rows(world.data(), voxel_size=0.2, repeats=1)
    assert [row.ours for row in found] == [True, False, False, False]
    assert all(row.ms > 0 for row in found)


@pytest.mark.slow
def test_steps_are_timed_with_each_teacher(world: World) -> None:
    from kd_seg.benchmarks.distil import rows as step_rows

    found = step_rows(world.root, voxel_size=0.4, repeats=1)
    assert [row.name.split(",")[0] for row in found] == ["baseline", "frozen teacher", "EMA teacher", "shared weights"]
    assert found[0].ratio == 1.0
