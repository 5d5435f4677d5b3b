"""Trucks, buses and other vehicles."""

from __future__ import annotations

import numpy as np

from kd_seg.streets.objects.cars import wheel
from kd_seg.streets.objects.materials import Material
from kd_seg.streets.objects.mesh import Colour, Mesh, box, build, merge, tube
from kd_seg.streets.objects.pickups import pickup

COLOURS: tuple[Colour, ...] = (
    (230, 230, 226),
    (190, 30, 30),
    (30, 60, 140),
    (240, 190, 30),
    (40, 110, 70),
    (120, 124, 128),
)
PICKUPS = 0.35
"""Share of pickups among trucks."""

Place = tuple[float, float, float]


def truck(rng: np.random.Generator) -> Mesh:
    """Anything that SemanticKITTI calls truck: a lorry, a delivery van with a box, or a pickup."""
    return pickup(rng) if rng.random() < PICKUPS else lorry(rng)


def lorry(rng: np.random.Generator) -> Mesh:
    """A lorry (box, flatbed, tipper or tanker, 7-9.5 m) or a small one (5.5-7 m)."""
    kind = str(rng.choice(["box", "box", "flatbed", "tipper", "tanker"]))
    small = rng.random() < 0.45
    length = rng.uniform(5.5, 7.0) if small else rng.uniform(7.0, 9.5)
    width = 2.1 if small else 2.5
    cab_length, cab_height = (1.6, 2.2) if small else (2.1, rng.uniform(2.7, 3.2))
    colour, tone = _paint(rng)
    nose = length / 2
    parts = _cab(nose, cab_length, width, cab_height, colour, tone)
    bed, start = 0.95 if not small else 0.75, nose - cab_length - 0.25
    load = start + length / 2
    middle = -length / 2 + load / 2
    parts.append(box((length - 0.3, width * 0.4, 0.25), (-0.1, 0, bed - 0.3), Material.METAL, colour=(50, 50, 52)))
    if kind == "box":
        other, other_tone = _paint(rng)
        top = rng.uniform(1.9, 2.5)
        parts.append(box((load, width, top), (middle, 0, bed), Material.TARPAULIN, colour=other, tone=other_tone))
        for x in np.linspace(-load / 2 + 0.1, load / 2 - 0.1, 5):
            for side in (-1, 1):
                parts.append(box((0.06, 0.05, top), (middle + x, side * width / 2, bed), Material.METAL))
        parts.append(box((0.04, 0.06, top * 0.9), (-length / 2 - 0.02, 0, bed + 0.05), Material.METAL))
    elif kind == "tanker":
        radius = width * 0.46
        at = bed + radius
        parts.append(tube((middle - load / 2, 0, at), (middle + load / 2, 0, at), radius, Material.METAL, sides=14))
    else:
        wall = rng.uniform(0.4, 1.1) if kind == "tipper" else 0.35
        parts += _open_bed(rng, (middle, 0, bed), (load, width, wall), colour, tone)
    axles = [nose - cab_length * 0.65, -length / 2 + 1.3] + ([-length / 2 + 2.4] if length > 8.2 else [])
    parts += _axles(axles, width, 0.4 if small else 0.5)
    parts += _rear(length, width)
    return merge(parts)


def _open_bed(rng: np.random.Generator, at: Place, size: Place, colour: Colour, tone: float) -> list[Mesh]:
    """A floor of ``size`` (length, width, height of its walls) on the ground point ``at``, and up to four crates."""
    (middle, _, bed), (load, width, wall) = at, size
    parts = [box((load, width, 0.12), at, Material.WOOD)]
    for side in (-1, 1):
        long, short = (middle, side * (width / 2 - 0.03), bed), (middle + side * (load / 2 - 0.03), 0, bed)
        parts.append(box((load, 0.06, wall), long, Material.PAINT, colour=colour, tone=tone))
        parts.append(box((0.06, width, wall), short, Material.PAINT, colour=colour, tone=tone))
    for _ in range(rng.integers(0, 5)):
        crate = rng.uniform(0.4, 1.1, 3)
        place = (middle + rng.uniform(-0.35, 0.35) * load, rng.uniform(-0.25, 0.25) * width, bed + 0.12)
        parts.append(box(crate, place, Material.WOOD, yaw=rng.uniform(0, 3)))
    return parts


