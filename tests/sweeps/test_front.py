"""Quality against latency: which students are timed, which are on the front, which keep a rate, and what is written."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from in_process import call, refused
from PIL import Image
from random_student import write_student
from tiny_data import tiny_cloud

from kd_seg.core.errors import DataError
from kd_seg.sweeps import plan, read_sweep
from kd_seg.sweeps.front import Front, Latency, Student, measure
from kd_seg.sweeps.front_report import markdown, picture

CONFIG = {"data": {"root": "data", "train": ["00"]}, "grid": {"voxel_size": 0.5}, "run": {"steps": 2}}
SWEEP = {
    "name": "sizes",
    "purpose": "Which?",
    "base": "base.yaml",
    "seeds": [0, 1],
    "baseline": "one",
    "eval": [{"name": "streets"}, {"name": "real"}],
    "rows": [{"name": "one"}, {"name": "two"}, {"name": "untrained"}],
}


def student(row: str, first: float, second: float, miou: float, p95: float = 1.2) -> Student:
    latency = {1: Latency(first, p95 * first), 2: Latency(second, p95 * second)}
    return Student(row, "unet nano", 0.2, 1000, 1.5, {"streets": miou + 2.0, "real": miou - 2.0}, latency)


FRONT = Front(
    "sizes", 120_000, (1, 2), (student("b", 40, 25, 33), student("a", 20, 18, 30), student("c", 50, 30, 32)),
)  # fmt: skip


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep of which two rows are finished; their scores differ by seed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(CONFIG))
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    for job in plan(read_sweep("sweep.yaml")):
        if job.row == "untrained":
            continue
        (job.run / "checkpoints").mkdir(parents=True)
        write_student(job.run / "checkpoints" / "last.safetensors")
        for number, name in enumerate(("streets", "real")):
            path = job.result(name)
            path.parent.mkdir(exist_ok=True)
            value = 0.2 + 0.1 * (job.row == "two") + 0.02 * job.seed + 0.1 * number
            path.write_text(json.dumps({"miou": 0.1, "miou_present": value, "miou_hard": 0.1, "iou": {}}))
    return tmp_path


def test_finished_students_are_timed_with_each_number_of_threads(trained: Path) -> None:
    points = tiny_cloud(np.random.default_rng(0))[0]
    before = torch.get_num_threads()
    sweep = read_sweep("sweep.yaml")
    front = measure(sweep, plan(sweep), points, [1, 2], 2)
    assert torch.get_num_threads() == before
    assert [s.row for s in front.students] == ["one", "two"]
    assert front.points == len(points)
    for made, miou in zip(
        front.students, ({"streets": 21.0, "real": 31.0}, {"streets": 31.0, "real": 41.0}), strict=True
    ):
        assert made.miou == pytest.approx(miou)
        assert made.mean == pytest.approx(np.mean(list(miou.values())))
        assert made.voxel == 0.4
        assert made.network == "unet nano"
        assert made.values > 800_000
        assert made.gmacs > 0
        assert set(made.latency) == {1, 2}
        assert all(0 < latency.median <= latency.p95 for latency in made.latency.values())


def test_a_sweep_without_a_finished_row_is_refused(trained: Path) -> None:
    (trained / "sweep.yaml").write_text(yaml.safe_dump({**SWEEP, "name": "other"}))
    sweep = read_sweep("sweep.yaml")
    with pytest.raises(DataError, match="No row of other is trained and scored; run kd-seg sweep first"):
        measure(sweep, plan(sweep), np.zeros((1, 4), np.float32), [1], 1)


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=12))
def test_nobody_beats_the_front_and_it_beats_everybody_else(values: list[tuple[int, int]]) -> None:
    made = Front("x", 1, (1,), tuple(student(str(i), ms, ms, miou) for i, (ms, miou) in enumerate(values)))
    best = made.best(1)
    for other in made.students:
        beaten = [b for b in best if b.latency[1].median <= other.latency[1].median and b.mean >= other.mean]
        assert beaten  # by itself where it is on the front
        if other in best:
            assert beaten == [other]
    assert [b.mean for b in best] == sorted(b.mean for b in best)


def test_the_choice_is_the_best_whose_slow_scans_are_in_time() -> None:
    assert FRONT.choice(10, 1) == FRONT.students[0]
    assert FRONT.choice(1000 / 47, 1) == FRONT.students[1]  # 40 ms, but 48 for 95 of 100
    assert FRONT.choice(1000 / 31, 2) == FRONT.students[0]
    assert FRONT.choice(100, 1) is None


def test_the_table_names_those_on_the_front_and_those_that_keep_the_rate() -> None:
    text = markdown(FRONT, 22)
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows] == ["| row", "| ---", "| **a**", "| **b**", "| c"]
    assert rows[0][5:] == ["ms, one thread: median (p95)", "ms, 2 threads: median (p95)", "streets", "real", "mean |"]
    assert rows[3][1:] == ["unet nano", "0.2 m", "1,000", "1.5", "40 (48)", "25 (30)", "35.0", "31.0", "33.0 |"]
    assert "- 22 Hz with one thread: a, 20 ms (24 for 95 of 100 scans), mean mIoU 30.0." in text
    assert "- 22 Hz with 2 threads: b, 25 ms" in text
    assert "- No student keeps 200 Hz with one thread." in markdown(FRONT, 200)


def test_the_picture_has_a_panel_per_scoring_and_one_for_the_mean() -> None:
    wide = Image.open(io.BytesIO(picture(FRONT, 10)))
    single = Front("x", 1, (1,), tuple(
        Student(s.row, s.network, s.voxel, 1, 1.0, {"streets": s.mean}, s.latency) for s in FRONT.students
    ))  # fmt: skip
    narrow = Image.open(io.BytesIO(picture(single, 10)))
    assert wide.width > 2 * narrow.width - 300
    assert np.asarray(wide.convert("RGB")).std() > 5


def test_the_command_writes_table_and_picture(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = trained / "scan.bin"
    tiny_cloud(np.random.default_rng(0))[0].astype("<f4").tofile(scan)
    done = call(capsys, "bench", "front", "--sweep", "sweep.yaml", "--scan", scan, "--repeats", 1, "--threads", 2)
    assert "10 Hz with 2 threads: two" in done.out
    folder = trained / "results" / "sizes"
    assert json.loads((folder / "front.json").read_text())["students"][1]["row"] == "two"
    assert "![mIoU against latency](front.png)" in (folder / "front.md").read_text()
    assert Image.open(folder / "front.png").width > 300
    assert "add --sweep FILE" in refused(capsys, "bench", "front", code=2)
