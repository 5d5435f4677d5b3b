"""The Trainer: knows objectives by their interface alone; saves whole files; continues where it was stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.profiler import record_function

from kd_seg.core.errors import DataError, KdSegError
from kd_seg.core.failures import one_line
from kd_seg.losses.zero import exact_zero
from kd_seg.networks import Batch
from kd_seg.objectives import Objective, Term
from kd_seg.training.config import TrainingConfig
from kd_seg.training.distributed import Processes
from kd_seg.training.interrupts import Interrupts
from kd_seg.training.loader import Batches, deaths_of_workers, stream
from kd_seg.training.optimisation import build_optimiser, rate
from kd_seg.training.progress import RunProgress
from kd_seg.training.run import RunFolder
from kd_seg.training.run_log import Report, RunLog, Totals
from kd_seg.training.saving import RunSaver, Score, ancestry, describe
from kd_seg.training.setup import Parts, Place


def unwatched() -> None:
    """Called after each step where nobody asked to be."""


class Trainer:
    """One training run.

    Args:
        config: the resolved configuration.
        report: called with every line that goes to metrics.jsonl (for a progress bar).
        resume: continue in the configuration's run folder; else begin it.
        overwrite: replace a used run folder.
        score: how good a checkpoint is on ``data.select``, scans held back from training; asked at every save, and
            ``checkpoints/best`` keeps the highest. Without ``data.select`` it is never asked.
        fix_command: the command that builds what is missing on disk, for messages.

    Attributes:
        fresh: tensors of the student that ``student.init`` did not fill.
    """

    def __init__(
        self,
        config: TrainingConfig,
        report: Report | None = None,
        resume: bool = False,
        overwrite: bool = False,
        score: Score | None = None,
        fix_command: str = "kd-seg prepare CONFIG",
    ) -> None:
        self.config, self.report = config, report
        self.processes = Processes.join(config.run.device)
        if config.run.threads:
            torch.set_num_threads(config.run.threads)
        assert config.run.folder is not None
        self.run = RunFolder(config.run.folder)
        torch.manual_seed(config.run.seed)
        self.parts = Parts.build(config, self.processes.rank, Place(fix_command, self._record, resume))
        self.device, self.student = self.parts.device, self.parts.student
        self.objectives: list[Objective] = self.parts.objectives
        spec = describe(config, self.parts, ancestry(config, self.run, resume))
        # Once nothing of the configuration can be refused any more: it removes the run that was here.
        if self.processes.first and not resume:
            self.run.begin(config, overwrite)
        self.saver = RunSaver(self.run, spec, score if config.data.select else None)
        self.fresh = self.parts.fresh
        self.optimiser = build_optimiser(self.student, config.optim, self.objectives)
        self.callable = self.processes.wrapped(self.student, self.objectives, self.device)
        self.scaler = torch.amp.GradScaler("cuda", enabled=config.optim.amp and self.device.type == "cuda")
        scans_per_step = config.run.batch * self.processes.world * config.optim.accumulation
        self.progress = RunProgress.plan(config.run, len(self.parts.keys), scans_per_step)
        self.in_step = False
        if resume:
            self._restore()

    # ------------------------------------------------------------------ the loop

    def fit(self, after_step: Callable[[], None] = unwatched) -> None:
        """Train to the end, saving as it goes; a run that is already done returns at once.

        Ctrl-C ends the run after the step in hand, its state saved; a second one at once, at the state saved last, as
        does an error within a step.

        Args:
            after_step: called after each step (for a profiler).
        """
        log = RunLog(self.run, self.progress.step, self.report) if self.processes.first else None
        with Interrupts() as interrupts, deaths_of_workers():
            try:
                self._train(log, interrupts, after_step)
            except BaseException:
                # A step that ends in its middle leaves a state that no whole run has: diverged, or norms moved twice.
                if self.progress.step > 0 and not self.in_step:
                    self._save(interrupts)
                raise
            finally:
                if log is not None:
                    log.close()
            self._save(interrupts)
            self._choose(interrupts)

    def _train(self, log: RunLog | None, interrupts: Interrupts, after_step: Callable[[], None]) -> None:
        source = self._batches()
        accumulation, run, progress = self.config.optim.accumulation, self.config.run, self.progress
        totals = Totals()
        self._train_mode()
        if progress.step > 0 and progress.step % run.save_every == 0:  # as where Ctrl-C came before the scoring
            self._save(interrupts)
            self._choose(interrupts)
        started = time.monotonic()
        while not progress.done:
            with record_function("kd_seg: wait for batches"):
                batches = [next(source) for _ in range(accumulation)]
            self.in_step = True
            loss = self._optimise(batches, totals)
            now = time.monotonic()
            self._advance(now - started)
            totals.add_step(loss, now - started)
            started = now
            self.in_step = False
            if log is not None and (progress.step % run.log_every == 0 or progress.done):
                log.write(totals, progress, self.optimiser.param_groups[0]["lr"])
            if progress.step % run.log_every == 0:
                totals = Totals()
            after_step()
            interrupts.check()
            if progress.step % run.save_every == 0:
                self._save(interrupts)
                self._choose(interrupts)

    def _batches(self) -> Iterator[Batch]:
        """The batches from the present step on."""
        run, accumulation = self.config.run, self.config.optim.accumulation
        first, count = self.progress.step * accumulation, self.progress.total * accumulation
        rank, world = self.processes.rank, self.processes.world
        return stream(Batches(self.parts.pipeline, run.seed, run.batch, first, count, rank, world), run.workers)

    def _advance(self, seconds: float) -> None:
        """Count the step that was done, and tell the objectives."""
        progress = self.progress
        progress.spent += seconds
        if progress.minutes:
            progress.spent = self.processes.clock_of_first(progress.spent, self.device)
        progress.step += 1
        place = progress.place(self.callable)
        for objective in self.objectives:
            objective.after_step(place)
        if progress.ends_epoch:
            for objective in self.objectives:
                objective.after_epoch(place)

    # ------------------------------------------------------------------ one step

    def _optimise(self, batches: list[Batch], totals: Totals) -> float:
        """One optimiser step; returns its loss. Terms and points of every batch are added to ``totals``."""
        self._seed_step()
        for group in self.optimiser.param_groups:
            # A state of 0.1.0 has no share: there all layers learned at the full rate.
            group["lr"] = group.get("share", 1.0) * rate(self.progress.share, self.config.optim)
        self.optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for batch in batches:
            batch = batch.to(self.device)
            loss, terms = self._loss(batch)
            loss = loss / len(batches)
            self._check_finite(loss, terms)
            with record_function("kd_seg: backward"):
                self.scaler.scale(loss).backward()
            total += float(loss.detach())
            totals.add_batch(terms, len(batch.features))
        with record_function("kd_seg: update"):
            self._update()
        return total

    def _loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, Term]]:
        """The weighted sum of all terms of a batch, and the terms by name."""
        half = torch.autocast("cuda", torch.float16, enabled=self.scaler.is_enabled())
        with record_function("kd_seg: forward"), half:
            output = self.callable(batch)
        with record_function("kd_seg: objectives"):
            terms = self._terms(batch, output)
            return sum((t.weight * t.value for t in terms.values()), exact_zero(output.logits)), terms

    def _terms(self, batch: Batch, output: Any) -> dict[str, Term]:
        place = self.progress.place(self.callable)
        named: dict[str, Term] = {}
        for number, objective in enumerate(self.objectives):
            for name, term in objective.terms(batch, output, place).items():
                named[name if name not in named else f"{name}_{number}"] = term
        return named

    def _check_finite(self, loss: torch.Tensor, terms: dict[str, Term]) -> None:
        if torch.isfinite(loss):
            return
        bad = next((name for name, term in terms.items() if not torch.isfinite(term.value)), "the sum")
        raise KdSegError(
            f"The loss became {float(loss.detach())} at step {self.progress.step} (term {bad}); "
            "lower optim.lr or set optim.clip."
        )

    def _update(self) -> None:
        """Unscale, clip and apply the gradients."""
        # Averaged before unscaling, so that all processes skip a step with infinite gradients.
        self.processes.average_gradients(self.objectives)
        self.scaler.unscale_(self.optimiser)
        if self.config.optim.clip > 0:
            parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.config.optim.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()

    def _seed_step(self) -> None:
        """What losses draw depends on seed, process and step alone, so that a resumed run draws what it would have."""
        seeds = [self.config.run.seed, 3, self.processes.rank, self.progress.step]
        words = np.random.SeedSequence(seeds).generate_state(1, np.uint64)
        torch.manual_seed(int(words[0]))

    def _train_mode(self) -> None:
        self.student.train()
        for objective in self.objectives:
            objective.train()

    # ------------------------------------------------------------------ files

    def _save(self, interrupts: Interrupts) -> None:
        """State and checkpoint of this step, both or neither as far as Ctrl-C goes."""
        if self.processes.first and self.saver.saved != self.progress.step:
            with interrupts.during("write"):
                self.saver.save(self.student, self.progress, self._state())

    def _choose(self, interrupts: Interrupts) -> None:
        """Score what was saved, and keep it where it is the best so far."""
        if self.processes.first and self.saver.scored != self.progress.step:
            with interrupts.during("wait"):
                score = self.saver.score_last()
            with interrupts.during("write"):
                self.saver.keep(score, self.progress)

    def _state(self) -> dict[str, Any]:
        return {
            "student": self.student.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "objectives": [objective.state_dict() for objective in self.objectives],
            "scaler": self.scaler.state_dict(),
        }

    def _restore(self) -> None:
        """Go on from ``state.pt``, also one of kd_seg 0.1.0; DataError where it is of another configuration or data."""
        state = self.run.read_state()
        try:
            self._load(state)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.run.state} does not fit {self.run.config.name} and the data as they are now "
                f"({one_line(error)}); put back what has changed, or start the run again with --overwrite."
            ) from None
        if self.processes.first:
            self.run.trim(self.progress.step, self.progress.epoch_steps)

    def _load(self, state: dict[str, Any]) -> None:
        self.progress.step, self.progress.spent = state["step"], state["spent"]
        self.saver.restore(state)
        self.student.load_state_dict(state["student"])
        self.optimiser.load_state_dict(state["optimiser"])
        for group in self.optimiser.param_groups:
            if ("momentum" in group) != ("momentum" in self.optimiser.defaults):
                raise ValueError("another optim.optimiser")
        for objective, own in zip(self.objectives, state["objectives"], strict=True):
            objective.load_state_dict(own)
        if state["scaler"]:  # empty where the run was on a CPU until now
            self.scaler.load_state_dict(state["scaler"])

    def _record(self, name: str, step: int, line: dict[str, Any]) -> None:
        """A line of an objective's own log; the first process alone writes it."""
        if self.processes.first:
            self.run.record(name, step, line)
