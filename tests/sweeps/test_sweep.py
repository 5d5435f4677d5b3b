"""kd-seg sweep: the file, what runs and what does not run again, the statistics, the table."""

import json
import math
from pathlib import Path

import pytest
import yaml
from console_script import kd_seg
from small_sweep import change

from kd_seg.core.errors import DataError
from kd_seg.sweeps import Runner, collect, interval, paired, plan, read_sweep, write_results
from kd_seg.sweeps.mark import Mark
from kd_seg.sweeps.plan import Job
from kd_seg.sweeps.runner import _continued
from kd_seg.sweeps.table import markdown
from kd_seg.training import RunFolder, read_training_config


def test_intervals_against_values_worked_by_hand() -> None:
    made = interval([1.0, 2.0, 3.0])
    assert made is not None
    assert made.mean == pytest.approx(2.0)
    assert made.half == pytest.approx(4.302652729911275 / math.sqrt(3))  # t(0.975, 2) * s / sqrt(n), s = 1
    one = interval([5.0])
    assert one is not None
    assert (one.mean, one.half, one.count) == (5.0, None, 1)
    assert interval([]) is None
    difference = paired({0: 3.0, 1: 5.0, 2: 9.0}, {0: 1.0, 1: 2.0, 7: 0.0})
    assert difference is not None
    assert (difference.mean, difference.count) == (2.5, 2)
    assert difference.half == pytest.approx(12.706204736174707 * math.sqrt(0.5) / math.sqrt(2))


def write_result(job: Job, miou: float, car: float | None) -> None:
    path = job.result("valid")
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"miou": miou, "miou_present": miou, "miou_hard": None, "iou": {"car": car, "pole": 0.25}}
    path.write_text(json.dumps(content))


