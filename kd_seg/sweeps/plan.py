"""The file of a sweep, and the runs that follow from it.

    name: multi_to_single            # results/NAME/ and runs/NAME/ are named after it
    purpose: Does the teacher help, and which of its losses does?
    base: demo_baseline              # a training configuration, found as kd-seg train finds it
    seeds: [0, 1, 2]                 # each row runs once per seed (as run.seed)
    baseline: supervised             # the row that the others are compared with, seed by seed
    prepare:                         # kd-seg commands that run once, in order, before any row (optional)
      - prepare configs/demo_m2s.yaml
    set: {run.steps: 600}            # overrides for every row (optional)
    eval:                            # what is scored, for every row (optional; default: "valid", without arguments)
      - {name: valid}
      - {name: street, args: --data datasets/streets_demo --sequences 03}
    rows:
      - {name: supervised}
      - {name: teacher, set: {student.input: fused}, eval: [{name: valid, args: --input fused}], seeds: [0]}
      - name: multi_to_single
        base: demo_m2s               # a row may stand on a configuration of its own
        needs: teacher               # another row; its checkpoint stands for {needs.checkpoint}
        set: {objectives.1.teacher: "{needs.checkpoint}"}
        note: All losses at the paper's weights.     # shown below the table (optional)
    classes: [truck, person]         # columns of the table beside mIoU; default: the hard classes

``set`` takes the dotted keys of ``kd-seg train``'s overrides. ``{needs.checkpoint}`` is the last checkpoint of the
needed row's run with the same seed, or with its first seed where it has not that one; ``{needs.run}`` is its run
folder, ``{seed}`` the seed. Chains work: a needed row may need another. A row's ``eval`` replaces the sweep's; the
table shows the first evaluation unless told otherwise, and compares rows only on evaluations of the same name.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, field_validator, model_validator

from kd_seg.classes import load_classes
from kd_seg.core.config import Settings, digest, find_config, read_yaml, validate
from kd_seg.core.errors import ConfigError, UsageError
from kd_seg.training import RunFolder, TrainingConfig, read_training_config

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"


class EvaluationSettings(Settings):
    """One scoring of a finished run: ``kd-seg eval RUN ARGS``."""

    name: str = Field("valid", pattern=_NAME)
    args: list[str] = Field(default_factory=list)

    @field_validator("args", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return shlex.split(value) if isinstance(value, str) else value


class RowSettings(Settings):
    """One configuration of the sweep."""

    name: str = Field(pattern=_NAME)
    base: str | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    needs: str | None = None
    seeds: list[int] | None = Field(None, min_length=1)
    eval: list[EvaluationSettings] | None = Field(None, min_length=1)
    note: str = ""


class Sweep(Settings):
    """The file of a sweep; see the module's text."""

    name: str = Field(pattern=_NAME)
    purpose: str
    base: str
    seeds: list[int] = Field(min_length=1)
    baseline: str
    prepare: list[str] = Field(default_factory=list)
    set: dict[str, Any] = Field(default_factory=dict)
    eval: list[EvaluationSettings] = Field(default_factory=lambda: [EvaluationSettings()], min_length=1)
    rows: list[RowSettings] = Field(min_length=1)
    classes: list[str] | None = None

    @field_validator("prepare")
    @classmethod
    def _commands(cls, value: list[str]) -> list[str]:
        for command in value:
            try:
                words = shlex.split(command)
            except ValueError as error:
                raise ValueError(f"{command!r} is no command ({error})") from None
            if not words:
                raise ValueError("a command is empty; take it out")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Sweep:
        names = [row.name for row in self.rows]
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise ValueError(f"two rows are called {double!r}; each needs a name of its own")
        if self.baseline not in names:
            raise ValueError(f"baseline {self.baseline!r} is none of the rows ({', '.join(names)})")
        for where, scorings in [("eval", self.eval), *((f"row {row.name!r}", row.eval or []) for row in self.rows)]:
            called = [item.name for item in scorings]
            if double := next((name for name in called if called.count(name) > 1), None):
                raise ValueError(f"two scorings of {where} are called {double!r}; each needs a name of its own")
        return self

    @model_validator(mode="after")
    def _leaves_the_sweep_its_own(self) -> Sweep:
        for where, chosen in [("set", self.set), *((f"row {row.name!r}", row.set) for row in self.rows)]:
            if own := next((key for key in ("run.seed", "run.folder") if key in chosen), None):
                raise ValueError(f"{where} has {own}, which the sweep gives each run; take it out")
        return self

    @model_validator(mode="after")
    def _needs_end(self) -> Sweep:
        names = [row.name for row in self.rows]
        for row in self.rows:
            chain = [row.name]
            current = row
            while current.needs is not None:
                if current.needs not in names:
                    raise ValueError(f"row {current.name!r} needs {current.needs!r}, which is none of the rows")
                if current.needs in chain:
                    raise ValueError(f"row {current.needs!r} needs itself ({' -> '.join(chain)})")
                chain.append(current.needs)
                current = self.row(current.needs)
        return self

    def row(self, name: str) -> RowSettings:
        """The row called ``name``; UsageError lists the rows."""
        for row in self.rows:
            if row.name == name:
                return row
        raise UsageError(f"{self.name} has no row {name!r}; it has: {', '.join(row.name for row in self.rows)}.")

    def seeds_of(self, row: RowSettings) -> list[int]:
        """Seeds that a row runs with."""
        return row.seeds if row.seeds is not None else self.seeds


