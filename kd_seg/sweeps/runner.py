"""Runs the jobs of a sweep, each in a process of its own, N side by side; what is finished is not done again."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_seg.core.config import digest
from kd_seg.core.errors import DataError, KdSegError
from kd_seg.core.files import put_in_place, write_json, write_text
from kd_seg.sweeps.plan import Job, Sweep
from kd_seg.training import RunFolder, read_training_config

PROGRAM = (sys.executable, "-m", "kd_seg.cli.main")
_SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


def run_sweep(
    sweep: Sweep,
    jobs: list[Job],
    planned: list[Job],
    results: Path,
    side_by_side: int,
    say: Callable[[str], None],
    overwrite: bool = False,
) -> dict[str, str]:
    """Run the prepare steps and then ``jobs`` of the ``planned``; returns why some could not be finished, by key."""
    runner = Runner(results, side_by_side, say, overwrite)
    runner.prepare(sweep.prepare)
    return runner.run(jobs, planned)


@dataclass
class Running:
    """A job under way.

    Attributes:
        steps: commands still to be run, the one in hand first, each with the file for its answer (None: no answer).
    """

    job: Job
    steps: list[tuple[list[str], Path | None]]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0


class Runner:
    """Runs jobs, each after the one it needs.

    Args:
        results: folder for logs and for the marks of finished prepare steps.
        side_by_side: processes at a time; each is single-threaded.
        say: takes one line for a person.
        overwrite: begin runs anew whose settings have changed, instead of refusing them.
    """

    def __init__(self, results: Path, side_by_side: int, say: Callable[[str], None], overwrite: bool = False) -> None:
        self.results = results
        self.side_by_side = side_by_side
        self.say = say
        self.overwrite = overwrite
        self.logs = results / "logs"

    def prepare(self, commands: list[str]) -> None:
        """Run each prepare command once per content of its configuration; DataError names the log of one that fails."""
        for number, command in enumerate(commands):
            mark = self.results / "prepared" / digest(_made_from(command))
            if mark.is_file():
                continue
            self.say(f"kd-seg {command}")
            log = self._log(f"prepare_{number}")
            with log.open("ab") as file:
                code = subprocess.run([*PROGRAM, *shlex.split(command)], stdout=file, stderr=file).returncode
            if code != 0:
                raise DataError(f"kd-seg {command} failed ({_last_line(log)}); see {log}.")
            mark.parent.mkdir(parents=True, exist_ok=True)
            write_text(mark, command)

    def run(self, jobs: list[Job], planned: list[Job]) -> dict[str, str]:
        """Run those ``jobs`` that are not finished; returns the reason for each that could not be finished.

        ``planned`` are all runs of the sweep: one that a job needs but that is not asked for must be finished already.
        """
        chosen = {job.key for job in jobs}
        ready_made = {job.key for job in planned if job.key not in chosen and self._is_finished(job)}
        failed = {
            job.key: f"needs {job.needs}, which is not finished; run that first"
            for job in jobs
            if job.needs is not None and job.needs not in chosen | ready_made
        }
        jobs = [job for job in jobs if job.key not in failed]
        finished = {job.key for job in jobs if self._is_finished(job)}
        waiting = [job for job in jobs if job.key not in finished]
        running: list[Running] = []
        total = len(jobs)
        self.say(f"{total} runs, {len(finished)} of them finished; {self.side_by_side} side by side")
        told = time.monotonic()
        try:
            while waiting or running:
                for job in [job for job in waiting if job.needs in failed]:
                    failed[job.key] = f"needs {job.needs}, which failed"
                    waiting.remove(job)
                ready = [job for job in waiting if job.needs is None or job.needs in finished | ready_made]
                for job in ready[: self.side_by_side - len(running)]:
                    waiting.remove(job)
                    running.append(self.begin(job))
                for item in list(running):
                    end = self._advance(item)
                    if end is None:
                        continue
                    running.remove(item)
                    minutes = (time.monotonic() - item.started) / 60
                    if end:
                        failed[item.job.key] = end
                        self.say(f"{item.job.key}: failed ({end})")
                    else:
                        finished.add(item.job.key)
                        self.say(f"{item.job.key}: done in {minutes:.1f} min; {len(finished)}/{total}")
                if time.monotonic() - told > 30.0 and running:
                    told = time.monotonic()
                    self.say("; ".join(f"{item.job.key} {_progress(item.job)}" for item in running))
                time.sleep(0.2)
        finally:
            for item in running:
                _stop(item)
        return failed

    def _is_finished(self, job: Job) -> bool:
        self._check_settings(job)
        return job.finished

    def _check_settings(self, job: Job) -> None:
        """A folder made with other settings is refused, or begun anew where that was asked for."""
        mark = RunFolder(job.run).sweep
        if not mark.is_file():
            return
        if json.loads(mark.read_text(encoding="utf-8")).get("digest") == job.digest:
            return
        if not self.overwrite:
            raise DataError(
                f"{job.run} was made with other settings than {job.key} has now; rename the sweep, remove the folder, "
                "or add --overwrite."
            )
        mark.unlink()
        RunFolder(job.run).state.unlink(missing_ok=True)
        for evaluation in job.evaluations:
            job.result(evaluation.name).unlink(missing_ok=True)

    def begin(self, job: Job) -> Running:
        """Decide which steps a job still needs, and mark its folder with the settings it is made with."""
        steps: list[tuple[list[str], Path | None]] = []
        mark = RunFolder(job.run).sweep
        state = json.loads(mark.read_text(encoding="utf-8")) if mark.is_file() else {}
        if not state.get("trained"):
            folder = RunFolder(job.run)
            if state and folder.state.is_file():
                steps.append((["train", "--resume", str(job.run)], None))
            else:
                steps.append((["train", str(job.config), *job.overrides, "--overwrite"], None))
        for evaluation in job.evaluations:
            if not job.result(evaluation.name).is_file():
                command = ["eval", str(job.run), "--json", *evaluation.args]
                steps.append((command, job.result(evaluation.name)))
        job.run.mkdir(parents=True, exist_ok=True)
        write_json(mark, {"digest": job.digest, "trained": bool(state.get("trained"))})
        self.say(f"{job.key}: kd-seg {' '.join(steps[0][0][:3])}")
        return Running(job, steps, started=time.monotonic())

    def _advance(self, item: Running) -> str | None:
        """None while it runs, "" once all steps are done, else the reason of the failure."""
        log = self._log(item.job.key.replace("/", "-"))
        if item.process is not None:
            code = item.process.poll()
            if code is None:
                return None
            command, answer = item.steps.pop(0)
            item.process = None
            if code != 0:
                return f"kd-seg {command[0]} ended with {code}: {_last_line(log)}; see {log}"
            if answer is None:
                state = {"digest": item.job.digest, "trained": True}
                write_json(RunFolder(item.job.run).sweep, state)
            else:
                try:
                    _keep(answer)
                except KdSegError as error:
                    return str(error)
        if not item.steps:
            return ""
        command, answer = item.steps[0]
        item.process = _start([*PROGRAM, *command], log, answer)
        return None

    def _log(self, name: str) -> Path:
        self.logs.mkdir(parents=True, exist_ok=True)
        return self.logs / f"{name}.log"


def _made_from(command: str) -> list[Any]:
    """The command, and all settings of the configuration that it names."""
    what, *words = shlex.split(command)
    configs = [word for word in words if word.endswith((".yaml", ".yml")) and "=" not in word]
    if what not in ("prepare", "train") or len(configs) != 1:
        return [command]
    return [command, read_training_config(configs[0], [word for word in words if "=" in word]).to_plain()]


def _start(command: list[str], log: Path, answer: Path | None) -> subprocess.Popen[bytes]:
    """Start a single-threaded process in a group of its own; stderr to the log, stdout too or beside ``answer``."""
    with log.open("ab") as errors:
        if answer is None:
            return subprocess.Popen(
                command, stdout=errors, stderr=errors, env={**os.environ, **_SINGLE}, start_new_session=True
            )
        answer.parent.mkdir(parents=True, exist_ok=True)
        with _partial(answer).open("wb") as out:
            return subprocess.Popen(
                command, stdout=out, stderr=errors, env={**os.environ, **_SINGLE}, start_new_session=True
            )


def _partial(answer: Path) -> Path:
    return answer.with_name(f".{answer.name}.part")


def _keep(answer: Path) -> None:
    """Give a complete answer its name; DataError where it is no JSON."""
    partial = _partial(answer)
    try:
        json.loads(partial.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError(f"{partial} is not the JSON that kd-seg eval prints; run the sweep again.") from None
    put_in_place(partial, answer)


def _stop(item: Running) -> None:
    """End a job's processes (workers included), politely first."""
    process = item.process
    if process is None or process.poll() is not None:
        return
    for number, patience in ((signal.SIGINT, 20), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=patience)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _progress(job: Job) -> str:
    metrics = RunFolder(job.run).metrics
    if not metrics.is_file():
        return "starts"
    lines = metrics.read_bytes()[-4096:].decode(errors="replace").splitlines()
    for line in reversed(lines):
        try:
            return f"{100 * float(json.loads(line)['progress']):.0f} %"
        except (ValueError, KeyError):
            continue
    return "starts"


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"
