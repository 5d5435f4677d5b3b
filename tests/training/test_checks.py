"""What is asked of the training scans before the first step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_data import write_tiny

from kd_seg.classes import load_classes
from kd_seg.core.errors import DataError
from kd_seg.networks import Encoding
from kd_seg.scans import SemanticKitti
from kd_seg.training.checks import check_labels, check_scans
from kd_seg.voxels import CartesianGrid


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "data", scans=2)


def around(centre: float, half: float = 30.0) -> Encoding:
    grid = CartesianGrid((0.5,) * 3, (centre - half, -half, -4.0), (centre + half, half, 4.0))
    return Encoding(grid, ("xyz", "remission"))


def check(root: Path, encoding: Encoding, labelled: bool = True, intensity: str = "unit") -> list[str]:
    data = SemanticKitti(root)
    return check_scans(data, data.keys(), labelled, load_classes(), encoding, intensity)


def change(root: Path, pattern: str, dtype: str, change: object) -> None:
    for path in root.glob(pattern):
        change(np.fromfile(path, dtype)).tofile(path)  # type: ignore[operator]


def test_sound_scans_are_met_with_silence(root: Path) -> None:
    assert check(root, around(0.0)) == []
    check_labels(SemanticKitti(root))


def test_a_grid_elsewhere_is_refused_and_one_that_sees_little_is_told(root: Path) -> None:
    with pytest.raises(DataError, match=r"No point of 4 scans, 00/000000 the first, lies inside the grid .*metres"):
        check(root, around(1000.0))
    (warning,) = check(root, around(0.0, half=6.0))
    outside = np.concatenate(
        [np.fromfile(p, "<f4").reshape(-1, 4)[:, :2] for p in root.glob("sequences/*/velodyne/*.bin")]
    )
    share = 100 * (np.abs(outside) >= 6.0).any(axis=1).mean()
    assert abs(float(warning.split()[0]) - share) <= 1.0


def test_labels_that_teach_nothing_are_refused_where_they_are_learned_from(root: Path) -> None:
    change(root, "sequences/*/labels/*.label", "<u4", np.zeros_like)
    with pytest.raises(DataError, match="No labelled point"):
        check(root, around(0.0))
    assert check(root, around(0.0), labelled=False) == []


def test_labels_outside_the_grid_count_as_none(root: Path) -> None:
    for scan in SemanticKitti(root):
        words = scan.labels
        assert words is not None
        path = scan.points_path.parents[1] / "labels" / f"{scan.points_path.stem}.label"
        np.where(np.abs(scan.points[:, 0]) > 10.0, words, 0).astype("<u4").tofile(path)
    with pytest.raises(DataError, match="No labelled point"):
        check(root, around(0.0, half=9.0))
    assert check(root, around(0.0, half=15.0)) == []


def test_another_range_of_intensities_is_told(root: Path) -> None:
    def bytes_of(values: np.ndarray) -> np.ndarray:
        points = values.reshape(-1, 4).copy()
        points[:, 3] = np.round(points[:, 3] * 255)
        return points

    change(root, "sequences/*/velodyne/*.bin", "<f4", bytes_of)
    (warning,) = check(root, around(0.0))
    assert "data.sensor.intensity_range to byte" in warning


def test_a_sequence_without_labels_is_named(tmp_path: Path) -> None:
    write_tiny(tmp_path, ("00",))
    write_tiny(tmp_path, ("05",), labels=False)
    with pytest.raises(DataError, match=r"Sequence 05 has no labels/ .*data\.unlabelled"):
        check_labels(SemanticKitti(tmp_path))


def test_of_many_scans_a_few_are_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = SemanticKitti(root)
    read = []
    scan = data.scan
    monkeypatch.setattr(data, "scan", lambda *key: read.append(key) or scan(*key))
    keys = data.keys() * 9
    check_scans(data, keys, True, load_classes(), around(0.0), "unit")
    assert sorted(read) == sorted(set(data.keys()))
    assert check_scans(data, [], True, load_classes(), around(0.0), "unit") == []
