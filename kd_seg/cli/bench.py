"""``kd-seg bench``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from kd_seg.cli.console import out, print_json, say


def command(
    what: Annotated[
        str, typer.Argument(help="voxelize, maps, convolution, fuse, distil, project, images, train, predict.")
    ],
    scan: Annotated[Path | None, typer.Option(help="Point file; default: a simulated scan.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data root, for fuse and project; default: simulated.")] = None,
    voxel: Annotated[float | None, typer.Option(min=0.01, help="Voxel size in metres; default by benchmark.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Repetitions; the best time counts.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch, for all implementations.")] = 1,
    checkpoint: Annotated[Path | None, typer.Option(help="For predict; default: the shipped student.")] = None,
    device: Annotated[str, typer.Option(help="For train and predict: cpu, cuda or cuda:N.")] = "cpu",
    size: Annotated[str | None, typer.Option(help="Of the U-Net of train and convolution: nano, small, base.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the rows as JSON on stdout.")] = False,
) -> None:
    """Time kd_seg against other implementations on the same input in the same run, after checking that they agree.

    Example: kd-seg bench voxelize --scan 000000.bin
    """
    from kd_seg.benchmarks.choose import Request, bench
    from kd_seg.core.environment import machine

    say(f"bench {what}: the implementations run in turn; the best time of each counts")
    rows = bench(what, Request(scan, data, voxel, repeats, threads, checkpoint, device, size))
    if json_:
        print_json({"machine": machine(), "rows": [asdict(row) for row in rows]})
        return
    from rich.table import Table

    table = Table("", "ms", "ratio", "GMAC", "of GEMM peak", caption=machine())
    for row in rows:
        work = "" if row.gmacs is None else f"{row.gmacs:.2f}"
        share = "" if row.peak_share is None else f"{100 * row.peak_share:.0f} %"
        table.add_row(row.name, f"{row.ms:.2f}", f"{row.ratio:.2f}", work, share, style="bold" if row.ours else None)
    out.print(table)
