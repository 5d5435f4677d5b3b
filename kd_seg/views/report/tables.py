"""The tables of a report as HTML: IoU by class with differences, costs, configuration, environment."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from statistics import median
from typing import Any

from kd_seg.evaluation import Evaluation, Scores
from kd_seg.views.colours import css
from kd_seg.views.report.curves import RUN_COLOURS
from kd_seg.views.report.runs import Run

MEANS: tuple[tuple[str, str, Callable[[Scores], float | None]], ...] = (
    ("mIoU", "official: over all classes, absent ones count 0", lambda s: s.miou),
    ("mIoU present", "over the classes that occur", lambda s: s.miou_present),
    ("mIoU hard", "over the hard classes that occur", lambda s: s.miou_hard),
    ("accuracy", "official: of the points that were given a class", lambda s: s.accuracy),
)


def swatch(number: int) -> str:
    """The mark of a run's colour."""
    return f'<span class="swatch" style="background:{RUN_COLOURS[number % len(RUN_COLOURS)]}"></span>'


def table(caption: str, head: list[str], rows: list[list[str]], numbers: bool = True) -> str:
    """An HTML table from ready HTML cells; the first cell of each row is its heading."""
    kind = ' class="numbers"' if numbers else ""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="scroll"><table{kind}><caption>{caption}</caption><thead><tr>{top}</tr></thead>\n'
        f"<tbody>\n{body}</tbody></table></div>\n"
    )


def heads(runs: list[Run]) -> list[str]:
    """Column heads of runs."""
    return [f"{swatch(number)}{escape(run.name)}" for number, run in enumerate(runs)]


def percent(value: float | None, first: float | None = None) -> str:
    """A fraction in per cent, with its signed difference to ``first`` in percentage points."""
    if value is None:
        return '<span class="none">absent</span>'
    text = f"{100 * value:.1f}"
    if first is None:
        return text
    gap = 100 * (value - first)
    kind = "up" if gap > 0.05 else "down" if gap < -0.05 else "same"
    return f'{text} <span class="gap {kind}">{gap:+.1f}</span>'


def iou_table(runs: list[Run]) -> str:
    """IoU by class and the means, runs side by side; "" where no run has been evaluated."""
    known = [run.evaluation for run in runs if run.evaluation is not None]
    if not known:
        return ""
    classes = known[0].classes
    true = known[0].matrix[:, 1:].sum(axis=0)
    rows = []
    for name, words, value in MEANS:
        cells = _row(runs, value)
        rows.append([f'{name}<span class="note">{words}</span>', *cells, ""])
    for column, name in enumerate(classes.names):
        mark = ' <abbr title="hard class">*</abbr>' if column in classes.hard else ""
        head = f'<span class="swatch" style="background:{css(classes.colours[column])}"></span>{escape(name)}{mark}'
        rows.append([head, *_row(runs, lambda s, name=name: s.iou.get(name)), f"{int(true[column]):,}"])  # type: ignore[misc]
    gaps = ", small: difference to the first in percentage points" if len(runs) > 1 else ""
    caption = f"IoU in per cent{gaps}; * marks hard classes"
    return table(caption, ["", *heads(runs), "labelled points"], rows)


def _row(runs: list[Run], value: Callable[[Scores], float | None]) -> list[str]:
    scores = [run.evaluation.scores if run.evaluation is not None else None for run in runs]
    first = value(scores[0]) if scores[0] is not None else None
    cells = []
    for number, each in enumerate(scores):
        if each is None:
            cells.append('<span class="none">not evaluated</span>')
        else:
            cells.append(percent(value(each), first if number else None))
    return cells


def evaluation_notes(runs: list[Run]) -> list[str]:
    """What was evaluated on what, one sentence per run; a run without an evaluation is named."""
    notes = []
    for run in runs:
        result = run.evaluation
        if result is None:
            notes.append(f"{run.name} has not been evaluated; run: kd-seg eval {run.path}")
            continue
        notes.append(f"{run.name}: {_scope(result)}")
        if run.config.get("student", {}).get("input", "own") != "own":
            notes.append(f"{run.name} is a multi-scan teacher; it is scored and drawn here on single scans.")
    return notes


def _scope(result: Evaluation) -> str:
    where = ", ".join(result.about.get("sequences", [])) or "?"
    outside = (
        f"; {100 * result.outside / result.points:.3f} % of the points could not be seen" if result.outside else ""
    )
    return f"sequences {where}, {result.scans:,} scans, {result.points:,} points{outside}"


def cost_table(runs: list[Run], milliseconds: dict[str, float]) -> str:
    """What each run took to train and takes to serve.

    Args:
        milliseconds: per scan by run name, measured while the report's pictures were made.
    """
    rows: list[tuple[str, Callable[[Run], str]]] = [
        ("steps", lambda run: f"{run.metrics[-1]['step']:,}" if run.metrics else "-"),
        ("training time", lambda run: _minutes(run.metrics[-1].get("seconds")) if run.metrics else "-"),
        ("seconds per step, median", lambda run: _median(run, "seconds_per_step", "{:.2f}")),
        ("points per second, median", lambda run: _median(run, "points_per_second", "{:,.0f}")),
        ("numbers in the checkpoint", lambda run: f"{run.values:,}"),
        ("size of the checkpoint", lambda run: f"{run.bytes / 1e6:.2f} MB"),
    ]
    if milliseconds:
        rows.append(("inference per scan, here", lambda run: _shown(milliseconds.get(run.name), "{:.0f} ms")))
    return table(
        "Training and serving", ["", *heads(runs)], [[name, *(value(run) for run in runs)] for name, value in rows]
    )


def _median(run: Run, key: str, form: str) -> str:
    values = [line[key] for line in run.metrics if line.get(key)]
    return form.format(median(values)) if values else "-"


def _minutes(seconds: float | None) -> str:
    return "-" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def difference_table(runs: list[Run]) -> str:
    """The configuration keys in which runs differ; "" for one run or none."""
    flat = [flatten(run.config) for run in runs]
    keys = [
        key for key in dict.fromkeys(key for each in flat for key in each) if len({str(f.get(key)) for f in flat}) > 1
    ]
    rows = [[f"<code>{escape(key)}</code>", *(escape(str(each.get(key, "-"))) for each in flat)] for key in keys]
    return table("Where the configurations differ", ["key", *heads(runs)], rows, numbers=False) if rows else ""


def flatten(content: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists as one mapping from dotted keys to single values."""
    if isinstance(content, dict):
        items = list(content.items())
    elif isinstance(content, list) and any(isinstance(item, dict) for item in content):
        items = list(enumerate(content))
    else:
        return {prefix.rstrip("."): content}
    flat: dict[str, Any] = {}
    for key, value in items:
        flat.update(flatten(value, f"{prefix}{key}."))
    return flat


def environment_table(runs: list[Run]) -> str:
    """Versions, machine, command and commit of each run."""
    flat = [flatten(run.environment | {"command": " ".join(run.environment.get("command", []))}) for run in runs]
    keys = list(dict.fromkeys(key for each in flat for key in each))
    rows = [[escape(key), *(escape(str(each.get(key, "-"))) for each in flat)] for key in keys]
    return table("Versions, machine, command and commit", ["", *heads(runs)], rows, numbers=False)
