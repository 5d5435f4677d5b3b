"""A teacher is scored on fused clouds, but only on the scan's own rows."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_student import write_student
from tiny_data import write_tiny
from typer.testing import CliRunner

from kd_seg.caches import Work
from kd_seg.classes import load_classes
from kd_seg.core.errors import DataError, UsageError
from kd_seg.evaluation import FusedNetwork, NetworkPredictor, evaluate_scan
from kd_seg.evaluation.fused import make_fuse, unskipped
from kd_seg.evaluation.request import EvaluationRequest, evaluate_request
from kd_seg.instances.settings import FusionSettings
from kd_seg.scans import Cloud, FileFormat, Kind, Scan, SemanticKitti, stack
from kd_seg.serving.segmenter import Segmenter


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return Segmenter(write_student(tmp_path_factory.mktemp("s") / "s.safetensors"), device="cpu", num_threads=1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The tiny data with its cars called persons, whose instances are fused."""
    root = write_tiny(tmp_path / "data")
    for path in root.glob("sequences/*/labels/*.label"):
        words = np.fromfile(path, "<u4")
        words[words & 0xFFFF == 10] += 20
        words.tofile(path)
    return root


def others(points: np.ndarray) -> Cloud:
    count = len(points)
    return Cloud(
        points=points,
        words=np.full(count, 30, np.uint32),
        origin=np.ones(count, np.int8),
        kind=np.full(count, Kind.FUSED, np.uint8),
        source=np.full(count, -1, np.int32),
        own=0,
    )


def test_rows_of_other_scans_are_seen_but_not_scored(data: Path, segmenter: Segmenter) -> None:
    scan = SemanticKitti(data)[0]
    own = scan.points
    extra = own[-300:] + np.float32(0.2)

    def fuse(scan: Scan) -> Cloud:
        return stack([Cloud.of_scan(scan)], [others(extra)])

    fused = FusedNetwork(segmenter, fuse).predict(scan)
    whole = segmenter.segment(np.concatenate([own, extra])).class_id
    assert np.array_equal(fused.train, segmenter.classes.class_to_train(whole[: len(own)]))
    plain = NetworkPredictor(segmenter).predict(scan)
    assert not np.array_equal(fused.train, plain.train)
    alone = FusedNetwork(segmenter, Cloud.of_scan).predict(scan)
    assert np.array_equal(alone.train, plain.train)
    assert alone.outside == plain.outside


def test_rows_that_are_not_finite_stay_in_place_as_0(data: Path, segmenter: Segmenter) -> None:
    path = SemanticKitti(data)[0].points_path
    points = np.fromfile(path, "<f4").reshape(-1, 4)
    points[3, 0] = np.nan
    points.tofile(path)
    scan = SemanticKitti(data)[0]
    fused = FusedNetwork(segmenter, Cloud.of_scan).predict(scan)
    plain = NetworkPredictor(segmenter).predict(scan)
    assert fused.train[3] == 0
    assert np.array_equal(fused.train, plain.train)
    assert fused.outside == plain.outside > 0
    result = evaluate_scan(FusedNetwork(segmenter, Cloud.of_scan), scan)
    assert result.points == len(points)


def test_clouds_are_fused_with_earlier_scans_and_always_the_same(data: Path) -> None:
    scans = SemanticKitti(data, ["01"])
    fuse = make_fuse(scans, load_classes(), unskipped(FusionSettings()), None, Work("kd-seg eval X"))
    first, last = fuse(scans[0]), fuse(scans[2])
    assert len(first) == first.own
    assert len(last) > last.own == len(scans[2].points)
    assert set(np.unique(last.origin[last.own :])) <= {1, 2}
    again = fuse(scans[2])
    assert np.array_equal(last.points, again.points)


def test_fused_input_is_scored_by_request(data: Path, segmenter: Segmenter) -> None:
    request = EvaluationRequest(
        (segmenter.checkpoint_path,), data, sequences=("01",), input="fused", device="cpu", num_threads=1
    )
    result = evaluate_request(request)
    assert result.about["input"] == "fused"
    assert result.points == sum(len(scan.points) for scan in SemanticKitti(data, ["01"]))  # type: ignore[attr-defined]
    plain = evaluate_request(EvaluationRequest(request.what, data, sequences=("01",), device="cpu", num_threads=1))
    assert not np.array_equal(result.matrix, plain.matrix)


def test_a_scan_without_a_point_counts_as_missed(data: Path, segmenter: Segmenter) -> None:
    folder = data / "sequences" / "01"
    np.full((5, 4), np.nan, np.float32).tofile(folder / "velodyne" / "000001.bin")
    np.full(5, 40, "<u4").tofile(folder / "labels" / "000001.label")
    scan = SemanticKitti(data, ["01"])[2]
    scan.points_path.write_bytes(b"")
    assert scan.labels_path is not None
    scan.labels_path.write_bytes(b"")
    request = EvaluationRequest(
        (segmenter.checkpoint_path,), data, sequences=("01",), input="fused", device="cpu", num_threads=1
    )
    result = evaluate_request(request)
    assert result.scans == 3
    assert result.outside >= 5
    assert result.matrix[0, load_classes().names.index("road") + 1] >= 5


def test_the_command_that_prepares_reads_the_same_files_alike() -> None:
    request = EvaluationRequest(
        (Path("x.safetensors"),), Path("D"), input="fused", intensity_range="byte", form=FileFormat(5, "float64")
    )
    command = request.command()
    assert "--intensity-range byte" in command
    assert "--set input.columns=5 --set input.dtype=float64" in command
    assert "--set" not in EvaluationRequest((Path("x.safetensors"),), Path("D"), input="fused").command()


def test_a_library_that_does_not_fit_names_the_command_that_rebuilds_it(data: Path, segmenter: Segmenter) -> None:
    from kd_seg.cli.main import app

    request = EvaluationRequest(
        (segmenter.checkpoint_path,), data, sequences=("01",), input="fused", device="cpu", num_threads=1
    )
    evaluate_request(request)
    (header,) = (data / "kd_seg_cache").glob("instances-*/header.json")
    header.write_text('{"kind": "kd_seg instance library", "format": 1, "data": {}, "settings": {}}')
    with pytest.raises(
        DataError, match="library of format 1, this build reads 2; rebuild it with: kd-seg eval "
    ) as told:
        evaluate_request(request)
    program, *words = shlex.split(str(told.value).partition("rebuild it with: ")[2])
    assert program == "kd-seg"
    assert CliRunner().invoke(app, [*words, "--device", "cpu", "--threads", "1"]).exit_code == 0
    assert json.loads(header.read_text())["version"] == 2
    with pytest.raises(UsageError, match="--rebuild needs --input fused"):
        evaluate_request(replace(request, input="own", rebuild=True))


def test_what_cannot_be_fused_is_said(data: Path, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "000000.label").write_bytes(b"")
    with pytest.raises(UsageError, match="needs a network"):
        evaluate_request(EvaluationRequest((tmp_path / "flat",), data, sequences=("01",), input="fused"))
    for sequence in ("00", "01"):
        (data / "sequences" / sequence / "poses.txt").unlink()
    with pytest.raises(DataError, match="pose"):
        make_fuse(SemanticKitti(data), load_classes(), unskipped(FusionSettings()), None, Work("kd-seg eval X"))
