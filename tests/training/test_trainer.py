"""The Trainer: learns, saves whole files, resumes to the same weights, refuses used folders, runs on two processes."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_data import write_tiny

from kd_seg.checkpoint import load_checkpoint, read_tensors, save_checkpoint
from kd_seg.core.errors import ConfigError, DataError, KdSegError, UsageError
from kd_seg.scans import Cloud
from kd_seg.training import RunFolder, Trainer, read_training_config
from kd_seg.training.augment import augment
from kd_seg.training.config import AugmentSettings, OptimSettings
from kd_seg.training.distributed import Processes
from kd_seg.training.loader import choose_labelled
from kd_seg.training.optimisation import rate

CONFIG = """
data: {train: ["00"], valid: ["01"]}
grid: {voxel_size: 0.4}
augment: {rotation_deg: 10, drop: 0.1, remission_noise: 0.05}
optim: {lr: 5.0e-3}
run: {steps: 8, batch: 1, workers: 0, threads: 1, log_every: 2, save_every: 3, device: cpu}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def make_config(root, tmp_path):
    (tmp_path / "c.yaml").write_text(CONFIG)

    def build(*overrides):
        folder = f"run.folder={tmp_path / 'run'}"
        return read_training_config(tmp_path / "c.yaml", [f"data.root={root}", folder, *overrides])

    return build


def weights(config):
    return read_tensors(RunFolder(config.run.folder).last)


def test_a_student_learns_three_shapes(make_config):
    made = make_config("run.steps=40", "augment.drop=0", "run.log_every=5")
    Trainer(made).fit()
    lines = [json.loads(line) for line in RunFolder(made.run.folder).metrics.read_text().splitlines()]
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert {"ce", "lovasz"} == set(lines[0]["terms"])
    assert lines[-1]["terms"]["ce"]["count"] > 1000
    assert load_checkpoint(RunFolder(made.run.folder).last).spec.training["steps"] == 40


@pytest.mark.parametrize("left", ["an older checkpoint", "half a checkpoint", "none"])
def test_a_kill_between_state_and_checkpoint_is_made_good(make_config, tmp_path, left):
    """Found by killing at random moments: a run resumed at its last step kept the checkpoint of an earlier one."""
    made = make_config()
    kept = []
    last = RunFolder(made.run.folder).last
    Trainer(made, lambda line: kept.append(last.read_bytes()) if line["step"] == 6 else None).fit()
    wanted = weights(made)
    last.write_bytes({"an older checkpoint": kept[0], "half a checkpoint": kept[0][:1000], "none": b""}[left])
    if left == "none":
        last.unlink()
    Trainer(made, resume=True).fit()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in weights(made).items())
    assert load_checkpoint(last).spec.training["steps"] == 8


@pytest.mark.parametrize("workers", [0, 1])
def test_resume_after_any_stop_gives_the_same_weights(make_config, tmp_path, workers):
    settings = (f"run.workers={workers}",)
    whole = make_config(*settings, f"run.folder={tmp_path / 'whole'}")
    Trainer(whole).fit()

    class Stop(Exception):
        pass

    def stop_at_four(line):
        if line["step"] == 4:
            raise Stop

    part = make_config(*settings)
    with pytest.raises(Stop):
        Trainer(part, stop_at_four).fit()
    Trainer(part, resume=True).fit()
    ours, theirs = weights(part), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    lines = [json.loads(line)["step"] for line in RunFolder(part.run.folder).metrics.read_text().splitlines()]
    assert lines == [2, 4, 6, 8]


def test_each_process_draws_apart_and_the_same_again_when_resumed(make_config):
    """What a loss draws at a step may depend on the process, never on what was drawn before."""
    made = make_config("run.steps=3")

    def draws(rank, resume=False):
        trainer = Trainer(made, resume=resume, overwrite=not resume)
        trainer.processes = Processes(rank)
        found = []
        terms = trainer._terms
        trainer._terms = lambda batch, output: found.append(torch.rand(2 + rank).tolist()) or terms(batch, output)
        trainer.progress.total = 3
        trainer.fit()
        return found

    other = draws(1)  # a process that saves nothing
    first = draws(0)
    assert [a[:2] for a in first] != [b[:2] for b in other]
    state = RunFolder(made.run.folder).read_state()
    RunFolder(made.run.folder).save_state(state | {"step": 1})
    assert draws(0, resume=True) == first[1:]
    RunFolder(made.run.folder).save_state(state | {"step": 1})
    assert draws(1, resume=True) == other[1:]


