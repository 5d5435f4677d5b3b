"""Class, probability and entropy of points, against NumPy in double precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_seg.classes import INVALID
from kd_seg.serving.postprocess import TILE, point_predictions


def by_numpy(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    z = logits.astype(np.float64)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1) / np.log(max(logits.shape[1], 2))
    return z.argmax(axis=1), p.max(axis=1), entropy


@given(
    st.integers(0, 10**6),
    st.sampled_from([0, 1, 5, TILE - 1, TILE, TILE + 1, 3 * TILE + 7]),
    st.integers(1, 26),
    st.sampled_from([0.0, 0.1, 5.0, 90.0, 1e4]),
)
def test_predictions_are_those_of_a_softmax(seed: int, voxels: int, classes: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, scale, (voxels, classes)).astype(np.float32)
    inverse = rng.integers(-1, voxels, 50).astype(np.int32)
    class_id, probability, entropy = point_predictions(logits, inverse).spread()
    best, largest, spread = by_numpy(logits) if voxels else (np.zeros(0, int),) * 3
    for point, voxel in enumerate(inverse):
        if voxel < 0:
            assert (class_id[point], probability[point], entropy[point]) == (INVALID, 0.0, 1.0)
            continue
        assert class_id[point] == best[voxel]
        assert probability[point] == pytest.approx(largest[voxel], abs=1e-5)
        assert entropy[point] == pytest.approx(spread[voxel], abs=1e-5)
    assert ((entropy >= 0) & (entropy <= 1)).all()


def test_of_equal_logits_the_first_wins_and_nothing_is_known() -> None:
    class_id, probability, entropy = point_predictions(np.full((1, 4), 7.0, np.float32), np.zeros(1, np.int32)).spread()
    assert class_id.tolist() == [0]
    assert probability[0] == pytest.approx(0.25)
    assert entropy[0] == pytest.approx(1.0)


def test_rows_of_memory_that_do_not_lie_together_are_read_right() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (6, 40)).astype(np.float32)[:, ::2]
    inverse = np.arange(6, dtype=np.int32)
    strided, whole = point_predictions(logits, inverse), point_predictions(logits.copy(), inverse)
    np.testing.assert_array_equal(strided.words, whole.words)
