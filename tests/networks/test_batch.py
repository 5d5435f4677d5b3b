"""Batches of encoded clouds: where rows of each cloud lie, and moves to another device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from kd_seg.networks import Encoding, Output, collate, encode
from kd_seg.networks.batch import move
from kd_seg.voxels import CartesianGrid, CylindricalGrid, Grid

GRIDS: list[Grid] = [
    CartesianGrid((0.5,) * 3, (-4.0, -4.0, -2.0), (4.0, 4.0, 2.0)),
    CylindricalGrid((8, 12, 4), (0.0, -np.pi, -2.0), (4.0, np.pi, 2.0)),
]


@given(st.integers(0, 10**6), st.integers(1, 4), st.sampled_from(GRIDS))
def test_every_point_finds_its_voxel_in_its_own_cloud(seed: int, clouds: int, grid: Grid) -> None:
    rng = np.random.default_rng(seed)
    encoding = Encoding(grid, ("xyz", "remission"))
    points, labels = [], []
    for _ in range(clouds):
        count = int(rng.integers(0, 40))
        points.append(np.column_stack([rng.uniform(-6, 6, (count, 3)), rng.random(count)]).astype(np.float32))
        labels.append(rng.integers(0, 5, count).astype(np.uint8))
    encoded = [encode(cloud, ids, encoding) for cloud, ids in zip(points, labels, strict=True)]
    batch = collate(encoded, grid)
    assert batch.batch_size == clouds
    assert batch.spatial_shape == grid.shape
    assert batch.wraps == grid.wraps
    np.testing.assert_array_equal(batch.point_offsets, np.cumsum([0, *map(len, points)]))
    assert len(batch.features) == len(batch.inverse) == sum(map(len, points))
    for b in range(clouds):
        rows = slice(int(batch.voxel_offsets[b]), int(batch.voxel_offsets[b + 1]))
        assert (batch.coordinates[rows, 0] == b).all()
        np.testing.assert_array_equal(batch.coordinates[rows, 1:], encoded[b].voxels.coordinates)
        np.testing.assert_array_equal(batch.labels[rows], encoded[b].labels)
        own = batch.inverse[int(batch.point_offsets[b]) : int(batch.point_offsets[b + 1])].numpy()
        alone = encoded[b].voxels.inverse
        np.testing.assert_array_equal(own, np.where(alone >= 0, alone + rows.start, -1))
        np.testing.assert_array_equal(
            batch.features[int(batch.point_offsets[b]) : int(batch.point_offsets[b + 1])], encoded[b].features
        )


def test_without_labels_every_voxel_is_ignored() -> None:
    points = np.zeros((3, 4), np.float32)
    assert encode(points, None, Encoding(GRIDS[0], ("xyz",))).labels.tolist() == [0]
    assert encode(points, np.array([0, 2, 2], np.uint8), Encoding(GRIDS[0], ("xyz",))).labels.tolist() == [2]


def test_points_have_their_voxels_logits_or_their_own() -> None:
    inverse = torch.tensor([2, -1, 0, 2])
    shared = Output(torch.zeros(3, 5), {})
    logits, row = shared.rows(inverse)
    assert logits is shared.logits
    assert row.tolist() == [2, -1, 0, 2]
    own = Output(torch.zeros(3, 5), {}, point_logits=torch.ones(4, 5))
    logits, row = own.rows(inverse)
    assert logits is own.point_logits
    assert row.tolist() == [0, -1, 2, 3]


@dataclass
class Movable:
    """Notes where it was sent."""

    at: str = "cpu"

    def to(self, device: str) -> Movable:
        """A copy on the device."""
        return Movable(device)


def test_what_can_move_is_moved_however_deep_it_lies() -> None:
    value = {"a": [Movable(), (Movable(), 3)], "b": "text", "c": None, "d": torch.zeros(2)}
    moved = move(value, "meta")
    assert moved["a"][0].at == moved["a"][1][0].at == "meta"
    assert (moved["a"][1][1], moved["b"], moved["c"]) == (3, "text", None)
    assert moved["d"].device.type == "meta"
    assert value["a"][0].at == "cpu"  # type: ignore[index, union-attr]
