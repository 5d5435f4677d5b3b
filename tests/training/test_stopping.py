"""Ctrl-C while a run trains, saves or scores: state and checkpoint of one step, and resuming as if it had not been."""

import multiprocessing
import os
import signal
import time

import pytest
import torch
from tiny_data import write_tiny

import kd_seg.training.saving as saving
from kd_seg.checkpoint import load_checkpoint, read_tensors
from kd_seg.core.errors import KdSegError
from kd_seg.training import RunFolder, Trainer, read_training_config

CONFIG = """
data: {train: ["00", "01"], valid: [], select: ["01"]}
grid: {voxel_size: 0.8}
run: {steps: 8, batch: 1, workers: 0, threads: 1, log_every: 1, save_every: 3, device: cpu}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("tiny"), scans=2)


@pytest.fixture
def make_config(root, tmp_path):
    (tmp_path / "c.yaml").write_text(CONFIG)

    def build(name, *overrides):
        folder = f"run.folder={tmp_path / name}"
        return read_training_config(tmp_path / "c.yaml", [f"data.root={root}", folder, *overrides])

    return build


def press(times=1):
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)


def steps_on_disk(config):
    run = RunFolder(config.run.folder)
    return run.read_state()["step"], load_checkpoint(run.last).spec.training["steps"]


def stop_at(step, times=1):
    def report(line):
        if line["step"] == step:
            press(times)

    return report


def test_a_stopped_run_saves_without_scoring_and_resumes_to_the_same_weights(make_config):
    asked = []

    def score(path):
        asked.append(load_checkpoint(path).spec.training["steps"])
        return 0.5

    whole, part = make_config("whole"), make_config("part")
    Trainer(whole, score=score).fit()
    assert asked == [3, 6, 8]
    asked.clear()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        Trainer(part, stop_at(4), score=score).fit()
    assert signal.getsignal(signal.SIGINT) is before
    assert asked == [3]
    assert steps_on_disk(part) == (4, 4)
    Trainer(part, resume=True, score=score).fit()
    ours, theirs = (read_tensors(RunFolder(made.run.folder).last) for made in (part, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_step_in_hand_is_finished_first(make_config, monkeypatch):
    made = make_config("run")
    trainer = Trainer(made)
    terms = trainer._terms

    def pressed_within(batch, output):
        if trainer.progress.step == 4:
            press()
        return terms(batch, output)

    monkeypatch.setattr(trainer, "_terms", pressed_within)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert steps_on_disk(made) == (5, 5)


def test_workers_leave_ctrl_c_to_the_trainer(make_config):
    """A terminal sends it to all of them; each would tell that it stops after this step, and end at the second."""
    trainer = Trainer(make_config("run", "run.workers=1"))
    source = trainer._batches()
    next(source)
    (worker,) = multiprocessing.active_children()
    for _ in range(3):
        os.kill(worker.pid, signal.SIGINT)
    assert [next(source).batch_size for _ in range(7)] == [1] * 7


@pytest.mark.parametrize(
    ("number", "says"), [(signal.SIGKILL, "was killed, perhaps for want of memory"), (signal.SIGBUS, "--shm-size")]
)
def test_a_killed_worker_is_one_sentence_and_the_run_goes_on(make_config, number, says):
    made = make_config("run", "run.workers=1")

    def kill(line):
        if line["step"] == 2:
            (worker,) = multiprocessing.active_children()
            os.kill(worker.pid, number)
            time.sleep(0.5)

    with pytest.raises(KdSegError, match=says):
        Trainer(made, kill).fit()
    assert steps_on_disk(made) == (2, 2)
    Trainer(made, resume=True).fit()
    assert steps_on_disk(made) == (8, 8)


def test_a_second_press_ends_the_step_at_once_at_the_state_saved_last(make_config, monkeypatch):
    made = make_config("run")
    trainer = Trainer(made)
    update = trainer._update

    def pressed_before_update():
        if trainer.progress.step == 4:
            press(2)
        update()

    monkeypatch.setattr(trainer, "_update", pressed_before_update)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert steps_on_disk(made) == (3, 3)
    Trainer(made, resume=True).fit()
    assert steps_on_disk(made) == (8, 8)


@pytest.mark.parametrize("where", ["save_state", "save_checkpoint"])
def test_presses_while_files_are_written_leave_both_of_one_step(make_config, monkeypatch, where):
    made = make_config("run")
    holder = saving.RunFolder if where == "save_state" else saving
    write = getattr(holder, where)

    def pressed(*arguments):
        press(3)
        write(*arguments)

    monkeypatch.setattr(holder, where, pressed)
    with pytest.raises(KeyboardInterrupt):
        Trainer(made, stop_at(2)).fit()
    assert steps_on_disk(made) == (2, 2)


def test_a_scoring_ends_at_the_first_press(make_config):
    def score(path):
        press()
        pytest.fail("the scoring went on")

    made = make_config("run")
    with pytest.raises(KeyboardInterrupt):
        Trainer(made, score=score).fit()
    assert steps_on_disk(made) == (3, 3)
    scored = []
    Trainer(made, resume=True, score=lambda path: scored.append(path) or 0.1).fit()
    assert len(scored) == 3  # at 3, 6 and 8


@pytest.mark.parametrize("step", [3, 6])
def test_a_run_stopped_where_it_would_have_been_scored_keeps_the_best_of_all(make_config, step):
    """Found by reading: a Ctrl-C in that very step left its checkpoint out of the choice of the best."""
    scores = {3: 0.5, 6: 0.7, 8: 0.6}

    def score(path):
        return scores[load_checkpoint(path).spec.training["steps"]]

    whole, part = make_config("whole"), make_config("part")
    Trainer(whole, score=score).fit()
    with pytest.raises(KeyboardInterrupt):
        Trainer(part, stop_at(step), score=score).fit()
    Trainer(part, resume=True, score=score).fit()
    best = [load_checkpoint(RunFolder(made.run.folder).best).spec.training["steps"] for made in (whole, part)]
    assert best == [6, 6]


def test_a_run_that_ended_in_its_last_scoring_scores_when_resumed(make_config):
    def score(path):
        if load_checkpoint(path).spec.training["steps"] == 8:
            raise KeyboardInterrupt
        return 0.1

    made = make_config("run")
    with pytest.raises(KeyboardInterrupt):
        Trainer(made, score=score).fit()
    Trainer(made, resume=True, score=lambda path: 0.9).fit()
    run = RunFolder(made.run.folder)
    assert load_checkpoint(run.best).spec.training["steps"] == 8
    assert run.read_state()["best"] == 0.9


def test_a_checkpoint_is_scored_where_the_run_trains(make_config, monkeypatch):
    import kd_seg.evaluation.held_back as held_back

    asked = []

    class Recorded(held_back.Segmenter):
        def __init__(self, *arguments, **settings):
            asked.append(settings)
            super().__init__(*arguments, **settings)

    made = make_config("run", "run.steps=1")
    Trainer(made).fit()
    monkeypatch.setattr(held_back, "Segmenter", Recorded)
    score = held_back.score_of(made)
    assert score is not None
    assert 0.0 <= score(RunFolder(made.run.folder).last) <= 1.0
    assert asked == [{"device": "cpu", "num_threads": 1}]
