"""Parts of the runner of sweeps: what a prepare step is made from, progress, logs, and results that are kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kd_seg.core.errors import DataError
from kd_seg.sweeps import runner
from kd_seg.sweeps.plan import Job, plan, read_sweep

SWEEP = """
name: parts
purpose: One row.
base: demo_baseline
seeds: [0]
baseline: plain
rows: [{name: plain}]
"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "parts.yaml").write_text(SWEEP)
    (made,) = plan(read_sweep(tmp_path / "parts.yaml"), tmp_path / "runs")
    return made


def test_a_prepare_step_is_made_from_its_configuration(tmp_path: Path) -> None:
    config = tmp_path / "x.yaml"
    config.write_text("run: {steps: 3, folder: x}\n")
    one = runner._made_from(f"prepare {config}")
    assert runner._made_from(f"prepare {config} run.steps=4") != one
    config.write_text("run: {steps: 5, folder: x}\n")
    assert runner._made_from(f"prepare {config}") != one
    config.write_text("run: {folder: x, steps: 3}  # the same in other words\n")
    assert runner._made_from(f"prepare {config}") == one
    assert runner._made_from("simulate data --scans 3") == ["simulate data --scans 3"]


def test_progress_is_that_of_the_last_whole_line(job: Job) -> None:
    assert runner._progress(job) == "starts"
    job.run.mkdir(parents=True)
    metrics = job.run / "metrics.jsonl"
    metrics.write_text("")
    assert runner._progress(job) == "starts"
    metrics.write_text(
        json.dumps({"progress": 0.25}) + "\n" + json.dumps({"progress": 0.5}) + "\n" + '{"progress": 0.7'
    )
    assert runner._progress(job) == "50 %"
    lines = "".join(json.dumps({"progress": k / 1000, "more": "x" * 50}) + "\n" for k in range(1000))
    metrics.write_text(lines)
    assert runner._progress(job) == "100 %"


def test_the_last_line_of_a_log_is_short_and_never_missing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"")
    assert runner._last_line(log) == "no message"
    log.write_bytes(b"first\nsecond \xff\n\n  \n")
    assert runner._last_line(log).startswith("second")
    log.write_text("x" * 999)
    assert len(runner._last_line(log)) == 300


def test_only_whole_results_get_their_name(tmp_path: Path) -> None:
    result = tmp_path / "valid.json"
    runner._partial(result).write_text('{"miou": 0.5}')
    runner._keep(result)
    assert json.loads(result.read_text()) == {"miou": 0.5}
    runner._partial(result).write_text('{"miou": 0.6')
    with pytest.raises(DataError, match="is not the JSON that kd-seg eval prints"):
        runner._keep(result)
    assert json.loads(result.read_text()) == {"miou": 0.5}


def test_output_goes_beside_the_result_and_errors_into_the_log(tmp_path: Path) -> None:
    result, log = tmp_path / "deep" / "valid.json", tmp_path / "log"
    code = "import os, sys; print(os.environ['OMP_NUM_THREADS']); print('trouble', file=sys.stderr)"
    for kept in (result, None):
        process = runner._start([sys.executable, "-c", code], log, kept)
        assert process.wait(60) == 0
    assert runner._partial(result).read_text() == "1\n"
    assert sorted(log.read_text().split()) == ["1", "trouble", "trouble"]


def test_a_stopped_job_takes_its_workers_with_it(job: Job, tmp_path: Path) -> None:
    child = "import time; time.sleep(60)"
    code = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {child!r}]); "
    code += "print(p.pid, flush=True); p.wait()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    runner._stop(runner.Running(job, [], started=0.0, process=process))
    assert process.poll() is not None
    for _ in range(200):
        try:
            os.kill(worker, 0)
            state = Path(f"/proc/{worker}/stat").read_text().split()[2]
        except (ProcessLookupError, FileNotFoundError):
            break
        if state == "Z":
            break
        time.sleep(0.05)
    else:
        os.kill(worker, signal.SIGKILL)
        pytest.fail("the worker lives on")


def test_a_second_ctrl_c_leaves_no_run_behind(job: Job) -> None:
    """Found by reading: runs were asked to end one after the other, and those that were left went on alone."""
    code = "import signal, time; signal.signal(signal.SIGINT, lambda *_: print('asked', flush=True)); "
    code += "print('up', flush=True); time.sleep(60); time.sleep(60)"
    items = []
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        items.append(runner.Running(job, [], started=0.0, process=process))
    outputs = [item.process.stdout for item in items if item.process is not None]

    def press_again() -> None:
        for output in outputs:
            assert output is not None
            assert output.readline() == b"asked\n"
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press_again)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has it ignored
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            runner._stop(*items)
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert [item.process.poll() for item in items if item.process is not None] == [-signal.SIGKILL] * 2


def test_a_process_that_ended_is_left_alone(job: Job) -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait(60)
    runner._stop(runner.Running(job, [], started=0.0, process=process))
    runner._stop(runner.Running(job, [], started=0.0))
    assert process.returncode == 0


def test_a_terminated_sweep_ends_its_runs(tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[runner.Running] = []

    def wait(self: runner.Runner, job: Job) -> runner.Running:
        item = runner.Running(job, [([], None)], started=time.monotonic())
        item.process = runner._start([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log", None)
        begun.append(item)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return item

    monkeypatch.setattr(runner.Runner, "begin", wait)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        runner.run_sweep(read_sweep(tmp_path / "parts.yaml"), [job], [job], tmp_path / "results", 1, lambda _: None)
    assert begun[0].process is not None
    assert begun[0].process.poll() is not None
    assert signal.getsignal(signal.SIGTERM) == before