@pytest.mark.slow
def test_resume_after_sigkill(make_config, tmp_path, root):
    whole = make_config(f"run.folder={tmp_path / 'whole'}", "run.steps=24")
    Trainer(whole).fit()
    part = make_config("run.steps=24")
    config = tmp_path / "c.yaml"
    command = [sys.executable, "-m", "kd_seg.cli.main", "train"]
    arguments = [str(config), f"data.root={root}", f"run.folder={part.run.folder}", "run.steps=24"]
    process = subprocess.Popen([*command, *arguments], stderr=subprocess.DEVNULL)
    state = RunFolder(part.run.folder).state
    for _ in range(600):
        if state.exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run([*command, "--resume", str(part.run.folder)], check=True, stderr=subprocess.DEVNULL)
    ours, theirs = weights(part), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_used_folder_is_refused_then_replaced(make_config):
    made = make_config("run.steps=1")
    Trainer(made).fit()
    with pytest.raises(UsageError, match="already holds a run"):
        Trainer(made)
    Trainer(made, overwrite=True).fit()


def test_a_run_is_replaced_once_nothing_can_be_refused_any_more(make_config, tmp_path):
    """Found by reading: --overwrite removed the run, and then student.init turned out not to be one to start from."""
    made = make_config("run.steps=1")
    Trainer(made).fit()
    run = RunFolder(made.run.folder)
    before, loaded = run.last.read_bytes(), load_checkpoint(run.last)
    save_checkpoint(tmp_path / "old.safetensors", loaded.network, replace(loaded.spec, input_intensity="byte"))
    with pytest.raises(KdSegError, match="takes intensities of 0 to 255"):
        Trainer(make_config(f"student.init={tmp_path / 'old.safetensors'}"), overwrite=True)
    assert run.last.read_bytes() == before
    assert run.state.is_file()
    again = Trainer(make_config("run.steps=1", f"student.init={run.path}"), overwrite=True)
    assert again.fresh == []
    again.fit()
    assert load_checkpoint(run.last).spec.training["init"]["steps"] == 1


def test_a_folder_that_is_half_cleared_is_still_a_used_one(make_config, monkeypatch):
    """Else a run would begin there, and go on from the state of the other after a kill."""
    made = make_config("run.steps=1")
    Trainer(made).fit()
    run = RunFolder(made.run.folder)
    unlink = Path.unlink

    def killed(path, missing_ok=False):
        if path == run.state:
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            Trainer(made, overwrite=True)
    with pytest.raises(UsageError, match="already holds a run"):
        Trainer(made)


def test_a_run_folder_is_needed_to_resume(make_config, tmp_path):
    with pytest.raises(DataError, match=r"no config\.yaml"):
        RunFolder(tmp_path).read_config()
    with pytest.raises(DataError, match=r"no state\.pt"):
        Trainer(make_config(), resume=True)


@pytest.mark.parametrize(
    "change",
    [
        "student.size=small",
        "optim.optimiser=sgd",
        "optim.backbone_lr=0.1",
        "objectives=[{kind: supervised}, {kind: supervised}]",
        "another file",
    ],
)
def test_a_state_of_other_settings_is_one_sentence(make_config, change):
    made = make_config("run.steps=1")
    Trainer(made).fit()
    if change == "another file":
        RunFolder(made.run.folder).save_state({"student": {}})
    changed = make_config("run.steps=2", *([change] if "=" in change else []))
    with pytest.raises(DataError, match=r"state\.pt does not fit config\.yaml and the data as they are now \(.+\);"):
        Trainer(changed, resume=True)


