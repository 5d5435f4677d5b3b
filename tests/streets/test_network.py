"""Streets, lanes and the driven path: places beside a line, and what holds for every style and seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from kd_seg.streets.layout.network import STYLES, Side, Street, StreetNetwork, lay
from kd_seg.streets.objects.materials import Cover

FLAT = Side(0.0, 1.0, 1.5, Cover.GRASS)
SEEDS = range(6)
DISTANCE = 160.0


def street(line: np.ndarray) -> Street:
    return Street(np.asarray(line, float), 3.5, FLAT, FLAT, STYLES["residential"], True, ((-1.75, 1), (1.75, -1)))


@given(st.integers(0, 10**6), st.floats(-4, 4), st.floats(0, 1))
def test_a_place_lies_at_its_arc_length_and_offset_of_a_straight_street(seed: int, offset: float, share: float) -> None:
    rng = np.random.default_rng(seed)
    start, heading = rng.normal(0, 100, 2), rng.uniform(-np.pi, np.pi)
    ahead, left = np.array([np.cos(heading), np.sin(heading)]), np.array([-np.sin(heading), np.cos(heading)])
    steps = np.concatenate([[0.0], np.cumsum(rng.uniform(0.5, 4.0, 12))])
    made = street(start + steps[:, None] * ahead)
    s = share * (steps[-1] - 1e-5)
    place, found = made.at(s, offset)
    np.testing.assert_allclose(place, start + s * ahead + offset * left, atol=1e-6)
    assert np.cos(found - heading) == pytest.approx(1.0)
    assert made.length() == pytest.approx(steps[-1])


def test_beside_a_circle_places_lie_on_circles() -> None:
    angle = np.linspace(0, 3, 400)
    made = street(50.0 * np.column_stack([np.cos(angle), np.sin(angle)]))  # turns to the left
    s = np.linspace(2, made.length() - 2, 50)
    for offset in (-3.0, 0.0, 3.0):
        places, heading = made.at(s, offset)
        np.testing.assert_allclose(np.linalg.norm(places, axis=1), 50.0 - offset, atol=0.01)
        np.testing.assert_allclose(np.angle(np.exp(1j * (heading - s / 50.0 - np.pi / 2))), 0.0, atol=0.01)


def test_places_beyond_the_ends_are_the_ends() -> None:
    made = street([[0, 0], [10, 0]])
    np.testing.assert_allclose(made.at(-5.0, 0.0)[0], [0, 0])
    np.testing.assert_allclose(made.at(50.0, 2.0)[0], [10, 2], atol=1e-5)


@pytest.fixture(scope="module", params=sorted(STYLES))
def networks(request: pytest.FixtureRequest) -> list[StreetNetwork]:
    return [lay(np.random.default_rng([seed, 7]), STYLES[request.param], DISTANCE) for seed in SEEDS]


def test_the_path_is_as_long_as_asked_and_has_even_steps(networks: list[StreetNetwork]) -> None:
    for network in networks:
        steps = np.linalg.norm(np.diff(network.path, axis=0), axis=1)
        assert steps.sum() >= DISTANCE
        assert steps.min() > 0.3
        assert steps.max() < 0.6


def test_the_path_turns_no_sharper_than_a_car_can(networks: list[StreetNetwork]) -> None:
    for network in networks:
        delta = np.diff(network.path, axis=0)
        heading = np.unwrap(np.arctan2(delta[:, 1], delta[:, 0]))
        per_metre = np.abs(heading[8:] - heading[:-8]) / 4.0  # over 4 m
        assert per_metre.max() < 1 / 3.0


def test_the_path_keeps_to_the_road_and_to_its_right_half_where_there_are_two(networks: list[StreetNetwork]) -> None:
    for network in networks:
        dense = [s.at(np.arange(0, s.length(), 0.25), 0.0)[0] for s in network.streets]
        distance = np.min([cKDTree(line).query(network.path)[0] for line in dense], axis=0)
        widest = max(s.half for s in network.streets)
        assert distance.max() < widest + 0.5
        if not network.corners:  # one street: all of the path lies to the right of the line it follows
            own = network.streets[0 if network.style.name == "motorway" else -1]
            place, heading = own.at(np.arange(0, own.length(), 0.25), 0.0)
            near = cKDTree(place).query(network.path)[1]
            left = np.column_stack([-np.sin(heading), np.cos(heading)])[near]
            assert (np.einsum("ij,ij->i", network.path - place[near], left) < 0).mean() > 0.99


def test_corners_lie_on_the_path_and_in_its_order(networks: list[StreetNetwork]) -> None:
    for network in networks:
        length = np.linalg.norm(np.diff(network.path, axis=0), axis=1).sum()
        assert list(network.corners) == sorted(network.corners)
        assert all(0 < corner < length for corner in network.corners)


def test_lanes_lie_on_their_road_and_lead_both_ways(networks: list[StreetNetwork]) -> None:
    for network in networks:
        for made in network.streets:
            assert all(abs(offset) < made.half for offset, _ in made.lanes)
            assert all(way in (1, -1) for _, way in made.lanes)
            if network.style.name != "motorway":
                assert {way for _, way in made.lanes} == {1, -1}
                assert all(offset * way < 0 for offset, way in made.lanes), "traffic keeps right"


def test_a_motorway_is_two_one_way_roads_that_do_not_meet() -> None:
    for seed in SEEDS:
        network = lay(np.random.default_rng(seed), STYLES["motorway"], DISTANCE)
        one, other = network.streets
        assert {way for _, way in one.lanes} == {1}
        assert {way for _, way in other.lanes} == {-1}
        gap = cKDTree(one.line).query(other.line)[0]
        assert gap.min() > one.half + other.half


def test_a_seed_gives_the_same_streets_and_another_gives_others() -> None:
    one, same, other = (lay(np.random.default_rng(s), STYLES["city"], DISTANCE) for s in (3, 3, 4))
    np.testing.assert_array_equal(one.path, same.path)
    assert len(one.path) != len(other.path) or not np.array_equal(one.path, other.path)
