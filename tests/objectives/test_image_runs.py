"""Image teachers in whole runs: networks of our own, beside labels, all at once, and without a look at labels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from images_runs import (
    WORK,
    World,
    batch_of,
    check_everything,
    everything,
    lines,
    training_config,
    units_entry,
    write_world,
)

from kd_seg.checkpoint import read_metadata
from kd_seg.core.errors import DataError, KdSegError
from kd_seg.networks import Batch
from kd_seg.training import Trainer
from kd_seg.training.prepare import prepare


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"))


def test_image_network_teaches_a_student(world: World, tmp_path: Path) -> None:
    """Teacher (a), from projected labels: its file says so, and its pupils are not called annotation-free."""
    entry = {"kind": "image_labels", "labels": "projected_3d", "resize": 1.0, "crop": [64, 128]}
    teacher = training_config(
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
    asked = training_config(world, tmp_path / "s", [entry])
    with pytest.raises(DataError, match="data/00"):  # it saw these very labels
        prepare(asked, WORK)
    own["allow_seen"] = True  # type: ignore[assignment]
    asked = training_config(
        world, tmp_path / "s", [entry, {"kind": "image_regions", "preset": "slidr", "teacher": own}]
    )
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


def test_joint_with_labels(world: World, tmp_path: Path) -> None:
    entry = units_entry(world, weight=0.5)
    regions = {
        "kind": "image_regions",
        "preset": "scalr",
        "weight": 0.1,
        "teacher": {"kind": "maps", "root": str(world[1])},
    }
    asked = training_config(world, tmp_path, [{"kind": "supervised"}, entry, regions], data={"labels": 0.34})
    prepare(asked, WORK)
    trainer = Trainer(asked)
    trainer.fit()
    times = sorted(trainer.parts.keys.count(key) for key in set(trainer.parts.keys))
    assert times == [1, 1, 2]  # labels of one, pictures of all
    assert {"ce", "lovasz", "units", "regions"} <= set(lines(tmp_path)[0]["terms"])
    described = read_metadata(tmp_path / "run/checkpoints/last.safetensors")["training"]["objectives"]
    assert described[1]["regime"] == "joint"


@pytest.mark.parametrize(("network", "batch"), [("unet", 3), ("cylinder", 2)])
def test_all_teachers_at_once(world: World, tmp_path: Path, network: str, batch: int) -> None:
    """Both students, more than one scan a step, with multi-to-single distillation in the same run."""
    asked = everything(world, tmp_path, network, batch=batch)
    prepare(asked, WORK)
    check_everything(Trainer(asked), tmp_path)


def test_pre_training_is_remembered(world: World, tmp_path: Path) -> None:
    """Pre-train on pictures, fine-tune on labels: the student's file says what its first weights learned from."""
    entry = {"kind": "image_regions", "preset": "slidr", "teacher": {"kind": "maps", "root": str(world[1])}}
    asked = training_config(world, tmp_path / "a", [entry], run={"steps": 2})
    prepare(asked, WORK)
    first = Trainer(asked)
    first.fit()
    init = str(tmp_path / "a/run")
    tuned = Trainer(
        training_config(world, tmp_path / "b", [{"kind": "supervised"}], student={"init": init}, run={"steps": 2})
    )
    for name, value in first.student.state_dict().items():
        torch.testing.assert_close(tuned.student.state_dict()[name], value)
    tuned.fit()
    again = training_config(world, tmp_path / "b", [{"kind": "supervised"}], student={"init": init}, run={"steps": 3})
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


def test_an_annotation_free_run_never_opens_labels(world: World, tmp_path: Path) -> None:
    """Preparing, training with a worker and re-scoring, under an audit hook that ends the program at a look."""
    import yaml

    backward = {"start_epoch": 1, "every": 1, "rounds": 1, "measure": "iou"}
    objectives = [
        units_entry(world, backward=backward),
        {"kind": "image_regions", "preset": "slidr", "teacher": {"kind": "maps", "root": str(world[1])}},
    ]
    asked = training_config(world, tmp_path, objectives, run={"steps": 4, "workers": 1})
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
