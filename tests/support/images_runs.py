"""What the tests of image objectives share: a world with pictures and exported maps, batches of it, whole runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from images_scene import Scene, write_scene
from PIL import Image

from kd_seg.caches import Work
from kd_seg.classes import load_classes
from kd_seg.core.config import validate
from kd_seg.images.units.cache import UnitSource
from kd_seg.networks import Batch, Encoding, collate, encode
from kd_seg.objectives import Sample
from kd_seg.scans import Cloud, SemanticKitti
from kd_seg.training import Trainer, TrainingConfig
from kd_seg.voxels import CartesianGrid

CLASSES = load_classes()
GRID = CartesianGrid((0.4, 0.4, 0.4), (-81.6, -81.6, -6.4), (81.6, 81.6, 6.4))
ENCODING = Encoding(GRID, ("xyz", "remission"))

World = tuple[Path, Path]
"""Data root, and root of the maps that a network exported for its pictures."""


WORK = Work("kd-seg prepare CONFIG")


def write_world(folder: Path) -> World:
    """A data root with pictures of scans 0 and 2 of 3, and exported maps with features."""
    root = write_scene(folder / "data", Scene(), count=3, pictures=(0, 2))
    return root, export_maps(folder / "maps", root, features=True)


def export_maps(root: Path, data: Path, features: bool = False) -> Path:
    """What a network would export: classes, confidences and features of every picture."""
    rng = np.random.default_rng(0)
    for picture in sorted(data.glob("sequences/*/image_2/*.png")):
        folder = root / "sequences" / picture.parts[-3]
        raw = np.asarray(Image.open(data / "truth/sequences" / picture.parts[-3] / "class_2" / picture.name))
        ids = np.full(raw.shape, 255, dtype=np.uint8)
        for cityscapes, label in ((0, 40), (2, 50), (13, 10), (11, 30), (10, 65535)):
            ids[raw == label] = cityscapes
        for name, array in (("class", ids), ("confidence", np.full(raw.shape, 200, dtype=np.uint8))):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / name / picture.name)
        if features:
            (folder / "features").mkdir(exist_ok=True)
            np.save(folder / "features" / f"{picture.stem}.npy", rng.normal(size=(6, 12, 39)).astype(np.float32))
    return root


def source(maps: Path, **changes: Any) -> UnitSource:
    teacher = {"kind": "maps", "root": str(maps), "confidence_scale": 250}
    return validate(UnitSource, {"teacher": teacher, "lift": {"min_pixels": 20}, **changes}, "x")


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


def training_config(world: World, folder: Path, objectives: list[dict[str, Any]], **changes: Any) -> TrainingConfig:
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
        content[section] = {**content.get(section, {}), **values}
    return validate(TrainingConfig, content, "test")


def units_entry(world: World, **changes: Any) -> dict[str, Any]:
    teacher = {"kind": "maps", "root": str(world[1]), "confidence_scale": 250}
    return {"kind": "image_units", "teacher": teacher, "lift": {"min_pixels": 20}, **changes}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]


EVERYTHING: dict[str, dict[str, Any]] = {
    "unet": {"student": {"level": "enc1"}},
    "cylinder": {
        "grid": {"kind": "cylindrical", "cells": [160, 96, 16]},
        "student": {"network": "cylinder", "features": ["cylinder9"], "level": "enc1"},
    },
}


def everything(world: World, folder: Path, network: str, **run: Any) -> TrainingConfig:
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
    return training_config(world, folder, objectives, run={"steps": 2, **run}, **changes)


def check_everything(trainer: Trainer, folder: Path) -> None:
    trainer.fit()
    said = lines(folder)
    assert {"ce", "units", "regions"} <= set(said[0]["terms"])
    assert any(name.startswith(("logit", "feature")) for name in said[0]["terms"])
    assert all(np.isfinite(line["loss"]) for line in said)
    assert sum(line["terms"]["units"]["count"] for line in said) > 100
    assert sum(line["terms"]["regions"]["count"] for line in said) > 5
    assert (folder / "run/units.jsonl").read_text().count("\n") == 1
