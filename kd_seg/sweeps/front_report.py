"""Quality against latency as a table, as sentences and as a picture."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

from kd_seg.core.environment import machine
from kd_seg.core.files import write_bytes, write_json, write_text
from kd_seg.sweeps.front import Front, Student

PANELS_PER_ROW = 3
TICKS = (5, 10, 20, 30, 50, 100, 200, 300, 500, 1000)
"""Milliseconds."""


def write_front(front: Front, hz: float, folder: Path) -> Path:
    """Write front.md, front.json and front.png; returns the first."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "front.json", front.to_json() | {"machine": machine()})
    write_bytes(folder / "front.png", picture(front, hz))
    path = folder / "front.md"
    write_text(path, f"{markdown(front, hz)}\n![mIoU against latency](front.png)\n")
    return path


def markdown(front: Front, hz: float) -> str:
    """The table, fastest student first, and which of them keep a rate."""
    scorings = list(dict.fromkeys(name for student in front.students for name in student.miou))
    heads = ["row", "network", "voxel", "values", "GMAC"]
    heads += [f"ms, {_threads(count)}: median (p95)" for count in front.threads]
    heads += [*scorings, "mean"]
    lines = [heads, ["---"] * len(heads)]
    best = front.best(front.threads[0])
    for student in sorted(front.students, key=lambda s: s.latency[front.threads[0]].median):
        lines.append(_cells(student, front, scorings, student in best))
    text = ["| " + " | ".join(cells) + " |" for cells in lines]
    text += [
        "",
        f"{front.points:,} points, {machine()}. mIoU over the classes present, percent. **Bold**: on the front.",
    ]
    text += ["", *sentences(front, hz)]
    return "\n".join(text) + "\n"


def _cells(student: Student, front: Front, scorings: list[str], bold: bool) -> list[str]:
    times = (student.latency[count] for count in front.threads)
    return [
        f"**{student.row}**" if bold else student.row,
        student.network,
        "" if student.voxel is None else f"{student.voxel:g} m",
        f"{student.values:,}",
        f"{student.gmacs:.1f}",
        *(f"{t.median:.0f} ({t.p95:.0f})" for t in times),
        *(f"{student.miou[name]:.1f}" if name in student.miou else "–" for name in scorings),
        f"{student.mean:.1f}",
    ]


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"{count} threads"


def sentences(front: Front, hz: float) -> list[str]:
    """For each number of threads the best student that keeps a rate."""
    made = []
    for count in front.threads:
        student = front.choice(hz, count)
        if student is None:
            made.append(f"- No student keeps {hz:g} Hz with {_threads(count)}.")
        else:
            time = student.latency[count]
            made.append(
                f"- {hz:g} Hz with {_threads(count)}: {student.row}, {time.median:.0f} ms ({time.p95:.0f} for 95 of "
                f"100 scans), mean mIoU {student.mean:.1f}."
            )
    return made


def picture(front: Front, hz: float) -> bytes:
    """PNG: mIoU against the median with the first number of threads, a panel per scoring and one for the mean."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    scorings = list(dict.fromkeys(name for student in front.students for name in student.miou))
    panels = ["mean", *scorings] if len(scorings) > 1 else scorings
    columns = min(PANELS_PER_ROW, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.6 * columns + 1.9, 3.0 * lines + 0.5), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    for axis, panel in zip(axes, panels, strict=False):
        _draw(axis, front, panel, hz, colours)
    for axis in axes[len(panels) :]:
        axis.remove()
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", fontsize=8)
    figure.supxlabel(f"ms from points to classes, {_threads(front.threads[0])}, {front.points:,} points", fontsize=9)
    figure.supylabel("mIoU of the classes present, percent", fontsize=9)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def _draw(axis: Any, front: Front, panel: str, hz: float, colours: Any) -> None:
    """One panel: every student, the front as steps, and the period of the rate."""
    count = front.threads[0]
    for number, student in enumerate(front.students):
        value = student.mean if panel == "mean" else student.miou.get(panel)
        if value is not None:
            marker = "os^Dv"[number // len(colours) % 5]
            axis.plot(student.latency[count].median, value, marker, color=colours[number % len(colours)],
                      label=student.row)  # fmt: skip
    if panel == "mean":
        best = front.best(count)
        axis.plot([s.latency[count].median for s in best], [s.mean for s in best], color="0.6", linewidth=1, zorder=0)
    axis.axvline(1e3 / hz, color="tab:red", linewidth=1, linestyle="--")
    axis.set_xscale("log")
    axis.set_xticks(TICKS, [str(tick) for tick in TICKS], fontsize=7)
    axis.minorticks_off()
    reached = [student.latency[count].median for student in front.students] + [1e3 / hz]
    axis.set_xlim(0.8 * min(reached), 1.25 * max(reached))
    axis.set_title(panel, fontsize=9)
