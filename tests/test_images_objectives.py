"""Image objectives as the Trainer uses them: presets with exact values, re-scoring, resuming, and no look at labels."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from images_scene import Scene, write_scene
from test_images_cache import export_maps
from torch import Tensor, nn

from kd_seg.checkpoint import load_checkpoint, read_metadata
from kd_seg.classes import load_classes
from kd_seg.config import validate
from kd_seg.errors import ConfigError, DataError, KdSegError
from kd_seg.images.region_cache import read_regions
from kd_seg.instances.build import Work
from kd_seg.networks import Batch, Encoding, Level, Output, collate, encode
from kd_seg.objectives import Context, Sample, Step
from kd_seg.objectives.image_regions import PRESETS, ImageRegions, ImageRegionsSettings
from kd_seg.objectives.image_regions.view import RegionBatch
from kd_seg.objectives.image_teaching import level_rows
from kd_seg.objectives.image_units.rescoring import settled
from kd_seg.scans import Cloud, SemanticKitti
from kd_seg.training import Experiment, Trainer
from kd_seg.training.prepare import prepare
from kd_seg.voxels import CartesianGrid

torch.set_num_threads(1)  # a busy machine makes two threads ten times slower (field T18)
CLASSES = load_classes()
GRID = CartesianGrid((0.4, 0.4, 0.4), (-81.6, -81.6, -6.4), (81.6, 81.6, 6.4))
ENCODING = Encoding(GRID, ("xyz", "remission"))
DIM = 5


class Student(nn.Module):
    """Only its channels are asked for."""

    channels = {"penultimate": DIM}


@contextlib.contextmanager
def quiet(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    yield lambda count: None


WORK = Work(quiet, "kd-seg prepare CONFIG")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data root with pictures of scans 0 and 2 of 3, and exported maps with features."""
    folder = tmp_path_factory.mktemp("world")
    root = write_scene(folder / "data", Scene(), count=3, pictures=(0, 2))
    return root, export_maps(folder / "maps", root, features=True)


def context_of(root: Path, cache: Path) -> Context:
    return Context(CLASSES, ENCODING, Student(), SemanticKitti(root), torch.device("cpu"), cache)


def batch_of(root: Path, objective: Any, indices: list[int], keep: float = 1.0) -> Batch:
    """A batch as the loader makes it, some points dropped."""
    data = SemanticKitti(root)
    samples = []
    for index in indices:
        scan = data.scan("00", index)
        rng = np.random.default_rng(index)
        cloud = Cloud.of_scan(scan, with_labels=False)
        cloud = cloud.take(rng.random(len(cloud)) < keep)
        encoded = encode(cloud.points, None, ENCODING)
        samples.append(Sample(scan, cloud, encoded, np.zeros(len(cloud), np.uint8), rng))
    batch = collate([s.encoded for s in samples], GRID)
    for view in objective.views():
        batch.views[view.name] = view.collate([view.build(s) for s in samples], batch)
    return batch


def regions_objective(world: tuple[Path, Path], tmp_path: Path, **settings: Any) -> ImageRegions:
    root, maps = world
    entry = {"kind": "image_regions", "teacher": {"kind": "maps", "root": str(maps)}, **settings}
    checked = validate(ImageRegionsSettings, entry, "x")
    data = SemanticKitti(root)
    ImageRegions.prepare(checked, data, CLASSES, tmp_path, WORK)
    torch.manual_seed(0)
    return ImageRegions(checked, context_of(root, tmp_path))


def run(objective: ImageRegions, batch: Batch) -> tuple[Tensor, int, Tensor]:
    """Value and count of the regions' term, and the features it looked at."""
    torch.manual_seed(1)
    features = torch.randn(len(batch.coordinates), DIM, requires_grad=True)
    level = Level(features, batch.coordinates, (1, 1, 1))
    output = Output(torch.zeros(len(features), 19), {"penultimate": level})
    term = objective.terms(batch, output, Step(nn.Identity(), 0, 1, 0))["regions"]
    term.value.backward()
    return term.value.detach(), term.count, features


