"""Drift of estimated poses: figures that can be worked out by hand, and KISS-ICP itself on a short path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_data import write_tiny

from kd_seg.core.errors import DataError
from kd_seg.core.geometry import rigid, rotation_z
from kd_seg.studies.odometry_error import drifts, main, markdown, summarise


def straight(count: int, step_m: float, scale: float = 1.0, turn_deg: float = 0.0) -> np.ndarray:
    """Poses along x, ``scale`` times too long, turning about z from scan to scan."""
    motion = rigid(rotation_z(np.radians(turn_deg)), (step_m * scale, 0.0, 0.0))
    poses = [np.eye(4)]
    for _ in range(count - 1):
        poses.append(poses[-1] @ motion)
    return np.stack(poses)


def test_a_scale_that_is_off_by_a_hundredth_drifts_by_a_metre_in_a_hundred() -> None:
    errors = drifts(straight(31, 1.0), straight(31, 1.0, scale=1.01), lengths_m=(10.0, 20.0, 100.0))
    rows = summarise(errors)
    assert [(row.length_m, row.pieces) for row in rows] == [(10.0, 21), (20.0, 11)]  # nothing is 100 m long
    for row in rows:
        assert row.metres == pytest.approx(1.0, rel=1e-9)
        assert row.degrees == pytest.approx(0.0, abs=1e-6)


def test_turning_a_thousandth_of_a_degree_too_far_is_seen() -> None:
    rows = summarise(drifts(straight(12, 1.0), straight(12, 1.0, turn_deg=0.001), lengths_m=(10.0,)))
    assert rows[0].degrees == pytest.approx(0.1, rel=1e-6)
    assert 0 < rows[0].metres < 0.01


def test_worlds_may_differ() -> None:
    known = straight(15, 1.0, turn_deg=2.0)
    moved = rigid(rotation_z(1.0), (30.0, -7.0, 2.0)) @ known
    assert all(metres < 1e-9 and degrees < 1e-6 for _, metres, degrees in drifts(known, moved, lengths_m=(5.0,)))


def test_half_a_turn_is_half_a_turn() -> None:
    found = straight(2, 1.0)
    found[1, :3, :3] = rotation_z(np.pi)
    assert drifts(straight(2, 1.0), found, lengths_m=(1.0,))[0][2] == pytest.approx(180.0)


def test_the_table_has_a_line_per_length() -> None:
    text = markdown(summarise(drifts(straight(31, 1.0), straight(31, 1.0, scale=1.02), lengths_m=(5.0, 10.0))))
    assert text.splitlines()[2:] == ["| 5 m | 26 | 2.00 | 0.00 |", "| 10 m | 21 | 2.00 | 0.00 |"]


def test_missing_poses_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_tiny(tmp_path, ("00",), 3)
    poses = root / "sequences" / "00" / "poses.txt"
    poses.write_text(poses.read_text().splitlines()[0] + "\n")
    monkeypatch.setattr("sys.argv", ["odometry_error", str(root)])
    with pytest.raises(DataError, match=r"poses.txt has 1 rows, scan 1 needs row 1"):
        main()
