"""report.html: complete in itself, right in its numbers, readable without pictures."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from console_script import kd_seg
from random_student import write_student

from kd_seg.classes import load_classes
from kd_seg.core.errors import DataError
from kd_seg.evaluation import Evaluation, write_evaluation
from kd_seg.scans import SemanticKitti
from kd_seg.views.report import page, read_run, read_runs, write_report
from kd_seg.views.report.curves import curves, smoothed
from kd_seg.views.report.pictures import Gallery, chosen_scans
from kd_seg.views.report.tables import difference_table, flatten, percent

VOID = {"meta", "img", "br", "link"}


class Reader(HTMLParser):
    """Checks nesting and collects what a report must and must not have."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.alts: list[str] = []
        self.ids: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [given["id"] or ""] if "id" in given else []
        if tag == "img":
            self.alts.append(given.get("alt") or "")
        self.sources += [str(given[key]) for key in ("src", "href") if key in given]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def data(tiny_root: Path) -> Path:
    return tiny_root


def evaluation(car: int, data: Path) -> Evaluation:
    """100 points of car and of road, ``car`` of the cars found, the others called road."""
    matrix = np.zeros((20, 20), dtype=np.int64)
    matrix[1, 1], matrix[9, 1], matrix[9, 9] = car, 100 - car, 100
    about = {"data": str(data), "sequences": ["01"]}
    return Evaluation(load_classes(), 3, 200, matrix, about=about)


