"""Runs with the multi-to-single objective on a tiny world, for its tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from instances_world import World, make_world, work

from kd_seg.networks import Batch, Output
from kd_seg.objectives import Step, Term
from kd_seg.training import Trainer, read_training_config
from kd_seg.training.loader import Batches
from kd_seg.training.prepare import prepare

CONFIG = """
data: {root: ROOT, train: ["00"]}
grid: {voxel_size: 0.4}
fusion: {cloud: {skip: 0.0}}
augment: {rotation_deg: 30, drop: 0.2}
objectives:
  - {kind: supervised}
  - {kind: multi_to_single, teacher: {mode: ema}}
run: {steps: 2, batch: 2, workers: 0, threads: 1, log_every: 1, device: cpu}
"""


def prepared_world(folder: Path) -> World:
    """Six scans with a configuration beside them, and the instance library that it needs."""
    made = make_world(folder, scans=6)
    config = made.root / "config.yaml"
    config.write_text(CONFIG.replace("ROOT", str(made.root)))
    prepare(read_training_config(config, ["run.folder=unused"]), work())
    return made


def fused_teacher(world: World, folder: Path, *settings: str) -> Path:
    """A run folder of a network that was trained on fused clouds."""
    settings = ("student.input=fused", "objectives=[{kind: supervised}]", f"run.folder={folder}", *settings)
    Trainer(read_training_config(world.root / "config.yaml", list(settings))).fit()
    return folder


def trainer(world: World, tmp_path: Path, *settings: str) -> Trainer:
    """A trainer of the configuration beside the world."""
    folder = f"run.folder={tmp_path / 'run'}"
    return Trainer(read_training_config(world.root / "config.yaml", [folder, *settings]), overwrite=True)


def first_batch(made: Trainer) -> Batch:
    """The trainer's first batch, with all views that its objectives ask for."""
    views = tuple(view for objective in made.objectives for view in objective.views())
    return Batches(replace(made.parts.pipeline, views=views), seed=0, batch=2, first=0, count=1)[0]


def terms_of(made: Trainer, step: int = 1) -> tuple[dict[str, Term], Batch, Output]:
    """Terms of the multi-to-single objective on the first batch, that batch and the student's output."""
    batch = first_batch(made)
    made.student.train()
    output = made.student(batch)
    return made.objectives[1].terms(batch, output, Step(made.student, step, 2, 0)), batch, output
