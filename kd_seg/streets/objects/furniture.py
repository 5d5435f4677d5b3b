"""Poles, lamps, traffic signs and lights, bins, benches, shelters and other things beside the road."""

from __future__ import annotations

import numpy as np

from kd_seg.streets.objects.materials import Material
from kd_seg.streets.objects.mesh import Colour, Floats, Mesh, box, build, merge, tube
from kd_seg.streets.objects.plants import clumps

POLE, SIGN, OBJECT, STRUCTURE = 80, 81, 99, 52


def lamp(rng: np.random.Generator) -> Mesh:
    """A street lamp of 4-9 m with an arm over the road (towards -y)."""
    height, radius = float(rng.uniform(4.0, 9.0)), float(rng.uniform(0.04, 0.07))
    reach = float(rng.uniform(0.0, 2.2))
    tone = float(np.exp(rng.normal(-0.1, 0.5)))
    top = np.array([0.0, -reach, height + 0.15])
    parts = [
        tube((0, 0, -0.2), (0, 0, 1.1), radius * 1.3, Material.GALVANIZED, POLE, tone=tone),
        tube((0, 0, 1.1), (0, 0, height), radius, Material.GALVANIZED, POLE, end_radius=radius * 0.6, tone=tone),
        tube((0, 0, height), top, radius * 0.55, Material.GALVANIZED, POLE, sides=6, tone=tone),
        box((0.25, 0.6, 0.14), top - [0, 0.2, 0.05], Material.METAL, POLE),
    ]
    return merge(parts)


def post(rng: np.random.Generator) -> Mesh:
    """A bare post, bollard or telegraph pole."""
    kind = rng.random()
    if kind < 0.45:
        height, radius = rng.uniform(0.7, 1.1), rng.uniform(0.035, 0.07)
        return tube(
            (0, 0, -0.2), (0, 0, height), radius, Material.GALVANIZED, POLE, tone=float(np.exp(rng.normal(0, 0.5)))
        )
    if kind < 0.7:
        height = rng.uniform(7.0, 9.5)
        return merge([
            tube((0, 0, -0.2), (0, 0, height), 0.11, Material.WOOD, POLE, end_radius=0.08),
            box((0.1, 1.6, 0.12), (0, 0, height - 0.6), Material.WOOD, POLE),
        ])  # fmt: skip
    return tube((0, 0, -0.2), (0, 0, rng.uniform(2.0, 3.5)), rng.uniform(0.03, 0.05), Material.GALVANIZED, POLE)


def delineator(rng: np.random.Generator) -> Mesh:
    """A reflector post at a country road."""
    return merge([
        box((0.1, 0.12, 0.75), (0, 0, 0), Material.PLASTER, POLE, (240, 240, 240)),
        box((0.11, 0.125, 0.25), (0, 0, 0.75), Material.RUBBER, POLE),
        box((0.115, 0.06, 0.16), (0, 0, 0.79), Material.RETRO, POLE, (240, 240, 240)),
    ])  # fmt: skip


def sign(rng: np.random.Generator) -> Mesh:
    """One to three plates on a post, facing -x (against oncoming traffic that drives to +x)."""
    height = float(rng.uniform(2.1, 2.7))
    parts = [tube((0, 0, -0.2), (0, 0, height + 0.7), 0.028, Material.GALVANIZED, POLE, sides=8)]
    z = height + 0.45
    for _ in range(int(rng.integers(1, 3))):
        plate, extent = _plate(rng)
        parts.append(plate.moved(x=-0.06, z=z, yaw=float(rng.normal(0, 0.12))))
        z -= extent + 0.08
    return merge(parts)


def big_sign(rng: np.random.Generator) -> Mesh:
    """A direction board on two posts."""
    width, height = float(rng.uniform(1.2, 2.8)), float(rng.uniform(0.7, 1.6))
    low = float(rng.uniform(0.8, 2.2))
    tone = float(np.exp(rng.normal(0, 0.3)))
    parts = [
        tube((0, s * width * 0.35, -0.3), (0, s * width * 0.35, low + height), 0.05, Material.GALVANIZED, POLE)
        for s in (-1, 1)
    ]
    colour: Colour = ((245, 210, 50), (40, 80, 160), (240, 240, 240))[int(rng.integers(3))]
    parts.append(box((0.05, width, height), (-0.08, 0, low), Material.RETRO, SIGN, colour, tone=tone))
    return merge(parts)


def gantry(rng: np.random.Generator, span: float) -> Mesh:
    """A sign bridge over a motorway, ``span`` metres along y."""
    parts = [tube((0, s * span / 2, -0.3), (0, s * span / 2, 6.8), 0.2, Material.GALVANIZED, POLE) for s in (-1, 1)]
    parts.append(box((0.5, span, 0.6), (0, 0, 6.2), Material.GALVANIZED, POLE))
    for y in np.arange(-span / 2 + 3, span / 2 - 2, 5.5):
        parts.append(box((0.08, 3.6, 2.2), (-0.35, y, 5.2), Material.RETRO, SIGN, (40, 80, 160)))
    return merge(parts)


def traffic_light(rng: np.random.Generator) -> Mesh:
    """A signal on a post; the housing is labelled pole's neighbour, as SemanticKITTI does: traffic-sign."""
    height = float(rng.uniform(2.6, 3.4))
    parts = [tube((0, 0, -0.2), (0, 0, height), 0.055, Material.GALVANIZED, POLE)]
    parts.append(box((0.22, 0.3, 0.85), (-0.1, 0, height - 0.7), Material.METAL, SIGN, (40, 44, 40)))
    if rng.random() < 0.4:
        end = np.array([0.0, -3.2, 5.6])
        parts.append(tube((0, 0, height), (0, 0, 5.6), 0.06, Material.GALVANIZED, POLE))
        parts.append(tube((0, 0, 5.6), end, 0.045, Material.GALVANIZED, POLE))
        parts.append(box((0.22, 0.3, 0.85), end - [0.1, 0, 0.9], Material.METAL, SIGN, (40, 44, 40)))
    return merge(parts)


