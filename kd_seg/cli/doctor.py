"""``kd-seg doctor``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from kd_seg.cli.console import out, print_json


def command(
    json_: Annotated[bool, typer.Option("--json", help="Print the findings as JSON on stdout.")] = False,
) -> None:
    """Check what is installed and works on this machine, by running it, and print the fix for what does not.

    Example: kd-seg doctor
    """
    from kd_seg.doctor import examine

    checks = []
    for check in examine():
        checks.append(check)
        if not json_:
            mark = "[green]ok  [/]" if check.ok else "[bold red]FAIL[/]"
            out.print(f"{mark} {check.name}: ", end="")
            out.print(check.says, markup=False)
    ok = all(check.ok for check in checks)
    if json_:
        print_json({"ok": ok, "checks": [asdict(check) for check in checks]})
    if not ok:
        raise typer.Exit(1)
