"""Voxelization against a plain NumPy reference, on random, awkward and real clouds."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voxel_reference import real_scan, reference, shuffled

from kd_seg.voxels import CartesianGrid, CylindricalGrid, Grid, Voxels, cylindrical, voxelize


@pytest.fixture(scope="module")
def real_points() -> np.ndarray:
    return real_scan()


def agree(points: np.ndarray, grid: Grid) -> Voxels:
    """Voxelize and compare with the reference, exactly."""
    found = voxelize(points, grid)
    coordinates, inverse, counts = reference(points, grid)
    np.testing.assert_array_equal(found.coordinates, coordinates)
    np.testing.assert_array_equal(found.inverse, inverse)
    np.testing.assert_array_equal(found.counts, counts)
    assert found.coordinates.dtype == found.inverse.dtype == found.counts.dtype == np.int32
    return found


coordinate = st.one_of(
    st.floats(-12, 12, width=32),
    st.integers(-24, 24).map(lambda n: n * 0.5),
    st.sampled_from([np.nan, np.inf, -np.inf, 3e38, -3e38, -10.0, 10.0, np.nextafter(np.float32(10), np.float32(0))]),
)
clouds = st.lists(st.tuples(coordinate, coordinate, coordinate), max_size=60)
small_grids = st.builds(
    lambda size, low, extent: CartesianGrid(
        size, (low, low, low), tuple(low + max(e, s) for e, s in zip(extent, size, strict=True))
    ),
    st.tuples(*[st.sampled_from([0.05, 0.1, 0.3, 0.5, 1.0, 7.0])] * 3),
    st.sampled_from([-10.0, -3.7, 0.0]),
    st.tuples(*[st.floats(0.5, 20.0)] * 3),
)


@settings(max_examples=150, deadline=None)
@given(clouds, small_grids, st.integers(3, 6))
def test_any_cloud_any_grid(cloud: list, grid: CartesianGrid, width: int) -> None:
    points = np.zeros((len(cloud), width), dtype=np.float32)
    points[:, :3] = np.array(cloud, dtype=np.float32).reshape(-1, 3)
    agree(points, grid)


@settings(max_examples=100, deadline=None)
@given(clouds, st.integers(1, 40), st.integers(1, 60), st.integers(1, 20), st.sampled_from([-np.pi, 0.0, 1.0]))
def test_any_cloud_cylindrical(cloud: list, rho: int, phi: int, z: int, start: float) -> None:
    points = np.array(cloud, dtype=np.float32).reshape(-1, 3)
    agree(points, CylindricalGrid((rho, phi, z), (0.0, start, -4.0), (10.0, start + 2 * np.pi, 2.0)))
    agree(points, CylindricalGrid((rho, phi, z), (1.0, start, -4.0), (10.0, start + 1.5, 2.0)))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4000), st.floats(0.01, 30.0), st.booleans())
def test_dense_and_sparse_clouds(seed: int, count: int, spread: float, columns: bool) -> None:
    """From thousands of points in a cell to one in each; tall mixed columns make the sort of columns give up."""
    rng = np.random.default_rng(seed)
    points = rng.normal(0, spread, (count, 4)).astype(np.float32)
    if columns:
        points[:, :2] = np.round(points[:, :2] / spread) * 0.3
    agree(points, CartesianGrid((0.1, 0.2, 0.05)))


@pytest.mark.parametrize("size", [0.05, 0.1, 0.2])
def test_real_scan(real_points: np.ndarray, size: float) -> None:
    found = agree(real_points, CartesianGrid((size, size, size)))
    assert (found.inverse >= 0).all(), "the default range holds every KITTI return"
    agree(shuffled(real_points), CartesianGrid((size, size, size)))


def test_real_scan_cylindrical(real_points: np.ndarray) -> None:
    found = agree(real_points, CylindricalGrid())
    assert (found.inverse < 0).mean() < 1e-3
    agree(real_points, CylindricalGrid.cylinder3d())


def test_borders_belong_to_the_cell_above() -> None:
    grid = CartesianGrid((0.5, 0.5, 0.5), (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
    points = np.array(
        [[-1, -1, -1], [-0.5, 0, 0.5], [1, 0, 0], [0, 0, 1], [np.nextafter(np.float32(1), np.float32(0))] * 3]
    )
    found = voxelize(points.astype(np.float32), grid)
    assert found.coordinates.tolist() == [[0, 0, 0], [1, 2, 3], [3, 3, 3]]
    assert found.inverse.tolist() == [0, 1, -1, -1, 2]


def test_a_whole_turn_wraps() -> None:
    """Points on both sides of the negative x axis are neighbours; none falls off the last cell."""
    y = np.concatenate([np.linspace(-1e-6, 1e-6, 41), [0.0, -0.0]])
    points = np.stack([np.full_like(y, -20.0), y, np.zeros_like(y)], axis=1).astype(np.float32)
    grid = CylindricalGrid((480, 360, 32))
    found = agree(points, grid)
    assert (found.inverse >= 0).all()
    assert set(found.coordinates[:, 1]) == {0, 359}
    turned = cylindrical(points)
    assert (turned[:, 1] >= -np.pi).all()
    assert (turned[:, 1] < np.pi).all()


def test_rows_are_sorted_in_the_padded_shape(real_points: np.ndarray) -> None:
    grid = CartesianGrid((0.2, 0.2, 0.2))
    x, y, z = voxelize(real_points, grid).coordinates.astype(np.int64).T
    rows = (x * grid.shape[1] + y) * grid.shape[2] + z
    assert (np.diff(rows) > 0).all()


@pytest.mark.parametrize("points", [np.zeros((0, 3)), np.zeros((0, 4)), np.full((5, 4), np.nan), np.full((2, 3), 1e9)])
def test_nothing_inside(points: np.ndarray) -> None:
    for grid in (CartesianGrid((0.1, 0.1, 0.1)), CylindricalGrid()):
        found = voxelize(points.astype(np.float32), grid)
        assert found.coordinates.shape == (0, 3)
        assert found.counts.shape == (0,)
        assert (found.inverse == -1).all()
        assert len(found.inverse) == len(points)


def test_beyond_32_bits() -> None:
    """A grid of 8e18 cells: keys and point numbers do not fit 64 bits together."""
    rng = np.random.default_rng(0)
    grid = CartesianGrid((1e-3, 1e-3, 1e-3), (-1000.0,) * 3, (1000.0,) * 3)
    assert np.prod([float(n) for n in grid.shape]) > 2.0**62
    points = rng.uniform(-1000, 1000, (3000, 3)).astype(np.float32)
    points[::7] = points[3]
    points[::11] = np.nan
    agree(points, grid)
    agree(points[:40], grid)


def test_ten_million_points() -> None:
    rng = np.random.default_rng(1)
    points = rng.uniform(-90, 90, (10_000_000, 3)).astype(np.float32)
    grid = CartesianGrid((0.5, 0.5, 0.5))
    found = voxelize(points, grid)
    inside = found.inverse >= 0
    assert found.counts.sum() == np.count_nonzero(inside)
    cells = np.floor((points[::997].astype(np.float64) - np.array(grid.lower)) * 2.0)
    kept = inside[::997]
    np.testing.assert_array_equal(found.coordinates[found.inverse[::997][kept]], cells[kept])
    assert len(np.unique(found.coordinates.astype(np.int64) @ [1 << 42, 1 << 21, 1])) == len(found)


def test_strided_and_double_input_is_taken_as_float32(real_points: np.ndarray) -> None:
    grid = CartesianGrid((0.2, 0.2, 0.2))
    expected = voxelize(real_points, grid)
    for same in (real_points[:, :3], real_points.astype(np.float64), np.asfortranarray(real_points)):
        np.testing.assert_array_equal(voxelize(same, grid).inverse, expected.inverse)
    with pytest.raises(ValueError, match=r"\[N, 3\] or wider"):
        voxelize(real_points[:, :2], grid)


def test_threads_do_not_share_room() -> None:
    rng = np.random.default_rng(2)
    inputs = [rng.normal(0, 10, (20_000 + 1000 * i, 4)).astype(np.float32) for i in range(6)]
    grid = CartesianGrid((0.1, 0.1, 0.1))
    expected = [reference(points, grid)[1] for points in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(10):
            if not np.array_equal(voxelize(inputs[i], grid).inverse, expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_results_are_not_room_that_the_next_call_reuses() -> None:
    rng = np.random.default_rng(3)
    grid = CartesianGrid((0.1, 0.1, 0.1))
    first = voxelize(rng.normal(0, 10, (5000, 3)).astype(np.float32), grid)
    kept = [a.copy() for a in (first.coordinates, first.inverse, first.counts)]
    voxelize(rng.normal(0, 10, (5000, 3)).astype(np.float32), grid)
    for now, then in zip((first.coordinates, first.inverse, first.counts), kept, strict=True):
        np.testing.assert_array_equal(now, then)
