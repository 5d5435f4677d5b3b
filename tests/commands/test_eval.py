"""kd-seg eval and kd-seg predict through the installed program, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from console_script import kd_seg, kd_seg_json
from evaluation_inputs import write_case
from tiny_data import write_tiny

from kd_seg.classes import load_classes
from kd_seg.core.errors import DataError, UsageError
from kd_seg.evaluation import (
    LabelFolder,
    NetworkPredictor,
    evaluate,
    read_evaluation,
    select,
    write_evaluation,
)
from kd_seg.evaluation.request import EvaluationRequest, evaluate_request, kind_of, own_record
from kd_seg.scans import FileFormat, SemanticKitti
from kd_seg.serving.segmenter import Segmenter

OFFICIAL = json.loads((Path(__file__).parents[1] / "fixtures" / "official_evaluator.json").read_text())["cases"]


@pytest.fixture(scope="module")
def student(random_checkpoint: Path) -> Path:
    return random_checkpoint


@pytest.fixture(scope="module")
def data(tiny_root: Path) -> Path:
    return tiny_root


def make_run(folder: Path, student: Path, data: Path) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.safetensors").write_bytes(student.read_bytes())
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": {"root": str(data), "valid": ["01"]}}))
    return folder


def test_a_folder_of_labels_gets_the_official_numbers(tmp_path: Path) -> None:
    write_case(tmp_path, "all_classes")
    content = kd_seg_json("eval", tmp_path, "--data", tmp_path, "--out", tmp_path / "answer.json")
    for key in ("scans", "points", "accuracy", "miou", "miou_present", "miou_hard", "iou"):
        assert key in content
    official = OFFICIAL["all_classes"]["overall"]
    assert content["miou"] == pytest.approx(official["iou_mean"], abs=1e-9)
    assert content["accuracy"] == pytest.approx(official["accuracy_mean"], abs=1e-9)
    assert content["iou"]["car"] == pytest.approx(official["iou_car"], abs=1e-9)
    assert json.loads((tmp_path / "answer.json").read_text()) == content


def test_predictions_written_and_read_back_score_like_the_checkpoint(tmp_path: Path, student: Path, data: Path) -> None:
    summary = kd_seg_json("predict", data, "--out", tmp_path, "--checkpoint", student, "--threads", 1)
    assert summary["scans"] == 6
    assert summary["points"] == sum(len(scan.points) for scan in (SemanticKitti(data)[k] for k in range(6)))
    assert summary["scans_per_second"] > 0
    table = load_classes()
    selection = select(data, ["00", "01"], None)
    folder = LabelFolder(tmp_path, table)
    folder.check(selection.stems())
    direct = evaluate(NetworkPredictor(Segmenter(student, device="cpu", num_threads=1)), selection)
    written = evaluate(folder, selection)
    assert np.array_equal(written.matrix, direct.matrix)
    assert direct.outside == summary["invalid"] > 0
    request = EvaluationRequest((student,), data, sequences=("00", "01"), device="cpu", num_threads=1)
    content = evaluate_request(request).to_json()
    assert content["miou"] == direct.scores.miou
    assert content["outside_share"] == direct.outside / direct.points


def test_sequences_may_be_repeated_or_joined_by_commas(student: Path, data: Path) -> None:
    shared = ("eval", student, "--data", data, "--threads", 1)
    repeated = kd_seg_json(*shared, "--sequences", "00", "--sequences", "01")
    joined = kd_seg_json(*shared, "--sequences", "00,01")
    assert repeated["about"]["sequences"] == joined["about"]["sequences"] == ["00", "01"]
    assert repeated["scans"] == joined["scans"] == 6


def test_a_run_is_scored_on_its_own_validation_scans(tmp_path: Path, student: Path, data: Path) -> None:
    run = make_run(tmp_path / "run", student, data)
    done = kd_seg("eval", run, "--threads", 1)
    assert "mIoU" in done.stdout
    assert "points outside the grid or not finite" in done.stdout
    content = json.loads((run / "evaluation.json").read_text())
    assert content["about"]["sequences"] == ["01"]
    assert content["scans"] == 3


def test_only_the_plain_evaluation_of_a_run_is_kept_in_it(tmp_path: Path, student: Path, data: Path) -> None:
    run = make_run(tmp_path / "run", student, data)
    assert own_record(EvaluationRequest((run,))) == run / "evaluation.json"
    assert own_record(EvaluationRequest((run,), sequences=("00",))) is None
    assert own_record(EvaluationRequest((run,), shard="1/2")) is None
    assert own_record(EvaluationRequest((student,), data=data)) is None
    assert own_record(EvaluationRequest((run,), intensity_range="byte")) is None
    assert own_record(EvaluationRequest((run,), form=FileFormat(columns=5))) is None


def test_parts_add_up_through_the_program(tmp_path: Path, student: Path, data: Path) -> None:
    parts = []
    for part in (1, 2):
        request = EvaluationRequest((student,), data, sequences=("00",), shard=f"{part}/2", num_threads=1, device="cpu")
        parts.append(tmp_path / f"{part}.json")
        parts[-1].write_text(json.dumps(evaluate_request(request).to_json()))
    whole = evaluate_request(EvaluationRequest((student,), data, sequences=("00",), num_threads=1, device="cpu"))
    content = kd_seg_json("eval", *parts)
    assert content["counts"]["matrix"] == whole.matrix.tolist()
    assert content["miou"] == whole.scores.miou
    assert "shard" not in content["about"]
    assert "holds scans that" in kd_seg("eval", parts[0], parts[0], code=1).stderr


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A folder that holds data of two sequences with four scans each, and predictions of them."""
    root = write_tiny(tmp_path / "both", ("00", "01"), 4)
    for scan in SemanticKitti(root):
        folder = root / "sequences" / scan.sequence / "predictions"
        folder.mkdir(exist_ok=True)
        np.full(len(scan.points), 40, "<u4").tofile(folder / f"{scan.points_path.stem}.label")
    return root


