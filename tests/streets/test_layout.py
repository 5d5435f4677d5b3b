"""The simulator's files, determinism, labels, poses and truth, on one small data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from kd_seg.classes import load_classes
from kd_seg.core.errors import UsageError
from kd_seg.core.geometry import invert, transform
from kd_seg.scans import SemanticKitti
from kd_seg.scans.statistics import statistics
from kd_seg.streets import read_class_image, read_objects, read_visibility, simulate

CLASSES = load_classes()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streets")
    simulate(folder, 1, 3, 5, True, 4.0, workers=1)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_reader_finds_all_that_semantic_kitti_has(root: Path) -> None:
    data = SemanticKitti(root)
    assert len(data) == 3
    scan = data.scan("00", 1)
    assert scan.points.dtype == np.float32
    assert scan.labels is not None
    assert len(scan.labels) == len(scan.points)
    assert scan.pose is not None
    assert scan.time == pytest.approx(0.1, abs=0.01)
    assert scan.cameras[0].read().shape == (376, 1241, 3)
    CLASSES.to_train(scan.labels, "simulated")  # knows every raw id
    assert (scan.points[:, 3] >= 0).all()
    assert (scan.points[:, 3] <= 1).all()
    assert np.linalg.norm(scan.points[:, :3], axis=1).max() < 80.9


def test_a_scan_looks_like_an_hdl64(root: Path) -> None:
    found = statistics(root)
    assert 100_000 < np.median(found.points) < 132_000
    assert found.remission_levels <= 101
    elevation = np.asarray(found.ring_elevation)
    elevation = elevation[np.isfinite(elevation)]
    if len(elevation) == 64:
        assert elevation.max() == pytest.approx(2.6, abs=1.0)
        assert elevation.min() == pytest.approx(-24.3, abs=1.0)


def test_the_same_seed_gives_the_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    for name, workers, seed in (("a", 1, 9), ("b", 2, 9), ("c", 1, 10)):
        simulate(tmp_path / name, 1, 2, seed, False, 1.0, workers=workers)
    a, b, c = (files(tmp_path / name) for name in "abc")
    scans = [name for name in a if name.endswith(".bin")]
    assert a.keys() == b.keys()
    assert all(a[name] == b[name] for name in a)
    assert all(a[name] != c[name] for name in scans)


def test_a_used_folder_is_refused_and_a_begun_one_completed(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"other settings \(seed 5 -> 6\)"):
        simulate(root, 1, 3, 6, True, 4.0, workers=1)
    simulate(tmp_path / "x", 1, 2, 9, False, 1.0, workers=1)
    before = files(tmp_path / "x")
    (tmp_path / "x" / "sequences" / "00" / "velodyne" / "000001.bin").unlink()
    simulate(tmp_path / "x", 1, 2, 9, False, 1.0, workers=1)
    assert files(tmp_path / "x") == before


def test_what_stands_stays_where_it_is(root: Path) -> None:
    """Static points of scan 1, brought into scan 0 by the poses, lie on the surfaces of scan 0."""
    data = SemanticKitti(root)
    first, second = data.scan("00", 0), data.scan("00", 1)
    assert first.pose is not None
    assert second.pose is not None
    static = {50, 40, 48, 80, 71}

    def standing(scan) -> np.ndarray:
        near = np.linalg.norm(scan.points[:, :2], axis=1) < 20
        return scan.points[near & np.isin(scan.labels & 0xFFFF, list(static)), :3]

    moved = transform(invert(first.pose) @ second.pose, standing(second))
    distance, _ = cKDTree(standing(first)).query(moved)
    assert np.median(distance) < 0.12


def test_the_truth_moves_objects_as_their_points_move(root: Path) -> None:
    data = SemanticKitti(root)
    now, later = (read_objects(root, "00", index) for index in (0, 2))
    by_word = {item.word: item for item in later}
    compared = 0
    for item in now:
        other = by_word.get(item.word)
        if other is None or min(item.points, other.points) < 150:
            continue
        places = []
        for index, truth in ((0, item), (2, other)):
            scan = data.scan("00", index)
            mine = scan.points[scan.labels == item.word, :3]
            assert len(mine) == truth.points
            local = transform(invert(truth.pose), mine)
            half = 0.5 * truth.size + 0.6
            assert (np.abs(local[:, :2]) < half[:2] + 0.6).mean() > 0.95, item.kind
            places.append(local)
        compared += 1
    assert compared > 0


def test_moving_objects_carry_moving_classes(root: Path) -> None:
    for item in read_objects(root, "00", 1):
        fast = np.linalg.norm(item.velocity) > 0.5
        if fast:
            assert item.word & 0xFFFF >= 252, item.kind
        assert item.word >> 16 > 0


def test_visible_points_have_the_class_of_their_pixel(root: Path) -> None:
    scan = SemanticKitti(root).scan("00", 1)
    seen = read_visibility(root, "00", 1)
    assert seen.shape == (len(scan.points),)
    image = read_class_image(root, "00", 1)
    pixel = np.c_[scan.points[:, :3], np.ones(len(scan.points))] @ scan.cameras[0].matrix().T
    place = np.floor(pixel[:, :2] / pixel[:, 2:]).astype(int)
    inside = seen & (place >= 0).all(axis=1) & (place[:, 0] < image.shape[1]) & (place[:, 1] < image.shape[0])
    assert inside[seen].mean() > 0.999
    assert (pixel[seen, 2] > 0).all()
    raw = image[place[inside, 1], place[inside, 0]]
    agree = raw == (scan.labels[inside] & 0xFFFF)
    assert agree.mean() > 0.85  # edges and leaves differ within a pixel
