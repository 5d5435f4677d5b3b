"""``python -m kd_seg.studies.kills``: kill -9 at random moments, begin again, compare with undisturbed work."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

from kd_seg.core.files import write_json
from kd_seg.studies.kills.jobs import JOBS, KillJob, make_inputs

MOST_STARTS = 60
"""Starts of one trial; a job that does not end within them never will."""


def start(arguments: list[str], folder: Path) -> int:
    """Fork a process, of a group of its own, that runs a command in ``folder``; returns its number.

    It has everything imported already, so that kills fall on the work and not on its start.
    """
    child = os.fork()
    if child:
        return child
    status = 1
    try:  # pragma: no cover - coverage does not follow
        os.setsid()
        os.chdir(folder)
        log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from kd_seg.cli.main import app

        app(arguments, standalone_mode=True)
        status = 0
    except SystemExit as stop:
        status = int(stop.code or 0)
    finally:
        os._exit(status)


def finish(child: int) -> int:
    """Wait for a process; its exit code, or minus its signal."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def undisturbed(job: KillJob, folder: Path, inputs: Path) -> tuple[str, float]:
    """What a job gives when nobody kills it, and its seconds."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.monotonic()
    code = finish(start(job.arguments(folder, inputs), folder))
    if code != 0:
        sys.exit(f"{job.name} fails by itself ({code}); see {folder / 'log.txt'}")
    return job.result(folder), time.monotonic() - began


def killed(job: KillJob, folder: Path, inputs: Path, seconds: float, kills: int, rng: Random) -> tuple[str, int]:
    """What a job gives that is killed up to ``kills`` times; also how many kills fell before its end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    done = 0
    for _ in range(MOST_STARTS):
        child = start(job.arguments(folder, inputs), folder)
        if done >= kills:
            code = finish(child)
            return (job.result(folder) if code == 0 else f"exit {code}"), done
        if _ended_within(child, rng.uniform(0.0, seconds)):
            return job.result(folder), done
        os.killpg(child, signal.SIGKILL)
        finish(child)
        done += 1
    return "no end", done


def _ended_within(child: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    return False


def main() -> None:
    """Run the study, continue after a stop, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("kills"))
    parser.add_argument("--kills", type=int, default=200, help="in all, divided by the jobs' shares")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", help="job by name; may be repeated")
    parser.add_argument("--table", action="store_true", help="run nothing, print the table")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    state_file = out / "state.json"
    state: dict[str, Any] = json.loads(state_file.read_text()) if state_file.is_file() else {}
    if not arguments.table:
        import torch

        torch.set_num_threads(1)  # a forked process has no other threads

        def run(command: list[str]) -> None:
            finish(start(command, out))

        out.mkdir(parents=True, exist_ok=True)
        make_inputs(out / "inputs", run)
        chosen = [job for job in JOBS if not arguments.only or job.name in arguments.only]
        for job in chosen:
            _study(job, state, state_file, out, round(job.share * arguments.kills), arguments.seed)
    print(table(state))


def _study(job: KillJob, state: dict[str, Any], state_file: Path, out: Path, wanted: int, seed: int) -> None:
    """Trials of one job until it was killed often enough."""
    entry = state.setdefault(job.name, {"kills": 0, "trials": 0, "equal": 0, "different": []})
    if entry["kills"] >= wanted:
        return
    folder = out / "work" / job.name.replace(" ", "_")
    truth, seconds = undisturbed(job, folder, out / "inputs")
    entry["seconds"] = round(seconds, 1)
    while entry["kills"] < wanted and entry["trials"] < 3 * wanted + 10:
        rng = Random(f"{seed}/{job.name}/{entry['trials']}")
        found, kills = killed(job, folder, out / "inputs", seconds, min(3, wanted - entry["kills"]), rng)
        entry["trials"], entry["kills"] = entry["trials"] + 1, entry["kills"] + kills
        if found == truth:
            entry["equal"] += 1
        else:
            entry["different"].append([entry["trials"] - 1, found])
            print(f"{job.name}: trial {entry['trials'] - 1} differs ({found})", flush=True)
            shutil.copytree(folder, out / "different" / f"{job.name.replace(' ', '_')}_{entry['trials'] - 1}")
        write_json(state_file, state)
    shutil.rmtree(folder, ignore_errors=True)


def table(state: dict[str, Any]) -> str:
    """Kills and equal results by job as Markdown."""
    lines = ["| command | seconds | kills | trials | equal to undisturbed |", "|---|---|---|---|---|"]
    for name, entry in state.items():
        lines.append(f"| {name} | {entry['seconds']} | {entry['kills']} | {entry['trials']} | {entry['equal']} |")
    total = [sum(entry[key] for entry in state.values()) for key in ("kills", "trials", "equal")]
    lines.append(f"| all | | {total[0]} | {total[1]} | {total[2]} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