def by_region(objective: ImageRegions, batch: Batch, features: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each region with points: student rows, teacher cells and their weights, by a plain loop."""
    found: RegionBatch = batch.views[objective.view.name]
    parts = []
    for region in range(found.count):
        points = found.point[found.region == region]
        voxel = batch.inverse[points]
        rows = features.detach()[voxel[voxel >= 0]]
        mine = found.target == region
        if len(rows) and mine.any():
            parts.append((rows, found.features[found.cell[mine]].float(), found.weight[mine][:, None]))
    return parts


def unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=-1, keepdim=True)


def test_pointmcd_exactly(world: tuple[Path, Path], tmp_path: Path) -> None:
    """Mean |ReLU(BN(W max_n F_n)) - t| over views and channels, BN in train mode over the views of the batch."""
    objective = regions_objective(world, tmp_path, preset="pointmcd")
    batch = batch_of(world[0], objective, [0, 1, 2])
    value, count, features = run(objective, batch)
    parts = by_region(objective, batch, features)
    assert count == len(parts) == 2  # scan 1 has no picture
    pooled = torch.stack([rows.amax(dim=0) for rows, _, _ in parts]) @ objective.head.linear.weight.T  # type: ignore[union-attr]
    normal = (pooled - pooled.mean(0)) / torch.sqrt(pooled.var(0, unbiased=False) + 1e-5)
    target = torch.stack([(cells * weight).sum(0) for _, cells, weight in parts])
    expected = (torch.relu(normal) - target).abs().mean()
    torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5)
    whole = np.load(world[1] / "sequences/00/features/000000.npy").astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(target[0].detach(), whole.reshape(6, -1).mean(1), atol=0.02)


@pytest.mark.parametrize("preset", ["slidr", "slidr_mended"])
def test_slidr_exactly(world: tuple[Path, Path], tmp_path: Path, preset: str) -> None:
    """InfoNCE at 0.07 between means of unit rows, over all regions; mended: renormalised, 5 points, 0.9."""
    superpixel = {"segments": 30, "sigma": 1.0}
    objective = regions_objective(world, tmp_path, preset=preset, regions={"superpixel": superpixel})
    batch = batch_of(world[0], objective, [0, 2], keep=0.5)
    value, count, features = run(objective, batch)
    parts = [p for p in by_region(objective, batch, features) if preset == "slidr" or len(p[0]) >= 5]
    with torch.no_grad():
        k = torch.stack([unit(objective.head(rows)).mean(0) for rows, _, _ in parts])
        q = torch.stack([(unit(objective.teacher_head(cells)) * weight).sum(0) for _, cells, weight in parts])
        if preset == "slidr_mended":
            k, q = unit(k), unit(q)
        total = 0.0
        for s in range(len(k)):
            alike = torch.cosine_similarity(q[s : s + 1], q) > 0.9
            alike[s] = False
            logits = k[s] @ q.T / 0.07
            kept = logits[~alike] if preset == "slidr_mended" else logits
            total += float(torch.logsumexp(kept, 0) - logits[s])
    assert count == len(parts) > 20
    assert value.item() == pytest.approx(total / len(k), rel=1e-4)
    assert objective.teacher_head.weight.grad is not None  # type: ignore[union-attr]
    assert features.grad is not None


@pytest.mark.parametrize("preset", ["scalr", "ppkt"])
def test_points_exactly(world: tuple[Path, Path], tmp_path: Path, preset: str) -> None:
    """ScaLR: mean norm of the difference of unit rows; PPKT: InfoNCE over sampled points."""
    changes = {"samples": 64} if preset == "ppkt" else {}
    objective = regions_objective(world, tmp_path, preset=preset, **changes)
    batch = batch_of(world[0], objective, [0, 2], keep=0.2)
    value, count, features = run(objective, batch)
    parts = by_region(objective, batch, features)
    assert all(len(rows) == 1 and len(weight) == 4 for rows, _, weight in parts)
    with torch.no_grad():
        k = torch.cat([unit(objective.head(rows)) for rows, _, _ in parts])
        q = torch.stack([unit(objective.teacher_head((cells * weight).sum(0))) for _, cells, weight in parts])
        if preset == "scalr":
            expected = float((k - q).norm(dim=1).mean())
        else:
            logits = k @ q.T / 0.07
            expected = float((torch.logsumexp(logits, 1) - logits.diagonal()).mean())
    assert count == len(parts)
    assert (count == 128) == (preset == "ppkt")
    assert value.item() == pytest.approx(expected, rel=1e-4)


def test_presets_say_what_methods_say() -> None:
    def of(name: str) -> ImageRegionsSettings:
        return validate(ImageRegionsSettings, {"preset": name, "teacher": {"kind": "maps", "root": "x"}}, "x")

    assert (of("pointmcd").regions.kind, of("pointmcd").pooling, of("pointmcd").loss) == ("view", "max", "l1")
    slidr = of("slidr")
    assert (slidr.regions.kind, slidr.pooling, slidr.loss, slidr.temperature) == (
        "superpixel",
        "mean",
        "info_nce",
        0.07,
    )
    cut = slidr.regions.superpixel
    assert (cut.segments, cut.compactness, cut.sigma) == (150, 6.0, 3.0)
    assert (of("scalr").regions.kind, of("scalr").loss, of("scalr").norm) == ("point", "unit_l2", "rows")
    assert (of("ppkt").samples, of("ppkt").regions.kind) == (4096, "point")
    assert set(PRESETS) == {"pointmcd", "slidr", "slidr_mended", "ppkt", "scalr"}
    changed = validate(
        ImageRegionsSettings, {"preset": "slidr", "temperature": 0.1, "teacher": {"kind": "maps", "root": "x"}}, "x"
    )
    assert (changed.temperature, changed.loss) == (0.1, "info_nce")
    with pytest.raises(ConfigError, match="trivial"):
        validate(ImageRegionsSettings, {"preset": "slidr", "loss": "l1", "teacher": {"kind": "maps", "root": "x"}}, "x")


def test_small_regions_drop_out_and_are_counted(world: tuple[Path, Path], tmp_path: Path) -> None:
    objective = regions_objective(world, tmp_path, regions={"kind": "tile"}, min_points=200)
    batch = batch_of(world[0], objective, [0, 1])
    sizes = torch.bincount(batch.views[objective.view.name].region, minlength=48)
    output = Output(
        torch.zeros(len(batch.coordinates), 19),
        {"penultimate": Level(torch.randn(len(batch.coordinates), DIM), batch.coordinates, (1, 1, 1))},
    )
    terms = objective.terms(batch, output, Step(nn.Identity(), 0, 1, 0))
    assert terms["regions"].count == int((sizes >= 200).sum()) > 0
    assert terms["regions_dropped"].count == 48 - terms["regions"].count
    assert terms["scans_without_regions"].count == 1
    # a batch without any picture: an exact zero with a gradient path, everywhere
    batch = batch_of(world[0], objective, [1])
    value, count, features = run(objective, batch)
    assert (value.item(), count) == (0.0, 0)
    assert features.grad is not None
    assert all(p.grad is not None for p in objective.parameters())
    assert read_regions(objective.store, ("00", 1)) == []


def test_every_pooling_and_distance_runs(world: tuple[Path, Path], tmp_path: Path) -> None:
    first = regions_objective(world, tmp_path, regions={"kind": "tile"})
    batch = batch_of(world[0], first, [0], keep=0.1)
    for pooling in ("mean", "max", "attention"):
        for loss in ("l1", "smooth_l1", "cosine", "unit_l2", "kl"):
            for on in ("rows", "pooled"):
                changes = {"pooling": pooling, "loss": loss, "head": {"kind": "mlp", "on": on}}
                settings = first.settings.model_dump() | changes
                objective = ImageRegions(validate(ImageRegionsSettings, settings, "x"), context_of(world[0], tmp_path))
                value, count, features = run(objective, batch)
                assert torch.isfinite(value)
                assert count > 0
                assert features.grad is not None
                assert features.grad.abs().sum() > 0


def test_level_rows() -> None:
    rng = np.random.default_rng(0)
    fine = np.unique(rng.integers(0, 9, (200, 4)) % [2, 9, 9, 9], axis=0)
    coarse, parent = np.unique(fine // [1, 2, 2, 2], axis=0, return_inverse=True)
    shuffled = rng.permutation(len(coarse))
    batch = Batch(
        torch.zeros(0, 1), torch.zeros(0), torch.from_numpy(fine).int(), (9, 9, 9), torch.tensor([0, 0, 0]),
        torch.tensor([0, 0, 0]), torch.zeros(len(fine)),
    )  # fmt: skip
    level = Level(torch.zeros(len(coarse), 1), torch.from_numpy(coarse[shuffled]).int(), (2, 2, 2))
    np.testing.assert_array_equal(shuffled[level_rows(batch, level).numpy()], parent.reshape(-1))
    same = Level(torch.zeros(len(fine), 1), torch.from_numpy(fine).int(), (1, 1, 1))
    np.testing.assert_array_equal(level_rows(batch, same), np.arange(len(fine)))


# ---------------------------------------------------------------- whole runs


def experiment(world: tuple[Path, Path], folder: Path, objectives: list[dict[str, Any]], **changes: Any) -> Experiment:
    content: dict[str, Any] = {
        "data": {"root": str(world[0]), "train": ["00"], "cache": str(folder / "cache")},
        "grid": {"voxel_size": 0.8},
        "student": {"size": "nano", "features": ["xyz", "remission"]},
        "objectives": objectives,
        "run": {
            "folder": str(folder / "run"),
            "steps": 8,
            "batch": 1,
            "workers": 0,
            "threads": 1,
            "device": "cpu",
            "log_every": 1,
        },
    }
    for section, values in changes.items():
        content[section] = {**content[section], **values}
    return validate(Experiment, content, "test")


def units_entry(world: tuple[Path, Path], **changes: Any) -> dict[str, Any]:
    teacher = {"kind": "maps", "root": str(world[1]), "confidence_scale": 250}
    return {"kind": "image_units", "teacher": teacher, "lift": {"min_pixels": 20}, **changes}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("measure", ["precision", "iou", "probability"])
def test_units_forward_and_backward(world: tuple[Path, Path], tmp_path: Path, measure: str) -> None:
    backward = {"measure": measure, "start_epoch": 1, "every": 1, "rounds": 2, "momentum": 0.5, "unknown_below": 0.0}
    entry = units_entry(world, backward=backward, noise={"wrong": 0.3})
    asked = experiment(world, tmp_path, [entry], run={"steps": 9})
    with pytest.raises(DataError, match="kd-seg prepare"):
        Trainer(asked)
    prepare(asked, WORK)
    trainer = Trainer(asked, overwrite=True)
    trainer.fit()
    said = lines(tmp_path)
    assert said[0]["terms"]["units"]["count"] + said[1]["terms"]["units"]["count"] > 1000
    assert sum(line["terms"]["scans_without_units"]["count"] for line in said[:3]) == 1
    rounds = [json.loads(line) for line in (tmp_path / "run/units.jsonl").read_text().splitlines()]
    assert [(r["epoch"], r["round"]) for r in rounds] == [(1, 1), (2, 2)]
    objective: Any = trainer.objectives[0]
    judged = ~torch.isnan(objective.ratio)
    assert judged.sum() > 5
    assert ((objective.ratio[judged] >= 0) & (objective.ratio[judged] <= 1)).all()
    assert (objective.score[~judged] == 1).all()
    training = read_metadata(tmp_path / "run/checkpoints/last.safetensors")["training"]["objectives"][0]
    assert training["regime"] == "annotation-free"
    assert training["teacher_provenance"]["labels"] == "2d"


def test_root_weights_count_the_whole_cache(world: tuple[Path, Path], tmp_path: Path) -> None:
    from kd_seg.images.unit_cache import read_units

    asked = experiment(world, tmp_path, [units_entry(world, class_weights="root", lovasz=1.0)], run={"steps": 2})
    prepare(asked, WORK)
    trainer = Trainer(asked)
    objective: Any = trainer.objectives[0]
    counts = np.zeros(len(objective.class_map))
    for key in objective.view.first:
        units = read_units(objective.store, key)
        for number in range(len(units)):
            counts[units.klass[number]] += len(units.rows(number))
    np.testing.assert_array_equal(objective.claimed, counts)
    assert counts.sum() > 1000
    trainer.fit()
    terms = [line["terms"] for line in lines(tmp_path)]
    assert sum(t["units_lovasz"]["count"] for t in terms) == sum(t["units"]["count"] for t in terms) > 0
    assert all(0 <= t["units_lovasz"]["value"] <= 1.5 for t in terms)


def test_ratios_are_those_of_a_plain_loop(world: tuple[Path, Path], tmp_path: Path) -> None:
    """The backward pass on the plain cloud, unit by unit, with the snapshot's own predictions."""
    from kd_seg.images.unit_cache import read_units

    backward = {"student": "snapshot", "judge_draws": 0, "start_epoch": 2, "rounds": 1}
    asked = experiment(world, tmp_path, [units_entry(world, backward=backward)], run={"steps": 6})
    prepare(asked, WORK)
    trainer = Trainer(asked)
    trainer.fit()
    objective: Any = trainer.objectives[0]
    assert objective.round == 1
    network = load_checkpoint(tmp_path / "run/checkpoints/last.safetensors").network
    data = SemanticKitti(world[0])
    for index in (0, 2):
        scan = data.scan("00", index)
        batch = collate([encode(scan.points, None, asked.encoding())], asked.grid.build())
        with torch.no_grad():
            predicted = network(batch).logits.argmax(1)[batch.inverse]
        units = read_units(objective.store, ("00", index))
        for u in range(len(units)):
            rows = torch.from_numpy(units.rows(u).astype(np.int64))
            meant = objective.sets[int(units.klass[u])]
            found = objective.ratio[objective.view.first[("00", index)] + u]
            if len(rows) < 5:
                assert torch.isnan(found)
            else:
                assert found.item() == pytest.approx(meant[predicted[rows]].float().mean().item(), abs=1e-6)


def test_released_preset_replaces_the_confidence(world: tuple[Path, Path], tmp_path: Path) -> None:
    entry = units_entry(world, preset="released", backward={"start_epoch": 1})
    asked = experiment(world, tmp_path, [entry], run={"steps": 6})
    prepare(asked, WORK)
    trainer = Trainer(asked)
    objective: Any = trainer.objectives[0]
    assert objective.ema is None
    assert objective.settings.average == "all"
    trainer.fit()
    judged = ~torch.isnan(objective.ratio)
    torch.testing.assert_close(objective.score[judged], objective.ratio[judged])
    assert objective.round == 1


def test_resuming_keeps_scores_and_history(world: tuple[Path, Path], tmp_path: Path) -> None:
    backward = {"start_epoch": 1, "every": 1, "rounds": 2, "momentum": 0.5}
    entries = [units_entry(world, backward=backward)]
    level = {"schedule": "constant", "warmup": 0.0}  # the same rate however long the run

    def asked(steps: int) -> Experiment:
        base = experiment(world, tmp_path, entries, run={"steps": steps})
        return base.model_copy(update={"optim": base.optim.model_copy(update=level)})

    prepare(asked(5), WORK)
    first = Trainer(asked(5))
    first.fit()
    resumed = Trainer(asked(7), resume=True)
    assert resumed.step == 5
    before, after = first.objectives[0].state_dict(), resumed.objectives[0].state_dict()
    torch.testing.assert_close(before["score"], after["score"])
    assert before["_extra_state"] == after["_extra_state"]
    resumed.fit()
    rounds = (tmp_path / "run/units.jsonl").read_text()
    whole = Trainer(asked(7), overwrite=True)
    whole.fit()
    assert (tmp_path / "run/units.jsonl").read_text() == rounds
    for name, value in whole.student.state_dict().items():
        torch.testing.assert_close(value, resumed.student.state_dict()[name], rtol=0, atol=0)


def test_the_backward_pass_begins_when_the_loss_has_settled() -> None:
    falling = [3.0, 2.0, 1.5, 1.2, 1.0]
    assert not settled(falling, 5, 0.01, 5)
    assert not settled([1.0] * 4, 5, 0.01, 5)
    assert settled([1.0] * 5, 5, 0.01, 5)
    flat = [*falling, 0.99, 0.985, 0.984, 0.984, 0.984, 0.984, 0.984]
    first = next(n for n in range(1, len(flat) + 1) if settled(flat[:n], 5, 0.01, 5))
    window = [sum(flat[n - 5 : n]) / 5 for n in (first - 1, first)]
    assert abs(window[1] - window[0]) < 0.01
    assert first == 10


def test_image_network_teaches_a_student(world: tuple[Path, Path], tmp_path: Path) -> None:
    """Teacher (a), from projected labels: its file says so, and its pupils are not called annotation-free."""
    entry = {"kind": "image_labels", "labels": "projected_3d", "resize": 1.0, "crop": [64, 128]}
    teacher = experiment(
        world, tmp_path / "t", [entry], student={"network": "image_unet"}, run={"steps": 60, "batch": 2}
    )
    trainer = Trainer(teacher)
    trainer.fit()
    said = lines(tmp_path / "t")
    assert said[-1]["loss"] < 0.5 * said[0]["loss"]
    metadata = read_metadata(tmp_path / "t/run/checkpoints/last.safetensors")
    provenance = metadata["training"]["objectives"][0]["provenance"]
    assert provenance == {"labels": "projected_3d", "data": ["data"], "sequences": ["data/00"]}
    own = {"kind": "trained", "checkpoints": [str(tmp_path / "t/run")]}
    entry = units_entry(
        world, teacher=own, class_map="same", lift={"min_pixels": 20, "soft": True, "min_confidence": 0.2}
    )
    asked = experiment(world, tmp_path / "s", [entry])
    with pytest.raises(DataError, match="data/00"):  # it saw these very labels
        prepare(asked, WORK)
    own["allow_seen"] = True  # type: ignore[assignment]
    asked = experiment(world, tmp_path / "s", [entry, {"kind": "image_regions", "preset": "slidr", "teacher": own}])
    prepare(asked, WORK)
    student = Trainer(asked)
    student.fit()
    terms = lines(tmp_path / "s")[0]["terms"]
    assert {"units", "regions", "regions_dropped"} <= set(terms)
    described = read_metadata(tmp_path / "s/run/checkpoints/last.safetensors")["training"]["objectives"]
    assert [d["regime"] for d in described] == ["labels-through-images"] * 2
    # where nothing is known, a student of pictures cannot be served
    batch = batch_of(world[0], student.objectives[0], [0])
    with pytest.raises(KdSegError, match="pictures"):
        trainer.student(Batch(**{**batch.__dict__, "views": {}}))


def test_joint_with_labels(world: tuple[Path, Path], tmp_path: Path) -> None:
    entry = units_entry(world, weight=0.5)
    regions = {
        "kind": "image_regions",
        "preset": "scalr",
        "weight": 0.1,
        "teacher": {"kind": "maps", "root": str(world[1])},
    }
    asked = experiment(world, tmp_path, [{"kind": "supervised"}, entry, regions], data={"labels": 0.34})
    prepare(asked, WORK)
    trainer = Trainer(asked)
    trainer.fit()
    assert len(trainer.parts.keys) == 3  # labels of one scan, pictures of all
    assert {"ce", "lovasz", "units", "regions"} <= set(lines(tmp_path)[0]["terms"])
    described = read_metadata(tmp_path / "run/checkpoints/last.safetensors")["training"]["objectives"]
    assert described[1]["regime"] == "joint"


EVERYTHING: dict[str, dict[str, Any]] = {
    "unet": {"student": {"level": "enc1"}},
    "cylinder": {
        "grid": {"kind": "cylindrical", "cells": [160, 96, 16]},
        "student": {"network": "cylinder", "features": ["cylinder9"], "level": "enc1"},
    },
}


def everything(world: tuple[Path, Path], folder: Path, network: str, **run: Any) -> Experiment:
    """Labels, fused scans, units with the backward pass, and regions at a coarse level, in one configuration."""
    changes = {section: dict(values) for section, values in EVERYTHING[network].items()}
    level = changes["student"].pop("level")
    m2s = {"kind": "multi_to_single", "teacher": {"mode": "ema"}, "feature": {"levels": [level]}}
    backward = {"start_epoch": 1, "every": 1, "rounds": 1}
    regions = {
        "kind": "image_regions",
        "preset": "slidr_mended",
        "level": level,
        "teacher": {"kind": "maps", "root": str(world[1])},
    }
    objectives = [{"kind": "supervised"}, m2s, units_entry(world, backward=backward), regions]
    return experiment(world, folder, objectives, run={"steps": 2, **run}, **changes)


def check_everything(trainer: Trainer, folder: Path) -> None:
    trainer.fit()
    said = lines(folder)
    assert {"ce", "units", "regions"} <= set(said[0]["terms"])
    assert any(name.startswith(("logit", "feature")) for name in said[0]["terms"])
    assert all(np.isfinite(line["loss"]) for line in said)
    assert sum(line["terms"]["units"]["count"] for line in said) > 100
    assert sum(line["terms"]["regions"]["count"] for line in said) > 5
    assert (folder / "run/units.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize(("network", "batch"), [("unet", 3), ("cylinder", 2)])
def test_all_teachers_at_once(world: tuple[Path, Path], tmp_path: Path, network: str, batch: int) -> None:
    """Both students, more than one scan a step, with multi-to-single distillation in the same run."""
    asked = everything(world, tmp_path, network, batch=batch)
    prepare(asked, WORK)
    check_everything(Trainer(asked), tmp_path)


@pytest.mark.cuda
@pytest.mark.parametrize("network", ["unet", "cylinder"])
def test_all_teachers_at_once_on_cuda(world: tuple[Path, Path], tmp_path: Path, network: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    asked = everything(world, tmp_path, network, batch=2, device="cuda")
    prepare(asked, WORK)
    check_everything(Trainer(asked), tmp_path)


def test_pre_training_is_remembered(world: tuple[Path, Path], tmp_path: Path) -> None:
    """Pre-train on pictures, fine-tune on labels: the student's file says what its first weights learnt from."""
    entry = {"kind": "image_regions", "preset": "slidr", "teacher": {"kind": "maps", "root": str(world[1])}}
    asked = experiment(world, tmp_path / "a", [entry], run={"steps": 2})
    prepare(asked, WORK)
    first = Trainer(asked)
    first.fit()
    init = str(tmp_path / "a/run")
    tuned = Trainer(
        experiment(world, tmp_path / "b", [{"kind": "supervised"}], student={"init": init}, run={"steps": 2})
    )
    for name, value in first.student.state_dict().items():
        torch.testing.assert_close(tuned.student.state_dict()[name], value)
    tuned.fit()
    again = experiment(world, tmp_path / "b", [{"kind": "supervised"}], student={"init": init}, run={"steps": 3})
    Trainer(again, resume=True).fit()
    training = read_metadata(tmp_path / "b/run/checkpoints/last.safetensors")["training"]
    assert training["objectives"][0]["kind"] == "supervised"
    (before,) = training["init"]["objectives"]
    assert (before["kind"], before["regime"]) == ("image_regions", "annotation-free")
    assert before["teacher_provenance"]["labels"] == "2d"


GUARDED = """
import sys
def guard(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and "/labels" in str(arguments[0]):
        sys.exit(f"labels were looked at: {event} {arguments[0]}")
sys.addaudithook(guard)
from kd_seg.cli.main import app
for command in ("prepare", "train"):
    app([command, sys.argv[1]], standalone_mode=False)
print("both done")
open(sys.argv[2])
"""


def test_an_annotation_free_run_never_opens_labels(world: tuple[Path, Path], tmp_path: Path) -> None:
    """Preparing, training with a worker and re-scoring, under an audit hook that ends the program at a look."""
    import yaml

    backward = {"start_epoch": 1, "every": 1, "rounds": 1, "measure": "iou"}
    objectives = [
        units_entry(world, backward=backward),
        {"kind": "image_regions", "preset": "slidr", "teacher": {"kind": "maps", "root": str(world[1])}},
    ]
    asked = experiment(world, tmp_path, objectives, run={"steps": 4, "workers": 1})
    path = tmp_path / "free.yaml"
    path.write_text(yaml.safe_dump(asked.to_plain()))
    label = world[0] / "sequences/00/labels/000000.label"
    command = [sys.executable, "-c", GUARDED, str(path), str(label)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert "both done" in done.stdout, done.stderr
    assert (tmp_path / "run/units.jsonl").read_text().count("\n") == 1
    assert len(lines(tmp_path)) == 4
    # the hook can bite
    assert done.returncode == 1
    assert "labels were looked at" in done.stderr
