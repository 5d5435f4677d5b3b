"""``kd-seg train``."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kd_seg.cli.console import err, print_json, say, tell, warn
from kd_seg.core.errors import UsageError

if TYPE_CHECKING:
    from kd_seg.training import TrainingConfig


def command(
    config: Annotated[str | None, typer.Argument(help="YAML file, or the name of a shipped one.")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, such as run.seed=1.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Continue this run folder; needs no config.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a used run folder.")] = False,
    show_config: Annotated[bool, typer.Option(help="Print the resolved configuration and stop.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Measure ten steps: profile.txt and trace.json in the run folder.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Train a student, a multi-scan teacher or an image teacher.

    Example: kd-seg train configs/kitti_mini_baseline.yaml data.root=DATA run.seed=1
    """
    if (config is None) == (resume is None):
        raise UsageError("Give either a config or --resume RUN, such as kd-seg train configs/demo_baseline.yaml.")
    import yaml

    from kd_seg.evaluation.held_back import score_of
    from kd_seg.training import Trainer
    from kd_seg.training.profiling import profiled

    settings, needed = _settings(config, overrides or [], resume)
    if show_config:
        tell(yaml.safe_dump(settings.to_plain(), sort_keys=False, width=100).rstrip("\n"))
        return
    with training_progress() as report:
        trainer = Trainer(
            settings,
            report,
            resume=resume is not None,
            overwrite=overwrite,
            score=score_of(settings),
            fix_command=shlex.join(["kd-seg", "prepare", *needed]),
        )
        for warning in trainer.parts.warnings:
            warn(warning)
        if trainer.fresh:
            say(f"student.init: {len(trainer.fresh)} tensors are newly initialised: {', '.join(trainer.fresh[:6])} ...")
        say(
            f"training {settings.student.network} {settings.student.size} on {len(trainer.parts.keys)} scans, "
            f"{trainer.device}, into {trainer.run.path}"
        )
        left = trainer.progress.total - trainer.progress.step
        with profiled(trainer.run, left) if profile else nullcontext(lambda: None) as after_step:
            trainer.fit(after_step)
    progress = trainer.progress
    say(f"done: {progress.step} steps, {progress.spent:.0f} s; checkpoint {trainer.run.last}")
    if profile:
        say(f"profile: {trainer.run.profile}; timeline for chrome://tracing: {trainer.run.trace}")
    if json_:
        print_json({"run": str(trainer.run.path), "checkpoint": str(trainer.run.last), "steps": progress.step})


def _settings(config: str | None, overrides: list[str], resume: Path | None) -> tuple[TrainingConfig, list[str]]:
    """The configuration of a new or a resumed run, and the words that ``kd-seg prepare`` takes for it."""
    from kd_seg.training import RunFolder, read_training_config

    if resume is None:
        assert config is not None
        return read_training_config(config, overrides), [config, *overrides]
    if overrides:
        raise UsageError("--resume continues with the run's own configuration and takes no overrides.")
    run = RunFolder(resume)
    settings = run.read_config()
    settings = settings.model_copy(update={"run": settings.run.model_copy(update={"folder": str(resume)})})
    return settings, [str(run.config)]


class training_progress:
    """A bar with loss, learning rate, points per second and time left; plain lines when not on a terminal."""

    def __enter__(self) -> Any:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        self.bar: Progress | None = None
        if err.is_terminal:
            self.bar = Progress(
                TextColumn("step {task.fields[step]}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
                TextColumn("{task.fields[state]}"), console=err,
            )  # fmt: skip
            self.bar.start()
            self.task = self.bar.add_task("", total=1.0, step=0, state="")
        self.printed = 0.0
        return self.report

    def report(self, line: dict[str, Any]) -> None:
        """Show one line of metrics.jsonl."""
        progress = max(line["progress"], 1e-9)
        left = line["seconds"] * (1.0 - progress) / progress
        state = (
            f"loss {line['loss']:.3f}  lr {line['lr']:.1e}  {line['points_per_second'] / 1e3:.0f}k points/s  "
            f"{_clock(left)} left"
        )
        if self.bar is not None:
            self.bar.update(self.task, completed=line["progress"], step=line["step"], state=state)
        elif line["seconds"] - self.printed >= 10.0 or progress >= 1.0:
            self.printed = line["seconds"]
            say(f"step {line['step']} ({100 * progress:.0f} %)  {state}")

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
