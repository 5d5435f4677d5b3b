"""Benchmarks check answers before they time, and report what they promise."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from kd_seg.benchmarks import maps
from kd_seg.benchmarks.timing import Rival, compare
from kd_seg.benchmarks.voxelize import rows
from kd_seg.core.errors import DataError


def accept(_: object) -> None:
    """Any answer will do."""


def test_compare_takes_the_best_and_the_ratio_to_ours() -> None:
    slow = Rival("slow", lambda: time.sleep(0.02), accept)
    ours = Rival("ours", lambda: time.sleep(0.004), accept, ours=True)
    found = compare([slow, ours], 2)
    assert [row.name for row in found] == ["slow", "ours"]
    assert found[1].ratio == 1.0
    assert 20 <= found[0].ms < 200
    assert found[0].ratio == pytest.approx(found[0].ms / found[1].ms)


def test_compare_refuses_wrong_answers_and_calls() -> None:
    def refuse(answer: object) -> None:
        assert answer == 2

    with pytest.raises(AssertionError):
        compare([Rival("ours", lambda: 1, refuse, ours=True)], 1)
    with pytest.raises(ValueError, match="exactly one"):
        compare([Rival("peer", lambda: 1, accept)], 1)
    with pytest.raises(ValueError, match="repeats"):
        compare([Rival("ours", lambda: 1, accept, ours=True)], 0)


def test_rivals_agree_on_a_random_cloud() -> None:
    points = np.random.default_rng(0).normal(0, 3, (4000, 4)).astype(np.float32)
    points[7] = np.nan
    found = rows(points, 0.25, 1)
    assert [row.ours for row in found].count(True) == 1
    names = {row.name for row in found}
    assert {"kd_seg voxelize", "np.unique on packed cells", "torch.unique on packed cells"} <= names
    assert all(row.ms > 0 for row in found)
    with pytest.raises(DataError, match="no finite point"):
        rows(np.full((3, 4), np.nan, np.float32), 0.25, 1)


def test_maps_agree_with_spconv_before_they_are_timed() -> None:
    points = np.random.default_rng(1).normal(0, 4, (1500, 4)).astype(np.float32)
    found = maps.rows(points, 0.5, 1)
    assert [row.ours for row in found] == [True, False, False] * 4
    assert all(row.ms > 0 for row in found)
    with pytest.raises(DataError, match="no point inside the grid"):
        maps.rows(points + 1000, 0.5, 1)


def test_a_wrong_map_is_noticed_before_it_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(1).normal(0, 4, (1500, 4)).astype(np.float32)
    right = maps.submanifold_map

    def wrong(*given: Any) -> tuple[Any, Any]:
        pairs, counts = right(*given)
        return pairs, np.maximum(counts - 1, 0)

    monkeypatch.setattr(maps, "submanifold_map", wrong)
    with pytest.raises(AssertionError):
        maps.rows(points, 0.5, 1)