def bin_(rng: np.random.Generator) -> Mesh:
    """A wheeled refuse bin, or a few of them."""
    parts = []
    for k in range(int(rng.integers(1, 4))):
        colour: Colour = ((60, 62, 64), (40, 70, 130), (130, 100, 40), (40, 90, 50))[int(rng.integers(4))]
        tone = float(np.exp(rng.normal(0.2, 0.5)))
        size = (0.55, 0.6, rng.uniform(0.9, 1.1))
        parts.append(
            box(
                size,
                (k * 0.72, rng.normal(0, 0.05), 0.05),
                Material.TARPAULIN,
                OBJECT,
                colour,
                rng.normal(0, 0.1),
                tone,
            )
        )
        parts.append(
            box((0.6, 0.66, 0.08), (k * 0.72, 0, size[2] + 0.05), Material.TARPAULIN, OBJECT, colour, tone=tone)
        )
    return merge(parts)


def bench(rng: np.random.Generator) -> Mesh:
    """A park bench."""
    wide = float(rng.uniform(1.5, 2.0))
    parts = [box((wide, 0.1, 0.04), (0, y, 0.45), Material.WOOD, OBJECT) for y in (-0.18, -0.04, 0.1)]
    parts += [box((wide, 0.04, 0.1), (0, 0.2, z), Material.WOOD, OBJECT) for z in (0.6, 0.76)]
    parts += [box((0.08, 0.45, 0.45), (s * wide * 0.4, 0, 0), Material.CONCRETE, OBJECT) for s in (-1, 1)]
    return merge(parts)


def cabinet(rng: np.random.Generator) -> Mesh:
    """A switch cabinet, letter box, advertising column or stack of boxes."""
    if rng.random() < 0.25:
        return tube((0, 0, 0), (0, 0, 2.8), 0.6, Material.PLASTER, OBJECT, sides=14)
    size = (float(rng.uniform(0.4, 1.4)), float(rng.uniform(0.3, 0.5)), float(rng.uniform(0.8, 1.6)))
    tone = float(np.exp(rng.normal(0, 0.3)))
    parts = [box(size, (0, 0, 0), Material.TARPAULIN, OBJECT, (150, 156, 150), tone=tone)]
    parts.append(box((size[0] + 0.06, size[1] + 0.06, 0.06), (0, 0, size[2]), Material.CONCRETE, OBJECT))
    return merge(parts)


def shelter(rng: np.random.Generator) -> Mesh:
    """A bus shelter: frame, glass, roof, seat."""
    wide = float(rng.uniform(3.0, 5.0))
    parts = [
        box((0.08, 0.08, 2.4), (s * wide / 2, y, 0), Material.METAL, STRUCTURE) for s in (-1, 1) for y in (-0.7, 0.7)
    ]
    parts.append(box((wide + 0.3, 1.7, 0.12), (0, 0, 2.4), Material.METAL, STRUCTURE))
    parts.append(box((wide, 0.03, 1.9), (0, 0.7, 0.3), Material.GLASS, STRUCTURE))
    parts.append(box((wide * 0.6, 0.35, 0.06), (0, 0.4, 0.45), Material.WOOD, STRUCTURE))
    return merge(parts)


def planter(rng: np.random.Generator) -> Mesh:
    """A tub with a plant."""
    radius, height = float(rng.uniform(0.3, 0.8)), float(rng.uniform(0.35, 0.7))
    tub = tube((0, 0, 0), (0, 0, height), radius * 0.85, Material.CONCRETE, OBJECT, end_radius=radius, sides=10)
    centres: Floats = np.array([[0, 0, height + radius * 0.6]])
    return merge([tub, *(m.of_class(OBJECT) for m in clumps(rng, centres, radius * 0.9, 90, 0.14, (70, 100, 50)))])


def rubble(rng: np.random.Generator) -> Mesh:
    """A heap of boards, sacks or building material."""
    parts = [
        box(
            rng.uniform(0.2, 1.3, 3) * [1, 1, 0.5],
            [*rng.normal(0, 0.6, 2), k * 0.15],
            Material.WOOD,
            OBJECT,
            yaw=rng.uniform(0, 3),
        )
        for k in range(int(rng.integers(3, 8)))
    ]
    return merge(parts)


def _plate(rng: np.random.Generator) -> tuple[Mesh, float]:
    """A round, triangular, square or octagonal plate facing -x, its reflecting front and dull back; its height."""
    sides = int(rng.choice([3, 4, 8, 16]))
    radius = float(rng.uniform(0.28, 0.40))
    angle = np.arange(sides) * 2 * np.pi / sides + (np.pi / 2 if sides == 3 else np.pi / sides)
    ring = np.stack([np.zeros(sides), radius * np.cos(angle), radius * np.sin(angle)], 1)
    faces = [[0, k, k + 1] for k in range(1, sides - 1)]
    colour: Colour = ((190, 30, 36), (30, 70, 150), (240, 240, 240), (245, 200, 40))[int(rng.integers(4))]
    tone = float(np.exp(rng.normal(0, 0.5)))
    front = build(ring, faces, Material.RETRO, SIGN, colour, tone)
    back = build(ring + [0.02, 0, 0], faces, Material.METAL, SIGN, tone=2.0)
    return merge([front, back]), 2 * radius
