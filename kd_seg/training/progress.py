"""How far a run is, by steps, epochs or the clock."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from kd_seg.objectives import Step
from kd_seg.training.config import RunSettings

BY_THE_CLOCK = 10**7
"""Steps of a run whose end the clock decides: more than it will ever do."""


@dataclass
class RunProgress:
    """Where a run stands.

    Attributes:
        total: optimiser steps of the whole run. epoch_steps: of one epoch.
        minutes: length by the clock, None where steps decide.
        step: steps done. spent: seconds of training done.
    """

    total: int
    epoch_steps: int
    minutes: float | None = None
    step: int = 0
    spent: float = 0.0

    @classmethod
    def plan(cls, run: RunSettings, scans: int, scans_per_step: int) -> RunProgress:
        """The start of a run over ``scans`` scans, ``scans_per_step`` in each step of all processes together."""
        if run.steps:
            total = run.steps
        elif run.epochs:
            total = max(1, round(run.epochs * scans / scans_per_step))
        else:
            total = BY_THE_CLOCK
        return cls(total, max(1, scans // scans_per_step), run.minutes)

    @property
    def share(self) -> float:
        """Share of the run that is done, 0-1."""
        if self.minutes:
            return min(self.spent / (60.0 * self.minutes), 1.0)
        return self.step / self.total

    @property
    def done(self) -> bool:
        """Whether the run is at its end."""
        return self.spent >= 60.0 * self.minutes if self.minutes else self.step >= self.total

    @property
    def ends_epoch(self) -> bool:
        """Whether the last step was the last of an epoch."""
        return self.step % self.epoch_steps == 0

    def place(self, student: nn.Module) -> Step:
        """What objectives are told of it."""
        return Step(student, self.step, self.total, self.step // self.epoch_steps, self.share)
