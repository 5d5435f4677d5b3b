"""``kd-seg report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kd_seg.cli.console import say, tracked
from kd_seg.core.errors import UsageError


def command(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; the others are compared with the first.")],
    out: Annotated[
        Path | None,
        typer.Option(help="HTML file to write; default report.html in the run folder, if there is one run."),
    ] = None,
    scans: Annotated[int, typer.Option(min=0, help="Scans to draw with truth, predictions and errors.")] = 2,
    threads: Annotated[
        int, typer.Option(min=0, max=1024, help="Threads of the networks on a CPU; 0 = the library's default.")
    ] = 0,
) -> None:
    """Write one HTML file about one or several runs: scores, pictures with errors marked, curves, costs, configuration.

    The scores are read from the run folders, where kd-seg eval RUN writes them.

    Example: kd-seg report runs/demo_baseline

             kd-seg report runs/demo_baseline runs/demo_distilled --out report.html
    """
    if out is None:
        if len(runs) != 1:
            raise UsageError("Name the file for a report on several runs: --out report.html.")
        out = runs[0] / "report.html"
    from kd_seg.core.failures import naming
    from kd_seg.core.ownership import check_replaceable
    from kd_seg.views.report import write_report

    check_replaceable(out)
    with naming(out):
        write_report(runs, out, scans, tracked, threads)
    say(f"written: {out}")