def test_the_resolved_configuration_reads_back(make_config):
    made = make_config("run.steps=1")
    Trainer(made).fit()
    assert RunFolder(made.run.folder).read_config() == made
    environment = json.loads(RunFolder(made.run.folder).environment.read_text())
    assert environment["versions"]["torch"] == torch.__version__.split("+")[0] or environment["versions"]["torch"]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("optim.lrr=1", "unknown key 'optim.lrr'; did you mean 'lr'"),
        ("optim.lr=fast", "optim.lr: .*valid number"),
        ("run.epochs=2", "give exactly one of epochs, steps and minutes"),
        ("objectives=[]", "at least one objective"),
        ("objectives=[{kind: superwised}]", "did you mean 'supervised'"),
        ("objectives=[{kind: supervised, lovas: 1}]", "did you mean 'lovasz'"),
        ("student.features=[xyz, colour]", "unknown point feature 'colour'"),
        ("run.threads=100000", "run.threads: .*less than or equal to 1024"),
        ("student.features=[]", "student.features: .*at least 1 item"),
        ("run.seed=99999999999999999999999", "run.seed: .*less than 9223372036854775808"),
        ("augment.intensity.gamma=[0, 3]", r"intensity.gamma: \[0.0, 3.0\] is no range"),
        ("augment.intensity.median=[0.5, 0.1]", r"intensity.median: \[0.5, 0.1\] is no range"),
        ("augment.intensity.steps=[]", "intensity.steps: .*at least 1 item"),
        ("augment.intensity.steps=[255, 0]", "intensity.steps.1: .*greater than or equal to 1"),
        ("data.train=[07]", "has no sequence 07; it has: 00, 01"),
    ],
)
def test_wrong_settings_are_named(make_config, override, says):
    with pytest.raises((ConfigError, DataError), match=says):
        Trainer(make_config(override))


def test_a_nan_ends_the_run_with_its_term(make_config, monkeypatch):
    import kd_seg.objectives.supervised.objective as supervised

    monkeypatch.setattr(supervised, "lovasz_softmax", lambda z, y: (z.sum() * float("nan"), 1))
    with pytest.raises(Exception, match=r"became nan at step 0 \(term lovasz\)"):
        Trainer(make_config()).fit()


def test_a_step_that_fails_leaves_the_state_saved_last(make_config, monkeypatch):
    import kd_seg.objectives.supervised.objective as supervised

    whole = make_config()
    Trainer(whole).fit()
    expected = weights(whole)
    trainer = Trainer(make_config(), overwrite=True)
    lovasz = supervised.lovasz_softmax

    def diverging(logits, labels):
        value, count = lovasz(logits, labels)
        return value * float("nan" if trainer.progress.step == 5 else 1), count

    with monkeypatch.context() as patch:
        patch.setattr(supervised, "lovasz_softmax", diverging)
        with pytest.raises(KdSegError, match="became nan at step 5"):
            trainer.fit()
    assert RunFolder(whole.run.folder).read_state()["step"] == 3
    assert load_checkpoint(RunFolder(whole.run.folder).last).spec.training["steps"] == 3
    Trainer(make_config(), resume=True).fit()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(whole).items())


def test_few_labels_are_nested_and_at_least_one():
    keys = [("00", i) for i in range(200)]
    one, ten, everything = (choose_labelled(keys, f, seed=3) for f in (0.01, 0.1, 1.0))
    assert (len(one), len(ten), len(everything)) == (2, 20, 200)
    assert one < ten
    assert len(choose_labelled(keys[:5], 0.01, seed=0)) == 1