def counts(folder: Path, sequences: str, shard: str | None = None) -> Path:
    """The evaluation.json of a part of the predictions of ``labels``."""
    request = EvaluationRequest((folder,), folder, sequences=tuple(sequences.split(",")), shard=shard)
    path = folder / f"{sequences}_{(shard or 'whole').replace('/', '_')}.json"
    write_evaluation(path, evaluate_request(request))
    return path


def test_sums_of_parts_add_up_like_the_parts(labels: Path) -> None:
    quarters = [counts(labels, "00,01", f"{part}/4") for part in range(1, 5)]
    halves = [labels / "first.json", labels / "second.json"]
    for half, two in zip(halves, (quarters[:2], quarters[2:]), strict=True):
        write_evaluation(half, evaluate_request(EvaluationRequest(tuple(two))))
    total = evaluate_request(EvaluationRequest(tuple(halves)))
    assert total.matrix.tolist() == read_evaluation(counts(labels, "00,01")).matrix.tolist()
    assert [part["shard"] for part in total.parts] == ["1/4", "2/4", "3/4", "4/4"]
    other = evaluate_request(EvaluationRequest((counts(labels, "00"), counts(labels, "01"))))
    assert other.scans == 8


def test_scans_are_never_counted_twice(labels: Path) -> None:
    whole, half, quarter = counts(labels, "00,01"), counts(labels, "00,01", "1/2"), counts(labels, "00,01", "3/4")
    total = labels / "sum.json"
    write_evaluation(total, evaluate_request(EvaluationRequest((half, counts(labels, "00,01", "2/2")))))
    for pair in ((whole, half), (half, quarter), (total, half), (whole, counts(labels, "01")), (total, total)):
        with pytest.raises(DataError, match=f"{pair[1].name} holds scans that .*{pair[0].name} holds too"):
            evaluate_request(EvaluationRequest(pair))
    done = kd_seg("eval", labels, "--data", labels, "--sequences", "00,01", "--sequences", "00", code=2)
    assert "--sequences names 00 twice" in done.stderr
    with pytest.raises(DataError, match=r"Sequence 00 of .* is named twice"):
        SemanticKitti(labels, ["00", "01", "00"])


def test_options_that_counts_or_a_network_cannot_follow_are_refused(labels: Path, student: Path) -> None:
    part = counts(labels, "00")
    for option in (("--data", labels), ("--distances",), ("--sequences", "01"), ("--classes", "semantic_kitti_25")):
        assert f"{option[0]} has no effect" in kd_seg("eval", part, *option, code=2).stderr
    with pytest.raises(UsageError, match="--set has no effect"):
        evaluate_request(EvaluationRequest((part,), form=FileFormat(columns=5)))
    for request, says in (
        (EvaluationRequest((student,), labels, sequences=("00",), classes="semantic_kitti_25"), "leave --classes out"),
        (EvaluationRequest((student,), labels, sequences=("00",), cache=labels), "--cache is where --input fused"),
    ):
        with pytest.raises(UsageError, match=says):
            evaluate_request(request)


def test_paths_are_told_apart(tmp_path: Path, student: Path, data: Path) -> None:
    run = make_run(tmp_path / "run", student, data)
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "000000.label").write_bytes(b"")
    kinds = {student: "checkpoint", run: "run", tmp_path / "flat": "labels", tmp_path / "x.json": "counts"}
    assert {path: kind_of(path) for path in kinds} == kinds
    for path, says in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "is none of these")):
        with pytest.raises(UsageError, match=says):
            kind_of(path)


def test_wrong_use_is_one_sentence_and_exit_code_2(student: Path, data: Path) -> None:
    done = kd_seg("eval", student, code=2)
    assert "--data ROOT" in done.stderr
    assert done.stdout == ""
    with pytest.raises(UsageError, match="either --split or --sequences"):
        evaluate_request(EvaluationRequest((student,), data, split="valid", sequences=("00",)))
    with pytest.raises(UsageError, match="add up"):
        evaluate_request(EvaluationRequest((student, student), data))


def test_failures_are_exit_code_1(student: Path, data: Path) -> None:
    done = kd_seg("eval", student, "--data", data, code=1)
    assert "has no sequence 08" in done.stderr