def make_run(folder: Path, data: Path, car: int | None = 50, seed: int = 0, checkpoint: bool = True) -> Path:
    folder.mkdir(parents=True)
    config = {
        "purpose": "a <run> & more",
        "data": {"root": str(data), "valid": ["01"]},
        "student": {"network": "unet", "size": "nano"},
        "objectives": [{"kind": "supervised", "lovasz": 1.0}],
        "run": {"seed": seed},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "environment.json").write_text(json.dumps({"commit": "abc", "command": ["kd-seg", "train"]}))
    lines = [
        {
            "step": step,
            "loss": 3.0 / step,
            "lr": 1e-3,
            "terms": {"ce": {"value": 2.0 / step, "weight": 1.0, "count": 9}},
            "points_per_second": 1000 + step,
            "seconds_per_step": 0.5,
            "seconds": 0.5 * step,
        }
        for step in range(1, 21)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"step": 21, "lo')  # cut off by a kill
    if car is not None:
        write_evaluation(folder / "evaluation.json", evaluation(car, data))
    if checkpoint:
        write_student(folder / "checkpoints" / "last.safetensors")
    return folder


def test_two_runs_are_compared_and_nothing_is_loaded_from_elsewhere(tmp_path: Path, data: Path) -> None:
    paths = [make_run(tmp_path / "a", data, 50), make_run(tmp_path / "b", data, 80, seed=1)]
    write_report(paths, tmp_path / "report.html", 1, lambda scans, what: scans, threads=1)
    text = (tmp_path / "report.html").read_text()
    reader = read(text)
    assert all(source.startswith(("data:", "#")) for source in reader.sources)
    assert not re.search(r"url\(|@import|<script|https?://(?!www\.w3\.org)", text)
    assert reader.alts
    assert all(len(alt) > 10 for alt in reader.alts)
    assert all(f"#{name}" in reader.sources for name in ("scores", "pictures", "curves", "costs", "configuration"))
    assert len(reader.ids) == len(set(reader.ids))
    row = re.search(r"<th[^>]*>[^\n]*>car</th>(.*?)</tr>", text)
    assert row is not None
    assert [re.sub("<[^>]+>", "", cell) for cell in re.findall("<td>(.*?)</td>", row[1])] == [
        "50.0",
        "80.0 +30.0",
        "100",
    ]
    assert "a <run> & more" in reader.text
    assert "run.seed" in reader.text
    assert "0:10 min" in reader.text
    assert "Scan 01/000001" in reader.text
    assert sum("seen from above" in alt for alt in reader.alts) == 1 + 2 * 2


def test_a_run_without_evaluation_checkpoint_or_data_says_so(tmp_path: Path) -> None:
    bare = make_run(tmp_path / "bare", tmp_path / "gone", None, checkpoint=False)
    lost = make_run(tmp_path / "lost", tmp_path / "gone", 10)
    write_report([bare, lost], tmp_path / "report.html", 1, lambda scans, what: scans)
    text = read((tmp_path / "report.html").read_text()).text
    assert f"bare has not been evaluated; run: kd-seg eval {bare}" in text
    assert "bare has no checkpoint yet." in text
    assert "No pictures:" in text
    (bare / "metrics.jsonl").unlink()
    assert "No step has been logged yet." in read(page([read_run(bare, "bare")], Gallery())).text


def test_pictures_are_of_files_read_as_the_run_read_them(tmp_path: Path, data: Path) -> None:
    shutil.copytree(data, tmp_path / "wide")
    for path in (tmp_path / "wide").glob("sequences/*/velodyne/*.bin"):
        points = np.fromfile(path, "<f4").reshape(-1, 4)
        np.column_stack([points, np.arange(len(points)) % 16]).astype("<f4").tofile(path)
    folder = make_run(tmp_path / "run", tmp_path / "wide")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["data"]["columns"] = 5
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    scan = chosen_scans(read_run(folder, "run"), 1)[0]
    assert np.array_equal(scan.points, SemanticKitti(data).scan(scan.sequence, scan.index).points)


def test_broken_files_are_named(tmp_path: Path, data: Path) -> None:
    with pytest.raises(DataError, match="is no run folder"):
        read_run(tmp_path, "x")
    run = make_run(tmp_path / "run", data)
    assert read_run(run, "run").metrics[-1]["step"] == 20
    metrics = run / "metrics.jsonl"
    metrics.write_text("nonsense\n" + metrics.read_text())
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 1 is not JSON"):
        read_run(run, "run")
    metrics.unlink()
    (run / "environment.json").write_text("{")
    with pytest.raises(DataError, match=r"environment\.json is not JSON"):
        read_run(run, "run")


def test_names_are_as_short_as_they_can_be(tmp_path: Path, data: Path) -> None:
    paths = [make_run(tmp_path / first / "run", data, None, checkpoint=False) for first in ("x", "y")]
    assert [run.name for run in read_runs(paths)] == ["x/run", "y/run"]
    assert [run.name for run in read_runs(paths[:1])] == ["run"]
    adapted = make_run(tmp_path / "adapted" / "round_1" / "run", data, None, checkpoint=False)
    assert [run.name for run in read_runs([adapted])] == ["adapted/round_1"]


def test_differences_carry_their_sign() -> None:
    assert percent(0.5) == "50.0"
    assert "+10.0" in percent(0.6, 0.5)
    assert "up" in percent(0.6, 0.5)
    assert "-10.0" in percent(0.4, 0.5)
    assert "down" in percent(0.4, 0.5)
    assert "absent" in percent(None, 0.5)


def test_only_differing_keys_are_listed(tmp_path: Path, data: Path) -> None:
    runs = read_runs([make_run(tmp_path / name, data, None, seed, False) for name, seed in (("a", 0), ("b", 7))])
    table = difference_table(runs)
    assert "run.seed" in table
    assert "objectives.0.kind" not in table
    assert difference_table(runs[:1]) == ""
    assert flatten({"a": [1, 2], "b": [{"c": 3}]}) == {"a": [1, 2], "b.0.c": 3}


def test_curves_say_in_words_what_they_show(tmp_path: Path, data: Path) -> None:
    made = curves(read_runs([make_run(tmp_path / "a", data, None, checkpoint=False)]))
    assert [curve.title.split(" (")[0] for curve in made] == ["Loss", "Term ce", "Learning rate", "Speed"]
    assert "a: from 3 to 0.15 at step 20" in made[0].words
    assert all("<svg" in curve.svg for curve in made)


def test_smoothing_keeps_a_straight_line_and_the_ends() -> None:
    line = np.arange(200.0)
    assert np.allclose(smoothed(line), line)
    noise = np.random.default_rng(0).normal(size=200)
    assert smoothed(noise).std() < 0.5 * noise.std()
    assert smoothed(noise)[0] == noise[0]


def test_the_program_writes_it_into_the_run_folder(tmp_path: Path, data: Path) -> None:
    run = make_run(tmp_path / "run", data)
    kd_seg("report", run, "--scans", 0)
    assert "<!doctype html>" in (run / "report.html").read_text()
    assert "--out" in kd_seg("report", run, run, code=2).stderr
