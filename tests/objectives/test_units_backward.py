"""Knowledge units in whole runs: forward, the backward pass that re-scores them, and resuming in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from images_runs import WORK, World, lines, training_config, units_entry, write_world

from kd_seg.checkpoint import load_checkpoint, read_metadata
from kd_seg.core.errors import DataError
from kd_seg.images.units.cache import read_units
from kd_seg.losses.units import root_weights
from kd_seg.networks import collate, encode
from kd_seg.objectives.image_units.rounds import settled
from kd_seg.scans import SemanticKitti
from kd_seg.training import Trainer, TrainingConfig
from kd_seg.training.prepare import prepare


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("measure", ["precision", "iou", "probability"])
def test_units_forward_and_backward(world: World, tmp_path: Path, measure: str) -> None:
    backward = {"measure": measure, "start_epoch": 1, "every": 1, "rounds": 2, "momentum": 0.5, "unknown_below": 0.0}
    entry = units_entry(world, backward=backward, noise={"wrong": 0.3})
    asked = training_config(world, tmp_path, [entry], run={"steps": 9})
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


def test_root_weights_count_the_whole_cache(world: World, tmp_path: Path) -> None:
    asked = training_config(world, tmp_path, [units_entry(world, class_weights="root", lovasz=1.0)], run={"steps": 2})
    prepare(asked, WORK)
    trainer = Trainer(asked)
    objective: Any = trainer.objectives[0]
    counts = np.zeros(len(objective.class_map))
    for key in objective.view.first:
        units = read_units(objective.store, key)
        for number in range(len(units)):
            counts[units.teacher_class[number]] += len(units.rows(number))
    teacher_class, sizes = objective.counted.teacher_class, objective.counted.points
    np.testing.assert_array_equal(torch.bincount(teacher_class, sizes, len(counts)), counts)
    assert counts.sum() > 1000
    torch.testing.assert_close(
        objective.root, root_weights(torch.from_numpy(counts), objective.usual, len(objective.context.classes))
    )
    trainer.fit()
    terms = [line["terms"] for line in lines(tmp_path)]
    assert sum(t["units_lovasz"]["count"] for t in terms) == sum(t["units"]["count"] for t in terms) > 0
    assert all(0 <= t["units_lovasz"]["value"] <= 1.5 for t in terms)


def test_root_weights_count_what_is_still_believed(world: World, tmp_path: Path) -> None:
    """Once units are re-scored, a class whose claims are mostly doubted is a rare one and weighs more."""
    backward = {"start_epoch": 1, "every": 1, "rounds": 1, "unknown_below": 0.0}
    asked = training_config(
        world, tmp_path, [units_entry(world, class_weights="root", backward=backward)], run={"steps": 6}
    )
    prepare(asked, WORK)
    trainer = Trainer(asked)
    objective: Any = trainer.objectives[0]
    before = objective.root.clone()
    trainer.fit()
    teacher_class, sizes = objective.counted.teacher_class, objective.counted.points
    believed = torch.bincount(teacher_class, sizes * objective.score, len(objective.class_map))
    assert believed.sum() < sizes.sum()
    torch.testing.assert_close(
        objective.root, root_weights(believed, objective.usual, len(objective.context.classes)), check_dtype=False
    )
    assert not torch.equal(objective.root, before)
    again: Any = Trainer(asked, resume=True).objectives[0]
    torch.testing.assert_close(again.root, objective.root)


def test_ratios_are_those_of_a_plain_loop(world: World, tmp_path: Path) -> None:
    """The backward pass on the plain cloud, unit by unit, with the snapshot's own predictions."""
    backward = {"student": "snapshot", "judge_draws": 0, "start_epoch": 2, "rounds": 1}
    asked = training_config(world, tmp_path, [units_entry(world, backward=backward)], run={"steps": 6})
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
            meant = objective.sets[int(units.teacher_class[u])]
            found = objective.ratio[objective.view.first[("00", index)] + u]
            if len(rows) < 5:
                assert torch.isnan(found)
            else:
                assert found.item() == pytest.approx(meant[predicted[rows]].float().mean().item(), abs=1e-6)


def test_released_preset_replaces_the_confidence(world: World, tmp_path: Path) -> None:
    entry = units_entry(world, preset="released", backward={"start_epoch": 1})
    asked = training_config(world, tmp_path, [entry], run={"steps": 6})
    prepare(asked, WORK)
    trainer = Trainer(asked)
    objective: Any = trainer.objectives[0]
    assert objective.ema is None
    assert objective.settings.average == "all"
    trainer.fit()
    judged = ~torch.isnan(objective.ratio)
    torch.testing.assert_close(objective.score[judged], objective.ratio[judged])
    assert objective.round == 1


def test_resuming_keeps_scores_and_history(world: World, tmp_path: Path) -> None:
    backward = {"start_epoch": 1, "every": 1, "rounds": 2, "momentum": 0.5}
    entries = [units_entry(world, backward=backward)]
    level = {"schedule": "constant", "warmup": 0.0}  # the same rate however long the run

    def asked(steps: int) -> TrainingConfig:
        base = training_config(world, tmp_path, entries, run={"steps": steps})
        return base.model_copy(update={"optim": base.optim.model_copy(update=level)})

    prepare(asked(5), WORK)
    first = Trainer(asked(5))
    first.fit()
    resumed = Trainer(asked(7), resume=True)
    assert resumed.progress.step == 5
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
