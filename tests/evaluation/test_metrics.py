"""The official evaluator's numbers, and the confusion matrix against plain loops."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from evaluation_inputs import CASES, write_case
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kd_seg.classes import load_classes
from kd_seg.core.errors import DataError, UsageError
from kd_seg.evaluation import (
    DISTANCES,
    Evaluation,
    LabelFolder,
    Scores,
    confusion,
    confusion_by_distance,
    evaluate,
    read_evaluation,
    scores,
    select,
    write_evaluation,
)

OFFICIAL = json.loads((Path(__file__).parents[1] / "fixtures" / "official_evaluator.json").read_text())["cases"]


def assert_official(ours: Scores, official: dict[str, float], prefix: str = "") -> None:
    assert ours.accuracy == pytest.approx(official[f"{prefix}accuracy_mean"], abs=1e-9)
    assert ours.miou == pytest.approx(official[f"{prefix}iou_mean"], abs=1e-9)
    for name, value in ours.iou.items():
        assert (value or 0.0) == pytest.approx(official[f"{prefix}iou_{name}"], abs=1e-9), name


@pytest.mark.parametrize("name", sorted(CASES))
def test_official_numbers(tmp_path: Path, name: str) -> None:
    assert write_case(tmp_path, name) == OFFICIAL[name]["inputs_sha256"], "NumPy draws other numbers: redo the fixture"
    predictor = LabelFolder(tmp_path, load_classes(CASES[name]["table"]))
    selection = select(tmp_path, None, "valid")
    predictor.check(selection.stems())
    result = evaluate(predictor, selection, distances=True)
    assert result.scans == 3
    assert result.points == 6501
    assert (result.unknown > 0) == CASES[name]["unknown"]
    assert_official(result.scores, OFFICIAL[name]["overall"])
    for _, far, ours in result.distance_scores():
        assert_official(ours, OFFICIAL[name]["by_distance"], f"{far}m_")


def test_absent_classes_are_null_and_left_out_of_present_means(tmp_path: Path) -> None:
    write_case(tmp_path, "absent_and_unknown")
    classes = load_classes("semantic_kitti_19")
    ours = evaluate(LabelFolder(tmp_path, classes), select(tmp_path, ["08"], None)).scores
    absent = {"bicycle", "bicyclist", "motorcyclist"}
    assert {name for name, value in ours.iou.items() if value is None} == absent
    present = [value for value in ours.iou.values() if value is not None]
    assert ours.miou_present == pytest.approx(np.mean(present))
    assert ours.miou == pytest.approx(np.sum(present) / 19)
    hard = [ours.iou[classes.names[c]] for c in classes.hard if classes.names[c] not in absent]
    assert ours.miou_hard == pytest.approx(np.mean(hard))


def test_predicting_nothing_is_a_miss_but_leaves_the_accuracy() -> None:
    classes = load_classes("semantic_kitti_19")
    truth = np.array([1, 1, 1, 1, 0], dtype=np.uint8)
    predicted = np.array([1, 1, 0, 0, 5], dtype=np.uint8)
    ours = scores(confusion(predicted, truth, 19), classes)
    assert ours.iou["car"] == pytest.approx(0.5)
    assert ours.accuracy == pytest.approx(1.0)
    assert ours.iou["other-vehicle"] is None
    assert ours.miou_hard is None
    assert ours.miou == pytest.approx(0.5 / 19)


def test_no_points_give_no_numbers_but_no_error() -> None:
    classes = load_classes("semantic_kitti_19")
    nothing = np.zeros(0, dtype=np.uint8)
    ours = scores(confusion(nothing, nothing, 19), classes)
    assert (ours.accuracy, ours.miou, ours.miou_present, ours.miou_hard) == (0.0, 0.0, None, None)


ids = arrays(np.uint8, st.shared(st.integers(0, 60), key="n"), elements=st.integers(0, 6))


@given(ids, ids)
def test_confusion_counts_pairs(predicted: np.ndarray, truth: np.ndarray) -> None:
    expected = np.zeros((7, 7), dtype=np.int64)
    for p, t in zip(predicted, truth, strict=True):
        expected[p, t] += 1
    assert np.array_equal(confusion(predicted, truth, 6), expected)


def test_confusion_refuses_what_does_not_fit() -> None:
    with pytest.raises(DataError, match="3 predictions cannot be compared with 2 labels"):
        confusion(np.zeros(3, np.uint8), np.zeros(2, np.uint8), 19)
    with pytest.raises(DataError, match="train id 20 is larger"):
        confusion(np.array([20], np.uint8), np.zeros(1, np.uint8), 19)


def test_distances_are_open_intervals() -> None:
    xyz = np.zeros((6, 3), dtype=np.float32)
    xyz[:, 0] = [0, 5, 10, 15, 50, np.nan]
    ones = np.ones(6, dtype=np.uint8)
    counts = confusion_by_distance(ones, ones, xyz, 2)[:, 1, 1]
    assert counts.tolist() == [1, 1, 0, 0, 0]
    assert len(counts) == len(DISTANCES)


def test_parts_add_up_to_the_whole(tmp_path: Path) -> None:
    write_case(tmp_path, "all_classes")
    predictor = LabelFolder(tmp_path, load_classes("semantic_kitti_19"))
    whole = evaluate(predictor, select(tmp_path, ["08"], None), distances=True)
    parts = [evaluate(predictor, select(tmp_path, ["08"], None, f"{i}/2"), distances=True) for i in (1, 2)]
    for number, part in enumerate(parts):
        write_evaluation(tmp_path / f"{number}.json", part)
    read = [read_evaluation(tmp_path / f"{number}.json") for number in range(2)]
    assert sum(read[1:], read[0]).to_json() == whole.to_json()
    assert not list(tmp_path.glob("*.part"))


def test_evaluations_over_other_classes_do_not_add() -> None:
    a, b = (Evaluation.empty(load_classes(f"semantic_kitti_{n}")) for n in (19, 25))
    with pytest.raises(DataError, match="cannot be added"):
        a + b


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense", "is not JSON"),
        ("[1]", "no JSON object"),
        ("{}", "is no evaluation"),
        ('{"counts": {"format": 9}}', "format 9"),
    ],
)
def test_broken_evaluation_files_are_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(text)
    with pytest.raises(DataError, match=says) as error:
        read_evaluation(path)
    assert str(path) in str(error.value)


def test_missing_extra_and_short_predictions_are_named(tmp_path: Path) -> None:
    write_case(tmp_path, "all_classes")
    folder = tmp_path / "sequences" / "08" / "predictions"
    predictor = LabelFolder(tmp_path, load_classes("semantic_kitti_19"))
    selection = select(tmp_path, ["08"], None)
    extra = folder / "000007.label"
    extra.write_bytes(b"")
    with pytest.raises(DataError, match=r"000007.label belongs to no scan"):
        predictor.check(selection.stems())
    extra.unlink()
    (folder / "000002.label").rename(extra)
    with pytest.raises(DataError, match=r"000002.label is missing"):
        predictor.check(selection.stems())
    extra.rename(folder / "000002.label")
    (folder / "000001.label").write_bytes(b"\0" * 8)
    with pytest.raises(DataError, match=r"000001.label has 2 predictions, 000001.bin has 2500 points"):
        evaluate(predictor, selection)


def test_a_flat_folder_holds_one_sequence(tmp_path: Path) -> None:
    write_case(tmp_path / "data", "all_classes")
    flat = tmp_path / "flat"
    (tmp_path / "data" / "sequences" / "08" / "predictions").rename(flat)
    predictor = LabelFolder(flat, load_classes("semantic_kitti_19"))
    assert_official(
        evaluate(predictor, select(tmp_path / "data", ["08"], None)).scores, OFFICIAL["all_classes"]["overall"]
    )
    with pytest.raises(DataError, match="one sequence only"):
        predictor.check([("08", "000000"), ("09", "000000")])


def test_unknown_raw_ids_in_labels_are_errors(tmp_path: Path) -> None:
    write_case(tmp_path, "all_classes")
    labels = tmp_path / "sequences" / "08" / "labels" / "000002.label"
    labels.write_bytes(np.array([7], "<u4").tobytes())
    with pytest.raises(DataError, match=r"000002.label: unknown raw class 7"):
        evaluate(LabelFolder(tmp_path, load_classes("semantic_kitti_19")), select(tmp_path, ["08"], None))


@pytest.mark.parametrize("shard", ["5/4", "0/4", "x", "1", "-1/2", "1/0"])
def test_wrong_shards_are_refused(tmp_path: Path, shard: str) -> None:
    write_case(tmp_path, "all_classes")
    with pytest.raises(UsageError, match="i/n"):
        select(tmp_path, ["08"], None, shard)


def test_sequences_without_labels_and_wrong_splits_are_refused(tmp_path: Path) -> None:
    write_case(tmp_path, "all_classes")
    (tmp_path / "sequences" / "08" / "labels").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="has no labels/ folder"):
        select(tmp_path, ["08"], None)
    with pytest.raises(UsageError, match="no split 'vlaid'"):
        select(tmp_path, None, "vlaid")
    with pytest.raises(DataError, match=r"no sequence 00, which is in the split train; it has: 08\. .*--sequences"):
        select(tmp_path, None, "train")


def test_a_sequence_that_is_named_twice_does_not_count_twice(tmp_path: Path) -> None:
    write_case(tmp_path, "all_classes")
    assert len(select(tmp_path, ["08"], None)) > 0
    with pytest.raises(UsageError, match="names 08 twice"):
        select(tmp_path, ["08", "08"], None)
