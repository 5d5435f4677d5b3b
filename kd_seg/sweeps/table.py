"""The table of a sweep, read from its finished runs, and its Markdown."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kd_seg.classes import load_classes
from kd_seg.core.errors import DataError
from kd_seg.sweeps.mark import Mark
from kd_seg.sweeps.plan import Job, RowSettings, Sweep
from kd_seg.sweeps.statistics import Interval, interval, paired
from kd_seg.training import read_training_config

_SUMMARY = {"miou": "mIoU", "miou_present": "mIoU present", "miou_hard": "mIoU hard"}


@dataclass(frozen=True)
class Cell:
    """One measure of one row: its mean and, but for the baseline, its difference to the baseline (both in percent)."""

    value: Interval | None
    difference: Interval | None


@dataclass(frozen=True)
class TableLine:
    """One row of the table and one of its scorings; ``outdated`` are seeds of runs or scorings of other settings."""

    row: str
    evaluation: str
    seeds_done: tuple[int, ...]
    seeds_planned: tuple[int, ...]
    cells: dict[str, Cell]
    note: str
    outdated: tuple[int, ...] = ()


@dataclass(frozen=True)
class Table:
    """All lines of a sweep; columns are measures in the order shown."""

    name: str
    purpose: str
    baseline: str
    columns: tuple[str, ...]
    lines: tuple[TableLine, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data; intervals as {mean, half, count}."""
        return asdict(self)


def collect(sweep: Sweep, jobs: list[Job]) -> Table:
    """Read every finished scoring; a row without finished runs stays in the table and is marked."""
    classes = sweep.classes if sweep.classes is not None else _hard_classes(jobs)
    columns = (*_SUMMARY.values(), *classes)
    scores: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    outdated: dict[tuple[str, str], list[int]] = {}
    for job in jobs:
        mark = Mark(job)
        for evaluation in job.evaluations:
            if (mark.exists and not mark.fits) or evaluation.name in mark.outdated:
                outdated.setdefault((job.row, evaluation.name), []).append(job.seed)
            measures = scores.setdefault((job.row, evaluation.name), {column: {} for column in columns})
            path = job.result(evaluation.name)
            if path.is_file():
                for column, value in _measures(path, classes).items():
                    measures[column][job.seed] = value
    lines = []
    for row in sweep.rows:
        for evaluation in row.eval or sweep.eval:
            mine = scores.get((row.name, evaluation.name), {column: {} for column in columns})
            theirs = scores.get((sweep.baseline, evaluation.name)) if row.name != sweep.baseline else None
            line = _line(sweep, row, evaluation.name, columns, mine, theirs)
            old = [seed for seed in line.seeds_done if seed in outdated.get((row.name, evaluation.name), ())]
            lines.append(replace(line, outdated=tuple(old)))
    return Table(sweep.name, sweep.purpose, sweep.baseline, columns, tuple(lines))


def _hard_classes(jobs: list[Job]) -> list[str]:
    training = read_training_config(jobs[0].config, list(jobs[0].overrides))
    table = load_classes(training.data.classes)
    return [table.names[column] for column in table.hard]


def _measures(path: Path, classes: list[str]) -> dict[str, float]:
    """Measures of one scoring in percent; those without a value (class absent) are left out."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        values = {name: content[key] for key, name in _SUMMARY.items()}
        values |= {name: content["iou"].get(name) for name in classes}
    except (ValueError, KeyError, AttributeError):
        raise DataError(f"{path} is not a result of kd-seg eval --json; remove it and run the sweep again.") from None
    return {name: 100.0 * float(value) for name, value in values.items() if value is not None}


def _line(
    sweep: Sweep,
    row: RowSettings,
    evaluation: str,
    columns: tuple[str, ...],
    mine: dict[str, dict[int, float]],
    theirs: dict[str, dict[int, float]] | None,
) -> TableLine:
    cells = {
        column: Cell(
            interval(list(mine[column].values())),
            paired(mine[column], theirs[column]) if theirs is not None else None,
        )
        for column in columns
    }
    done = tuple(sorted(mine[columns[0]]))
    return TableLine(row.name, evaluation, done, tuple(sweep.seeds_of(row)), cells, row.note)


def markdown(table: Table, picture: str | None = None) -> str:
    """The table as Markdown: percent, mean +- half the 95 % interval, and the paired difference below it."""
    several = len({line.evaluation for line in table.lines}) > 1
    heads = ["row", *(["scored on"] if several else []), "seeds", *table.columns]
    rows = [heads, ["---"] * len(heads)]
    for line in table.lines:
        seeds = f"{len(line.seeds_done)}"
        missing = [str(seed) for seed in line.seeds_planned if seed not in line.seeds_done]
        if missing:
            seeds += f" (missing: seed {', '.join(missing)})" if line.seeds_done else " (no finished run)"
        if line.outdated:
            seeds += f" (made with other settings: seed {', '.join(map(str, line.outdated))})"
        name = f"**{line.row}** (baseline)" if line.row == table.baseline else line.row
        rows.append(
            [name, *([line.evaluation] if several else []), seeds, *(_text(line.cells[c]) for c in table.columns)]
        )
    text = [f"{table.purpose}", "", *("| " + " | ".join(row) + " |" for row in rows), ""]
    text.append(
        "IoU in percent, mean ± half the 95 % t-interval over the seeds; below it Δ, the difference to "
        f"{table.baseline} paired by seed. One seed has no interval. `mIoU` is the official one (absent: 0)."
    )
    notes = dict.fromkeys((line.row, line.note) for line in table.lines if line.note)
    text += ["", *(f"- {row}: {note}" for row, note in notes)] if notes else []
    if picture:
        text += ["", f"![differences to {table.baseline}]({picture})"]
    return "\n".join(text) + "\n"


def _text(cell: Cell) -> str:
    if cell.value is None:
        return "–"
    text = f"{cell.value.mean:.1f}" + (f" ± {cell.value.half:.1f}" if cell.value.half is not None else "")
    if cell.difference is not None:
        half = f" ± {cell.difference.half:.1f}" if cell.difference.half is not None else ""
        text += f"<br>Δ {cell.difference.mean:+.1f}{half}"
    return text
