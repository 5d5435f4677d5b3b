"""What a sweep writes: its table as Markdown and JSON, a picture, the commands, and a section of a document."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from kd_seg.core.files import write_bytes, write_json, write_text
from kd_seg.sweeps.picture import draw_differences
from kd_seg.sweeps.plan import Job
from kd_seg.sweeps.table import Table, markdown


def commands(jobs: list[Job], prepare: list[str]) -> str:
    """The commands that make the same runs by hand."""
    lines = [f"kd-seg {command}" for command in prepare]
    for job in jobs:
        lines.append(f"OMP_NUM_THREADS=1 kd-seg train {shlex.join([str(job.config), *job.overrides])}")
        for evaluation in job.evaluations:
            lines.append(f"kd-seg eval {shlex.join([str(job.run), '--json', *evaluation.args])}")
    return "\n".join(lines) + "\n"


def write_results(table: Table, jobs: list[Job], prepare: list[str], folder: Path, docs: Path | None) -> Path:
    """Write table.md, table.json, differences.png and commands.txt; with ``docs``, the section of that file too."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = draw_differences(table, folder / "differences.png")
    write_json(folder / "table.json", table.to_json())
    write_text(folder / "commands.txt", commands(jobs, prepare))
    path = folder / "table.md"
    write_text(path, markdown(table, "differences.png" if drawn else None))
    if docs is not None:
        name = f"pictures/{table.name}.png"
        if drawn:
            write_bytes(docs.parent / name, (folder / "differences.png").read_bytes())
        _write_section(docs, table.name, markdown(table, name if drawn else None))
    return path


def _write_section(docs: Path, name: str, text: str) -> None:
    """Replace what stands between a document's markers for this sweep, or add a section at its end."""
    begin, end = f"<!-- sweep:{name} -->", f"<!-- /sweep:{name} -->"
    content = docs.read_text(encoding="utf-8") if docs.is_file() else "# Results\n"
    section = f"{begin}\n{text}{end}"
    if begin in content and end in content:
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        content = re.sub(pattern, lambda _: section, content, flags=re.DOTALL)
    else:
        content = f"{content.rstrip()}\n\n## {name}\n\n{section}\n"
    write_text(docs, content)