def bus(rng: np.random.Generator) -> Mesh:
    """A city bus of 10-12 m with a window band and doors."""
    length, width, height = rng.uniform(9.5, 12.0), 2.5, rng.uniform(2.9, 3.2)
    colour, tone = _paint(rng)
    parts = [
        box((length, width, 0.85), (0, 0, 0.35), Material.PAINT, colour=colour, tone=tone),
        box((length - 0.1, width - 0.06, height - 2.35), (0, 0, 2.35), Material.PAINT, colour=colour, tone=tone),
        box((length - 0.06, width - 0.05, 1.2), (0, 0, 1.18), Material.GLASS),
        box((1.8, 1.6, 0.3), (-1, 0, height), Material.METAL, colour=(210, 210, 210)),
    ]
    for x in np.arange(-length / 2 + 0.6, length / 2, 1.45):
        parts.append(box((0.14, width, 1.2), (x, 0, 1.18), Material.PAINT, colour=colour, tone=tone))
    for x in (length * 0.42, 0.0):
        parts.append(box((1.2, 0.04, 1.95), (x, -width / 2 - 0.01, 0.38), Material.GLASS))
    parts += _axles([length / 2 - 2.5, -length / 2 + 3.0], width, 0.48)
    parts += _rear(length, width)
    return merge(parts)


def trailer(rng: np.random.Generator) -> Mesh:
    """A caravan, or a small box or open trailer."""
    colour, tone = _paint(rng)
    if rng.random() < 0.5:
        length, width, height = rng.uniform(4.2, 6.0), 2.2, rng.uniform(2.4, 2.7)
        low, half = 0.4, width / 2
        side = [(-0.5, low), (0.46, low), (0.5, 1.1), (0.4, height), (-0.46, height), (-0.5, 2.0)]
        parts = [_prism([(x * length, z) for x, z in side], half, colour, 2.2)]
        for y in (-1, 1):
            parts.append(box((1.2, 0.02, 0.6), (0.6, y * (half + 0.01), 1.4), Material.GLASS))
            parts.append(box((0.7, 0.02, 0.5), (-1.0, y * (half + 0.01), 1.45), Material.GLASS))
    else:
        length, width = rng.uniform(2.2, 4.0), rng.uniform(1.3, 1.9)
        top = rng.uniform(0.4, 1.6)
        parts = [box((length, width, top), (0, 0, 0.5), Material.TARPAULIN, colour=colour, tone=tone)]
    parts.append(tube((length / 2, 0, 0.5), (length / 2 + 1.1, 0, 0.5), 0.05, Material.METAL))
    parts.append(tube((length / 2 + 0.8, 0, 0.1), (length / 2 + 0.8, 0, 0.7), 0.04, Material.METAL))
    parts += _axles([-0.2], width, 0.32)
    return merge(parts)


def excavator(rng: np.random.Generator) -> Mesh:
    """A tracked excavator with a raised arm."""
    colour, tone = (240, 180, 20), 2.4
    parts = [box((3.4, 0.5, 0.75), (0, side * 0.95, 0), Material.RUBBER) for side in (-1, 1)]
    parts.append(box((1.5, 1.5, 0.4), (0, 0, 0.5), Material.METAL))
    turn: list[Mesh] = [
        box((2.8, 2.3, 0.9), (-0.3, 0, 0.95), Material.PAINT, colour=colour, tone=tone),
        box((1.3, 1.0, 1.6), (0.4, 0.6, 1.2), Material.GLASS),
        box((1.35, 1.05, 0.1), (0.4, 0.6, 2.8), Material.PAINT, colour=colour, tone=tone),
    ]
    elbow = np.array([rng.uniform(2.4, 3.2), -0.2, rng.uniform(3.0, 4.0)])
    hand = elbow + np.array([rng.uniform(1.2, 2.0), 0, rng.uniform(-2.2, -1.2)])
    for a, b, r in ((np.array([0.6, -0.2, 1.4]), elbow, 0.24), (elbow, hand, 0.18)):
        turn.append(tube(a, b, r, Material.PAINT, colour=colour, sides=4, tone=tone))
    turn.append(box((0.8, 1.0, 0.7), hand - np.array([0.1, 0, 0.6]), Material.METAL, colour=(70, 70, 70)))
    parts.append(merge(turn).moved(yaw=rng.uniform(-0.6, 0.6)))
    return merge(parts)


def tractor(rng: np.random.Generator) -> Mesh:
    """A farm tractor or wheel loader."""
    colour = COLOURS[rng.integers(1, len(COLOURS))]
    parts = [
        box((1.9, 0.8, 0.9), (0.9, 0, 0.7), Material.PAINT, colour=colour, tone=2.0),
        box((1.3, 1.4, 1.5), (-0.7, 0, 1.1), Material.GLASS),
        box((1.4, 1.5, 0.12), (-0.7, 0, 2.6), Material.PAINT, colour=colour, tone=2.0),
        tube((1.4, 0.3, 1.6), (1.4, 0.3, 2.6), 0.06, Material.METAL),
    ]
    for side in (-1, 1):
        parts += wheel(1.4, side * 0.8, 0.5, 0.35) + wheel(-0.9, side * 0.9, 0.8, 0.5)
    if rng.random() < 0.5:
        parts.append(box((0.8, 2.0, 0.7), (2.6, 0, 0.3), Material.METAL))
        parts += [box((1.4, 0.15, 0.2), (1.8, side * 0.6, 0.8), Material.METAL) for side in (-1, 1)]
    return merge(parts)


