"""The ``kd-seg`` program: one module of this package per command, found by its ``command`` function."""

from __future__ import annotations

import importlib
import os
import pkgutil
from typing import Annotated

import typer

import kd_seg
import kd_seg.cli
from kd_seg.cli.console import claim_streams, guarded, listen

app = typer.Typer(
    name="kd-seg",
    help="LiDAR semantic segmentation with compact networks: simulate, prepare, train, evaluate, predict, view.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"kd-seg {kd_seg.__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also print what the package does, such as the caches it opens.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """LiDAR semantic segmentation with compact networks, trained by distillation and run on a CPU, a GPU or ROS 2."""
    listen(verbose)
    if debug:
        os.environ["KD_SEG_DEBUG"] = "1"


def _add_commands() -> None:
    for module in pkgutil.iter_modules(kd_seg.cli.__path__):
        if module.name in {"main", "console"}:
            continue
        command = importlib.import_module(f"kd_seg.cli.{module.name}").command
        app.command(name=module.name.rstrip("_"))(guarded(command))


_add_commands()


def main() -> None:
    """Entry point of the console script."""
    claim_streams()
    app()


if __name__ == "__main__":
    main()
