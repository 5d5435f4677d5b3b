"""What is taken and what is free, decks of choices, traffic along lines, and cameras beside the LiDAR."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_seg.core.geometry import rigid, rotation_z
from kd_seg.streets.layout.covers import LOT
from kd_seg.streets.layout.site import GRAIN, StreetSite, footprint
from kd_seg.streets.layout.traffic import PERIOD, follow
from kd_seg.streets.objects.materials import Cover
from kd_seg.streets.sensors.lidar import motion_at
from kd_seg.streets.sensors.rig import HEIGHT, PROJECTIONS, TR, WIDTH, camera_centre, pixel_rays, project


class Meadow:
    """Grass everywhere, but for a road where x is below 0; heights rise with y."""

    def at(self, places: np.ndarray) -> SimpleNamespace:
        places = np.asarray(places)
        return SimpleNamespace(cover=np.where(places[..., 0] < 0, int(Cover.ROAD), LOT + int(Cover.GRASS)))

    def height(self, places: np.ndarray) -> np.ndarray:
        return 0.1 * np.asarray(places)[..., 1]


def site(seed: int = 0, path: frozenset[tuple[int, int]] = frozenset()) -> StreetSite:
    return StreetSite(Meadow(), np.random.default_rng(seed), base=1, path=path)  # type: ignore[arg-type]


@given(st.integers(0, 10**6), st.floats(-3, 3), st.floats(0.5, 9.0), st.floats(0.5, 4.0))
def test_a_footprint_covers_its_rectangle_without_gaps(seed: int, yaw: float, length: float, width: float) -> None:
    rng = np.random.default_rng(seed)
    centre = rng.normal(0, 50, 2)
    places = footprint(centre, yaw, length, width)
    own = (places - centre) @ rotation_z(yaw)[:2, :2]
    assert np.abs(own[:, 0]).max() == pytest.approx(length / 2)
    assert np.abs(own[:, 1]).max() == pytest.approx(width / 2)
    inside = rng.uniform(-0.5, 0.5, (40, 2)) * (length, width)
    gaps = np.abs(inside[:, None] - own[None]).max(axis=2).min(axis=1)
    assert gaps.max() <= GRAIN


@given(st.integers(0, 10**6))
def test_objects_never_stand_on_each_other_or_on_the_road(seed: int) -> None:
    made, rng = site(seed), np.random.default_rng([seed, 1])
    placed = []
    for _ in range(30):
        place, yaw = rng.uniform(-6, 12, 2), rng.uniform(-3, 3)
        if made.put("bin", place, yaw, 2.0, 1.0):
            placed.append(footprint(place, yaw, 2.0, 1.0))
    assert len(made.items) == len(placed)
    assert placed
    cells = [{tuple(cell) for cell in np.floor(places / GRAIN).astype(int).tolist()} for places in placed]
    assert sum(map(len, cells)) == len(set().union(*cells))
    assert all((places[:, 0] >= 0).all() for places in placed)


def test_on_streets_only_what_may_stand_there_is_put() -> None:
    made, road = site(), np.array([-5.0, 0.0])
    assert not made.put("bin", road, 0.0, 1.0, 1.0)
    assert made.put("bin", road, 0.0, 1.0, 1.0, lots=False)
    assert not made.put("bin", road, 0.0, 1.0, 1.0, lots=False)
    assert made.put("bin", road, 0.0, 1.0, 1.0, lots=False, shared=True)
    assert (made.cover(road), made.cover(np.array([5.0, 0.0]))) == (Cover.ROAD, Cover.GRASS)


def test_parked_cars_are_numbered_without_gaps_where_some_do_not_fit() -> None:
    made = site()
    for x in (5.0, 6.0, 20.0, 21.0, 35.0):
        made.park(np.array([x, 0.0]), 0.0)
    assert [item.word for item in made.items] == [10 | number << 16 for number in (1, 2, 3)]


def test_foliage_keeps_clear_of_the_driven_path() -> None:
    made = site(path=frozenset({(0, k) for k in range(40)}))
    assert not made.off_path(np.array([1.5, 10.0]))
    assert made.off_path(np.array([3.5, 10.0]))
    assert not made.plant("bush", np.array([1.5, 10.0]))
    assert made.plant("bush", np.array([6.0, 10.0]))


def test_what_stands_between_two_places_hides_them_and_the_path_does_not() -> None:
    made = site(path=frozenset({(k, 0) for k in range(9, 20)}))
    a, b = np.array([0.3, 0.3]), np.array([20.0, 0.3])
    made.taken |= made.path
    assert made.sight(a, b)
    made.take(footprint(np.array([16.0, 0.3]), 0.0, 1.5, 1.5))
    assert not made.sight(a, b)
    assert not made.sight(b, a)
    assert made.sight(np.array([14.5, 0.3]), np.array([17.5, 0.3])), "what is near either does not count"


@given(st.integers(0, 10**6), st.integers(1, 40))
def test_choices_keep_their_proportions_over_few_draws(seed: int, draws: int) -> None:
    made = site(seed)
    cards = ("a", "a", "b", "c", "c", "c")
    counted = Counter(made.draw("x", cards) for _ in range(draws))
    for card in "abc":
        whole = cards.count(card) * (draws // len(cards))
        assert whole <= counted[card] <= whole + cards.count(card)


@given(st.floats(1.0, 12.0), st.integers(2, 20))
def test_followers_move_at_their_speed_along_the_line_and_on_the_ground(speed: float, frames: int) -> None:
    line = np.column_stack([np.zeros(200), np.arange(200.0)])
    s = 10.0 + speed * PERIOD * np.arange(frames)
    poses, velocity = follow(line, s, Meadow())  # type: ignore[arg-type]
    np.testing.assert_allclose(poses[:, :3, 3], np.column_stack([0 * s, s, 0.1 * s]), atol=1e-9)
    np.testing.assert_allclose(velocity, np.tile([0, speed, 0.1 * speed], (frames, 1)), atol=1e-6)
    np.testing.assert_allclose(poses[:, :3, 0], np.tile([0, 1, 0], (frames, 1)), atol=1e-9)


def test_beyond_the_ends_of_a_line_they_go_straight_and_a_single_frame_stands() -> None:
    line = np.array([[0.0, 0.0], [10.0, 0.0]])
    poses, _ = follow(line, np.array([-5.0, 15.0]), Meadow())  # type: ignore[arg-type]
    np.testing.assert_allclose(poses[:, :2, 3], [[-5, 0], [15, 0]])
    _, velocity = follow(line, np.array([5.0]), Meadow())  # type: ignore[arg-type]
    np.testing.assert_array_equal(velocity, np.zeros((1, 3)))


@pytest.mark.parametrize("turn", [0.0, 0.02, -0.05])
def test_the_motion_within_a_scan_is_that_between_its_neighbours(turn: float) -> None:
    """A vehicle on a circle: the shift is per period, in the frame of the scan; the turn about its up axis."""
    step = rigid(rotation_z(turn), [1.2, 0.0, 0.0])
    poses = [rigid(rotation_z(0.7), [5.0, -3.0, 1.0])]
    for _ in range(4):
        poses.append(poses[-1] @ step)
    for k in (0, 2, 4):
        shift, spin = motion_at(np.array(poses), k)
        np.testing.assert_allclose(shift, [1.2, 0.0, 0.0], atol=0.07)
        np.testing.assert_allclose(spin, [0, 0, turn], atol=1e-4)
    still = motion_at(np.array(poses[:1]), 0)
    assert not np.any(still)


@pytest.mark.parametrize("number", sorted(PROJECTIONS))
def test_rays_meet_their_pixels_again_at_any_range(number: int) -> None:
    rng = np.random.default_rng(number)
    rays = pixel_rays(number)
    assert np.linalg.norm(rays, axis=2) == pytest.approx(1.0)
    rows, columns = rng.integers(0, HEIGHT, 50), rng.integers(0, WIDTH, 50)
    points = camera_centre(number) + rays[rows, columns] * rng.uniform(3, 60, (50, 1))
    places, inside = project(points, number)
    assert inside.all()
    np.testing.assert_allclose(places, np.column_stack([columns, rows]) + 0.5, atol=1e-3)


def test_behind_the_camera_and_beside_the_picture_nothing_is_inside() -> None:
    ahead = np.array([[20.0, 0, 0], [-20.0, 0, 0], [1.0, 0, 0], [5.0, 40, 0], [20.0, 0, 30]])
    assert project(ahead)[1].tolist() == [True, False, False, False, False]
    for number in PROJECTIONS:
        centre = np.append(camera_centre(number), 1.0)
        np.testing.assert_allclose(PROJECTIONS[number] @ TR @ centre, 0.0, atol=1e-4)