def camper(rng: np.random.Generator) -> Mesh:
    """A motor caravan: a van's cab under an alcove."""
    length, width, height = rng.uniform(5.8, 7.2), 2.25, rng.uniform(2.8, 3.1)
    colour, tone = (232, 230, 222), 2.4
    nose = length / 2
    parts = _cab(nose, 1.9, width * 0.9, 2.0, colour, tone)
    parts.append(box((length - 1.7, width, height - 0.45), (-0.85, 0, 0.45), Material.PAINT, colour=colour, tone=tone))
    parts.append(box((1.4, width, height - 2.0), (nose - 1.2, 0, 2.0), Material.PAINT, colour=colour, tone=tone))
    for side in (-1, 1):
        parts.append(box((0.9, 0.02, 0.5), (-0.6, side * (width / 2 + 0.01), 1.5), Material.GLASS))
    parts += _axles([nose - 1.1, -length / 2 + 1.6], width, 0.34)
    return merge(parts)


def other_vehicle(rng: np.random.Generator) -> Mesh:
    """Anything that SemanticKITTI calls other-vehicle: caravan, trailer, camper, excavator, tractor."""
    makers = (trailer, trailer, camper, excavator, tractor)
    return makers[rng.integers(len(makers))](rng)


def _paint(rng: np.random.Generator) -> tuple[Colour, float]:
    index = int(rng.integers(len(COLOURS)))
    return COLOURS[index], (3.0, 2.4, 1.4, 2.8, 1.6, 1.4)[index] * float(np.exp(rng.normal(0, 0.25)))


def _cab(nose: float, length: float, width: float, height: float, colour: Colour, tone: float) -> list[Mesh]:
    low, belt = 0.45, 0.45 + (height - 0.45) * 0.5
    lean = 0.18 * length
    side = [(nose - length, low), (nose, low), (nose, belt), (nose - lean, height), (nose - length, height)]
    parts = [_prism(side, width / 2, colour, tone)]
    glass = [(nose + 0.01, belt), (nose - lean + 0.01, height - 0.15)]
    pane = [
        [x, y, z] for (x, z), ys in zip(glass, ((-1, 1), (1, -1)), strict=True) for y in np.array(ys) * width * 0.44
    ]
    parts.append(build(pane, [[0, 1, 2], [0, 2, 3]], Material.GLASS))
    for s in (-1, 1):
        at = (nose - length * 0.5, s * (width / 2 + 0.01), belt)
        parts.append(box((length * 0.5, 0.02, (height - belt) * 0.7), at, Material.GLASS))
        parts.append(box((0.05, 0.35, 0.18), (nose, s * width * 0.34, 0.6), Material.LAMP))
        parts.append(box((0.1, 0.2, 0.4), (nose - 0.1, s * (width / 2 + 0.15), belt + 0.1), Material.RUBBER))
    parts.append(box((0.02, 0.5, 0.11), (nose + 0.01, 0, 0.5), Material.RETRO, colour=(235, 235, 230)))
    return parts


def _axles(places: list[float], width: float, radius: float) -> list[Mesh]:
    parts: list[Mesh] = []
    for x in places:
        for side in (-1, 1):
            parts += wheel(x, side * (width / 2 - 0.14), radius, 0.28)
    return parts


def _rear(length: float, width: float) -> list[Mesh]:
    parts = [
        box((0.05, 0.3, 0.16), (-length / 2 - 0.02, s * width * 0.4, 0.7), Material.LAMP, colour=(170, 20, 20))
        for s in (-1, 1)
    ]
    parts.append(box((0.02, 0.5, 0.11), (-length / 2 - 0.03, 0, 0.75), Material.RETRO, colour=(235, 235, 230)))
    return parts


def _prism(side: list[tuple[float, float]], half: float, colour: Colour, tone: float) -> Mesh:
    """A side view (x, z), convex, pulled to +-half in y."""
    count = len(side)
    vertices = [[x, -half, z] for x, z in side] + [[x, half, z] for x, z in side]
    faces = [[0, k, k + 1] for k in range(1, count - 1)] + [
        [count, count + k + 1, count + k] for k in range(1, count - 1)
    ]
    for k in range(count):
        m = (k + 1) % count
        faces += [[k, k + count, m + count], [k, m + count, m]]
    return build(vertices, faces, Material.PAINT, colour=colour, tone=tone)
