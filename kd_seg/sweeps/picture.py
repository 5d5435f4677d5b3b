"""Differences to the baseline as a picture: one panel per summary measure, one line per row."""

from __future__ import annotations

import io
from pathlib import Path

from kd_seg.core.files import write_bytes
from kd_seg.sweeps.table import Table


def draw_differences(table: Table, path: Path) -> bool:
    """Draw each row's paired difference with its 95 % interval; False (and no file) where there is none yet."""
    measures = [c for c in table.columns[:3] if any(line.cells[c].difference is not None for line in table.lines)]
    if not measures:
        path.unlink(missing_ok=True)
        return False
    from matplotlib.figure import Figure

    rows = [line for line in table.lines if any(line.cells[c].difference is not None for c in measures)]
    names = [
        line.row if line.evaluation == table.lines[0].evaluation else f"{line.row} ({line.evaluation})" for line in rows
    ]
    figure = Figure(figsize=(3.2 * len(measures) + 1.5, 0.45 * len(rows) + 1.3), layout="constrained")
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for panel, measure in zip(panels, measures, strict=True):
        panel.axvline(0.0, color="0.6", linewidth=1)
        for height, line in enumerate(rows):
            difference = line.cells[measure].difference
            if difference is not None:
                half = difference.half or 0.0
                marker = "o" if difference.half is not None else "x"
                panel.errorbar(difference.mean, height, xerr=half, fmt=marker, color="tab:blue", capsize=3)
        panel.set_title(measure)
        panel.set_xlabel("points of IoU")
        panel.set_yticks(range(len(rows)), names)
        panel.margins(y=0.1)
    panels[0].invert_yaxis()
    figure.suptitle(f"{table.name}: difference to {table.baseline}, paired by seed (x: one seed)", fontsize=10)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    write_bytes(path, content.getvalue())
    return True
