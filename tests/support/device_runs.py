"""Short runs that between them use every objective, teacher and network, and what it means that two devices agree."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from images_runs import WORK, World, everything, lines, training_config, units_entry

from kd_seg.training import Trainer, TrainingConfig
from kd_seg.training.prepare import prepare

CYLINDER = {
    "grid": {"kind": "cylindrical", "cells": [160, 96, 16]},
    "student": {"network": "cylinder", "features": ["cylinder9"]},
}
Lines = list[dict[str, Any]]


def _together(network: str) -> Callable[[World, Path], TrainingConfig]:
    """Labels, an averaged teacher, units with their backward pass, and regions at a coarse level."""
    return lambda world, folder: everything(world, folder, network, batch=2)


def _fused(mode: str, network: str) -> Callable[[World, Path], TrainingConfig]:
    """A multi-scan teacher with all that its terms can weigh by."""

    def build(world: World, folder: Path) -> TrainingConfig:
        changes: dict[str, Any] = copy.deepcopy(CYLINDER) if network == "cylinder" else {"student": {}}
        teacher: dict[str, Any] = {"mode": mode}
        if mode == "separate":
            first = {**changes, "student": {**changes["student"], "input": "fused"}}
            asked = training_config(world, folder / "teacher", [{"kind": "supervised"}], run={"steps": 1}, **first)
            prepare(asked, WORK)
            Trainer(asked).fit()
            teacher["checkpoint"] = str(folder / "teacher/run")
        entry = {
            "kind": "multi_to_single",
            "teacher": teacher,
            "feature": {"levels": ["enc1"]},
            "affinity": {"memory": True},
            "trust": "corrected" if mode == "separate" else False,
            "row_weights": "cube_root",
            "fused_weight": 2.0,
            "ramp": 0.0,
        }
        return training_config(world, folder, [{"kind": "supervised"}, entry], run={"steps": 2}, **changes)

    return build


def _released(world: World, folder: Path) -> TrainingConfig:
    """Multi-to-single as released."""
    entry = {
        "kind": "multi_to_single",
        "teacher": {"mode": "shared", "supervise": "changed"},
        "logit": {"form": "released"},
        "feature": {"form": "released", "levels": ["enc1"]},
        "affinity": {"form": "class", "level": "logits", "diagonal": True},
        "ramp": 0.0,
    }
    return training_config(world, folder, [{"kind": "supervised"}, entry], run={"steps": 2})


def _regions(preset: str) -> Callable[[World, Path], TrainingConfig]:
    def build(world: World, folder: Path) -> TrainingConfig:
        entry = {"kind": "image_regions", "preset": preset, "teacher": {"kind": "maps", "root": str(world[1])}}
        return training_config(world, folder, [entry], run={"steps": 2})

    return build


def _units(measure: str) -> Callable[[World, Path], TrainingConfig]:
    def build(world: World, folder: Path) -> TrainingConfig:
        backward = {"measure": measure, "start_epoch": 1, "every": 1, "rounds": 2, "student": "snapshot"}
        entry = units_entry(world, backward=backward, class_weights="root", lovasz=1.0)
        return training_config(world, folder, [entry], run={"steps": 6})

    return build


PUBLISHED: dict[str, dict[str, Any]] = {
    "minkunet": {
        "student": {"network": "minkunet", "size": "6-6 6x1-8x1-10x1-12x1 12x1-10x1-8x1-6x1 three"},
        "grid": {"voxel_size": 0.5},
    },
    "spv": {
        "student": {"network": "spv", "size": "2-4 8 semantickitti"},
        "grid": {"voxel_size": 0.1, "lower": [-50, -50, -4], "upper": [50, 50, 2]},
    },
    "cylinder3d": {
        "student": {"network": "cylinder3d", "size": "w4", "features": ["cylinder9"]},
        "grid": {
            "kind": "cylindrical", "cells": [48, 36, 16], "lower": [0, -3.1415926, -4], "upper": [50, 3.1415926, 2],
            "clamp": True,
        },
    },
}  # fmt: skip
"""Networks of published weights, small, with their pre-processing."""


def _published(network: str) -> Callable[[World, Path], TrainingConfig]:
    """The network as a student, and as a live teacher of another student on another grid."""

    def build(world: World, folder: Path) -> TrainingConfig:
        asked = training_config(
            world, folder / "teacher", [{"kind": "supervised"}], run={"steps": 1}, **PUBLISHED[network]
        )
        Trainer(asked).fit()
        entry = {"kind": "point_teacher", "checkpoint": str(folder / "teacher/run"), "mode": "live", "trust": "all"}
        return training_config(
            world, folder, [{"kind": "supervised"}, entry], run={"steps": 2, "batch": 2}, **PUBLISHED[network]
        )

    return build


def image_network(world: World, folder: Path) -> TrainingConfig:
    """A teacher of pictures."""
    entry = {"kind": "image_labels", "labels": "projected_3d", "resize": 1.0, "crop": [64, 128]}
    return training_config(world, folder, [entry], student={"network": "image_unet"}, run={"steps": 3, "batch": 2})


RUNS: dict[str, Callable[[World, Path], TrainingConfig]] = {
    "everything at once, unet": _together("unet"),
    "everything at once, cylinder": _together("cylinder"),
    **{f"{mode} teacher, {net}": _fused(mode, net) for mode in ("separate", "shared") for net in ("unet", "cylinder")},
    "multi-to-single as released": _released,
    **{f"regions, {preset}": _regions(preset) for preset in ("pointmcd", "slidr", "ppkt", "scalr")},
    **{f"units, {measure}": _units(measure) for measure in ("iou", "probability")},
    "image network": image_network,
    **{f"published network, {network}": _published(network) for network in PUBLISHED},
}
"""Runs by name; each builds what it needs and is then prepared."""


def placed(asked: TrainingConfig, folder: Path, device: str, amp: bool = False, **run: Any) -> TrainingConfig:
    """The same configuration in another run folder and on a device."""
    settings = {"folder": str(folder / "run"), "device": device, **run}
    optim = asked.optim.model_copy(update={"amp": amp})
    return asked.model_copy(update={"run": asked.run.model_copy(update=settings), "optim": optim})


def trained(asked: TrainingConfig, folder: Path, device: str, amp: bool = False, **run: Any) -> Lines:
    """Loss and terms of every step."""
    Trainer(placed(asked, folder, device, amp, **run)).fit()
    return said(folder)


def said(folder: Path) -> Lines:
    """Loss and terms of every step of the run in a folder."""
    return [{"loss": line["loss"], "terms": line["terms"]} for line in lines(folder)]


def assert_alike(found: Lines, expected: Lines, tolerance: float = 1e-3, distance: float = 1e-5) -> None:
    """The same terms, on the same rows (but for a few whose answer stands on an edge), with the same values.

    A term over a few other rows is another mean, so it may differ by ten times as much. Features and affinities are
    distances of up to 2 between nearly equal vectors, in which rounding is large against the value: they may differ
    by ``distance`` in all.
    """
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=tolerance)
        assert one["terms"].keys() == other["terms"].keys()
        for name, term in other["terms"].items():
            mine = one["terms"][name]
            assert mine["count"] == pytest.approx(term["count"], rel=tolerance, abs=2), name
            allowed = tolerance if mine["count"] == term["count"] else 10 * tolerance
            least = distance if name.startswith(("feature", "aff")) else 1e-5
            assert mine["value"] == pytest.approx(term["value"], rel=allowed, abs=least), name
