"""Figures of two sets of scans in shared axes: ranges, remissions, classes, instances, and a table of key numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kd_seg.classes import ClassTable
from kd_seg.scans.statistics import HISTOGRAM_EDGES, LEVELS, RANGE_EDGES, VOXEL_SIZES, ScanStatistics
from kd_seg.views.colours import ACCENT, GROUND, LINE, MUTED, TEXT, css, legend_colours
from kd_seg.views.sheet import Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAIR = (ACCENT, "#ffb454")
"""Colours of the left and the right set."""
HEIGHT = 7.3
"""Inches that ``draw_statistics`` takes."""

Pair = tuple[ScanStatistics, ScanStatistics]


def draw_statistics(sheet: Sheet, top: float, names: tuple[str, str], pair: Pair, classes: ClassTable) -> None:
    """Two rows of panels below ``top`` inches."""
    margin = 0.3
    scans = [f"{name} ({len(each.points)} scans)" for name, each in zip(names, pair, strict=True)]
    key(sheet, margin, top, (scans[0], scans[1]))
    row = top + 0.75
    _steps(sheet.axes(0.55, row, 4.7, 2.3), HISTOGRAM_EDGES, [s.range_histogram for s in pair], "range, m: % of points")
    edges = np.arange(LEVELS + 1) / LEVELS
    _steps(sheet.axes(5.85, row, 4.7, 2.3), edges, [s.remission_histogram for s in pair], "remission: % of points")
    _instances(sheet.axes(11.2, row, 4.5, 2.3), pair, classes)
    row += 3.15
    _by_class(
        sheet.axes(0.55, row, 4.7, 2.1), [s.class_shares for s in pair], pair[0].class_names, "share of points", True
    )
    remission = [s.class_remission for s in pair]
    _by_class(sheet.axes(5.85, row, 4.7, 2.1), remission, pair[0].class_names, "median remission", False)
    _table(sheet, 11.2, row - 0.3, pair)


def key(sheet: Sheet, left: float, top: float, names: tuple[str, str]) -> None:
    """Which colour is which."""
    for number, (name, colour) in enumerate(zip(names, PAIR, strict=True)):
        sheet.text(left + number * 7.85, top, f"\u25a0 {name}", size=10.5, colour=colour)


def _steps(axes: Axes, edges: npt.NDArray[np.float64], shares: list[npt.NDArray[np.float64]], title: str) -> None:
    for share, colour in zip(shares, PAIR, strict=True):
        axes.stairs(100 * share, edges, color=colour, linewidth=1.3)
    _dress(axes, title)


def _by_class(
    axes: Axes, values: list[npt.NDArray[np.float64]], names: tuple[str, ...], title: str, logarithmic: bool
) -> None:
    places = np.arange(len(names))
    for number, (each, colour) in enumerate(zip(values, PAIR, strict=True)):
        heights = np.nan_to_num(each)
        axes.bar(places + 0.4 * (number - 0.5), heights, width=0.38, color=colour)
    if logarithmic:
        axes.set_yscale("log")
        axes.set_ylim(1e-5, 1)
    axes.set_xticks(places)
    axes.set_xticklabels(names, rotation=90, fontsize=7)
    axes.set_xlim(-0.7, len(names) - 0.3)
    _dress(axes, title)


def _instances(axes: Axes, pair: Pair, classes: ClassTable) -> None:
    middle = (np.array(RANGE_EDGES[1:]) + np.array(RANGE_EDGES[:-1])) / 2
    colours = dict(zip(classes.names, legend_colours(classes), strict=True))
    for style, marker, each in (("-", "o", pair[0]), ("--", "s", pair[1])):
        for name, cells in each.instances.items():
            seen = np.array([appearances > 0 for appearances, _, _ in cells])
            median = np.array([value for _, value, _ in cells])
            if seen.any():
                colour = css(colours[name])
                axes.plot(middle[seen], median[seen], style, marker=marker, color=colour, markersize=3.5, linewidth=1.1)
                where = int(np.flatnonzero(seen)[-1])
                axes.annotate(
                    name, (middle[where], median[where]), (4, 0), textcoords="offset points", fontsize=6.5, color=colour
                )
    axes.set_yscale("log")
    axes.set_xlim(0, 56)
    _dress(axes, "median points per instance by range, m (left solid, right dashed)")


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9.5, color=TEXT, loc="left")
    axes.grid(color=LINE, alpha=0.6, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_facecolor(css(GROUND))


def _table(sheet: Sheet, left: float, top: float, pair: Pair) -> None:
    rows = [(name, *(f"{value(each):{form}}" for each in pair)) for name, form, value in _ROWS]
    sheet.text(left, top, "medians over scans", size=9.5)
    for number, (name, *values) in enumerate(rows):
        y = top + 0.3 + 0.185 * number
        sheet.text(left, y, name, size=8.5, colour=MUTED)
        for column, (value, colour) in enumerate(zip(values, PAIR, strict=True)):
            sheet.text(left + 3.4 + 1.05 * column, y, value, size=8.5, colour=colour, ha="right")


_ROWS: list[tuple[str, str, Callable[..., float]]] = [
    ("points per scan", ",.0f", lambda s: float(np.median(s.points))),
    ("rays without return, %", ".1f", lambda s: 100 * s.missing),
    *[(f"range, {q} % below, m", ".1f", lambda s, k=k: s.range_percentiles[k]) for k, q in enumerate((1, 50, 90, 99))],
    ("farthest, m", ".1f", lambda s: s.range_max),
    *[
        (f"remission, {q} % below", ".2f", lambda s, k=k: s.remission_percentiles[k])
        for k, q in enumerate((25, 50, 75, 99))
    ],
    ("remission exactly 0, %", ".1f", lambda s: 100 * s.remission_zeros),
    *[(f"voxels per point at {size:g} m", ".3f", lambda s, size=size: s.occupancy[size]) for size in VOXEL_SIZES],
]
