"""Rows of voxels in another tensor against a look-up, by the kernel and by torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_voxels import random_voxels
from torch import Tensor

from kd_seg.networks.correspondence import correspondence, find_rows

SHAPE = (9, 7, 12)


def looked_up(of: Tensor, among: Tensor) -> list[int]:
    rows = {tuple(voxel): row for row, voxel in enumerate(among.tolist())}
    return [rows.get(tuple(voxel), -1) for voxel in of.tolist()]


@settings(deadline=None, max_examples=80)
@given(
    st.integers(0, 10**6), st.integers(0, 300), st.integers(0, 300), st.sampled_from(["sorted", "shuffled", "twice"])
)
def test_rows_are_those_of_a_look_up(seed: int, wanted: int, there: int, order: str) -> None:
    of, among = random_voxels(seed, wanted, SHAPE), random_voxels(seed + 1, there, SHAPE)
    rng = np.random.default_rng(seed)
    if order == "shuffled":
        of = of[rng.permutation(len(of))]
    if order == "twice":
        of = torch.cat([of, of // 2, of])
    expected = looked_up(of, among)
    assert find_rows(of, among).tolist() == expected
    shuffled = torch.from_numpy(rng.permutation(len(among)))
    found = find_rows(of, among[shuffled])
    back = torch.cat([shuffled, torch.tensor([-1])])
    assert back[found].tolist() == expected, "among in any order, by torch"
    assert find_rows(of.long(), among.long()).tolist() == expected, "64-bit coordinates, by torch"


def test_voxels_beyond_the_others_are_not_found() -> None:
    among = torch.tensor([[0, 0, 0, 1], [0, 5, 5, 5], [1, 0, 0, 0]], dtype=torch.int32)
    of = torch.tensor([[2, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 5, 5, 5], [-1, 9, 9, 9]], dtype=torch.int32)
    assert find_rows(of, among).tolist() == [-1, -1, 2, 1, -1]


def test_a_student_voxel_without_a_teacher_is_told() -> None:
    teacher = random_voxels(3, 100, SHAPE)
    assert correspondence(teacher[10:60], teacher).tolist() == list(range(10, 60))
    with pytest.raises(AssertionError, match="1 of 100 student voxels"):
        correspondence(teacher, torch.cat([teacher[:50], teacher[51:]]))
