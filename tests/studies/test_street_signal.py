"""The study that prints the simulator's signal, on scans whose populations are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kd_seg.studies.street_signal import street_signal


def test_ground_objects_and_far_objects_are_told_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "sequences" / "00" / "velodyne"
    folder.mkdir(parents=True)
    turn = rng.uniform(-np.pi, np.pi, 6000)
    reach = np.concatenate([rng.uniform(4, 12, 5000), rng.uniform(26, 44, 1000)])
    height = np.concatenate([np.full(3000, -1.7), rng.uniform(-0.5, 1, 3000)])
    shown = np.concatenate([rng.uniform(0.2, 0.4, 3000), np.full(2000, 0.5), np.full(1000, 0.1)])
    points = np.column_stack([reach * np.cos(turn), reach * np.sin(turn), height, shown]).astype("<f4")
    points.tofile(folder / "000000.bin")
    ground, objects, far = street_signal(tmp_path)
    assert ground == pytest.approx(np.linspace(0.21, 0.39, 10), abs=0.01)
    assert objects == pytest.approx([0.5] * 10)
    assert far == pytest.approx(0.1)
