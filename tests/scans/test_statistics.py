"""Figures of scans against a plain reading of the points."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_data import write_tiny

from kd_seg.classes import load_classes
from kd_seg.core.errors import DataError
from kd_seg.scans import SemanticKitti
from kd_seg.scans.statistics import (
    HISTOGRAM_EDGES,
    LEVELS,
    RANGE_EDGES,
    RAYS,
    VOXEL_SIZES,
    ScanStatistics,
    occupied,
    rings_of,
    statistics,
)

CLASSES = load_classes("semantic_kitti_19")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"), ("00", "01"), 3)


@pytest.fixture(scope="module")
def found(root: Path) -> ScanStatistics:
    return statistics(root)


@pytest.fixture(scope="module")
def points(root: Path) -> np.ndarray:
    return np.concatenate([scan.points for scan in SemanticKitti(root)]).astype(np.float64)


@pytest.fixture(scope="module")
def words(root: Path) -> np.ndarray:
    return np.concatenate([scan.labels for scan in SemanticKitti(root)])  # type: ignore[misc]


def test_points_and_ranges_are_those_of_all_scans(root: Path, found: ScanStatistics, points: np.ndarray) -> None:
    assert found.points.tolist() == [len(scan.points) for scan in SemanticKitti(root)]
    reach = np.linalg.norm(points[:, :3], axis=1)
    np.testing.assert_allclose(found.range_histogram, np.histogram(reach, HISTOGRAM_EDGES)[0] / len(points))
    np.testing.assert_allclose(found.range_percentiles, np.percentile(reach, [1, 50, 90, 99]), atol=0.05)
    assert found.range_max == pytest.approx(reach.max())
    assert found.missing == pytest.approx(1 - len(points) / (RAYS * 6))


def test_remissions_are_counted_in_hundredths(found: ScanStatistics, points: np.ndarray) -> None:
    level = np.clip(np.round(points[:, 3] * LEVELS), 0, LEVELS - 1).astype(int)
    np.testing.assert_allclose(found.remission_histogram, np.bincount(level, minlength=LEVELS) / len(points))
    assert found.remission_levels == len(np.unique(points[:, 3])) == 3
    assert found.remission_zeros == 0.0
    np.testing.assert_allclose(found.remission_percentiles, np.percentile(points[:, 3], [25, 50, 75, 99]), atol=0.011)


def test_classes_have_their_share_and_median(found: ScanStatistics, points: np.ndarray, words: np.ndarray) -> None:
    raw = words & 0xFFFF
    assert found.raw_shares == pytest.approx({key: float((raw == key).mean()) for key in (10, 40, 80)})
    for name, key, remission in (("road", 40, 0.3), ("car", 10, 0.1), ("pole", 80, 0.6)):
        column = found.class_names.index(name)
        assert found.class_shares[column] == pytest.approx((raw == key).mean())
        assert found.class_remission[column] == pytest.approx(remission, abs=0.011)
    assert np.isnan(found.class_remission[found.class_names.index("bicycle")])
    assert found.class_shares.sum() == pytest.approx(1.0)


def test_instances_are_counted_by_the_range_of_their_middle(root: Path, found: ScanStatistics) -> None:
    counted: list[tuple[float, int]] = []
    for scan in SemanticKitti(root):
        assert scan.labels is not None
        for word in np.unique(scan.labels[scan.labels >> 16 > 0]):
            mine = scan.points[scan.labels == word, :2].astype(np.float64)
            counted.append((float(np.linalg.norm(mine.mean(axis=0))), len(mine)))
    for (low, high), (appearances, median, mean) in zip(pairwise(RANGE_EDGES), found.instances["car"], strict=True):
        inside = [count for reach, count in counted if low <= reach < high]
        assert appearances == len(inside)
        assert median == (np.median(inside) if inside else 0.0)
        assert mean == (np.mean(inside) if inside else 0.0)


@given(st.integers(0, 10**6), st.sampled_from(VOXEL_SIZES), st.integers(0, 60))
def test_occupied_cubes_are_different_cells(seed: int, size: float, count: int) -> None:
    cells = np.random.default_rng(seed).integers(-30, 30, (count, 3))
    middle = ((cells + 0.5) * size).astype(np.float32)
    assert occupied(np.column_stack([middle, middle[:, 0]]), size) == len({tuple(cell) for cell in cells.tolist()})


def test_rings_begin_where_the_azimuth_falls_back() -> None:
    azimuth = np.tile(np.linspace(0.01, 2 * np.pi - 0.01, 50), 64)
    points = np.column_stack([np.cos(azimuth), np.sin(azimuth), 0 * azimuth, 0 * azimuth]).astype(np.float32)
    np.testing.assert_array_equal(rings_of(points), np.repeat(np.arange(64), 50))
    assert set(rings_of(points[: 63 * 50]).tolist()) == {-1}, "63 rings are no HDL-64E"
    assert len(rings_of(points[:0])) == 0


@pytest.mark.parametrize("labels", [True, False])
def test_points_that_are_not_finite_are_left_out(tmp_path: Path, labels: bool) -> None:
    root = write_tiny(tmp_path / "a", ("00",), 1, labels=labels)
    whole = statistics(root)
    path = root / "sequences" / "00" / "velodyne" / "000000.bin"
    points = np.fromfile(path, "<f4").reshape(-1, 4)
    points[:7, 0], points[7:9, 3] = np.nan, np.nan
    points.tofile(path)
    less = statistics(root)
    assert less.points.tolist() == [whole.points[0] - 9]
    assert less.class_shares.sum() == pytest.approx(1.0)
    assert less.remission_histogram.sum() == pytest.approx(1.0)


def test_every_nth_scan_and_no_scan(root: Path, tmp_path: Path) -> None:
    assert len(statistics(root, every=4).points) == 2
    scans = list(SemanticKitti(root))
    assert statistics(scans[:2]).points.tolist() == [len(scan.points) for scan in scans[:2]]
    with pytest.raises(DataError, match="holds no scan to measure"):
        statistics([])
