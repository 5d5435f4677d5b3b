"""Figures as text: the contents of files, the tables and curves of a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_seg.classes import load_classes
from kd_seg.evaluation import Evaluation
from kd_seg.views import contents
from kd_seg.views.report import curves, tables
from kd_seg.views.report.pictures import chosen_scans
from kd_seg.views.report.runs import Run


def run(name: str = "a", **changes: Any) -> Run:
    """A run that has read nothing."""
    empty: dict[str, Any] = {"config": {}, "environment": {}, "metrics": [], "evaluation": None, "checkpoint": None}
    return Run(path=Path("runs") / name, name=name, **{**empty, "values": 0, "bytes": 0, "training": {}, **changes})


def evaluation(rights: int, about: dict[str, Any] | None = None) -> Evaluation:
    """200 points of car, ``rights`` of them found, the others called road."""
    matrix = np.zeros((20, 20), dtype=np.int64)
    matrix[1, 1], matrix[9, 1] = rights, 200 - rights
    return Evaluation(load_classes(), 2, 200, matrix, about=about or {})


values = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.floats(-1e9, 1e9), st.text("abc ", max_size=5)
)


@given(st.dictionaries(st.text("abcxyz_", min_size=1, max_size=8), values, min_size=1, max_size=6))
def test_plain_contents_stand_one_to_a_line_in_one_column(found: dict[str, Any]) -> None:
    text = contents.lines(found)
    assert len(text) == len(found)
    width = max(len(key) for key in found)
    assert all(line[:width].rstrip() == key for line, key in zip(text, found, strict=True))
    assert {line[width : width + 2] for line in text} == {"  "}


def test_nested_contents_are_indented_and_lists_of_records_are_tables() -> None:
    records = [{"name": "first", "scans": 4}, {"name": "b", "scans": 1200, "extra": None}]
    text = contents.lines({"kind": "x", "grid": {"cell": 0.25, "wraps": True}, "none": [], "rows": records})
    assert text == [
        "kind  x",
        "grid",
        "  cell   0.25",
        "  wraps  yes",
        "none  none",
        "rows",
        "  name   scans  extra",
        "  first      4  -",
        "  b      1,200  -",
    ]


def test_the_start_of_a_recording_keeps_its_seconds() -> None:
    assert contents.lines({"start_s": 1731917340.25, "seconds": 2.5}) == ["start_s  1731917340.250", "seconds  2.5"]


def test_a_run_that_was_not_evaluated_keeps_its_column() -> None:
    runs = [run("a", evaluation=evaluation(100)), run("b"), run("c", evaluation=evaluation(150))]
    text = tables.iou_table(runs)
    car = next(line for line in text.splitlines() if ">car<" in line or ">car" in line)
    assert [part for part in ("50.0", "not evaluated", "75.0", "+25.0") if part in car] == [
        "50.0", "not evaluated", "75.0", "+25.0",
    ]  # fmt: skip
    assert car.index("50.0") < car.index("not evaluated") < car.index("75.0")
    assert tables.iou_table([run("a"), run("b")]) == ""


def test_without_a_first_score_nothing_is_subtracted() -> None:
    text = tables.iou_table([run("a"), run("b", evaluation=evaluation(150))])
    assert 'class="gap' not in text


def test_notes_name_what_was_scored_and_what_was_not() -> None:
    about = {"sequences": ["08"]}
    teacher = run("t", evaluation=evaluation(10, about), config={"student": {"input": "fused"}})
    notes = tables.evaluation_notes([run("a"), teacher])
    assert notes[0] == "a has not been evaluated; run: kd-seg eval runs/a"
    assert notes[1] == "t: sequences 08, 2 scans, 200 points"
    assert "multi-scan teacher" in notes[2]


def test_costs_are_medians_and_sizes() -> None:
    metrics = [
        {"step": step, "seconds": 61.0, "seconds_per_step": value, "points_per_second": 1e6}
        for step, value in ((1, 0.5), (2, 9.0), (3, 0.7))
    ]
    text = tables.cost_table([run("a", metrics=metrics, values=876_332, bytes=3_524_860)], {"a": 81.6})
    for shown in ("1:01 min", "0.70", "1,000,000", "876,332", "3.52 MB", "82 ms"):
        assert f"<td>{shown}</td>" in text
    empty = tables.cost_table([run("a")], {})
    assert "<td>-</td>" in empty
    assert "inference" not in empty


def test_html_in_names_is_text() -> None:
    shown = tables.environment_table([run("<b>", environment={"machine": "<i>"})])
    assert "<b>" not in shown
    assert "&lt;i&gt;" in shown


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=60), st.floats(0.0, 1.0))
def test_smoothing_stays_within_the_values_and_keeps_the_ends(numbers: list[float], share: float) -> None:
    series = np.array(numbers)
    made = curves.smoothed(series, share)
    assert made.shape == series.shape
    assert made.min() >= series.min() - 1e-6
    assert made.max() <= series.max() + 1e-6
    assert made[0] == pytest.approx(series[0], abs=1e-6)
    assert made[-1] == pytest.approx(series[-1], abs=1e-6)


@given(st.integers(1, 9000))
def test_long_series_are_thinned_by_means_of_equal_blocks(count: int) -> None:
    steps, kept = curves._thinned([(float(k), 2.0 * k) for k in range(count)])
    assert 1 <= len(steps) <= 1500
    assert np.allclose(kept, 2 * steps)
    assert np.allclose(np.diff(steps), (steps[1] - steps[0]) if len(steps) > 1 else 1.0)


def test_charts_without_any_data_are_left_out() -> None:
    assert curves.curves([run("a")]) == []
    one = run("b", metrics=[{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "terms": {"kd": {"value": 0.5}}}])
    made = curves.curves([run("a"), one])
    assert [curve.title.split(" (")[0] for curve in made] == ["Loss", "Term kd"]
    assert "a:" not in made[0].words


def test_scans_of_a_report_are_spread_over_the_validation_data(tmp_path: Path) -> None:
    from tiny_data import write_tiny

    from kd_seg.core.errors import KdSegError

    root = write_tiny(tmp_path, ("00", "01"), scans=9)
    settings = {"data": {"root": str(root), "valid": ["01"]}}
    assert [scan.name for scan in chosen_scans(run(config=settings), 3)] == ["01/000001", "01/000004", "01/000007"]
    assert len(chosen_scans(run(config=settings), 99)) == 9
    scored = run(config=settings, evaluation=evaluation(1, {"data": str(root), "sequences": ["00"]}))
    assert chosen_scans(scored, 1)[0].name == "00/000004"
    with pytest.raises(KdSegError, match="names no validation sequences"):
        chosen_scans(run(), 1)
