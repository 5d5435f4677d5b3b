"""The ground against a plain reading of its rules, and what a sequence's streets promise."""

from __future__ import annotations

import numpy as np
import pytest

from kd_seg.core.geometry import yaw_of
from kd_seg.streets.layout.covers import LOT, REACH
from kd_seg.streets.layout.ground import Patch, Plan, survey
from kd_seg.streets.layout.network import STYLES, Side, Street, StreetNetwork, lay
from kd_seg.streets.layout.paving import CELL, pave
from kd_seg.streets.layout.traffic import PERIOD, Seat, drive
from kd_seg.streets.objects.materials import Cover, Material

SIDE = Side(parking=2.0, verge=0.0, walk=2.5, lot=Cover.GRASS, deep=10.0, kerb=0.12)


def straight(half: float = 4.0, left: Side = SIDE, right: Side = SIDE, marked: bool = False) -> Plan:
    """One street along x from -60 to 60 m."""
    line = np.column_stack([np.arange(-60.0, 61.0, 3.0), np.zeros(41)])
    street = Street(line, half, left, right, STYLES["city"], marked, ((2.0, -1), (-2.0, 1)))
    network = StreetNetwork((street,), line, (), STYLES["city"])
    return survey(network, np.random.default_rng(0))


def test_strips_lie_in_order_beside_a_road() -> None:
    plan = straight(right=Side(parking=0.0, verge=1.5, walk=2.0, lot=Cover.PAVED, deep=9.0))
    x = np.full(7, 3.0)
    left = plan.at(np.column_stack([x, [0.0, 3.9, 4.1, 5.9, 6.1, 8.4, 9.0]]))
    assert left.cover.tolist()[:6] == [
        Cover.ROAD, Cover.ROAD, Cover.PARKING, Cover.PARKING, Cover.SIDEWALK, Cover.SIDEWALK,
    ]  # fmt: skip
    assert left.cover[6] >= LOT
    right = plan.at(np.column_stack([x, [-3.9, -4.1, -5.4, -5.6, -7.4, -8.0, -14.0]]))
    assert right.cover.tolist()[:5] == [Cover.ROAD, Cover.GRASS, Cover.GRASS, Cover.SIDEWALK, Cover.SIDEWALK]
    assert right.cover[5] == LOT + Cover.PAVED
    assert right.cover[6] in (LOT, LOT + Cover.WEEDS)
    assert right.edge == pytest.approx([-0.1, 0.1, 1.4, 1.6, 3.4, 4.0, 10.0])


def test_the_distance_to_the_road_is_that_to_the_nearest_centre_line() -> None:
    network = lay(np.random.default_rng(4), STYLES["residential"], 120.0)
    plan = survey(network, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    places = network.path[rng.integers(0, len(network.path), 400)] + rng.normal(0, 12, (400, 2))
    expected = np.full(len(places), np.inf)
    for street in network.streets:
        start, vector = street.line[:-1], np.diff(street.line, axis=0)
        t = np.einsum("nij,ij->ni", places[:, None] - start, vector) / (vector**2).sum(1)
        foot = start + np.clip(t, 0, 1)[..., None] * vector
        gap = np.linalg.norm(places[:, None] - foot, axis=2).min(axis=1) - street.half
        expected = np.minimum(expected, gap)
    found = plan.at(places).edge
    near = expected < REACH - 9.0
    assert near.sum() > 200
    assert found[near] == pytest.approx(expected[near], abs=1e-9)
    assert (plan.at(places).cover[expected < -0.01] <= Cover.MARKING).all()


def test_places_far_from_every_street_are_lots() -> None:
    found = straight().at(np.array([[5000.0, 0.0], [0.0, -4000.0]]))
    assert found.cover.tolist() == [LOT, LOT]
    assert found.edge.tolist() == [REACH, REACH]


def test_markings_are_dashes_between_lanes_and_lines_at_the_edges() -> None:
    plan = straight(marked=True)
    x = np.arange(-50.0, 50.0, 0.05)
    middle = plan.at(np.column_stack([x, np.zeros(len(x))])).cover == Cover.MARKING
    edge = plan.at(np.column_stack([x, np.full(len(x), 3.7)])).cover == Cover.MARKING
    assert middle.mean() == pytest.approx(4.0 / 9.0, abs=0.03)
    assert edge.all()
    assert not (straight().at(np.column_stack([x, np.zeros(len(x))])).cover == Cover.MARKING).any()


def test_kerbs_are_lowered_for_drives_and_as_high_as_asked() -> None:
    plan = straight(left=Side(parking=0.0, verge=0.0, walk=3.0, lot=Cover.GRASS, kerb=0.06))
    x = np.arange(-55.0, 55.0, 0.1)
    kerb = plan.at(np.column_stack([x, np.full(len(x), 4.05)])).kerb
    assert kerb.max() == pytest.approx(0.5)
    assert 0.15 < (kerb < 0.2).mean() < 0.4


def test_patches_lie_on_lots_only_and_later_ones_win() -> None:
    plan = straight()
    patches = (Patch(0, 11, 0, 8, 8, Cover.PAVED), Patch(0, 11, 0, 4, 4, Cover.SOIL))
    covered = Plan(plan.tables, plan.waves, plan.crown, patches)
    places = np.array([[0.0, 11.0], [3.0, 11.0], [0.0, 8.0], [0.0, 3.0]])
    cover = covered.patch(places, covered.at(places).cover)
    assert cover.tolist() == [Cover.SOIL, Cover.PAVED, Cover.SIDEWALK, Cover.ROAD]


def test_the_mesh_of_the_ground_follows_its_heights() -> None:
    plan = straight()
    ground = pave(plan, np.array([[0.0, 0.0]]), margin=20.0)
    mesh = ground.mesh
    assert (mesh.material == Material.GROUND).all()
    top = mesh.vertices[:, 2] > plan.height(mesh.vertices[:, :2]) - 0.15
    gap = mesh.vertices[top, 2] - plan.height(mesh.vertices[top, :2])
    assert np.abs(gap).max() < 0.35  # at kerbs the raster decides, by up to a cell
    assert np.percentile(np.abs(gap), 90) < 0.01
    x, y = np.meshgrid(np.arange(-15, 15, 0.37), np.arange(-15, 15, 0.41))
    places = np.column_stack([x.ravel(), y.ravel()])
    cells = ground.lower + (np.floor((places - ground.lower) / CELL) + 0.5) * CELL
    assert np.array_equal(ground.at(*places.T), plan.patch(cells, plan.at(cells).cover))


@pytest.mark.parametrize("style", STYLES)
def test_the_sensor_drives_on_the_road_at_its_height(style: str) -> None:
    rng = np.random.default_rng(7)
    network = lay(rng, STYLES[style], 150.0)
    plan = survey(network, rng)
    seat = Seat(height=2.4, pitch=0.05, roll=-0.03)
    ego = drive(network, plan, rng, 20, seat)
    places = ego.poses[:, :3, 3]
    assert places[:, 2] - plan.road(places[:, :2]) == pytest.approx(2.4, abs=0.02)
    assert (plan.at(places[:, :2]).edge < 0).mean() > 0.9
    steps = np.linalg.norm(np.diff(places[:, :2], axis=0), axis=1)
    assert steps.max() < 25 * PERIOD
    forward = ego.poses[:, :3, 0]
    ahead, behind = (plan.road(places[:, :2] + d * forward[:, :2]) for d in (1.4, -1.4))
    assert np.median(forward[:, 2] - (ahead - behind) / 2.8) == pytest.approx(-0.05, abs=0.012)
    assert np.isfinite([yaw_of(pose) for pose in ego.poses]).all()
