"""Folders of predictions: what is missing, too much or too short; and networks that see only a part."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_data import write_tiny

from kd_seg.classes import load_classes
from kd_seg.core.errors import DataError
from kd_seg.evaluation import FusedNetwork, LabelFolder, NetworkPredictor
from kd_seg.scans import Cloud, SemanticKitti

CLASSES = load_classes("semantic_kitti_19")


@pytest.fixture
def data(tmp_path: Path) -> SemanticKitti:
    return SemanticKitti(write_tiny(tmp_path / "data", ("00", "01"), 2))


def predictions(data: SemanticKitti, root: Path, nested: bool = True) -> Path:
    for scan in data:
        folder = root / "sequences" / scan.sequence / "predictions" if nested else root
        folder.mkdir(parents=True, exist_ok=True)
        np.full(len(scan.points), 40, "<u4").tofile(folder / f"{scan.points_path.stem}.label")
    return root


def keys(data: SemanticKitti) -> list[tuple[str, str]]:
    return [(scan.sequence, scan.points_path.stem) for scan in data]


def test_a_whole_folder_is_read_and_unknown_ids_are_counted(data: SemanticKitti, tmp_path: Path) -> None:
    folder = LabelFolder(predictions(data, tmp_path / "p"), CLASSES)
    folder.check(keys(data))
    found = folder.predict(data[0])
    assert set(found.train.tolist()) == {CLASSES.names.index("road") + 1}
    assert found.unknown == found.outside == 0
    path = folder.sequence_folder("00") / "000000.label"
    words = np.fromfile(path, "<u4")
    words[:5] = 9999
    words.tofile(path)
    found = folder.predict(data[0])
    assert found.unknown == 5
    assert (found.train[:5] == 0).all()


def test_what_is_missing_or_too_much_is_named(data: SemanticKitti, tmp_path: Path) -> None:
    root = predictions(data, tmp_path / "p")
    folder = LabelFolder(root, CLASSES)
    hidden = folder.sequence_folder("01") / "._000000.label"
    hidden.write_bytes(b"Mac OS X")
    folder.check(keys(data))
    hidden.unlink()
    extra = folder.sequence_folder("01") / "000007.label"
    extra.write_bytes(b"")
    with pytest.raises(DataError, match=r"000007\.label belongs to no scan of sequence 01 \(1 such files\)"):
        folder.check(keys(data))
    extra.unlink()
    (folder.sequence_folder("01") / "000001.label").unlink()
    with pytest.raises(DataError, match=r"000001\.label is missing \(1 of 2 scans have no prediction\)"):
        folder.check(keys(data))
    (folder.sequence_folder("01") / "000000.label").unlink()
    folder.sequence_folder("01").rmdir()
    with pytest.raises(DataError, match="does not exist; predict sequence 01 first"):
        folder.check(keys(data))


def test_a_flat_folder_holds_one_sequence(data: SemanticKitti, tmp_path: Path) -> None:
    flat = LabelFolder(predictions(data, tmp_path / "p", nested=False), CLASSES)
    with pytest.raises(DataError, match=r"can hold one sequence only, but 00, 01 are asked for"):
        flat.check(keys(data))
    flat.check([key for key in keys(data) if key[0] == "01"])
    assert len(flat.predict(data[3]).train) == len(data[3].points)


def test_a_file_of_another_length_is_refused(data: SemanticKitti, tmp_path: Path) -> None:
    folder = LabelFolder(predictions(data, tmp_path / "p"), CLASSES)
    np.zeros(3, "<u4").tofile(folder.sequence_folder("00") / "000000.label")
    with pytest.raises(DataError, match=r"has 3 predictions, 000000\.bin has \d+ points; predict it again"):
        folder.predict(data[0])


class Far:
    """Predicts class 0 within 10 m and cannot see beyond."""

    classes = CLASSES

    def segment(self, points: np.ndarray) -> SimpleNamespace:
        """Class ids of points."""
        far = ~(np.linalg.norm(points[:, :2], axis=1) < 10.0)
        return SimpleNamespace(class_id=np.where(far, 255, 0).astype(np.uint8))


def test_points_that_a_network_cannot_see_count_as_none(data: SemanticKitti) -> None:
    scan = data[0]
    found = NetworkPredictor(Far()).predict(scan)  # type: ignore[arg-type]
    far = np.linalg.norm(scan.points[:, :2], axis=1) >= 10.0
    np.testing.assert_array_equal(found.train, np.where(far, 0, 1))
    assert found.outside == far.sum()


def test_fused_rows_and_rows_left_out_do_not_move_the_others(data: SemanticKitti) -> None:
    scan = data[0]
    whole = Cloud.of_scan(scan)
    kept = np.arange(5, len(whole))  # the first five rows were not finite, say

    def fuse(scan: object) -> Cloud:
        cloud = whole.take(kept)
        other = whole.take(np.arange(40))
        return Cloud(
            np.concatenate([cloud.points, other.points]),
            np.concatenate([cloud.words, other.words]),
            np.concatenate([cloud.origin, other.origin + 1]),
            np.concatenate([cloud.kind, other.kind + 1]),
            np.concatenate([cloud.source, np.full(40, -1, np.int32)]),
            cloud.own,
        )

    found = FusedNetwork(Far(), fuse).predict(scan)  # type: ignore[arg-type]
    plain = NetworkPredictor(Far()).predict(scan)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.train[5:], plain.train[5:])
    assert (found.train[:5] == 0).all()
    near = int((plain.train[:5] > 0).sum())
    assert found.outside == plain.outside + near
