"""``kd-seg sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kd_seg.cli.console import print_json, say, tell
from kd_seg.core.errors import DataError, UsageError


def command(
    sweep: Annotated[str, typer.Argument(help="YAML file of a sweep, or the name of a shipped one.")],
    jobs: Annotated[int, typer.Option(min=1, help="Parallel runs, each single-threaded.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="ROW or ROW/SEED; may be repeated.")] = None,
    table: Annotated[bool, typer.Option("--table", help="Run nothing; write the table of the finished runs.")] = False,
    slurm: Annotated[bool, typer.Option("--slurm", help="Run nothing; print job arrays for Slurm.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Restart runs whose settings have changed.")] = False,
    docs: Annotated[Path | None, typer.Option(help="Write the table into this Markdown file too.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the table as JSON on stdout.")] = False,
) -> None:
    """Run configurations x seeds, resume if interrupted, and write a table with intervals and paired differences.

    Example: kd-seg sweep configs/sweeps/m2s_first_look.yaml --jobs 2 --docs docs/studies/multi_to_single.md
    """
    from kd_seg.sweeps import array_script, collect, plan, read_sweep, run_sweep, write_results
    from kd_seg.sweeps.table import markdown

    settings = read_sweep(sweep)
    planned = plan(settings)
    chosen = planned
    if only:
        unknown = [name for name in only if not any(name in (job.row, job.key) for job in planned)]
        if unknown:
            raise UsageError(f"{sweep} has no run {unknown[0]!r}; it has: {', '.join(j.key for j in planned)}.")
        chosen = [job for job in planned if job.row in only or job.key in only]
    if slurm:
        tell(array_script(sweep, settings.prepare, chosen, overwrite))
        return
    results = Path("results") / settings.name
    failed = {} if table else run_sweep(settings, chosen, planned, results, jobs, say, overwrite)
    summary = collect(settings, planned)
    path = write_results(summary, planned, settings.prepare, results, docs)
    if json_:
        print_json(summary.to_json())
    else:
        tell(markdown(summary))
    say(f"table: {path}")
    if failed:
        key, reason = next(iter(failed.items()))
        raise DataError(f"{len(failed)} of {len(chosen)} runs failed; {key}: {reason}.")
