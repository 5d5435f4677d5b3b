"""What a run saves: the checkpoint's description, and state and checkpoints that stay together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

import kd_seg
from kd_seg.checkpoint import Spec, check_input, read_spec, resolve, save_checkpoint
from kd_seg.core.config import digest
from kd_seg.core.errors import CheckpointError
from kd_seg.core.files import write_bytes
from kd_seg.scans import Sensor
from kd_seg.training.config import TrainingConfig
from kd_seg.training.progress import RunProgress
from kd_seg.training.run import RunFolder
from kd_seg.training.setup import Parts

Score = Callable[[Path], float]


class RunSaver:
    """Writes state and checkpoints of a run.

    Attributes:
        best: the highest score so far.
        saved, scored: steps that were saved and scored last, -1 before.
    """

    def __init__(self, run: RunFolder, spec: Spec, score: Score | None) -> None:
        self.run, self.spec, self.score = run, spec, score
        self.best = float("-inf")
        self.saved = self.scored = -1
        self._state: dict[str, Any] = {}

    def save(self, student: nn.Module, progress: RunProgress, state: dict[str, Any]) -> None:
        """Write the state, then ``checkpoints/last`` of the same step."""
        own = {"step": progress.step, "spent": progress.spent, "best": self.best, "scored": self.scored}
        self._state = {**state, **own}
        self.run.save_state(self._state)
        training = self.spec.training | {"steps": progress.step, "seconds": round(progress.spent, 1)}
        save_checkpoint(self.run.last, student, replace(self.spec, training=training))
        self.saved = progress.step

    def _last_step(self) -> int | None:
        """The step of ``checkpoints/last``; None where it is missing or broken."""
        try:
            steps = read_spec(self.run.last).training["steps"]
        except (CheckpointError, KeyError, TypeError):
            return None
        return int(steps)

    def score_last(self) -> float | None:
        """The score of ``checkpoints/last``; None where there is nothing to score on."""
        return self.score(self.run.last) if self.score is not None else None

    def keep(self, score: float | None, progress: RunProgress) -> None:
        """Copy ``checkpoints/last`` to ``best`` where its score is the highest so far; the state remembers it."""
        self.scored = progress.step
        if score is None:
            return
        if score > self.best:
            self.best = score
            write_bytes(self.run.best, self.run.last.read_bytes())
        self.run.save_state({**self._state, "best": self.best, "scored": self.scored})

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a run's state; kd_seg 0.1.0 scored before it wrote one, and did not record it."""
        self._state, self.best = state, state["best"]
        # A kill between the two leaves a checkpoint older than the state: it has to be written again.
        self.saved = state["step"] if self._last_step() == state["step"] else -1
        self.scored = state.get("scored", state["step"])


def describe(config: TrainingConfig, parts: Parts, init: dict[str, Any] | None) -> Spec:
    """What stands beside the weights in a run's checkpoints; ``init`` is ``ancestry``."""
    return Spec(
        network=config.student.network,
        size=config.student.size,
        classes=parts.pipeline.classes,
        encoding=config.encoding(),
        sensor=Sensor(**config.data.sensor.model_dump()),
        training={
            "config": digest(config.to_plain()),
            "purpose": config.purpose,
            "data": {"sequences": sorted({s for s, _ in parts.keys}), "scans": len(set(parts.keys))},
            "input": config.student.input,
            "objectives": [objective.describe() for objective in parts.objectives],
            "init": init,
            "kd_seg": kd_seg.__version__,
        },
        licence=config.data.licence,
        input_intensity="unit",
    )


def ancestry(config: TrainingConfig, run: RunFolder, resume: bool) -> dict[str, Any] | None:
    """What ``student.init`` had learned from, teachers included; a resumed run knows it from its own checkpoint."""
    init = config.student.init
    own = _own_spec(run) if resume else None
    if own is not None:
        check_input(run.last, own)
        return own.training.get("init") if init is not None else None
    if init is None:
        return None
    spec = read_spec(resolve(init))
    check_input(resolve(init), spec)
    return spec.training


def _own_spec(run: RunFolder) -> Spec | None:
    """What a run's last checkpoint holds; None where there is none, or half of one."""
    try:
        return read_spec(run.last) if run.last.is_file() else None
    except CheckpointError:
        return None
