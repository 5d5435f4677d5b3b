"""``python -m kd_seg.studies.mutations``: run the campaign, continue after a stop, print the table."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from kd_seg.core.files import write_bytes, write_json
from kd_seg.studies.mutations.readers import READERS, Reader
from kd_seg.studies.mutations.work import KINDS, input_of, run

CHUNK = 2500
"""Inputs between two saves."""


def main() -> None:
    """Run or tabulate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("mutations"), help="folder of state and findings")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="inputs in all, divided by the readers' shares")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop then; the next call continues")
    parser.add_argument("--only", action="append", help="reader by name; may be repeated")
    parser.add_argument("--table", action="store_true", help="run nothing, print the table")
    arguments = parser.parse_args()
    state_file = arguments.out / "state.json"
    state: dict[str, Any] = json.loads(state_file.read_text()) if state_file.is_file() else {}
    if not arguments.table:
        chosen = [reader for reader in READERS if not arguments.only or reader.name in arguments.only]
        _run(arguments, chosen, state, state_file)
    print(table(state))


def _run(arguments: argparse.Namespace, chosen: list[Reader], state: dict[str, Any], state_file: Path) -> None:
    """Chunk by chunk, the reader that is farthest behind first."""
    end = time.monotonic() + 60 * arguments.minutes
    wanted = {reader.name: round(reader.share * arguments.inputs) for reader in chosen}
    with tempfile.TemporaryDirectory() as scratch:
        made: dict[str, list[bytes]] = {}
        for reader in chosen:
            folder = Path(scratch) / reader.name.replace(" ", "_")
            folder.mkdir()
            made[reader.name] = reader.seeds(folder)
            state.setdefault(
                reader.name, {"done": 0, "counts": dict.fromkeys(KINDS, 0), "seconds": 0.0, "findings": []}
            )
        while time.monotonic() < end:
            reader = min(chosen, key=lambda r: state[r.name]["done"] / max(wanted[r.name], 1))
            entry = state[reader.name]
            if entry["done"] >= wanted[reader.name]:
                return
            numbers = range(entry["done"], min(entry["done"] + CHUNK, wanted[reader.name]))
            started = time.monotonic()
            tally = run(
                reader, made[reader.name], arguments.seed, numbers, Path(scratch) / reader.name.replace(" ", "_")
            )
            for kind in KINDS:
                entry["counts"][kind] += tally.counts[kind]
            entry["done"] = numbers.stop
            entry["seconds"] += time.monotonic() - started
            entry["findings"] += tally.findings[:20]
            for number, kind, what in tally.findings:
                print(f"{reader.name} {number}: {kind}: {what}", flush=True)
                content = input_of(reader, made[reader.name], arguments.seed, number)
                write_bytes(arguments.out / "findings" / f"{reader.name.replace(' ', '_')}_{number}", content)
            write_json(state_file, state)


def table(state: dict[str, Any]) -> str:
    """The counts by reader as Markdown."""
    lines = ["| reader | inputs | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 2) + "|"]
    total = dict.fromkeys(KINDS, 0)
    for name, entry in state.items():
        lines.append(
            f"| {name} | {entry['done']:,} | " + " | ".join(f"{entry['counts'][kind]:,}" for kind in KINDS) + " |"
        )
        for kind in KINDS:
            total[kind] += entry["counts"][kind]
    lines.append(f"| all | {sum(total.values()):,} | " + " | ".join(f"{total[kind]:,}" for kind in KINDS) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
