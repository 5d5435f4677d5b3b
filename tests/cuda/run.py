"""The stages of ``run.sh``: each in a process of its own with a limit, its figures in one JSON file as it ends."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NETWORKS = ("unet:nano", "unet:small", "unet:base", "cylinder:nano", "minkunet:34-w32", "spv:4x64")
"""Networks that are timed; one that this version lacks is left out and said."""


@dataclass(frozen=True)
class Stage:
    """One stage: its command, the seconds it may take, and whether it must have the machine for itself."""

    name: str
    command: list[str]
    limit: float
    environment: dict[str, str]
    timed: bool = False


def stages(out: Path, device: str) -> list[Stage]:
    """In order of worth: what is cut off at the end is the least."""
    measure = [sys.executable, str(HERE / "measure.py"), "--device", device]
    backends = ("spconv", "torch") if device != "cpu" else ("numba", "torch")
    junit = out / "pytest.xml"
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "cuda",
        "tests/cuda",
        "-p",
        "no:cacheprovider",
        f"--junitxml={junit}",
    ]
    if importlib.util.find_spec("xdist") is not None:
        tests += ["-n", str(max(1, min(6, (os.cpu_count() or 1) // 2)))]
    found = [Stage("versions", [*measure, "versions"], 60, {})]
    found += [Stage(f"equal {b}", [*measure, "equal"], 200, {"KD_SEG_BACKEND": b}) for b in backends]
    found.append(Stage("tests", tests, 300, {}))
    found.append(Stage("two processes", [*measure, "two_processes"], 60, {}))
    found.append(Stage("serving", [*measure, "serving"], 60, {}, timed=True))
    for network in NETWORKS:
        for backend in backends:
            command = [*measure, "speed", network]
            found.append(Stage(f"speed {network} {backend}", command, 45, {"KD_SEG_BACKEND": backend}, timed=True))
    return found


def run(stage: Stage, seconds: float) -> dict[str, Any]:
    """Run one stage; its last line of output is its figures, where it is JSON."""
    started = time.monotonic()
    environment = {**os.environ, **stage.environment}
    try:
        done = subprocess.run(
            stage.command, capture_output=True, text=True, timeout=min(stage.limit, seconds), env=environment
        )
        code, text, errors = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        code, text, errors = 124, _text(late.stdout), _text(late.stderr)
    row: dict[str, Any] = {"stage": stage.name, "code": code, "seconds": round(time.monotonic() - started, 1)}
    last = text.strip().splitlines()[-1:] or [""]
    try:
        row["figures"] = json.loads(last[0])
    except ValueError:
        row["output"] = text[-1500:]
    if code:
        row["errors"] = errors[-3000:]
    return row


def _text(content: bytes | str | None) -> str:
    return content.decode(errors="replace") if isinstance(content, bytes) else content or ""


def rows_of(asked: list[Stage], end: float, side_by_side: int) -> Iterator[dict[str, Any]]:
    """Rows as their stages end: those that are not timed side by side first, then the others one by one."""
    with ThreadPoolExecutor(side_by_side) as pool:
        yield from pool.map(lambda stage: _within(stage, end), [stage for stage in asked if not stage.timed])
    yield from (_within(stage, end) for stage in asked if stage.timed)


def _within(stage: Stage, end: float) -> dict[str, Any]:
    left = end - time.monotonic()
    if left < 5:
        return {"stage": stage.name, "code": 124, "seconds": 0.0, "output": "no time was left"}
    return run(stage, left)


def tests_of(path: Path) -> dict[str, Any]:
    """Counts and failures of a JUnit file; empty where there is none (the tests were cut off)."""
    if not path.is_file():
        return {}
    cases = list(ElementTree.parse(path).getroot().iter("testcase"))
    failed = [
        f"{c.get('classname')}::{c.get('name')}"
        for c in cases
        if c.find("failure") is not None or c.find("error") is not None
    ]
    skipped = sum(c.find("skipped") is not None for c in cases)
    return {"passed": len(cases) - len(failed) - skipped, "failed": failed, "skipped": skipped}


def summary(row: dict[str, Any]) -> str:
    """One line for a person."""
    state = "ok" if row["code"] == 0 else ("cut off" if row["code"] == 124 else f"exit {row['code']}")
    shown = json.dumps(row["figures"]) if "figures" in row else row.get("output", "").strip().splitlines()[-1:]
    return f"{row['stage']:28} {state:8} {row['seconds']:6.1f} s  {str(shown)[:400]}"


def main() -> int:
    """Run every stage within the time given; exit code 0 only if all of them ended well."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--only", action="append", default=[], help="stages whose name begins so; may be repeated")
    given = parser.parse_args()
    end, rows = time.monotonic() + 60 * given.minutes, []
    side_by_side = max(1, min(4, (os.cpu_count() or 1) // 4))
    asked = [s for s in stages(given.out, given.device) if not given.only or s.name.startswith(tuple(given.only))]
    for row in rows_of(asked, end, side_by_side):
        if row["stage"] == "tests":
            row["figures"] = tests_of(given.out / "pytest.xml")
        rows.append(row)
        print(summary(row))
        if row["code"]:
            print(row.get("errors", "")[-800:])
        (given.out / "cuda.json").write_text(json.dumps(rows, indent=1) + "\n")
    bad = [row["stage"] for row in rows if row["code"]]
    print(f"{len(rows) - len(bad)} of {len(rows)} stages ended well" + (f"; not: {', '.join(bad)}" if bad else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