@dataclass(frozen=True)
class Job:
    """One run: a row with a seed.

    Attributes:
        row, seed: which.
        config: the training configuration's file.
        overrides: ``key=value``, seed and run folder included.
        evaluations: name and arguments of each scoring.
        run: the run folder.
        needs: key of the job whose checkpoint it takes, or None.
        digest: of all settings, so that a folder made from others is noticed.
    """

    row: str
    seed: int
    config: Path
    overrides: tuple[str, ...]
    evaluations: tuple[EvaluationSettings, ...]
    run: Path
    needs: str | None
    digest: str

    @property
    def key(self) -> str:
        """ "ROW/SEED", for ``--only`` and messages."""
        return f"{self.row}/{self.seed}"

    def result(self, evaluation: str) -> Path:
        """File that holds the result of one scoring."""
        return RunFolder(self.run).evaluations / f"{evaluation}.json"

    @property
    def finished(self) -> bool:
        """Whether every scoring is there."""
        return all(self.result(evaluation.name).is_file() for evaluation in self.evaluations)


def read_sweep(name: str | Path) -> Sweep:
    """The sweep in a file; ConfigError names file, key and fix."""
    path = find_config(name)
    content = read_yaml(path, inherit=False)
    if "rows" not in content and set(content) & (set(TrainingConfig.model_fields) - set(Sweep.model_fields)):
        raise ConfigError(f"{path} is a training configuration, not a sweep of several; run kd-seg train {name}.")
    return validate(Sweep, content, str(path))


def plan(sweep: Sweep, runs: Path = Path("runs")) -> list[Job]:
    """All runs of a sweep, each after the one it needs. Every configuration is validated before the first starts."""
    jobs: dict[str, Job] = {}

    def add(row: RowSettings, seed: int) -> Job:
        if seed not in sweep.seeds_of(row):
            seed = sweep.seeds_of(row)[0]
        key = f"{row.name}/{seed}"
        if key not in jobs:
            needed = add(sweep.row(row.needs), seed) if row.needs is not None else None
            jobs[key] = _job(sweep, row, seed, needed, runs)
        return jobs[key]

    for row in sweep.rows:
        for seed in sweep.seeds_of(row):
            add(row, seed)
    made = list(jobs.values())
    _check_classes(sweep, made[0])
    return made


def _check_classes(sweep: Sweep, job: Job) -> None:
    """ConfigError where a column of the table is no class of a job's class table."""
    if sweep.classes is None:
        return
    table = load_classes(read_training_config(job.config, list(job.overrides)).data.classes)
    try:
        table.columns(sweep.classes)
    except ConfigError as error:
        raise ConfigError(f"{sweep.name}: classes: {error}") from None


def _job(sweep: Sweep, row: RowSettings, seed: int, needed: Job | None, runs: Path) -> Job:
    run = runs / sweep.name / row.name / f"seed_{seed}"
    words = {"seed": str(seed)}
    if needed is not None:
        words["needs.run"] = str(needed.run)
        words["needs.checkpoint"] = str(RunFolder(needed.run).last)
    settings = {**sweep.set, **row.set}
    overrides = [f"{key}={_text(_fill(value, words, row))}" for key, value in settings.items()]
    overrides += [f"run.seed={seed}", f"run.folder={run}"]
    config = find_config(row.base or sweep.base)
    evaluations = tuple(
        EvaluationSettings(name=item.name, args=[_fill(arg, words, row) for arg in item.args])
        for item in (row.eval or sweep.eval)
    )
    training = read_training_config(config, overrides)
    made_from = [training.changed(), needed.digest if needed is not None else None]
    return Job(
        row=row.name,
        seed=seed,
        config=config,
        overrides=tuple(overrides),
        evaluations=evaluations,
        run=run,
        needs=needed.key if needed is not None else None,
        digest=digest(made_from),
    )


def _fill(value: Any, words: dict[str, str], row: RowSettings) -> Any:
    """Replace ``{needs.checkpoint}``, ``{needs.run}`` and ``{seed}`` in texts, through lists and mappings."""
    if isinstance(value, dict):
        return {key: _fill(item, words, row) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, words, row) for item in value]
    if not isinstance(value, str):
        return value
    for word, text in words.items():
        value = value.replace("{" + word + "}", text)
    if "{needs." in value:
        raise ConfigError(f"Row {row.name!r} uses {value!r} but needs no other row; add needs: ROW.")
    return value


def _text(value: Any) -> str:
    """A value as one line of YAML, as overrides are read."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9)
    return text.removesuffix("\n").removesuffix("\n...")
