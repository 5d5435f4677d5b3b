"""``kd-seg info``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kd_seg.cli.console import print_json, tell


def command(
    path: Annotated[Path, typer.Argument(help="Checkpoint, run folder, bag, data root or sequence.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="How .bin files lie: input.columns=5, input.dtype=float64.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print it as JSON on stdout.")] = False,
) -> None:
    """Print what a checkpoint, a run, a bag or a data root holds.

    Example: kd-seg info runs/demo_baseline

             kd-seg info drive.mcap

             kd-seg info DATA --json
    """
    from kd_seg.serving.parameters import file_format, read_parameters
    from kd_seg.serving.sources import named
    from kd_seg.views.contents import contents, lines

    found = contents(named(path), file_format(read_parameters(None, set_ or [])))
    if json_:
        print_json(found)
        return
    for line in lines(found):
        tell(line)
