"""Scores and tables against sets of points counted one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from kd_seg.classes import ClassTable, load_classes
from kd_seg.evaluation import Evaluation, confusion, confusion_by_distance, scores
from kd_seg.evaluation.table import class_table, distance_table, percent, summary

CLASSES = load_classes("semantic_kitti_19")
COUNT = len(CLASSES)


def pairs(rng: np.random.Generator, count: int, used: int) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true train ids over ``used`` of the classes, so that some are absent."""
    ids = rng.choice(COUNT + 1, used, replace=False)
    return rng.choice(ids, count).astype(np.uint8), rng.choice(ids, count).astype(np.uint8)


@given(st.integers(0, 10**6), st.integers(1, 200), st.integers(1, COUNT + 1))
def test_scores_are_ratios_of_sets_of_points(seed: int, count: int, used: int) -> None:
    predicted, truth = pairs(np.random.default_rng(seed), count, used)
    found = scores(confusion(predicted, truth, COUNT), CLASSES)
    known = truth > 0  # the official tool leaves points without a true class out
    by_class: dict[str, float | None] = {}
    for k, name in enumerate(CLASSES.names):
        ours = set(np.flatnonzero((predicted == k + 1) & known))
        theirs = set(np.flatnonzero(truth == k + 1))
        by_class[name] = len(ours & theirs) / len(ours | theirs) if ours | theirs else None
    assert found.iou == pytest.approx(by_class, abs=1e-12)
    present = [by_class[name] for k, name in enumerate(CLASSES.names) if (truth == k + 1).any()]
    hard = [by_class[CLASSES.names[k]] for k in CLASSES.hard if (truth == k + 1).any()]
    assert found.miou == pytest.approx(sum(value or 0.0 for value in by_class.values()) / COUNT, abs=1e-12)
    assert found.miou_present == (pytest.approx(np.mean(present)) if present else None)
    assert found.miou_hard == (pytest.approx(np.mean(hard)) if hard else None)
    given_a_class = known & (predicted > 0)
    right = (predicted == truth)[given_a_class]
    assert found.accuracy == pytest.approx(right.mean() if len(right) else 0.0, abs=1e-12)


@given(st.integers(0, 10**6))
def test_scores_do_not_depend_on_the_order_of_points_or_on_parts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, truth = pairs(rng, 90, 6)
    whole = confusion(predicted, truth, COUNT)
    order = rng.permutation(90)
    parts = [confusion(predicted[rows], truth[rows], COUNT) for rows in np.split(order, [17, 50])]
    np.testing.assert_array_equal(sum(parts), whole)


@given(st.integers(0, 10**6))
def test_each_interval_holds_the_points_strictly_between_its_ends(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, truth = pairs(rng, 60, 5)
    xyz = np.zeros((60, 3), np.float32)
    xyz[:, 0] = rng.choice([0.0, 5.0, 10.0, 15.0, 20.0, 45.0, 50.0, 70.0, np.nan], 60)
    intervals = ((1e-8, 10.0), (10.0, 20.0), (40.0, 50.0))
    found = confusion_by_distance(predicted, truth, xyz, COUNT, intervals)
    for matrix, (near, far) in zip(found, intervals, strict=True):
        rows = [i for i in range(60) if near < xyz[i, 0] < far]
        np.testing.assert_array_equal(matrix, confusion(predicted[rows], truth[rows], COUNT))


def evaluation(classes: ClassTable = CLASSES) -> Evaluation:
    """Ten cars of which seven are found, one lost to "none" and two to trucks; two trucks, one found."""
    car, truck = (classes.names.index(name) + 1 for name in ("car", "truck"))
    made = Evaluation.empty(classes, True)
    matrix = made.matrix.copy()
    matrix[car, car], matrix[0, car], matrix[truck, car] = 7, 1, 2
    matrix[truck, truck], matrix[car, truck] = 1, 1
    matrix[car, 0] = 100
    return replace(made, matrix=matrix, points=112, scans=3, outside=5)


def cells(table: Table) -> dict[str, list[str]]:
    """Cells of each row by the text of its first."""
    console = Console(width=200)
    columns = [[console.render_str(str(cell)).plain for cell in column.cells] for column in table.columns]
    return {row[0].split()[-1].rstrip("*"): list(row[1:]) for row in zip(*columns, strict=True)}


def test_the_table_by_class_tells_iou_precision_recall_and_points() -> None:
    rows = cells(class_table(evaluation()))
    assert rows["car"] == [percent(7 / 11), percent(7 / 8), percent(7 / 10), "10"]
    assert rows["truck"] == [percent(1 / 4), percent(1 / 3), percent(1 / 2), "2"]
    assert rows["person"] == ["-", "-", "-", "0"]


def test_the_table_by_distance_has_a_row_for_each_interval() -> None:
    table = distance_table(evaluation())
    ranges = [str(cell) for cell in table.columns[0].cells]
    assert ranges == ["0-10", "10-20", "20-30", "30-40", "40-50"]


def test_the_summary_tells_what_each_mean_is_of() -> None:
    lines = summary(evaluation())
    miou = 100 * (7 / 11 + 1 / 4) / COUNT
    assert f"{miou:.2f} %" in lines[0]
    assert f"over all {COUNT} classes" in lines[0]
    assert f"{100 * (7 / 11 + 1 / 4) / 2:.2f} %" in lines[1]
    assert "over the 2 classes that occur" in lines[1]
    assert lines[2].endswith("truck")
    assert "car" not in lines[2].partition(":")[2]
    assert f"{100 * 8 / 11:.2f} %" in lines[3]
    assert "scans 3, points 112" in lines[4]
    assert "without a predicted class: 1 (8.333 %)" in lines[5]
    assert "counted as predicted 0: 5 (4.464 %)" in lines[6]


def test_nothing_evaluated_has_dashes_and_no_division_by_zero() -> None:
    lines = summary(Evaluation.empty(CLASSES))
    assert "over the 0 classes that occur" in lines[1]
    assert "-" in lines[1]
    assert lines[2].endswith("none")
    assert (percent(None), percent(0.5)) == ("-", "50.00")
