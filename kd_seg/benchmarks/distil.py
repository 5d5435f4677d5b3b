"""``kd-seg bench distil``: one training step without and with each kind of multi-scan teacher, and its peak memory.

All start from batches that are ready: what it costs to make them is ``kd-seg bench fuse``, and runs in workers.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kd_seg.benchmarks.timing import BenchRow, Rival, compare
from kd_seg.caches import Work
from kd_seg.checkpoint import Spec, save_checkpoint
from kd_seg.classes import load_classes
from kd_seg.core.config import validate
from kd_seg.objectives import Step
from kd_seg.training.config import TrainingConfig
from kd_seg.training.loader import Batches
from kd_seg.training.optimisation import build_optimiser
from kd_seg.training.prepare import prepare
from kd_seg.training.setup import Parts

TEACHERS: dict[str, dict[str, Any] | None] = {
    "baseline": None,
    "frozen teacher": {"mode": "separate", "checkpoint": "CHECKPOINT"},
    "EMA teacher": {"mode": "ema"},
    "shared weights": {"mode": "shared"},
}
"""The rivals by name: settings of ``multi_to_single.teacher``, None = no such objective. The first is the measure."""


def rows(root: Path, voxel_size: float, repeats: int, size: str = "nano", batch: int = 2) -> list[BenchRow]:
    """Milliseconds per step (``ratio`` = times the baseline's) and peak memory, which the row's name carries.

    Args:
        root: data root of labelled scans with poses.
        voxel_size: metres. size: of the unet. batch: scans per step.
    """
    with tempfile.TemporaryDirectory() as folder:
        configs = _configs(root, Path(folder), voxel_size, size, batch)
        prepare(configs["frozen teacher"], Work("kd-seg bench distil"))
        _write_teacher(configs["baseline"], Path(folder) / "teacher.safetensors")
        context = multiprocessing.get_context("spawn")
        with context.Pool(1, maxtasksperchild=1) as pool:
            peaks = pool.map(partial(_peak, threads=torch.get_num_threads()), configs.values(), chunksize=1)
        rivals = [
            Rival(f"{name}, peak {peak} MiB", _Steps(config), _finite, ours=name == "baseline")
            for (name, config), peak in zip(configs.items(), peaks, strict=True)
        ]
        return compare(rivals, repeats)


def _configs(root: Path, folder: Path, voxel_size: float, size: str, batch: int) -> dict[str, TrainingConfig]:
    made = {}
    for name, teacher in TEACHERS.items():
        objectives: list[dict[str, Any]] = [{"kind": "supervised"}]
        if teacher is not None:
            own = {k: str(folder / "teacher.safetensors") if v == "CHECKPOINT" else v for k, v in teacher.items()}
            # A teacher that has learned nothing is seldom right; all rows teach, as nearly all of a trained one's do.
            objectives.append({"kind": "multi_to_single", "teacher": own, "ramp": 0.0, "trust": False})
        content = {
            "data": {"root": str(root), "cache": str(folder / "cache")},
            "grid": {"voxel_size": voxel_size},
            "student": {"size": size},
            "objectives": objectives,
            "run": {"steps": 1000, "batch": batch, "device": "cpu"},
        }
        made[name] = validate(TrainingConfig, content, "kd-seg bench distil")
    return made


def _write_teacher(config: TrainingConfig, path: Path) -> None:
    torch.manual_seed(1)
    student = config.student
    network = Parts.build(config).student
    classes = load_classes(config.data.classes)
    save_checkpoint(path, network, Spec(student.network, student.size, classes, config.encoding()))


class _Steps:
    """Training steps of one configuration on one batch; called, it takes one and returns the loss."""

    def __init__(self, config: TrainingConfig) -> None:
        torch.manual_seed(0)
        parts = Parts.build(config)
        self.student, self.objectives = parts.student.train(), parts.objectives
        views = tuple(view for objective in parts.objectives for view in objective.views())
        pipeline = replace(parts.pipeline, views=views)
        # the last scans of the first sequence: earlier ones to fuse are there
        late = replace(pipeline, keys=pipeline.keys[4:] or pipeline.keys)
        self.batch = Batches(late, seed=0, batch=config.run.batch, first=0, count=1)[0]
        self.optimiser = build_optimiser(self.student, config.optim, self.objectives)
        self.place = Step(self.student, 500, 1000, 0)

    def __call__(self) -> float:
        output = self.student(self.batch)
        terms = [t for o in self.objectives for t in o.terms(self.batch, output, self.place).values()]
        loss = torch.stack([t.weight * t.value for t in terms]).sum()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        for objective in self.objectives:
            objective.after_step(self.place)
        return float(loss.detach())


def _finite(loss: float) -> None:
    assert loss == loss, "the loss is NaN"


def _peak(config: TrainingConfig, threads: int) -> int:
    """Peak memory in MiB of a fresh process that takes three steps."""
    import resource

    torch.set_num_threads(threads)
    steps = _Steps(config)
    for _ in range(3):
        steps()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
