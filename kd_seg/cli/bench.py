"""``kd-seg bench``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from kd_seg.cli.console import out, print_json, say, tell
from kd_seg.core.errors import UsageError


def command(
    what: Annotated[
        str, typer.Argument(help="voxelize, maps, convolution, fuse, distil, project, images, train, predict, front.")
    ],
    scan: Annotated[Path | None, typer.Option(help="Point file; default: a simulated scan.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Data root, for fuse, distil and images; default: simulated.")
    ] = None,
    voxel: Annotated[float | None, typer.Option(min=0.01, help="Voxel size in metres; default by benchmark.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Repetitions; the best time counts.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch, for all implementations.")] = 1,
    checkpoint: Annotated[Path | None, typer.Option(help="For predict; default: the shipped student.")] = None,
    device: Annotated[str, typer.Option(help="For train and predict: cpu, cuda or cuda:N.")] = "cpu",
    size: Annotated[str | None, typer.Option(help="Of the U-Net of train and convolution: nano, small, base.")] = None,
    sweep: Annotated[str | None, typer.Option(help="For front: the sweep whose students are timed.")] = None,
    hz: Annotated[float, typer.Option(min=0.1, help="For front: scans per second to keep.")] = 10.0,
    json_: Annotated[bool, typer.Option("--json", help="Print the rows as JSON on stdout.")] = False,
) -> None:
    """Time kd_seg against other implementations on the same input in the same run, after checking that they agree.

    front times the students of a finished sweep, with one thread and with --threads, and shows which keep a rate.

    Example: kd-seg bench voxelize --scan 000000.bin
    """
    from kd_seg.benchmarks.choose import Request, bench, check_options

    request = Request(scan, data, voxel, repeats, threads, checkpoint, device, size)
    check_options(what, request)
    if what == "front":
        _front(sweep, scan, threads, repeats, hz, json_)
        return
    from kd_seg.core.environment import machine

    say(f"bench {what}: the implementations run in turn; the best time of each counts")
    rows = bench(what, request)
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


def _front(sweep: str | None, scan: Path | None, threads: int, repeats: int | None, hz: float, json_: bool) -> None:
    """Quality against latency of a sweep's students."""
    from kd_seg.benchmarks.choose import Request
    from kd_seg.sweeps import plan, read_sweep
    from kd_seg.sweeps.front import measure
    from kd_seg.sweeps.front_report import markdown, write_front

    if sweep is None:
        raise UsageError("bench front needs the sweep that trained the students; add --sweep FILE.")
    settings = read_sweep(sweep)
    points = Request(scan).points()
    counts = [1] if threads == 1 else [1, threads]
    front = measure(settings, plan(settings), points, counts, repeats or 20)
    path = write_front(front, hz, Path("results") / settings.name)
    if json_:
        print_json(front.to_json())
    else:
        tell(markdown(front, hz))
    say(f"table and picture: {path.parent}")
