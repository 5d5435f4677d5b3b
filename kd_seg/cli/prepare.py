"""``kd-seg prepare``: all that a configuration needs on disk before training."""

from __future__ import annotations

import shlex
import time
from typing import Annotated

import typer

from kd_seg.cli.console import print_json, progress, say
from kd_seg.core.errors import UsageError
from kd_seg.core.shard import WHOLE, parse_shard


def command(
    config: Annotated[str, typer.Argument(help="YAML file, or the name of a shipped one.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, such as data.root=DATA.")] = None,
    shard: Annotated[str, typer.Option(help="i/n: do the i-th of n parts, for arrays of jobs.")] = "1/1",
    workers: Annotated[int, typer.Option(min=1, help="Number of parallel processes.")] = 1,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Delete what is there and build it again.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Build the instance library, registrations and teacher caches that a configuration's training will read.

    Example: kd-seg prepare configs/m2s_student.yaml data.root=DATA --workers 2

    An interrupted build continues where it stopped. With --shard, registrations are built once all parts of the library
    exist: run the array of jobs, then run the same array again.
    """
    from kd_seg.caches import Work
    from kd_seg.training import read_training_config
    from kd_seg.training.prepare import prepare
    from kd_seg.training.setup import cache_folder

    part = parse_shard(shard)
    if rebuild and part != WHOLE:
        raise UsageError("--rebuild deletes the whole cache, so it cannot run on one part; leave --shard out.")
    settings = read_training_config(config, overrides or [])
    fix_command = shlex.join(["kd-seg", "prepare", config, *(overrides or [])])
    start = time.monotonic()
    done = prepare(settings, Work(fix_command, progress, part, workers, rebuild))
    folder = cache_folder(settings.data.root, settings.data.cache)
    spent = time.monotonic() - start
    if done:
        say(f"{', '.join(done)}: ready in {folder} after {spent:.0f} s")
    else:
        say(f"{config} needs nothing on disk except its data")
    if as_json:
        print_json({"cache": str(folder), "prepared": done, "seconds": round(spent, 2)})
