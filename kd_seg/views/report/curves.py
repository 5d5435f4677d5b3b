"""Training curves as SVG: the loss, each of its terms, learning rate and speed, all runs in one axis."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.views.report.runs import Run

RUN_COLOURS = ("#0b6bcb", "#c2410c", "#15803d", "#8e24aa", "#b45309", "#0e7490", "#be185d", "#4d5b6b")
"""Told apart on white by hue and lightness; runs beyond the last begin again with dashes."""

_INK, _FAINT = "#1c2430", "#d5dbe3"
_POINTS = 1500

Series = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Curve:
    """One chart: a title, a summary in words, and the SVG text."""

    title: str
    words: str
    svg: str


def curves(runs: list[Run]) -> list[Curve]:
    """Loss, weighted terms, learning rate and speed; charts that no run has data for are left out."""
    charts = [("loss", "Loss", "sum of the weighted terms", [_series(run, "loss") for run in runs], True)]
    names = sorted({name for run in runs for line in run.metrics for name in line.get("terms", {})})
    for name in names:
        series = [_term(run, name) for run in runs]
        charts.append((f"term {name}", f"Term {name}", "value, unweighted", series, True))
    charts.append(("lr", "Learning rate", "of the first parameter group", [_series(run, "lr") for run in runs], False))
    speed = [_series(run, "points_per_second") for run in runs]
    charts.append(("speed", "Speed", "points per second", speed, True))
    made = []
    for key, title, unit, series, smooth in charts:
        if any(len(steps) for steps, _ in series):
            words = "; ".join(_words(run, each) for run, each in zip(runs, series, strict=True) if len(each[0]))
            made.append(Curve(f"{title} ({unit})", f"{title} by step. {words}.", _draw(series, key, smooth)))
    return made


def _series(run: Run, key: str) -> Series:
    rows = [(line["step"], line[key]) for line in run.metrics if line.get(key) is not None]
    return _thinned(rows)


def _term(run: Run, name: str) -> Series:
    rows = [(line["step"], line["terms"][name]["value"]) for line in run.metrics if name in line.get("terms", {})]
    return _thinned(rows)


def _thinned(rows: list[tuple[float, float]]) -> Series:
    table = np.array(rows, dtype=np.float64).reshape(-1, 2)
    step = max(1, -(-len(table) // _POINTS))
    kept = len(table) // step * step
    blocks = table[:kept].reshape(-1, step, 2).mean(axis=1) if step > 1 else table
    return blocks[:, 0], blocks[:, 1]


def smoothed(values: npt.NDArray[np.float64], share: float = 0.08) -> npt.NDArray[np.float64]:
    """Centred moving mean over ``share`` of the series; the window shrinks at the ends, so nothing is made up there."""
    half = int(len(values) * share / 2)
    if half < 1:
        return values
    total = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    reach = np.minimum(half, np.minimum(places, len(values) - 1 - places))
    means: npt.NDArray[np.float64] = (total[places + reach + 1] - total[places - reach]) / (2 * reach + 1)
    return means


def _words(run: Run, series: Series) -> str:
    steps, values = series
    return f"{run.name}: from {values[0]:.4g} to {values[-1]:.4g} at step {steps[-1]:.0f}"


def _draw(series: list[Series], key: str, smooth: bool) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": key, "font.family": "sans-serif", "font.size": 9}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(5.4, 2.7), layout="constrained", facecolor="none")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot(facecolor="none")
        for number, (steps, values) in enumerate(series):
            colour = RUN_COLOURS[number % len(RUN_COLOURS)]
            dashes = "-" if number < len(RUN_COLOURS) else "--"
            if smooth:
                axes.plot(steps, values, color=colour, alpha=0.22, linewidth=0.8)
                values = smoothed(values)
            axes.plot(steps, values, dashes, color=colour, linewidth=1.7)
        axes.set_xlabel("step", color=_INK)
        axes.grid(color=_FAINT, linewidth=0.6)
        axes.tick_params(colors=_INK, length=0)
        axes.margins(x=0.01)
        if key == "speed":
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value / 1e3:.0f}k")
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(_FAINT)
        text = StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
        return text.getvalue()
