"""Drawing against brute force: which point wins a pixel, where points land, and which colours they have."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kd_seg.classes import load_classes
from kd_seg.views.colours import GROUND, css, error_colours, height_colours, legend_colours, scalar_colours
from kd_seg.views.raster import birds_eye, range_view

EXTENT, SIDE = 10.0, 24

coordinates = st.floats(-12.0, 12.0, width=32, allow_nan=False)
clouds = st.lists(st.tuples(coordinates, coordinates, st.floats(-3, 3, width=32)), min_size=0, max_size=12)


def as_cloud(rows: list[tuple[float, float, float]]) -> np.ndarray:
    return np.array([(*row, 0.5) for row in rows], dtype=np.float32).reshape(-1, 4)


def numbered(count: int) -> np.ndarray:
    """A colour per point that tells its number."""
    return np.column_stack([np.arange(count), np.full(count, 200), np.full(count, 7)]).astype(np.uint8)


@given(clouds)
def test_seen_from_above_each_pixel_shows_the_highest_point_over_it(rows: list[tuple[float, float, float]]) -> None:
    """Brute force: every pixel asks all points that cover it, which draw squares of two pixels."""
    points, colours = as_cloud(rows), numbered(len(rows))
    image = birds_eye(points, colours, EXTENT, SIDE)
    top = (EXTENT - points[:, 0].astype(np.float32)) / np.float32(2 * EXTENT) * SIDE
    left = (EXTENT - points[:, 1].astype(np.float32)) / np.float32(2 * EXTENT) * SIDE
    for row in range(SIDE):
        for column in range(SIDE):
            over = [
                k
                for k in range(len(points))
                if 0 <= top[k] < SIDE
                and 0 <= left[k] < SIDE
                and row in {min(int(top[k]) + d, SIDE - 1) for d in (0, 1)}
                and column in {min(int(left[k]) + d, SIDE - 1) for d in (0, 1)}
            ]
            if not over:
                assert tuple(image[row, column]) == GROUND
            else:
                assert points[image[row, column, 0], 2] == max(points[k, 2] for k in over)


@given(clouds, st.randoms(use_true_random=False))
def test_the_order_of_the_points_does_not_matter(rows: list[tuple[float, float, float]], random: object) -> None:
    heights = np.linspace(-2, 2, len(rows), dtype=np.float32)  # no ties
    points, colours = as_cloud(rows), numbered(len(rows))
    points[:, 2] = heights
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    first = birds_eye(points, colours, EXTENT, SIDE)
    assert np.array_equal(first, birds_eye(points[order], colours[order], EXTENT, SIDE))


@given(st.floats(-179.0, 179.0), st.floats(-24.0, 2.5), st.floats(3.0, 60.0))
def test_a_direction_has_its_place_in_the_range_view(azimuth: float, elevation: float, distance: float) -> None:
    """Column by azimuth (left of straight ahead is left), row by elevation, at every distance."""
    flat, around = distance * np.cos(np.radians(elevation)), np.radians(azimuth)
    point = [[flat * np.cos(around), flat * np.sin(around), distance * np.sin(np.radians(elevation)), 0]]
    image = range_view(np.array(point, np.float32), np.array([[255, 255, 255]], np.uint8), shape=(280, 720))
    found_rows, found_columns = np.nonzero((image == 255).all(axis=2))
    assert abs(found_columns.mean() - (360 - 2 * azimuth)) <= 1.0 + 1e-6
    assert abs(found_rows.min() - (3.0 - elevation) * 10) <= 1.5


@given(arrays(np.uint8, 30, elements=st.integers(0, 4)), arrays(np.uint8, 30, elements=st.integers(0, 4)))
def test_a_point_is_red_exactly_where_a_known_truth_was_missed(predicted: np.ndarray, truth: np.ndarray) -> None:
    red = error_colours(predicted, truth)[:, 0] == 255
    assert np.array_equal(red, (truth > 0) & (predicted != truth))


@pytest.mark.parametrize("name", ["semantic_kitti_19", "semantic_kitti_25"])
def test_classes_can_be_told_apart_and_seen_on_the_ground(name: str) -> None:
    legend = legend_colours(load_classes(name)).astype(int)
    assert min(np.abs(a - b).sum() for a, b in combinations(legend[:19], 2)) >= 20
    luminance = legend @ np.array([0.30, 0.59, 0.11])
    assert luminance.min() > np.array(GROUND) @ np.array([0.30, 0.59, 0.11]) + 20


@given(arrays(np.float64, 8, elements=st.floats(-5, 5)))
def test_a_scalar_outside_its_range_has_the_colour_of_the_border(values: np.ndarray) -> None:
    inside = scalar_colours(np.clip(values, -1.0, 1.0), -1.0, 1.0)
    assert np.array_equal(scalar_colours(values, -1.0, 1.0), inside)


def test_brighter_points_returned_more_light() -> None:
    points = np.array([[0, 0, z, i] for i in (0.0, 0.2, 0.9) for z in (-1.0, 1.0)], np.float32)
    brightness = height_colours(points).astype(int).sum(axis=1)
    low, high = brightness[0::2], brightness[1::2]
    assert list(low) == sorted(low)
    assert list(high) == sorted(high)
    assert low[0] < low[2]


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_css_colours_read_back(rgb: tuple[int, int, int]) -> None:
    text = css(rgb)
    assert tuple(int(text[k : k + 2], 16) for k in (1, 3, 5)) == rgb
