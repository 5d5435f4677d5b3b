"""What a sweep remembers in a run folder, and what its results write into a document."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kd_seg.core.errors import DataError
from kd_seg.sweeps.mark import Mark
from kd_seg.sweeps.plan import Job, plan, read_sweep
from kd_seg.sweeps.results import _write_section, commands
from kd_seg.sweeps.runner import Runner

SWEEP = """
name: trial
purpose: Two rows.
base: demo_baseline
seeds: [0, 1]
baseline: plain
eval: [{name: valid}, {name: other, args: --sequences 03}]
rows:
  - {name: plain}
  - {name: slow, set: {optim.lr: 1.0e-4}}
"""


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    (tmp_path / "trial.yaml").write_text(SWEEP)
    return plan(read_sweep(tmp_path / "trial.yaml"), tmp_path / "runs")


def test_rows_and_seeds_have_settings_and_folders_of_their_own(jobs: list[Job]) -> None:
    assert [job.key for job in jobs] == ["plain/0", "plain/1", "slow/0", "slow/1"]
    assert len({job.digest for job in jobs}) == 4
    assert len({job.run for job in jobs}) == 4


def test_a_mark_fits_the_settings_it_was_made_with(jobs: list[Job]) -> None:
    mark = Mark(jobs[0])
    assert not mark.exists
    assert not mark.trained
    assert not mark.fits
    mark.write(trained=False)
    again = Mark(jobs[0])
    assert again.exists
    assert again.fits
    assert not again.trained
    again.write(trained=True)
    assert Mark(jobs[0]).trained
    assert not Mark(replace(jobs[0], digest="another")).fits


def test_a_removed_run_is_trained_and_scored_anew(jobs: list[Job]) -> None:
    mark = Mark(jobs[0])
    mark.write(trained=True)
    for name in ("valid", "other"):
        jobs[0].result(name).parent.mkdir(parents=True, exist_ok=True)
        jobs[0].result(name).write_text("{}")
    assert jobs[0].finished
    jobs[0].result("other").unlink()
    assert not jobs[0].finished, "every scoring is asked for"
    mark.remove()
    assert not Mark(jobs[0]).exists
    assert not jobs[0].result("valid").exists()


def test_a_scoring_with_other_arguments_is_made_again(jobs: list[Job], tmp_path: Path) -> None:
    job, runner = jobs[0], Runner(tmp_path / "results", 1, lambda _: None)
    Mark(job).write(trained=True)
    for evaluation in job.evaluations:
        job.result(evaluation.name).parent.mkdir(parents=True, exist_ok=True)
        job.result(evaluation.name).write_text("{}")
    assert runner._is_finished(job), "results of a release that noted no arguments stay"
    for evaluation in job.evaluations:
        Mark(job).note_scored(evaluation.name)
    Mark(job).write(trained=True)
    assert runner._is_finished(job)
    assert Mark(job).fits
    valid, other = job.evaluations
    changed = replace(job, evaluations=(valid, other.model_copy(update={"args": ["--sequences", "04"]})))
    assert not runner._is_finished(changed)
    assert [(command, result) for command, result in runner.begin(changed).steps] == [
        (["eval", str(job.run), "--json", "--sequences", "04"], job.result("other"))
    ]
    assert job.result("valid").is_file()


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"'])
def test_a_broken_mark_is_one_sentence(jobs: list[Job], text: str) -> None:
    jobs[0].run.mkdir(parents=True)
    (jobs[0].run / "sweep.json").write_text(text)
    with pytest.raises(DataError, match=r"sweep\.json is broken; .*--overwrite"):
        Mark(jobs[0])


def test_a_mark_of_this_release_is_not_saved_by_equal_settings(jobs: list[Job]) -> None:
    Mark(jobs[0]).write(trained=True)
    path = jobs[0].run / "sweep.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "digest": "of before"}))
    assert not Mark(jobs[0]).fits


def test_commands_by_hand_hold_every_run_and_scoring(jobs: list[Job]) -> None:
    text = commands(jobs, ["prepare x.yaml"]).splitlines()
    assert text[0] == "kd-seg prepare x.yaml"
    assert sum("kd-seg train" in line for line in text) == 4
    assert sum("kd-seg eval" in line for line in text) == 8
    assert sum(line.endswith("--json --sequences 03") for line in text) == 4


def test_a_document_keeps_what_stands_around_a_section(tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    _write_section(path, "a", "first\n")
    _write_section(path, "b", "second\n")
    path.write_text(path.read_text() + "\nmine\n")
    _write_section(path, "a", "changed \\1 \\g<0>\n")
    text = path.read_text()
    assert "first" not in text
    assert "changed \\1 \\g<0>" in text
    assert text.count("second") == text.count("mine") == text.count("<!-- sweep:a -->") == 1
    assert text.index("changed") < text.index("second") < text.index("mine")
