"""The networks of published weights, as students: sizes, pre-processing, gradients, and what they cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from published_weights import made_points

from kd_seg.core.errors import ConfigError
from kd_seg.networks import Encoding, build_network, collate, encode
from kd_seg.networks.minkunet import SIZES, first_points, from_lowest, interpolate, read_layout
from kd_seg.networks.spv import BOXES, FEATURES, partition, read_scales
from kd_seg.sparse import sparse_tensor
from kd_seg.voxels import CartesianGrid, CylindricalGrid, feature_width

ROUNDED = CartesianGrid((0.05,) * 3, (-100.025, -100.025, -40.025), (100.025, 100.025, 40.025))
ROLL = CylindricalGrid((48, 36, 16), (0.0, -3.1415926, -4.0), (50.0, 3.1415926, 2.0), clamp=True)

CASES = [
    ("minkunet", "6-6 6x1-8x1-10x1-12x1 12x1-10x1-8x1-6x1 three", Encoding(ROUNDED, ("xyz", "remission"))),
    ("minkunet", "6 6x1-8x1-10x1-12x1 12x1-10x1-8x1-6x1 stem5 down", Encoding(ROUNDED, ("xyz", "remission"))),
    ("spv", "2-4-8-16 8 semantickitti", Encoding(BOXES["semantickitti"], FEATURES)),
    ("cylinder3d", "w4", Encoding(ROLL, ("cylinder9",))),
]


@pytest.mark.parametrize(("name", "size", "encoding"), CASES)
def test_trains_like_any_student(name: str, size: str, encoding: Encoding) -> None:
    torch.manual_seed(0)
    network = build_network(name, size, feature_width(encoding.features), 5).train()
    batch = collate([encode(made_points(900), None, encoding)], encoding.grid)
    output = network(batch)
    assert output.logits.shape == (len(batch.coordinates), 5)
    level = output.levels["penultimate"]
    assert level.features.shape == (len(batch.coordinates), network.channels["penultimate"])  # type: ignore[index]
    torch.nn.functional.cross_entropy(output.logits, torch.arange(len(output.logits)) % 5).backward()
    for label, parameter in network.named_parameters():
        assert parameter.grad is not None, label
        assert parameter.grad.isfinite().all(), label


@pytest.mark.parametrize(("name", "size", "encoding"), CASES)
@pytest.mark.parametrize("count", [0, 1])
def test_hardly_any_points(name: str, size: str, encoding: Encoding, count: int) -> None:
    points = np.full((count + 2, 4), np.nan, np.float32)
    points[:count] = 1.0
    network = build_network(name, size, feature_width(encoding.features), 5).eval()
    for mode in (network.eval(), network.train()):
        output = mode(collate([encode(points, None, encoding)], encoding.grid))
        assert output.logits.shape == (count, 5)
        assert output.logits.isfinite().all()
    assert output.point_logits is None


@pytest.mark.parametrize(
    ("name", "parameters"), [("18-w16", 5.4), ("18-w32", 21.7), ("34-w32", 37.9), ("34v2-w51", 96.5)]
)
def test_minkunets_have_the_published_parameters(name: str, parameters: float) -> None:
    with torch.device("meta"):
        network = build_network("minkunet", name, 4, 19)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(parameters, abs=0.06)


def test_two_d_pass_has_the_published_parameters() -> None:
    network = build_network("spv", "4x64", 4, 19)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(1.93, abs=0.01)


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_read_back(name: str) -> None:
    assert read_layout(read_layout(name).text()) == SIZES[name]


@pytest.mark.parametrize("size", ["nano", "32 32x2 32x2 wide", "32 32x2-64x2 32x2", "8 8x1 8x1 three", "", "32x2"])
def test_wrong_minkunets_say_what_sizes_look_like(size: str) -> None:
    with pytest.raises(ConfigError, match="minkunet"):
        read_layout(size)


@pytest.mark.parametrize("size", ["nano", "2-4 64 moon", "2-4-8 semantickitti"])
def test_wrong_spvs_say_what_sizes_look_like(size: str) -> None:
    with pytest.raises(ConfigError, match="spv has no size"):
        read_scales(size)


def test_wrong_cylinders_and_grids_say_so() -> None:
    with pytest.raises(ConfigError, match="cylinder3d has no size"):
        build_network("cylinder3d", "base", 9, 5)
    encoding = Encoding(CartesianGrid((0.1,) * 3), FEATURES)
    with pytest.raises(ConfigError, match="works in a grid"):
        build_network("spv", "4x64", 4, 5)(collate([encode(made_points(50), None, encoding)], encoding.grid))


def test_first_points_and_lowest_cells() -> None:
    encoding = Encoding(CartesianGrid((0.5,) * 3, (-100,) * 3, (100,) * 3), ("xyz", "remission"))
    clouds = [encode(made_points(n), None, encoding) for n in (700, 300)]
    batch = collate(clouds, encoding.grid)
    first = first_points(batch.inverse, len(batch.coordinates))
    for row in range(len(batch.coordinates)):
        assert int(first[row]) == int((batch.inverse == row).nonzero()[0])
    lowest = from_lowest(batch)
    for sample, cloud in enumerate(clouds):
        rows = lowest[lowest[:, 0] == sample, 1:]
        np.testing.assert_array_equal(rows, cloud.voxels.coordinates - cloud.voxels.coordinates.min(axis=0))


def test_interpolation_is_trilinear_over_what_exists() -> None:
    rng = np.random.default_rng(1)
    coarse = torch.tensor([(0, x, y, z) for x in range(3) for y in range(3) for z in range(3)]).int()
    coarse = coarse[torch.from_numpy(rng.random(27) < 0.7)]
    values = torch.from_numpy(rng.standard_normal((len(coarse), 2)).astype(np.float32))
    fine = torch.tensor([(0, *rng.integers(0, 8, 3)) for _ in range(40)]).int()
    made = interpolate(sparse_tensor(values, coarse, (4, 4, 4), 1), fine, 4)
    for row, (_, *place) in enumerate(fine.tolist()):
        total, weights = np.zeros(2), 0.0
        for corner, value in zip(coarse[:, 1:].tolist(), values.numpy(), strict=True):
            weight = np.prod([max(0.0, 1.0 - abs(p / 4 - c)) for p, c in zip(place, corner, strict=True)])
            total, weights = total + weight * value, weights + weight
        np.testing.assert_allclose(made[row], total / weights if weights else total, atol=1e-5)


@pytest.mark.parametrize("scale", [1, 2, 8, 16])
def test_partition_voxelizes_anew(scale: int) -> None:
    box = BOXES["semantickitti"]
    points = made_points(400)[:, :3]
    points = points[((points > np.array(box.lower)) & (points < np.array(box.upper))).all(axis=1)]
    cells = partition(torch.from_numpy(points), torch.zeros(len(points)).int(), box, scale)
    count = np.ceil(np.array(box.cells) / scale).astype(np.float32)
    lower, upper = np.array(box.lower, np.float32), np.array(box.upper, np.float32)
    wanted = (count * (points - lower) / (upper - lower)).astype(int)
    np.testing.assert_array_equal(cells.coordinates[cells.rows, 1:], wanted)
    assert len(np.unique(wanted, axis=0)) == len(cells)
