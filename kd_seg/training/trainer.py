"""The Trainer: knows objectives by their interface alone; saves whole files; goes on where it was stopped."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import kd_seg
from kd_seg.checkpoint import Sensor, Spec, initialise, read_spec, resolve, save_checkpoint, write_whole
from kd_seg.core.config import digest
from kd_seg.core.errors import KdSegError
from kd_seg.losses.zero import exact_zero
from kd_seg.networks import Batch
from kd_seg.objectives import Objective, Step, Term
from kd_seg.training.config import TrainingConfig
from kd_seg.training.loader import Batches, stream
from kd_seg.training.optimisation import build_optimiser, rate
from kd_seg.training.run import RunFolder
from kd_seg.training.setup import Parts, assemble

Report = Callable[[dict[str, Any]], None]
Score = Callable[[Path], float]

PATIENCE = timedelta(hours=2)
"""How long processes wait for one of them, which may be scoring a checkpoint on scans held back."""


@dataclass
class Totals:
    """Sums since the last line of the log."""

    loss: float = 0.0
    steps: int = 0
    points: int = 0
    seconds: float = 0.0


class Trainer:
    """One training run.

    Args:
        config: the resolved configuration.
        report: called with every line that goes to metrics.jsonl (for a progress bar).
        resume: go on in the configuration's run folder; else begin it.
        overwrite: replace a used run folder.
        score: how good a checkpoint is on ``data.select``, scans held back from training; asked at every save, and
            ``checkpoints/best`` keeps the highest. Without ``data.select`` it is never asked.
    """

    def __init__(
        self,
        config: TrainingConfig,
        report: Report | None = None,
        resume: bool = False,
        overwrite: bool = False,
        score: Score | None = None,
    ) -> None:
        self.config = config
        self.report = report
        self.score = score if config.data.select else None
        self.best = float("-inf")
        self.rank, self.world = _processes(config.run.device)
        if config.run.threads:
            torch.set_num_threads(config.run.threads)
        assert config.run.folder is not None
        self.run = RunFolder(config.run.folder)
        torch.manual_seed(config.run.seed)
        self.parts: Parts = assemble(config, self.rank)
        self.device = self.parts.device
        if self.rank == 0 and not resume:
            self.run.begin(config, overwrite)
        self.spec = self._spec(self._ancestry(resume))
        self.student = self.parts.student
        if config.student.init and not resume:
            self.fresh = initialise(self.student, config.student.init)
        else:
            self.fresh = []
        self.objectives: list[Objective] = self.parts.objectives
        self.optimiser = build_optimiser([self.student, *self.objectives], config.optim)
        self.callable = self._distribute()
        self.scaler = torch.amp.GradScaler("cuda", enabled=config.optim.amp and self.device.type == "cuda")
        self.scans_per_step = config.run.batch * self.world * config.optim.accumulation
        self.epoch_steps = max(1, len(self.parts.keys) // self.scans_per_step)
        self.total = self._length()
        self.step = 0
        self.spent = 0.0
        self.epoch_loss: list[float] = []
        if resume:
            self._restore()

    # ------------------------------------------------------------------ the loop

    def fit(self) -> None:
        """Train to the end, saving as it goes; a run that is already done returns at once."""
        writer = SummaryWriter(str(self.run.tensorboard), purge_step=self.step) if self.rank == 0 else None
        try:
            while not self._done():
                self._train_stretch(writer)
        except BaseException:
            if self.rank == 0 and self.step > 0:
                self._save()
            raise
        finally:
            if writer is not None:
                writer.close()
        if self.rank == 0:
            self._save()

    def _train_stretch(self, writer: SummaryWriter | None) -> None:
        """Steps until the run ends or an objective changed its views, so that the loader must be built anew."""
        accumulation = self.config.optim.accumulation
        pipeline = replace(self.parts.pipeline, views=tuple(v for o in self.objectives for v in o.views()))
        batches = Batches(
            pipeline, self.config.run.seed, self.config.run.batch, self.step * accumulation,
            self.total * accumulation, self.rank, self.world,
        )  # fmt: skip
        source = stream(batches, self.config.run.workers)
        totals, rows = Totals(), defaultdict(list)
        self._train_mode()
        started = time.monotonic()
        while not self._done():
            loss, terms, points = self._optimise([next(source) for _ in range(accumulation)])
            now = time.monotonic()
            self.spent = self._agreed(self.spent + now - started)
            totals.seconds, started = totals.seconds + now - started, now
            totals.loss, totals.steps, totals.points = totals.loss + loss, totals.steps + 1, totals.points + points
            for name, value in terms.items():
                rows[name].append(value)
            self.step += 1
            self.epoch_loss.append(loss)
            place = self._place()
            for objective in self.objectives:
                objective.after_step(place)
            changed = self._end_epoch() if self.step % self.epoch_steps == 0 else False
            if self.step % self.config.run.log_every == 0 or self._done():
                self._log(totals, rows, writer)
                totals, rows = Totals(), defaultdict(list)
            if self.rank == 0 and self.step % self.config.run.save_every == 0:
                self._save()
            if changed:
                return

    def _optimise(self, batches: list[Batch]) -> tuple[float, dict[str, dict[str, float]], int]:
        """One optimiser step; returns its loss, its terms and the points it saw."""
        self._seed_step()
        progress = self._progress()
        for group in self.optimiser.param_groups:
            group["lr"] = rate(progress, self.config.optim)
        self.optimiser.zero_grad(set_to_none=True)
        total, terms, points = 0.0, {}, 0
        for batch in batches:
            batch = batch.to(self.device)
            points += len(batch.features)
            with torch.autocast("cuda", torch.float16, enabled=self.scaler.is_enabled()):
                output = self.callable(batch)
            named = self._terms(batch, output)
            loss = sum((t.weight * t.value for t in named.values()), exact_zero(output.logits)) / len(batches)
            if not torch.isfinite(loss):
                bad = next((n for n, t in named.items() if not torch.isfinite(t.value)), "the sum")
                raise KdSegError(
                    f"The loss became {float(loss.detach())} at step {self.step} (term {bad}); "
                    "lower optim.lr or set optim.clip."
                )
            self.scaler.scale(loss).backward()
            total += float(loss.detach())
            terms = {name: _plain(term) for name, term in named.items()}
        self._share_head_gradients()  # before unscaling, so that all processes skip a step with infinite gradients
        self.scaler.unscale_(self.optimiser)
        if self.config.optim.clip > 0:
            parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.config.optim.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return total, terms, points

    def _seed_step(self) -> None:
        """What losses draw depends on seed, process and step alone, so that a resumed run draws what it would have."""
        words = np.random.SeedSequence([self.config.run.seed, 3, self.rank, self.step]).generate_state(1, np.uint64)
        torch.manual_seed(int(words[0]))

    def _terms(self, batch: Batch, output: Any) -> dict[str, Term]:
        place = self._place()
        named: dict[str, Term] = {}
        for number, objective in enumerate(self.objectives):
            for name, term in objective.terms(batch, output, place).items():
                named[name if name not in named else f"{name}_{number}"] = term
        return named

    def _share_head_gradients(self) -> None:
        """Average the gradients of objectives' heads over processes (DDP covers the student alone)."""
        if self.world == 1:
            return
        for objective in self.objectives:
            for parameter in objective.parameters():
                if parameter.requires_grad:
                    gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
                    torch.distributed.all_reduce(gradient)
                    parameter.grad = gradient / self.world

    def _end_epoch(self) -> bool:
        mean = sum(self.epoch_loss) / max(len(self.epoch_loss), 1)
        self.epoch_loss = []
        place = self._place()
        changed = False
        for objective in self.objectives:
            changed = objective.after_epoch(place, mean) or changed
        return changed

    # ------------------------------------------------------------------ where training stands

    def _place(self) -> Step:
        return Step(self.callable, self.step, self.total, self.step // self.epoch_steps, self._progress())

    def _progress(self) -> float:
        minutes = self.config.run.minutes
        return min(self.spent / (60.0 * minutes), 1.0) if minutes else self.step / self.total

    def _agreed(self, seconds: float) -> float:
        """Rank 0's clock, where a clock says how far the run is: learning rate and end must be the same for all."""
        if self.world == 1 or not self.config.run.minutes:
            return seconds
        clock = torch.tensor(seconds, dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(clock, 0)
        return float(clock)

    def _done(self) -> bool:
        minutes = self.config.run.minutes
        return self.spent >= 60.0 * minutes if minutes else self.step >= self.total

    def _length(self) -> int:
        run = self.config.run
        if run.steps:
            return run.steps
        if run.epochs:
            return max(1, round(run.epochs * len(self.parts.keys) / self.scans_per_step))
        return 10**7  # by the clock

    def _train_mode(self) -> None:
        self.student.train()
        for objective in self.objectives:
            objective.train()

    # ------------------------------------------------------------------ files

    def _log(self, totals: Totals, rows: dict[str, list[dict[str, float]]], writer: SummaryWriter | None) -> None:
        if self.rank != 0 or writer is None:
            return
        terms = {
            name: {
                "value": sum(v["value"] for v in values) / len(values),
                "weight": values[-1]["weight"],
                "count": round(sum(v["count"] for v in values) / len(values)),
            }
            for name, values in rows.items()
        }
        line = {
            "step": self.step,
            "steps": self.total if not self.config.run.minutes else None,
            "epoch": round(self.step / self.epoch_steps, 3),
            "progress": round(self._progress(), 5),
            "lr": self.optimiser.param_groups[0]["lr"],
            "loss": totals.loss / max(totals.steps, 1),
            "terms": terms,
            "points_per_second": round(totals.points / max(totals.seconds, 1e-9)),
            "seconds_per_step": round(totals.seconds / max(totals.steps, 1), 4),
            "seconds": round(self.spent, 2),
        }
        with open(self.run.metrics, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        writer.add_scalar("loss", line["loss"], self.step)
        writer.add_scalar("lr", line["lr"], self.step)
        for name, term in terms.items():
            writer.add_scalar(f"terms/{name}", term["value"], self.step)
            writer.add_scalar(f"weighted/{name}", term["value"] * term["weight"], self.step)
            writer.add_scalar(f"count/{name}", term["count"], self.step)
        if self.report is not None:
            self.report(line)

    def _save(self) -> None:
        training = self.spec.training | {"steps": self.step, "seconds": round(self.spent, 1)}
        save_checkpoint(self.run.last, self.student, replace(self.spec, training=training))
        if self.score is not None:
            self._keep_best(self.score(self.run.last))
        self.run.save_state(
            {
                "step": self.step,
                "spent": self.spent,
                "best": self.best,
                "epoch_loss": self.epoch_loss,
                "student": self.student.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "objectives": [objective.state_dict() for objective in self.objectives],
                "scaler": self.scaler.state_dict(),
            }
        )

    def _keep_best(self, score: float) -> None:
        if score > self.best:
            self.best = score
            write_whole(self.run.best, self.run.last.read_bytes())

    def _restore(self) -> None:
        state = self.run.read_state()
        self.step, self.spent, self.epoch_loss = state["step"], state["spent"], state["epoch_loss"]
        self.best = state["best"]
        self.student.load_state_dict(state["student"])
        self.optimiser.load_state_dict(state["optimiser"])
        for objective, own in zip(self.objectives, state["objectives"], strict=True):
            objective.load_state_dict(own)
        if state["scaler"]:  # empty where the run was on a CPU until now
            self.scaler.load_state_dict(state["scaler"])
        if self.rank == 0:
            self.run.trim_metrics(self.step)

    def _ancestry(self, resume: bool) -> dict[str, Any] | None:
        """What ``student.init`` had learnt from, teachers included; a resumed run knows it from its own checkpoint."""
        init = self.config.student.init
        if init is None:
            return None
        if resume:
            return read_spec(self.run.last).training.get("init")
        return read_spec(resolve(init)).training

    def _spec(self, init: dict[str, Any] | None) -> Spec:
        config = self.config
        return Spec(
            network=config.student.network,
            size=config.student.size,
            classes=self.parts.pipeline.classes,
            encoding=config.encoding(),
            sensor=Sensor(**config.data.sensor.model_dump()),
            training={
                "config": digest(config.to_plain()),
                "purpose": config.purpose,
                "data": {"sequences": sorted({s for s, _ in self.parts.keys}), "scans": len(set(self.parts.keys))},
                "input": config.student.input,
                "objectives": [objective.describe() for objective in self.parts.objectives],
                "init": init,
                "kd_seg": kd_seg.__version__,
            },
            licence=config.data.licence,
        )

    def _distribute(self) -> nn.Module:
        if self.world == 1:
            return self.student
        for module in self.objectives:
            for tensor in [*module.parameters(), *module.buffers()]:
                torch.distributed.broadcast(tensor.data, 0)
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(self.student, device_ids=ids, find_unused_parameters=True)


def _plain(term: Term) -> dict[str, float]:
    return {"value": float(term.value.detach()), "weight": term.weight, "count": term.count}


def _processes(device: str) -> tuple[int, int]:
    """(rank, world) as torchrun set them; joins the process group once, by NCCL unless ``device`` is "cpu"."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return 0, 1
    if not torch.distributed.is_initialized():
        backend = "nccl" if device != "cpu" and torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(backend, timeout=PATIENCE)
    return torch.distributed.get_rank(), world
