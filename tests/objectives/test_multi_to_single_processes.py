"""Multi-to-single under torchrun: two processes over gloo, every kind of teacher, and a resume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from instances_world import make_world, work

from kd_seg.checkpoint import load_checkpoint
from kd_seg.training import RunFolder, read_training_config
from kd_seg.training.prepare import prepare

CONFIG = """
data: {root: ROOT, train: ["00"]}
grid: {voxel_size: 0.4}
fusion: {cloud: {skip: 0.0}}
objectives:
  - {kind: supervised}
  - {kind: multi_to_single, teacher: {mode: ema}, ramp: 0.0, affinity: {memory: true}}
run: {steps: 2, batch: 1, workers: 0, threads: 1, log_every: 1, device: cpu}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = make_world(tmp_path_factory.mktemp("world"), scans=6, background=1500)
    path = world.root / "config.yaml"
    path.write_text(CONFIG.replace("ROOT", str(world.root)))
    prepare(read_training_config(path, ["run.folder=unused"]), work())
    return path


def torchrun(*arguments: str, processes: int = 2) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["-m", "kd_seg.cli.main", "train", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["shared", "ema", "separate"])
def test_two_processes_train_with_each_teacher(config: Path, tmp_path: Path, mode: str) -> None:
    run = tmp_path / "run"
    settings = [f"objectives.1.teacher.mode={mode}"]
    if mode == "separate":
        torchrun(
            str(config), "student.input=fused", "objectives=[{kind: supervised}]", f"run.folder={tmp_path / 'teacher'}"
        )
        settings.append(f"objectives.1.teacher.checkpoint={tmp_path / 'teacher'}")
    torchrun(str(config), f"run.folder={run}", *settings)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    for name in ("kd", "feature_enc1", "aff_within", "aff_between", "aff_row"):
        assert name in lines[-1]["terms"]
    load_checkpoint(run / "checkpoints" / "last.safetensors")
    state = RunFolder(run).read_state()
    assert bool(state["objectives"][1]["student_filled"].any())
