"""Which fused points stay, pseudo-instances of static classes and linked keys, against plain loops."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from kd_seg.classes import load_classes
from kd_seg.instances.clusters import CELL, STUFF, Clusters, stuff_rows
from kd_seg.instances.linking import LARGEST_GAP, NEAR_OTHER, NEAR_VEHICLE, link_keys, standing_classes
from kd_seg.instances.nearness import keep_fused
from kd_seg.instances.records import RECORD
from kd_seg.scans import SemanticKitti


def by_loops(own: np.ndarray, fused: np.ndarray, clearance: float, cell: float, per_cell: int) -> list[bool]:
    kept, taken = [], {}
    for point in fused.astype(np.float64):
        gaps = np.linalg.norm(own.astype(np.float64) - point, axis=1)
        stays = not (gaps < max(clearance, 1e-6)).any()
        if stays:
            place = tuple(np.floor(point / cell).astype(int))
            taken[place] = taken.get(place, 0) + 1
            stays = taken[place] <= per_cell
        kept.append(stays)
    return kept


@given(
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.02, 0.3, 0.5, 0.7, 1.3]),
    st.sampled_from([0.05, 0.4]),
    st.integers(1, 4),
    st.sampled_from([1.0, 6.0, 200.0]),
)
def test_doubled_and_crowded_points_are_dropped(
    seed: int, clearance: float, cell: float, per_cell: int, reach: float
) -> None:
    rng = np.random.default_rng(seed)
    own = rng.uniform(-reach, reach, (int(rng.integers(0, 60)), 3)).astype(np.float32)
    near = own[rng.integers(0, len(own), 20)] + rng.normal(0, max(clearance, 0.01), (20, 3)) if len(own) else own
    fused = np.concatenate([near, rng.uniform(-reach, reach, (30, 3)), own[:3]]).astype(np.float32)
    found = keep_fused(own, fused, clearance, cell, per_cell)
    assert found.tolist() == by_loops(own, fused, clearance, cell, per_cell)
    assert len(keep_fused(own, fused[:0], clearance, cell, per_cell)) == 0


def test_components_are_those_of_touching_cells(tmp_path: Path) -> None:
    """One scan of random cells of two static classes; scipy joins them over all 26 neighbours."""
    rng = np.random.default_rng(4)
    side, count = 14, 420
    cells = np.unique(rng.integers(0, side, (count, 3)), axis=0)
    raw = rng.choice([80, 81], len(cells)).astype(np.uint32)
    folder = tmp_path / "sequences" / "00"
    for name in ("velodyne", "labels"):
        (folder / name).mkdir(parents=True)
    xyz = (cells - side // 2 + 0.5) * CELL
    rows = np.column_stack([xyz, np.full(len(xyz), 0.5)]).astype(np.float32)
    rows[-1] = np.nan
    rows.tofile(folder / "velodyne" / "000000.bin")
    raw.tofile(folder / "labels" / "000000.label")
    sequence = SemanticKitti(tmp_path).sequences["00"]
    scan = sequence.scan(0)
    found_rows, classes = stuff_rows(scan, (80, 81))
    assert found_rows.tolist() == list(range(len(cells) - 1)), "rows that are not finite have no cell"
    keys = Clusters.of_sequence(sequence, (80, 81)).keys(scan, found_rows, classes)
    assert (keys >= STUFF).all()
    expected = np.zeros(len(cells) - 1, int)
    for number, name in enumerate((80, 81)):
        volume = np.zeros((side,) * 3, bool)
        mine = np.flatnonzero(raw[:-1] == name)
        volume[tuple(cells[mine].T)] = True
        parts, _ = ndimage.label(volume, np.ones((3, 3, 3)))
        expected[mine] = 1000 * number + parts[tuple(cells[mine].T)]
    same = keys[:, None] == keys[None, :]
    np.testing.assert_array_equal(same, expected[:, None] == expected[None, :])


def record(key: int, scan: int, x: float, moving: bool, train: int = 1) -> np.ndarray:
    made = np.zeros(1, RECORD)
    made["key"], made["scan"], made["centroid"], made["moving"], made["train"] = key, scan, (x, 0, 0), moving, train
    return made


STANDING = standing_classes(load_classes().names)


def linked(*records: np.ndarray) -> list[int]:
    return link_keys(np.concatenate(records), np.tile(np.eye(4), (20, 1, 1)), STANDING)["key"].tolist()


def test_an_object_that_starts_to_move_keeps_its_key() -> None:
    assert linked(record(7, 0, 0.0, False), record(7, 1, 0.1, False), record(9, 2, 0.8, True)) == [7, 7, 7]
    assert linked(record(9, 0, 0.0, True), record(7, 1, 0.1, False)) == [7, 7], "the smallest key stays"


@pytest.mark.parametrize(
    "other",
    [
        record(9, 2 + LARGEST_GAP, 0.1, True),
        record(9, 1, 0.1, True),
        record(9, 2, NEAR_VEHICLE + 0.01, True),
        record(9, 2, 0.1, False),
        record(9, 2, 0.1, True, train=4),
    ],
)
def test_what_is_late_far_of_the_same_state_or_of_another_class_is_another(other: np.ndarray) -> None:
    assert linked(record(7, 0, 0.0, False), record(7, 1, 0.0, False), other) == [7, 7, 9]


def test_people_are_linked_over_shorter_ways_than_vehicles() -> None:
    gap = (NEAR_VEHICLE + NEAR_OTHER) / 2
    assert linked(record(7, 0, 0.0, False, 6), record(9, 1, gap, True, 6)) == [7, 9]
    assert linked(record(7, 0, 0.0, False, 1), record(9, 1, gap, True, 1)) == [7, 7]


def test_only_mutually_nearest_objects_are_linked() -> None:
    assert linked(record(7, 0, 0.0, False), record(8, 0, 0.5, False), record(9, 1, 0.4, True)) == [7, 8, 8]
    assert link_keys(np.zeros(0, RECORD), np.zeros((0, 4, 4)), STANDING).tolist() == []


def test_components_of_a_long_sequence_need_no_more_memory_than_its_cells(tmp_path: Path) -> None:
    folder = tmp_path / "sequences" / "00"
    for name in ("velodyne", "labels"):
        (folder / name).mkdir(parents=True)
    side = CELL * (np.stack(np.meshgrid(*[np.arange(120)] * 2), axis=-1).reshape(-1, 2) + 0.5)
    points = np.column_stack([side, np.zeros((len(side), 2))]).astype("<f4")
    for index in range(80):
        points.tofile(folder / "velodyne" / f"{index:06d}.bin")
        np.full(len(points), 50, "<u4").tofile(folder / "labels" / f"{index:06d}.label")
    sequence = SemanticKitti(tmp_path).sequences["00"]
    Clusters.of_sequence(sequence, (50,))  # compiles
    tracemalloc.start()
    found = Clusters.of_sequence(sequence, (50,))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.cells) == len(points)
    assert set(found.component.tolist()) == {0}
    assert peak < 0.6 * 80 * len(points) * found.cells.itemsize
