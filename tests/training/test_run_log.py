"""What a run writes: terms of all batches, logs that are trimmed, a folder that owns its files, a profile."""

import json

import pytest
import torch
from tiny_data import write_tiny

from kd_seg.objectives import OBJECTIVES, Term
from kd_seg.training import RunFolder, Trainer, read_training_config
from kd_seg.training.profiling import profiled
from kd_seg.training.run_log import Totals

CONFIG = """
data: {train: ["00"], valid: ["01"]}
grid: {voxel_size: 0.8}
run: {steps: 2, batch: 1, workers: 0, threads: 1, log_every: 1, device: cpu}
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


def metrics(config):
    return [json.loads(line) for line in RunFolder(config.run.folder).metrics.read_text().splitlines()]


def test_a_step_of_several_batches_logs_the_mean_of_all(make_config, monkeypatch):
    seen = []
    supervised = OBJECTIVES.get("supervised")
    terms = supervised.terms

    def watched(self, batch, output, step):
        made = terms(self, batch, output, step)
        seen.append({name: (float(term.value.detach()), term.count) for name, term in made.items()})
        return made

    monkeypatch.setattr(supervised, "terms", watched)
    made = make_config("optim.accumulation=3", "run.log_every=2")
    Trainer(made).fit()
    (line,) = metrics(made)
    assert len(seen) == 6
    for name in ("ce", "lovasz"):
        values, counts = zip(*(batch[name] for batch in seen), strict=True)
        assert line["terms"][name]["value"] == pytest.approx(sum(values) / 6)
        assert line["terms"][name]["count"] == round(sum(counts) / 6)
    weighted = sum(term["value"] * term["weight"] for term in line["terms"].values())
    assert line["loss"] == pytest.approx(weighted, rel=1e-5)


def test_a_term_that_some_batches_lack_is_averaged_over_those_that_have_it():
    totals = Totals()
    totals.add_batch({"a": Term(torch.tensor(2.0), 1.0, 10)}, points=7)
    totals.add_batch({"a": Term(torch.tensor(4.0), 0.5, 20), "b": Term(torch.tensor(1.0), 1.0, 3)}, points=5)
    assert totals.means() == {
        "a": {"value": 3.0, "weight": 0.5, "count": 15},
        "b": {"value": 1.0, "weight": 1.0, "count": 3},
    }
    assert totals.points == 12


def test_logs_forget_what_came_after_the_step_that_is_resumed(tmp_path):
    run = RunFolder(tmp_path)
    for step in (2, 4, 6):
        run.record("units", step, {"epoch": step // 2, "round": step // 2})
        run.record("metrics", step, {})
    with run.metrics.open("a") as file:
        file.write('{"step": 8, "los')  # cut off by a kill
    run.trim(4, epoch_steps=2)
    assert [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()] == [2, 4]
    assert [json.loads(line)["round"] for line in run.log("units").read_text().splitlines()] == [1, 2]


def test_a_log_of_the_first_release_is_trimmed_by_its_epochs(tmp_path):
    run = RunFolder(tmp_path)
    run.log("units").write_text("".join(json.dumps({"epoch": n, "round": n}) + "\n" for n in (1, 2, 3)))
    run.trim(25, epoch_steps=10)
    assert [json.loads(line)["round"] for line in run.log("units").read_text().splitlines()] == [1, 2]


def test_a_replaced_run_leaves_nothing_of_the_old_one(make_config):
    made = make_config("run.steps=1")
    Trainer(made).fit()
    run = RunFolder(made.run.folder)
    run.record("units", 1, {"round": 1})
    left = [run.evaluation, run.report, run.profile, run.trace, run.best, run.evaluations / "valid.json"]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_text("old")
    (run.path / "notes.txt").write_text("mine")
    run.begin(made, overwrite=True)
    found = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    assert found == {"config.yaml", "environment.json", "notes.txt"}


def test_a_profile_is_a_table_and_a_timeline_of_ten_steps(make_config):
    made = make_config("run.steps=15")
    trainer = Trainer(made)
    with profiled(trainer.run, 15) as after_step:
        trainer.fit(after_step)
    assert trainer.progress.step == 15
    table = trainer.run.profile.read_text()
    assert all(f"kd_seg: {part}" in table for part in ("forward", "backward", "update", "objectives"))
    events = json.loads(trainer.run.trace.read_text())["traceEvents"]
    assert sum(event.get("name") == "kd_seg: update" for event in events) == 10
    assert metrics(made)[-1]["step"] == 15


def test_a_short_run_is_profiled_as_far_as_it_goes(make_config):
    trainer = Trainer(make_config("run.steps=2"))
    with profiled(trainer.run, 2) as after_step:
        trainer.fit(after_step)
    assert "kd_seg: forward" in trainer.run.profile.read_text()
    assert trainer.run.trace.is_file()
