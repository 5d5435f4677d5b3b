"""Objects of the streets: whole meshes of plausible size that stand on the ground and know their classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_seg.classes import load_classes
from kd_seg.streets.objects.catalogue import MAKERS, Item, shape
from kd_seg.streets.objects.materials import MATERIALS, Cover, Material, ground_table, table
from kd_seg.streets.objects.mesh import Mesh, box, build, ellipsoid, loft, merge, quad, torus, tube
from kd_seg.streets.objects.pickups import pickup

TABLE = load_classes()
LENGTHS = {"hedge", "thicket", "shrubs", "weeds", "fence", "rail", "gantry"}
"""Kinds that are made to a length."""

SIZES = {
    "car": ((3.3, 5.4), (1.5, 2.5), (1.2, 2.3)),
    "truck": ((4.5, 19.0), (1.8, 3.2), (1.6, 4.3)),
    "bus": ((8.0, 19.0), (2.2, 2.9), (2.6, 3.8)),
    "bicycle": ((1.4, 2.1), (0.3, 0.9), (0.8, 1.3)),
    "motorcycle": ((1.5, 2.5), (0.4, 1.1), (0.9, 1.6)),
    "bicyclist": ((1.4, 2.2), (0.3, 1.0), (1.4, 2.1)),
    "motorcyclist": ((1.5, 2.5), (0.4, 1.2), (1.2, 2.0)),
}
"""Metres along x (forward), y (mirrors included) and z in which every variant must lie."""

OVERHANG = {"fence": 0.3, "rail": 0.5, "weeds": 1.3, "hedge": 2.2, "thicket": 3.6, "shrubs": 3.6}
"""Metres by which leaves and posts may reach beyond the length asked for."""


def made(kind: str, variant: int) -> Mesh:
    return shape(kind, variant, (6.0 if kind in LENGTHS else 0.3,))


def edges(mesh: Mesh) -> dict[tuple[int, int], int]:
    """How often each directed edge of the triangles occurs."""
    found: dict[tuple[int, int], int] = {}
    for triangle in mesh.triangles.tolist():
        for a, b in zip(triangle, triangle[1:] + triangle[:1], strict=True):
            found[a, b] = found.get((a, b), 0) + 1
    return found


def volume(mesh: Mesh) -> float:
    """Signed volume of a closed mesh; positive where triangles turn outwards."""
    a, b, c = (mesh.vertices[mesh.triangles[:, k]].astype(np.float64) for k in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6.0)


@pytest.mark.parametrize("kind", sorted(MAKERS))
@pytest.mark.parametrize("variant", [0, 7])
def test_every_object_is_a_whole_mesh(kind: str, variant: int) -> None:
    mesh = made(kind, variant)
    assert len(mesh) >= 8
    assert np.isfinite(mesh.vertices).all()
    assert mesh.triangles.min() >= 0
    assert mesh.triangles.max() < len(mesh.vertices)
    for column in (mesh.material, mesh.raw, mesh.colour, mesh.albedo):
        assert len(column) == len(mesh)
    assert set(mesh.material.tolist()) <= {int(m) for m in Material}
    assert set(mesh.raw.tolist()) <= set(TABLE.raw_names)
    assert (mesh.albedo > 0).all()
    assert mesh.albedo.max() < 2.0


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_every_object_stands_on_the_ground(kind: str) -> None:
    lowest = [float(made(kind, variant).vertices[:, 2].min()) for variant in range(6)]
    assert max(lowest) <= 0.35
    assert min(lowest) >= -1.6  # roots, posts and foundations reach below


@pytest.mark.parametrize("kind", sorted(SIZES))
def test_things_have_plausible_sizes(kind: str) -> None:
    for variant in range(12):
        size = made(kind, variant).size()
        for extent, (low, high) in zip(size, SIZES[kind], strict=True):
            assert low <= extent <= high, (kind, variant, size)


def test_some_trucks_are_pickups_with_a_low_bed() -> None:
    heights = np.array([made("truck", variant).size()[2] for variant in range(60)])
    assert 0.2 < (heights < 2.15).mean() < 0.5
    for seed in range(20):
        mesh = pickup(np.random.default_rng(seed))
        x, z = mesh.vertices[:, 0], mesh.vertices[:, 2]
        cab, hood = z[np.abs(x) < 0.6].max(), z[x > 1.9].max()
        assert cab > 1.6
        assert hood < 0.75 * cab
        assert 4.5 < mesh.size()[0] < 6.8


@pytest.mark.parametrize("kind", ["car", "tree", "person", "house", "sign"])
def test_variants_differ_and_repeat(kind: str) -> None:
    size = (9.0, 8.0, 2.0) if kind == "house" else (0.3,)
    shape.cache_clear()
    first = shape(kind, 3, size)
    shape.cache_clear()
    again, other = shape(kind, 3, size), shape(kind, 4, size)
    assert np.array_equal(first.vertices, again.vertices)
    assert np.array_equal(first.albedo, again.albedo)
    assert first.vertices.shape != other.vertices.shape or not np.allclose(first.vertices, other.vertices)


@pytest.mark.parametrize("kind", sorted(OVERHANG))
@given(length=st.floats(3.0, 14.0))
def test_what_is_made_to_length_has_that_length(kind: str, length: float) -> None:
    assert shape(kind, 1, (round(length, 1),)).size()[0] == pytest.approx(length, abs=OVERHANG[kind])


def test_houses_grow_with_their_floors() -> None:
    heights = [float(shape("house", 5, (10.0, 8.0, floors)).vertices[:, 2].max()) for floors in (1, 2, 4)]
    assert heights == sorted(heights)
    assert heights[2] - heights[0] > 5.0


def test_an_item_is_stretched_along_its_own_axes() -> None:
    plain, wide = Item("car", 0.0, 0.0, 0.0, 2), Item("car", 0.0, 0.0, 0.0, 2, stretch=(2.0, 1.0, 0.5))
    assert np.allclose(wide.mesh().size(), plain.mesh().size() * (2.0, 1.0, 0.5), rtol=1e-5)


sizes = st.tuples(*[st.floats(0.1, 5.0)] * 3)


@given(sizes, st.tuples(*[st.floats(-20.0, 20.0)] * 3), st.floats(-3.0, 3.0))
def test_a_box_is_closed_and_holds_its_volume(size: tuple[float, ...], at: tuple[float, ...], yaw: float) -> None:
    mesh = box(size, at, Material.WOOD, yaw=yaw)
    found = edges(mesh)
    assert all(count == 1 and found.get((b, a)) == 1 for (a, b), count in found.items())
    assert abs(volume(mesh)) == pytest.approx(np.prod(size), rel=1e-3, abs=1e-3)
    assert mesh.vertices[:, 2].min() == pytest.approx(at[2], abs=1e-5)
    assert np.allclose(mesh.vertices[:, :2].mean(axis=0), at[:2], atol=1e-4)


@given(st.integers(3, 16), st.floats(0.05, 2.0), st.floats(0.1, 8.0))
def test_a_tube_is_closed_and_near_a_cylinder(sides: int, radius: float, length: float) -> None:
    mesh = tube([0, 0, 0], [0, 0, length], radius, Material.METAL, sides=sides)
    found = edges(mesh)
    assert all(found.get((b, a)) == 1 for a, b in found)
    prism = 0.5 * sides * np.sin(2 * np.pi / sides) * radius**2 * length
    assert abs(volume(mesh)) == pytest.approx(prism, rel=1e-3)


@given(st.tuples(*[st.floats(-1.0, 1.0)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1), st.floats(0.05, 1.0))
def test_a_tube_ends_where_it_was_asked_to(end: tuple[float, ...], radius: float) -> None:
    mesh = tube([0, 0, 0], end, radius, Material.METAL, sides=6)
    axis = np.array(end) / np.linalg.norm(end)
    along = mesh.vertices.astype(np.float64) @ axis
    across = np.linalg.norm(mesh.vertices - along[:, None] * axis, axis=1)
    assert along.min() == pytest.approx(0.0, abs=1e-5)
    assert along.max() == pytest.approx(np.linalg.norm(end), abs=1e-5)
    assert across.max() == pytest.approx(radius, abs=1e-5)


@given(sizes, st.integers(4, 14), st.integers(3, 10))
def test_an_ellipsoid_lies_inside_its_radii(radii: tuple[float, ...], sides: int, rows: int) -> None:
    mesh = ellipsoid((1.0, 2.0, 3.0), radii, Material.LEAF, sides=sides, rows=rows)
    scaled = (mesh.vertices - np.array([1.0, 2.0, 3.0])) / np.array(radii)
    assert np.linalg.norm(scaled, axis=1) == pytest.approx(np.ones(len(scaled)), abs=1e-4)
    found = edges(mesh)
    assert all(found.get((b, a)) == 1 for a, b in found)


def test_a_torus_keeps_its_radius_and_thickness() -> None:
    mesh = torus((0.0, 0.0, 0.0), 0.3, 0.05, Material.RUBBER, sides=24, around=8)
    reach = np.hypot(mesh.vertices[:, 0], mesh.vertices[:, 2])
    assert (reach.min(), reach.max()) == pytest.approx((0.25, 0.35), abs=1e-6)
    assert np.abs(mesh.vertices[:, 1]).max() == pytest.approx(0.05, abs=1e-6)


def test_merging_keeps_every_triangle_where_it_was() -> None:
    first = box((1, 1, 1), (0, 0, 0), Material.WOOD, raw=50)
    second = quad([[5, 0, 0], [6, 0, 0], [6, 1, 0], [5, 1, 0]], Material.PAINT, raw=60)
    both = merge([first, second])
    corners = both.vertices[both.triangles]
    assert np.array_equal(corners[: len(first)], first.vertices[first.triangles])
    assert np.array_equal(corners[len(first) :], second.vertices[second.triangles])
    assert both.raw.tolist() == [50] * len(first) + [60] * len(second)


@given(st.floats(-3.1, 3.1), st.floats(-9.0, 9.0), st.floats(-9.0, 9.0))
def test_moving_is_rigid_and_turns_to_the_left(yaw: float, x: float, y: float) -> None:
    mesh = box((2.0, 1.0, 1.0), (0, 0, 0), Material.WOOD)
    moved = mesh.moved(x, y, 0.5, yaw)
    expected = mesh.vertices @ np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]]) + (
        x,
        y,
        0.5,
    )
    assert np.allclose(moved.vertices, expected, atol=1e-5)
    ahead = build([[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 1, 2]], Material.WOOD).moved(yaw=np.pi / 2).vertices[0]
    assert np.allclose(ahead, [0, 1, 0], atol=1e-6)


def test_of_class_changes_the_class_alone() -> None:
    mesh = made("car", 1)
    changed = mesh.of_class(252)
    assert set(changed.raw.tolist()) == {252}
    assert changed.vertices is mesh.vertices


def test_a_loft_joins_neighbouring_rings() -> None:
    rings = np.zeros((3, 4, 3))
    rings[:, :, 0] = np.arange(3)[:, None]
    rings[:, :, 1:] = [[0, 0], [1, 0], [1, 1], [0, 1]]
    vertices, quads, where = loft(rings)
    assert (len(vertices), len(quads)) == (12, 2 * 4)
    assert {tuple(sorted({int(vertices[v, 0]) for v in q})) for q in quads} == {(0, 1), (1, 2)}
    assert {tuple(w) for w in where.tolist()} == {(s, k) for s in range(2) for k in range(4)}
    assert len(loft(rings, closed=False)[1]) == 2 * 3


def test_materials_are_complete_and_physical() -> None:
    assert set(MATERIALS) == set(Material)
    for name in ("albedo", "spread", "speckle", "gloss", "roughness", "loss"):
        column = table(name)
        assert len(column) == len(Material)
        assert (column >= 0).all()
    assert (table("albedo") <= 1).all()
    assert (table("loss") < 1).all()
    assert MATERIALS[Material.GLASS].loss > 0.5 > MATERIALS[Material.PLASTER].loss
    assert len(ground_table("step")) == len(Cover)