def test_table_says_what_is_missing_and_pairs_by_seed(folder: Path) -> None:
    sweep = read_sweep("sweep.yaml")
    jobs = plan(sweep)
    by_key = {job.key: job for job in jobs}
    write_result(by_key["plain/0"], 0.10, 0.5)
    write_result(by_key["plain/1"], 0.30, None)
    write_result(by_key["tuned/1"], 0.35, 0.6)
    table = collect(sweep, jobs)
    text = markdown(table)
    assert "| **plain** (baseline) | 2 | 20.0 ± 127.1 | 20.0 ± 127.1 | – | 50.0 | 25.0 ± 0.0 |" in text
    assert "| first | 0 (no finished run) | – |" in text
    assert "| tuned | 1 (missing: seed 0) | 35.0<br>Δ +5.0 |" in text
    assert "- tuned: x" in text
    docs = folder / "docs" / "results.md"
    docs.parent.mkdir()
    docs.write_text("# Results\n\nbefore\n<!-- sweep:small -->\nold\n<!-- /sweep:small -->\nafter\n")
    for _ in range(2):
        write_results(table, jobs, sweep.prepare, folder / "results" / "small", docs)
    written = docs.read_text()
    assert "old" not in written
    assert written.count("Does anything help?") == 1
    assert written.startswith("# Results\n\nbefore\n")
    assert written.endswith("after\n")
    assert (docs.parent / "pictures" / "small.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "results" / "small" / "table.json").read_text())["baseline"] == "plain"
    assert "kd-seg train" in (folder / "results" / "small" / "commands.txt").read_text()


def test_a_table_names_runs_that_were_made_with_other_settings(folder: Path) -> None:
    for job in plan(read_sweep("sweep.yaml")):
        write_result(job, 0.2, None)
        Mark(job).write(trained=True)
    base = folder / "base.yaml"
    base.write_text(base.read_text().replace("voxel_size: 0.5", "voxel_size: 0.6"))
    sweep = read_sweep("sweep.yaml")
    jobs = plan(sweep)
    Mark(jobs[0]).write(trained=True)
    text = markdown(collect(sweep, jobs))
    assert "| **plain** (baseline) | 2 (made with other settings: seed 1) |" in text
    assert "| first | 1 |" in text, "whose cells have a size of their own"
    assert "| tuned | 2 (made with other settings: seed 0, 1) |" in text


def test_a_table_names_scorings_that_were_made_with_other_arguments(folder: Path) -> None:
    for job in plan(read_sweep("sweep.yaml")):
        write_result(job, 0.2, None)
        Mark(job).write(trained=True)
        Mark(job).note_scored("valid")
    sweep = read_sweep(change(folder, eval=[{"name": "valid", "args": "--distances"}]))
    jobs = plan(sweep)
    Mark(jobs[0]).note_scored("valid")
    text = markdown(collect(sweep, jobs))
    assert "| **plain** (baseline) | 2 (made with other settings: seed 1) |" in text
    assert "| first | 1 (made with other settings: seed 1) |" in text


def test_a_broken_result_is_refused(folder: Path) -> None:
    sweep = read_sweep("sweep.yaml")
    jobs = plan(sweep)
    path = jobs[0].result("valid")
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(DataError, match=r"valid\.json is not a result"):
        collect(sweep, jobs)


def test_runs_that_were_not_asked_for_are_left_alone(folder: Path) -> None:
    """Found by reading: --only ROW --overwrite removed state and results of every other row whose settings differ."""
    plain, _, first, tuned, _ = plan(read_sweep("sweep.yaml"))
    for job in (plain, first):
        write_result(job, 0.2, None)
        (job.run / "state.pt").write_bytes(b"")
        (job.run / "sweep.json").write_text(json.dumps({"version": 2, "digest": "other", "trained": True}))
    planned = plan(read_sweep("sweep.yaml"))
    for overwrite in (False, True):
        said: list[str] = []
        failed = Runner(Path("results"), 1, said.append, overwrite).run([tuned], planned)
        assert failed == {"tuned/0": "needs first/1, which was made with other settings; run that first"}
        for job in (plain, first):
            assert job.finished
            assert (job.run / "state.pt").is_file()
            assert json.loads((job.run / "sweep.json").read_text())["digest"] == "other"
    write_result(planned[1], 0.2, None)
    Mark(planned[1]).write(trained=True)
    assert Runner(Path("results"), 1, said.append).run([planned[1]], planned) == {}


def test_a_run_that_was_killed_goes_on_where_it_saved(folder: Path) -> None:
    job = plan(read_sweep("sweep.yaml"))[0]
    runner = Runner(Path("results"), 1, lambda _: None)

    def first_step() -> list[str]:
        return runner.begin(job).steps[0][0]

    assert first_step()[:2] == ["train", "base.yaml"]
    assert first_step()[-1] == "--overwrite"  # killed before the first save
    (job.run / "state.pt").write_bytes(b"")
    assert first_step() == ["train", "--resume", str(job.run)]
    (job.run / "sweep.json").write_text(json.dumps({"digest": job.digest, "trained": True}))
    assert first_step()[:2] == ["eval", str(job.run)]


def test_a_run_that_never_began_takes_other_settings(folder: Path) -> None:
    job = plan(read_sweep("sweep.yaml"))[0]
    job.run.mkdir(parents=True)
    (job.run / "sweep.json").write_text(json.dumps({"version": 2, "digest": "other", "trained": False}))
    runner = Runner(Path("results"), 1, lambda _: None)
    assert runner._is_finished(job) is False
    assert runner.begin(job).steps[0][0][:2] == ["train", "base.yaml"]
    assert Mark(job).fits
    (job.run / "sweep.json").write_text(json.dumps({"version": 2, "digest": "other", "trained": False}))
    (job.run / "state.pt").write_bytes(b"")
    with pytest.raises(DataError, match=r"was made with other settings"):
        runner._is_finished(job)


def test_settings_that_changed_are_refused(folder: Path) -> None:
    job = plan(read_sweep("sweep.yaml"))[0]
    job.run.mkdir(parents=True)
    (job.run / "sweep.json").write_text(json.dumps({"digest": "other", "trained": True}))
    with pytest.raises(DataError, match=r"plain/seed_0 was made with other settings"):
        Runner(Path("results"), 1, lambda _: None).run([job], [job])


def test_overwriting_does_not_resume_what_other_settings_began(folder: Path) -> None:
    job = plan(read_sweep("sweep.yaml"))[0]
    job.run.mkdir(parents=True)
    (job.run / "sweep.json").write_text(json.dumps({"digest": "other", "trained": False}))
    (job.run / "state.pt").write_bytes(b"")
    runner = Runner(Path("results"), 1, lambda _: None, overwrite=True)
    assert not runner._is_finished(job)
    assert runner.begin(job).steps[0][0][:2] == ["train", "base.yaml"]
    runner.begin(job)  # as after a kill before the first save
    assert runner.begin(job).steps[0][0][-1] == "--overwrite"


def test_preparing_is_done_again_for_another_configuration(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd_seg.sweeps.runner.PROGRAM", ("true",))
    said: list[str] = []
    runner = Runner(Path("results"), 1, said.append)
    command = "prepare base.yaml run.steps=5"
    runner.prepare([command])
    runner.prepare([command])
    assert said == [f"kd-seg {command}"]
    base = folder / "base.yaml"
    base.write_text(base.read_text().replace("voxel_size: 0.5", "voxel_size: 0.6"))
    runner.prepare([command, "simulate out"])
    runner.prepare([command, "simulate out"])
    assert said[1:] == [f"kd-seg {command}", "kd-seg simulate out"]


def test_a_training_that_prepares_goes_on_where_it_was_interrupted(folder: Path) -> None:
    """Found by reading: it was begun again, and refused as its run folder was used, for good."""
    command = "train base.yaml run.folder=teacher"
    words = command.split()
    assert _continued(command) == words
    config = read_training_config("base.yaml", words[2:])
    run = RunFolder("teacher")
    run.begin(config, overwrite=False)
    assert _continued(command) == [*words, "--overwrite"], "killed before the first save"
    run.save_state({})
    assert _continued(command) == ["train", "--resume", "teacher"]
    assert _continued(f"{command} optim.lr=0.5") == [*words, "optim.lr=0.5"], "which is refused, as nobody asked for it"
    assert _continued(f"{command} --overwrite") == [*words, "--overwrite"]
    assert _continued("prepare base.yaml") == ["prepare", "base.yaml"]


@pytest.mark.slow
def test_a_sweep_from_start_to_table_and_again(folder: Path) -> None:
    done = kd_seg("sweep", "sweep.yaml", "--jobs", 2, "--json", cwd=folder)
    table = json.loads(done.stdout)
    assert [(line["row"], line["seeds_done"]) for line in table["lines"]] == [
        ("plain", [0, 1]),
        ("first", [1]),
        ("tuned", [0, 1]),
    ]
    assert table["lines"][2]["cells"]["mIoU"]["difference"]["count"] == 2
    metrics = folder / "runs/small/plain/seed_0/metrics.jsonl"
    before = metrics.stat().st_mtime_ns
    (folder / "runs/small/plain/seed_1/evaluations/valid.json").unlink()
    again = kd_seg("sweep", "sweep.yaml", cwd=folder)
    assert metrics.stat().st_mtime_ns == before
    assert "5 runs, 4 of them finished" in again.stderr
    assert (folder / "runs/small/plain/seed_1/evaluations/valid.json").is_file()
    assert "train" not in again.stderr.replace("trained", "")


@pytest.mark.slow
def test_a_failing_run_is_named_and_the_others_go_on(folder: Path) -> None:
    rows = [{"name": "plain"}, {"name": "bad", "set": {"student.size": "huge"}}, {"name": "late", "needs": "bad"}]
    done = kd_seg("sweep", change(folder, rows=rows, seeds=[0]), code=1, cwd=folder)
    assert "2 of 3 runs failed; bad/0: kd-seg train ended with" in done.stderr
    assert "huge" in done.stderr
    assert "| **plain** (baseline) | 1 |" in done.stdout


def old_run(job: Job, **changes: object) -> None:
    """A folder as kd_seg 0.1.0 left it: a digest that no release can compute today, and the resolved configuration."""
    from kd_seg.training import read_training_config

    content = read_training_config(job.config, list(job.overrides)).to_plain()
    content["fusion"]["cloud"]["double_own"] = False
    content["optim"] |= changes
    job.run.mkdir(parents=True)
    (job.run / "config.yaml").write_text(yaml.safe_dump(content))
    (job.run / "sweep.json").write_text(json.dumps({"digest": "of 0.1.0", "trained": True}))
    write_result(job, 0.1, 0.2)


def test_finished_runs_of_the_first_release_stay_finished(folder: Path) -> None:
    jobs = plan(read_sweep("sweep.yaml"))
    old_run(jobs[0])
    said: list[str] = []
    assert Runner(Path("results"), 1, said.append).run([jobs[0]], jobs) == {}
    assert said == ["1 runs, 1 of them finished; 1 side by side"]


def test_a_run_of_the_first_release_with_other_settings_is_refused(folder: Path) -> None:
    jobs = plan(read_sweep("sweep.yaml"))
    old_run(jobs[0], lr=0.5)
    with pytest.raises(DataError, match=r"plain/seed_0 was made with other settings"):
        Runner(Path("results"), 1, lambda _: None).run([jobs[0]], jobs)


def test_a_digest_is_of_what_differs_from_the_defaults(folder: Path) -> None:
    """So that a key which a later release adds leaves finished runs finished."""
    from kd_seg.training import read_training_config

    job = plan(read_sweep("sweep.yaml"))[0]
    changed = read_training_config(job.config, list(job.overrides)).changed()
    assert changed["run"]["steps"] == 3
    assert "optim" not in changed
    assert changed["objectives"] == [{"kind": "supervised"}]
    tuned = read_training_config(job.config, [*job.overrides, "objectives=[{kind: supervised, lovasz: 0.5}]"])
    assert tuned.changed()["objectives"] == [{"kind": "supervised", "lovasz": 0.5}]


def test_a_run_that_is_trained_anew_is_scored_anew(folder: Path) -> None:
    job = plan(read_sweep("sweep.yaml"))[0]
    write_result(job, 0.1, 0.2)
    commands = [command[0] for command, _ in Runner(Path("results"), 1, lambda _: None).begin(job).steps]
    assert commands == ["train", "eval"]
