"""What objectives share: moving averages, rows of a scan, parents of voxels, names of runs, and weights over time."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kd_seg.networks import Level
from kd_seg.objectives.multi_to_single.settings import MultiToSingleSettings
from kd_seg.objectives.shared.ema import bare, follow_parameters, follow_state, warmed_momentum
from kd_seg.objectives.shared.image_rows import level_rows, rows_of_scan
from kd_seg.objectives.shared.image_teacher import regime, shrink
from kd_seg.objectives.shared.processes import rank_and_world, summed
from kd_seg.scans import Cloud


def network(value: float) -> nn.Module:
    made = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        for tensor in (*made.parameters(), *(b for b in made.buffers() if b.is_floating_point())):
            tensor.fill_(value)
        made[1].num_batches_tracked.fill_(int(value))  # type: ignore[union-attr, operator]
    return made


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=6), st.floats(0, 0.999))
def test_an_average_is_the_sum_of_what_it_followed(values: list[float], momentum: float) -> None:
    average, expected = network(1.0), 1.0
    for value in values:
        follow_parameters(average, network(value), momentum)
        expected = momentum * expected + (1 - momentum) * value
    for parameter in average.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, expected), atol=1e-4, rtol=1e-4)
    assert average[1].running_mean.tolist() == [1.0, 1.0], "statistics of its own"  # type: ignore[index, union-attr]


def test_a_whole_state_is_followed_and_counters_are_copied() -> None:
    average = network(1.0)
    follow_state(average, network(3.0), 0.5)
    for name, tensor in average.state_dict().items():
        assert torch.equal(tensor, torch.full_like(tensor, 3 if "num_batches" in name else 2)), name
    assert bare(average) is average


def test_an_average_begins_as_what_it_follows() -> None:
    assert warmed_momentum(0.99, 0) == 0.0
    assert warmed_momentum(0.99, 1) == 0.5
    assert warmed_momentum(0.99, 98) == pytest.approx(1 - 1 / 99)
    assert warmed_momentum(0.99, 10**6) == 0.99
    average = network(1.0)
    follow_parameters(average, network(7.0), warmed_momentum(0.99, 0))
    assert all((parameter == 7.0).all() for parameter in average.parameters())


@given(st.integers(0, 10**6), st.integers(1, 30))
def test_rows_of_a_scan_are_found_among_what_is_left_of_it(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    left = rng.permutation(count)[: int(rng.integers(0, count + 1))]
    source = np.concatenate([left, np.full(5, -1), rng.integers(0, count, 3)]).astype(np.int32)
    own, total = len(left) + 5, len(source)
    words, origin, kind = (np.zeros(total, dtype) for dtype in (np.uint32, np.int8, np.uint8))
    cloud = Cloud(np.zeros((total, 4), np.float32), words, origin, kind, source, own)
    rows = rows_of_scan(cloud, count)
    for scan_row in range(count):
        expected = np.flatnonzero(left == scan_row)
        assert rows[scan_row] == (expected[0] if len(expected) else -1)


@given(st.integers(0, 10**6), st.sampled_from([(1, 1, 1), (2, 2, 2), (4, 4, 2)]))
def test_every_voxel_has_its_parent(seed: int, stride: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    fine = torch.from_numpy(np.unique(rng.integers(0, (2, 8, 8, 8), (60, 4)), axis=0).astype(np.int32))
    parents = torch.unique(torch.div(fine, torch.tensor((1, *stride)), rounding_mode="floor").int(), dim=0)
    level = Level(torch.zeros(len(parents), 3), parents, stride)
    rows = level_rows(SimpleNamespace(coordinates=fine), level)  # type: ignore[arg-type]
    expected = torch.div(fine, torch.tensor((1, *stride)), rounding_mode="floor").int()
    assert torch.equal(parents[rows], expected)
    if stride != (1, 1, 1) and len(parents) > 1:
        lacking = Level(level.features[1:], parents[1:], stride)
        with pytest.raises(ValueError, match="lacks the parent of a voxel"):
            level_rows(SimpleNamespace(coordinates=fine), lacking)  # type: ignore[arg-type]


def test_a_run_is_named_by_what_its_labels_reached() -> None:
    for labels, used, name in (
        ("projected_3d", False, "labels-through-images"),
        ("projected_3d", True, "labels-through-images"),
        ("2d", True, "joint"),
        ("none", False, "annotation-free"),
    ):
        assert regime({"labels": labels}, SimpleNamespace(labels_used=used)) == name  # type: ignore[arg-type]


def test_a_shrunk_picture_has_the_mean_of_each_area() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    half = shrink(picture, 0.5)
    blocks = picture.reshape(4, 2, 6, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(half, blocks, atol=1.01)  # rounded along either axis
    assert shrink(picture, 1.0) is picture
    assert shrink(picture, 0.001).shape == (1, 1, 3)


def test_one_process_is_the_first_of_one_and_sums_are_its_own() -> None:
    assert rank_and_world() == (0, 1)
    assert summed(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.9), st.floats(0.01, 0.1))
def test_weights_rise_stay_and_fade(a: float, b: float, begin: float, width: float) -> None:
    made = MultiToSingleSettings(teacher={"mode": "ema"}, ramp=0.2, fade=(begin, begin + width))  # type: ignore[arg-type]
    for share in (a, b):
        assert 0.0 <= made.scale(share) <= 1.0
        assert made.silent(share) == (share >= begin + width)
        if made.silent(share):
            assert made.scale(share) == 0.0
    low, high = sorted((a, b))
    if high <= min(begin, 0.2):
        assert made.scale(low) <= made.scale(high)
    if low >= max(begin, 0.2):
        assert made.scale(low) >= made.scale(high)


def test_a_frozen_teacher_teaches_from_the_start() -> None:
    frozen = MultiToSingleSettings(teacher={"mode": "separate", "checkpoint": "x"})  # type: ignore[arg-type]
    assert frozen.scale(0.0) == 1.0
    assert not frozen.silent(1.0)
    moving = MultiToSingleSettings(teacher={"mode": "ema"})  # type: ignore[arg-type]
    assert (moving.scale(0.0), moving.scale(0.05), moving.scale(0.1)) == (0.0, pytest.approx(0.5), 1.0)
