"""Runs the jobs of a sweep, each in a process of its own, N side by side; what is finished is not done again."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_seg.core.config import digest
from kd_seg.core.errors import DataError, KdSegError
from kd_seg.core.files import put_in_place, write_text
from kd_seg.sweeps.mark import Mark
from kd_seg.sweeps.plan import Job, Sweep
from kd_seg.training import RunFolder, read_training_config

PROGRAM = (sys.executable, "-m", "kd_seg.cli.main")
PATIENCE_S = 20.0
"""For runs to save where they are, once they are asked to end."""
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
    with _terminated_like_interrupted():
        runner.prepare(sweep.prepare)
        return runner.run(jobs, planned)


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends the runs too, as Ctrl-C does: they are processes in groups of their own, which would go on alone."""
    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to that one only
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass
class Running:
    """A job under way.

    Attributes:
        steps: commands still to be run, the one in hand first, each with the file for its output (None: the log).
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
        overwrite: train runs again whose settings have changed, instead of refusing them.
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
                code = subprocess.run([*PROGRAM, *_continued(command)], stdout=file, stderr=file).returncode
            if code != 0:
                raise DataError(f"kd-seg {command} failed ({_last_line(log)}); see {log}.")
            mark.parent.mkdir(parents=True, exist_ok=True)
            write_text(mark, command)

    def run(self, jobs: list[Job], planned: list[Job]) -> dict[str, str]:
        """Run those ``jobs`` that are not finished; returns the reason for each that could not be finished.

        ``planned`` are all runs of the sweep: one that a job needs but that is not asked for must be finished already.
        Those are read alone, whatever ``overwrite`` is.
        """
        finished = {job.key for job in jobs if self._is_finished(job)}
        chosen = {job.key for job in jobs}
        others = {job.key: job for job in planned if job.key not in chosen}
        lacking = {
            job.key: _lack(others[job.needs])
            for job in jobs
            if job.key not in finished and job.needs is not None and job.needs in others
        }
        failed = {key: lack for key, lack in lacking.items() if lack}
        ready_made = others.keys()
        jobs = [job for job in jobs if job.key not in failed]
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
            _stop(*running)
        return failed

    def _is_finished(self, job: Job) -> bool:
        self._check_settings(job)
        Mark(job).drop_outdated()
        return job.finished

    def _check_settings(self, job: Job) -> None:
        """A folder made with other settings is refused; trained again where that was asked for or loses nothing."""
        mark = Mark(job)
        if not mark.exists or mark.fits:
            return
        if not self.overwrite and not mark.empty:
            raise DataError(
                f"{job.run} was made with other settings than {job.key} has now; rename the sweep, remove the folder, "
                "or add --overwrite."
            )
        mark.remove()

    def begin(self, job: Job) -> Running:
        """Decide which steps a job still needs, and mark its folder with the settings it is made with."""
        steps: list[tuple[list[str], Path | None]] = []
        mark = Mark(job)
        if not mark.trained:
            resumes = mark.exists and RunFolder(job.run).state.is_file()
            fresh = ["train", str(job.config), *job.overrides, "--overwrite"]
            steps.append((["train", "--resume", str(job.run)] if resumes else fresh, None))
        for evaluation in job.evaluations:
            result = job.result(evaluation.name)
            if not mark.trained or not result.is_file():
                steps.append((["eval", str(job.run), "--json", *evaluation.args], result))
        job.run.mkdir(parents=True, exist_ok=True)
        mark.write(mark.trained)
        self.say(f"{job.key}: kd-seg {' '.join(steps[0][0][:3])}")
        return Running(job, steps, started=time.monotonic())

    def _advance(self, item: Running) -> str | None:
        """None while it runs, "" once all steps are done, else the reason of the failure."""
        log = self._log(item.job.key.replace("/", "-"))
        if item.process is not None:
            code = item.process.poll()
            if code is None:
                return None
            command, result = item.steps.pop(0)
            item.process = None
            if code != 0:
                return f"kd-seg {command[0]} ended with {code}: {_last_line(log)}; see {log}"
            if result is None:
                Mark(item.job).write(trained=True)
            else:
                try:
                    _keep(result)
                except KdSegError as error:
                    return str(error)
                Mark(item.job).note_scored(result.stem)
        if not item.steps:
            return ""
        command, result = item.steps[0]
        item.process = _start([*PROGRAM, *command], log, result)
        return None

    def _log(self, name: str) -> Path:
        self.logs.mkdir(parents=True, exist_ok=True)
        return self.logs / f"{name}.log"


def _lack(job: Job) -> str:
    """Why a run cannot be taken as it is by one that needs it; "" where it can."""
    mark = Mark(job)
    if mark.exists and not mark.fits:
        return f"needs {job.key}, which was made with other settings; run that first"
    if not job.finished or mark.outdated:
        return f"needs {job.key}, which is not finished; run that first"
    return ""


def _made_from(command: str) -> list[Any]:
    """The command, and all settings of the configuration that it names."""
    what, *words = shlex.split(command)
    configs = [word for word in words if word.endswith((".yaml", ".yml")) and "=" not in word]
    if what not in ("prepare", "train") or len(configs) != 1:
        return [command]
    return [command, read_training_config(configs[0], [word for word in words if "=" in word]).to_plain()]


def _continued(command: str) -> list[str]:
    """The words of a prepare step; a training that was begun with the same configuration goes on, or is found done."""
    what, *words = shlex.split(command)
    names = [word for word in words if "=" not in word]
    if what != "train" or len(names) != 1 or names[0].startswith("-"):
        return [what, *words]
    config = read_training_config(names[0], [word for word in words if "=" in word])
    run = RunFolder(str(config.run.folder))
    if not run.config.is_file() or run.read_config() != config:
        return [what, *words]
    return [what, "--resume", str(run.path)] if run.state.is_file() else [what, *words, "--overwrite"]


def _start(command: list[str], log: Path, result: Path | None) -> subprocess.Popen[bytes]:
    """Start a single-threaded process in a group of its own; stderr to the log, stdout too or beside ``result``."""
    with log.open("ab") as errors:
        if result is None:
            return subprocess.Popen(
                command, stdout=errors, stderr=errors, env={**os.environ, **_SINGLE}, start_new_session=True
            )
        result.parent.mkdir(parents=True, exist_ok=True)
        with _partial(result).open("wb") as out:
            return subprocess.Popen(
                command, stdout=out, stderr=errors, env={**os.environ, **_SINGLE}, start_new_session=True
            )


def _partial(result: Path) -> Path:
    return result.with_name(f".{result.name}.part")


def _keep(result: Path) -> None:
    """Give a complete result its name; DataError where it is no JSON."""
    partial = _partial(result)
    try:
        json.loads(partial.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError(f"{partial} is not the JSON that kd-seg eval prints; run the sweep again.") from None
    put_in_place(partial, result)


def _stop(*items: Running) -> None:
    """End the processes of jobs (workers included), politely first; a second Ctrl-C ends all of them at once."""
    processes = [item.process for item in items if item.process is not None and item.process.poll() is None]
    try:
        _signal(processes, signal.SIGINT)
        end = time.monotonic() + PATIENCE_S
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.0, end - time.monotonic()))
    finally:
        left = [process for process in processes if process.poll() is None]
        _signal(left, signal.SIGKILL)
        for process in left:
            process.wait(timeout=5)


def _signal(processes: list[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)


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
