"""The file of a sweep: what it plans, what is refused, and the job arrays that it becomes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from console_script import kd_seg
from small_sweep import change

from kd_seg.core.errors import ConfigError
from kd_seg.sweeps import array_script, plan, read_sweep
from kd_seg.sweeps.slurm import stages
from kd_seg.training import read_training_config


def test_plan_puts_needed_runs_first_and_fills_in_their_checkpoints(folder: Path) -> None:
    jobs = {job.key: job for job in plan(read_sweep("sweep.yaml"))}
    assert list(jobs) == ["plain/0", "plain/1", "first/1", "tuned/0", "tuned/1"]
    assert jobs["tuned/0"].needs == "first/1"
    checkpoint = "runs/small/first/seed_1/checkpoints/last.safetensors"
    assert f"student.init={checkpoint}" in jobs["tuned/0"].overrides
    assert "run.steps=3" in jobs["plain/0"].overrides
    assert {"run.seed=0", "run.folder=runs/small/plain/seed_0"} <= set(jobs["plain/0"].overrides)
    assert len({job.digest for job in jobs.values()}) == 5
    assert [[job.key for job in stage] for stage in stages(list(jobs.values()))] == [
        ["plain/0", "plain/1", "first/1"],
        ["tuned/0", "tuned/1"],
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "none"}, r"baseline 'none' is none of the rows \(plain, first, tuned\)"),
        ({"rows": [{"name": "plain"}, {"name": "plain"}]}, "two rows are called 'plain'"),
        ({"rows": [{"name": "plain", "needs": "x"}]}, "row 'plain' needs 'x', which is none of the rows"),
        ({"rows": [{"name": "plain", "needs": "b"}, {"name": "b", "needs": "plain"}]}, "needs itself"),
        ({"rows": [{"name": "plain", "sets": {}}]}, r"unknown key 'rows\.0\.sets'; did you mean 'set'"),
        ({"rows": [{"name": "a/b"}]}, r"rows\.0\.name"),
        ({"seeds": []}, "seeds"),
        ({"set": {"run.seed": 3}}, "set has run.seed, which the sweep gives each run"),
        ({"rows": [{"name": "plain", "set": {"run.folder": "here"}}]}, "row 'plain' has run.folder"),
        ({"prepare": ["train 'x"]}, "prepare: .*is no command"),
        ({"prepare": [" "]}, "prepare: a command is empty"),
        ({"eval": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}, "two scorings of eval are called 'a'"),
        (
            {"rows": [{"name": "plain", "eval": [{"name": "a"}, {"name": "a", "args": "--distances"}]}]},
            "two scorings of row 'plain' are called 'a'",
        ),
    ],
)
def test_wrong_sweep_files(folder: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_sweep(change(folder, **changes))


def test_a_sweep_and_a_training_configuration_are_not_taken_for_each_other(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"general\.yaml is a training configuration.*run kd-seg train general\."):
        read_sweep("general")
    with pytest.raises(ConfigError, match=r"is a sweep of several trainings; run kd-seg sweep sweep\.yaml\."):
        read_training_config("sweep.yaml", [])


def test_wrong_overrides_are_found_before_anything_runs(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'optim\.rate'"):
        plan(read_sweep(change(folder, rows=[{"name": "plain", "set": {"optim.rate": 1}}])))
    with pytest.raises(ConfigError, match=r"small: classes: There is no class 'trukc' in semantic_kitti_19"):
        plan(read_sweep(change(folder, classes=["car", "trukc"])))
    with pytest.raises(ConfigError, match="needs no other row"):
        plan(read_sweep(change(folder, rows=[{"name": "plain", "set": {"student.init": "{needs.checkpoint}"}}])))


def test_slurm_prints_every_run_once(folder: Path) -> None:
    sweep = read_sweep("sweep.yaml")
    text = array_script("sweep.yaml", ["prepare base.yaml"], plan(sweep))
    assert text.count("--only") == 5
    assert "#SBATCH --array=0-2" in text
    assert "stage 2 of 2" in text
    assert kd_seg("sweep", "sweep.yaml", "--slurm", cwd=folder).stdout.count("--only") == 5


@pytest.mark.parametrize("path", ["my sweeps/it's $one.yaml", "plain.yaml"])
def test_a_task_of_slurm_runs_its_command_whatever_the_sweep_is_called(folder: Path, path: str) -> None:
    text = array_script(path, [], plan(read_sweep("sweep.yaml")))
    script = text[text.index("#!/bin/bash") : text.index("# ---- stage 2")]
    called = folder / "kd-seg"
    called.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    called.chmod(0o755)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "1"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines() == ["sweep", path, "--only", "plain/1"]


def test_slurm_prints_the_runs_that_were_asked_for(folder: Path) -> None:
    text = kd_seg("sweep", "sweep.yaml", "--slurm", "--only", "tuned", "--only", "plain/0", "--overwrite", cwd=folder)
    tasks = [line.strip(" '").split() for line in text.stdout.splitlines() if "--only" in line]
    assert [task[task.index("--only") + 1] for task in tasks] == ["plain/0", "tuned/0", "tuned/1"]
    assert all(task[-1] == "--overwrite" for task in tasks)
