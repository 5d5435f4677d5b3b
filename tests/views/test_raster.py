"""Points land on the pixels where they belong, and what is in front is what is seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd_seg.classes import load_classes
from kd_seg.scans import Camera
from kd_seg.views.colours import (
    GROUND,
    RIGHT,
    UNLABELLED,
    WRONG,
    class_colours,
    error_colours,
    height_colours,
    legend_colours,
    scalar_colours,
)
from kd_seg.views.raster import birds_eye, camera_overlay, range_view

RED, GREEN = (255, 0, 0), (0, 255, 0)


def cloud(*rows: tuple[float, float, float]) -> np.ndarray:
    return np.array([(*row, 0.5) for row in rows], dtype=np.float32)


def colours(*rows: tuple[int, int, int]) -> np.ndarray:
    return np.array(rows, dtype=np.uint8)


def found(image: np.ndarray, colour: tuple[int, int, int]) -> tuple[float, float]:
    """Mean row and column of the pixels of a colour."""
    rows, columns = np.nonzero((image == colour).all(axis=2))
    return float(rows.mean()), float(columns.mean())


def test_forward_is_up_and_left_is_left() -> None:
    image = birds_eye(cloud((30, 0, 0), (0, 30, 0)), colours(RED, GREEN), extent=50, size=100)
    assert found(image, RED) == (20.5, 50.5)
    assert found(image, GREEN) == (50.5, 20.5)
    assert (image[80:, 80:] == GROUND).all()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_from_above_the_highest_point_is_seen(order: tuple[int, int]) -> None:
    points, hues = cloud((5, 5, 2), (5, 5, -1)), colours(RED, GREEN)
    image = birds_eye(points[list(order)], hues[list(order)], 10, 50)
    assert (image == RED).all(axis=2).any()
    assert not (image == GREEN).all(axis=2).any()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_from_the_sensor_the_nearest_point_is_seen(order: tuple[int, int]) -> None:
    points, hues = cloud((5, 0, 0), (10, 0, 0)), colours(RED, GREEN)
    image = range_view(points[list(order)], hues[list(order)])
    assert (image == RED).all(axis=2).any()
    assert not (image == GREEN).all(axis=2).any()


def test_the_range_view_shows_beams_above_those_of_an_hdl64e() -> None:
    elevation = np.radians(np.linspace(-20, 15, 200))
    points = np.column_stack([10 * np.cos(elevation), np.zeros(200), 10 * np.sin(elevation), np.ones(200)])
    image = range_view(points.astype(np.float32), np.full((200, 3), 255, np.uint8), shape=(80, 360))
    rows = np.flatnonzero((image == 255).all(axis=2).any(axis=1))
    assert rows[0] <= 2  # 15 degrees are at the top
    assert rows[-1] == pytest.approx((15.5 + 20) / 40.5 * 80, abs=2)


def test_the_range_view_turns_left_to_the_left_and_up_to_the_top() -> None:
    points = cloud((10, 0, 0), (0, 10, 0), (0, -10, -2))
    image = range_view(points, colours(RED, GREEN, WRONG), fov_deg=(10, -30), shape=(40, 360))
    assert found(image, RED) == (11, 180)
    assert found(image, GREEN)[1] == 90
    assert found(image, WRONG)[1] == 270
    assert found(image, WRONG)[0] > found(image, RED)[0]


def test_raised_points_lie_over_all_others() -> None:
    points, hues = cloud((5, 5, 2), (5, 5, -1)), colours(RED, GREEN)
    raised = np.array([False, True])
    assert not (birds_eye(points, hues, 10, 50, raised) == RED).all(axis=2).any()


def test_points_outside_and_not_finite_are_left_out() -> None:
    points = cloud((np.nan, 0, 0), (1e9, 0, 0), (np.inf, np.inf, 0), (0, 0, 0))
    hues = colours(RED, RED, RED, GREEN)
    assert not (birds_eye(points, hues, 10, 50) == RED).all(axis=2).any()
    nothing = birds_eye(points[:0], hues[:0], 10, 50)
    assert (nothing == GROUND).all()
    assert (range_view(points[:0], hues[:0]) == GROUND).all()


def test_the_camera_sees_what_is_in_front_of_it(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(np.full((60, 80, 3), 200, np.uint8)).save(path)
    projection = np.array([[50.0, 0, 40, 0], [0, 50.0, 30, 0], [0, 0, 1, 0]])
    tr = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    camera = Camera("image_2", path, projection, tr)
    points = cloud((10, 2, 1), (-10, 2, 1))
    image = camera_overlay(camera, points, colours(RED, GREEN), dim=0.5)
    assert found(image, RED) == (25.5, 30.5)
    assert not (image == GREEN).all(axis=2).any()
    assert (image[0, 0] == 100).all()
    hidden = camera_overlay(camera, points, colours(RED, GREEN), shown=np.array([False, True]))
    assert not (hidden == RED).all(axis=2).any()


def test_errors_are_red_right_is_grey_and_no_truth_is_neither() -> None:
    truth, predicted = np.array([1, 1, 0, 2], np.uint8), np.array([1, 2, 2, 0], np.uint8)
    made = error_colours(predicted, truth)
    assert tuple(made[0]) == RIGHT
    assert tuple(made[1]) == tuple(made[3]) == WRONG
    assert tuple(made[2]) not in {RIGHT, WRONG}


def test_classes_keep_their_colours_but_dark_ones_are_brightened() -> None:
    table = load_classes()
    legend = legend_colours(table)
    assert tuple(legend[table.names.index("building")]) == (255, 200, 0)
    assert legend[table.names.index("sidewalk")].max() > table.colours[table.names.index("sidewalk")].max()
    assert len({tuple(colour) for colour in legend}) == len(table)
    made = class_colours(np.array([0, 1], np.uint8), table)
    assert tuple(made[0]) == UNLABELLED
    assert tuple(made[1]) == tuple(legend[0])


def test_scalars_and_heights_survive_nan_and_nothing() -> None:
    values = np.array([0.0, 1.0, np.nan])
    assert tuple(scalar_colours(values, 0, 1)[2]) == UNLABELLED
    assert len(height_colours(np.zeros((0, 4), np.float32))) == 0
    assert height_colours(cloud((1, 1, np.nan), (1, 1, 0))).shape == (2, 3)