@pytest.mark.slow
def test_two_processes_train_one_student(make_config, tmp_path, root):
    made = make_config()
    arguments = [str(tmp_path / "c.yaml"), f"data.root={root}", f"run.folder={made.run.folder}", "run.steps=4"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29611"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*launcher, "-m", "kd_seg.cli.main", "train", *arguments], check=True, env=environment)
    assert load_checkpoint(RunFolder(made.run.folder).last).spec.training["steps"] == 4


def test_processes_go_by_the_clock_of_the_first(make_config, monkeypatch):
    """Each by its own they would take other learning rates, and the one to end first would leave the others waiting."""
    monkeypatch.setattr(torch.distributed, "broadcast", lambda clock, first: clock.fill_(9.0))
    by_clock = Trainer(make_config("run.steps=null", "run.minutes=1"))
    by_clock._advance(5.0)
    assert by_clock.progress.spent == 5.0
    by_clock.processes = Processes(1, 2)
    by_clock._advance(5.0)
    assert by_clock.progress.spent == 9.0
    by_steps = Trainer(make_config(), overwrite=True)
    by_steps.processes = Processes(1, 2)
    by_steps._advance(5.0)
    assert by_steps.progress.spent == 5.0


def test_rates_rise_and_fall():
    one_cycle = OptimSettings(lr=1.0, warmup=0.1, final_lr=0.01)
    assert rate(0.0, one_cycle) == pytest.approx(0.04)
    assert rate(0.1, one_cycle) == pytest.approx(1.0)
    assert rate(1.0, one_cycle) == pytest.approx(0.01)
    assert rate(0.55, one_cycle) == pytest.approx(0.01 + 0.99 * 0.5)
    constant = OptimSettings(lr=1.0, warmup=0.0, schedule="constant")
    assert [rate(p, constant) for p in (0.0, 0.5, 1.0)] == [1.0, 1.0, 1.0]


def test_one_transform_for_all_rows(make_config):
    rng = np.random.default_rng(0)
    points = np.repeat(rng.normal(size=(50, 4)).astype(np.float32), 2, axis=0)
    points = np.concatenate([points[::2], points[1::2]])  # rows 50.. are twins of rows 0..49
    zeros = np.zeros(100)
    cloud = Cloud(
        points,
        zeros.astype(np.uint32),
        zeros.astype(np.int8),
        zeros.astype(np.uint8),
        np.arange(100, dtype=np.int32),
        50,
    )
    out = augment(cloud, AugmentSettings(drop=0.5), rng)
    kept = out.source[: out.own]
    assert 0 < out.own < 50
    assert len(out) == out.own + 50
    np.testing.assert_array_equal(out.points[: out.own], out.points[out.own :][kept])
    before = np.linalg.norm(points[0, :3] - points[1, :3])
    after = np.linalg.norm(out.points[out.own, :3] - out.points[out.own + 1, :3])
    assert after / before == pytest.approx(1.0, abs=0.0501)


def test_every_cloud_is_jittered_by_a_strength_of_its_own():
    count = 2000
    cloud = Cloud(
        np.zeros((count, 4), np.float32),
        np.zeros(count, np.uint32),
        np.zeros(count, np.int8),
        np.zeros(count, np.uint8),
        np.arange(count, dtype=np.int32),
        count,
    )
    settings = AugmentSettings(rotation_deg=0, flip=False, scale=0, translation_m=(0, 0, 0), jitter_m=0.02)
    spreads = [augment(cloud, settings, np.random.default_rng(seed)).points[:, :3].std() for seed in range(40)]
    assert max(spreads) < 0.0205
    assert np.quantile(spreads, 0.9) > 0.014
    assert np.quantile(spreads, 0.1) < 0.006


def test_best_is_chosen_on_held_back_training_scans_only(make_config):
    asked = []

    def score(path):
        asked.append(load_checkpoint(path).spec.training["steps"])
        return [0.3, 0.5, 0.4][len(asked) - 1]

    made = make_config('data.train=["00", "01"]', "data.valid=[]", 'data.select=["01"]')
    trainer = Trainer(made, score=score)
    assert {sequence for sequence, _ in trainer.parts.keys} == {"00"}
    trainer.fit()
    assert asked == [3, 6, 8]
    run = RunFolder(made.run.folder)
    assert load_checkpoint(run.best).spec.training["steps"] == 6
    plain = make_config("run.folder=" + str(run.path.parent / "plain"))
    Trainer(plain, score=lambda path: pytest.fail("asked without data.select")).fit()
    assert not RunFolder(plain.run.folder).best.exists()
