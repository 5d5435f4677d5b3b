"""The log of a run: ``metrics.jsonl``, TensorBoard, and a line for whoever watches."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from kd_seg.objectives import Term
from kd_seg.training.progress import RunProgress
from kd_seg.training.run import RunFolder

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class TermFigures:
    """One term of one batch, as plain numbers."""

    value: float
    weight: float
    count: int

    @classmethod
    def of(cls, term: Term) -> TermFigures:
        """Read off a term; waits for the device."""
        return cls(float(term.value.detach()), term.weight, term.count)


@dataclass
class Totals:
    """Sums since the last line of the log.

    Attributes:
        loss, steps, points, seconds: sums over optimiser steps.
        terms: figures of every batch, by name of the term.
    """

    loss: float = 0.0
    steps: int = 0
    points: int = 0
    seconds: float = 0.0
    terms: dict[str, list[TermFigures]] = field(default_factory=lambda: defaultdict(list))

    def add_step(self, loss: float, seconds: float) -> None:
        """Count one optimiser step."""
        self.loss, self.steps, self.seconds = self.loss + loss, self.steps + 1, self.seconds + seconds

    def add_batch(self, terms: dict[str, Term], points: int) -> None:
        """Count one batch, of which a step has several with ``optim.accumulation``."""
        self.points += points
        for name, term in terms.items():
            self.terms[name].append(TermFigures.of(term))

    def means(self) -> dict[str, dict[str, float]]:
        """Mean value and count of each term over the batches that had it, and its last weight."""
        return {
            name: {
                "value": sum(f.value for f in figures) / len(figures),
                "weight": figures[-1].weight,
                "count": round(sum(f.count for f in figures) / len(figures)),
            }
            for name, figures in self.terms.items()
        }


class RunLog:
    """Writes a line for every few steps.

    Args:
        step: from which the run continues; later points in TensorBoard are forgotten.
        report: called with every line.
    """

    def __init__(self, run: RunFolder, step: int, report: Report | None) -> None:
        self.run, self.report = run, report
        self.writer = SummaryWriter(str(run.tensorboard), purge_step=step)

    def write(self, totals: Totals, progress: RunProgress, rate: float) -> None:
        """Append the line of what was summed since the last one; ``rate`` is the learning rate."""
        line = {
            "step": progress.step,
            "steps": progress.total if not progress.minutes else None,
            "epoch": round(progress.step / progress.epoch_steps, 3),
            "progress": round(progress.share, 5),
            "lr": rate,
            "loss": totals.loss / max(totals.steps, 1),
            "terms": totals.means(),
            "points_per_second": round(totals.points / max(totals.seconds, 1e-9)),
            "seconds_per_step": round(totals.seconds / max(totals.steps, 1), 4),
            "seconds": round(progress.spent, 2),
        }
        with open(self.run.metrics, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._draw(line)
        if self.report is not None:
            self.report(line)

    def _draw(self, line: dict[str, Any]) -> None:
        step = line["step"]
        self.writer.add_scalar("loss", line["loss"], step)
        self.writer.add_scalar("lr", line["lr"], step)
        for name, term in line["terms"].items():
            self.writer.add_scalar(f"terms/{name}", term["value"], step)
            self.writer.add_scalar(f"weighted/{name}", term["value"] * term["weight"], step)
            self.writer.add_scalar(f"count/{name}", term["count"], step)

    def close(self) -> None:
        """Flush TensorBoard's file."""
        self.writer.close()
