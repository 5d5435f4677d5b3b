"""Persons, two-wheelers, and riders on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.streets.objects.materials import Material
from kd_seg.streets.objects.mesh import Colour, Finish, Mesh, box, ellipsoid, merge, torus, tube

Array = npt.NDArray[Any]


CLOTHES: tuple[Colour, ...] = (
    (40, 44, 60), (120, 30, 40), (200, 196, 188), (60, 90, 60), (90, 90, 96), (190, 150, 60), (50, 80, 140),
)  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """What stays of a person while the pose changes."""

    height: float
    girth: float
    shirt: Colour
    trousers: Colour
    tones: tuple[float, float]
    skirt: bool
    bag: int


def figure(rng: np.random.Generator) -> Figure:
    """A random person: adults mostly, some children."""
    height = rng.normal(1.72, 0.09) if rng.random() > 0.12 else rng.uniform(1.05, 1.45)
    shirt, trousers = (CLOTHES[int(i)] for i in rng.integers(len(CLOTHES), size=2))
    tones = np.exp(rng.normal(0, 0.3, 2))
    return Figure(
        float(height), float(rng.normal(1.0, 0.12)), shirt, trousers, (float(tones[0]), float(tones[1])),
        bool(rng.random() < 0.2), int(rng.integers(0, 4)),
    )  # fmt: skip


def person(who: Figure, phase: float, stride: float = 1.0) -> Mesh:
    """A walking (stride 1) or standing (stride 0) person at a gait phase in [0, 1), facing +x."""
    h, g = who.height, who.girth
    swing = 0.5 * stride * np.sin(2 * np.pi * phase)
    hip, shoulder = 0.53 * h, 0.82 * h
    parts: list[Mesh] = []
    for side in (-1, 1):
        angle = side * swing
        lift = stride * max(0.0, side * np.cos(2 * np.pi * phase)) * 0.5
        parts += _leg((0.0, side * 0.09 * g, hip), angle, lift, h, g, who)
        arm = -0.75 * angle
        elbow = np.array([0.17 * h * np.sin(arm), side * 0.24 * g, shoulder - 0.17 * h * np.cos(arm)])
        hand = elbow + 0.16 * h * np.array([np.sin(arm + 0.35), 0, -np.cos(arm + 0.35)])
        root = (0.0, side * 0.2 * g, shoulder)
        parts.append(tube(root, elbow, 0.05 * g, Material.CLOTH, colour=who.shirt, sides=6, tone=who.tones[0]))
        parts.append(tube(elbow, hand, 0.042 * g, Material.CLOTH, colour=who.shirt, sides=6, tone=who.tones[0]))
        parts.append(ellipsoid(hand, (0.05, 0.04, 0.06), Material.SKIN, sides=6, rows=3))
    parts += _trunk((0.0, 0.0, hip), 0.0, h, g, who)
    if who.skirt:
        parts.append(
            tube((0, 0, 0.3 * h), (0, 0, hip), 0.22 * g, Material.CLOTH, colour=who.trousers, end_radius=0.15 * g)
        )
    if who.bag == 0:
        parts.append(box((0.16, 0.3, 0.42), (-0.22, 0, 0.58 * h), Material.CLOTH, colour=(50, 50, 50)))
    elif who.bag == 1:
        parts.append(box((0.3, 0.12, 0.3), (0.05, 0.34 * g, 0.28 * h), Material.CLOTH, colour=(120, 80, 40)))
    return merge(parts)


def bicycle(rng: np.random.Generator) -> Mesh:
    """A bicycle standing upright, front to +x, wheels on the ground."""
    radius, base = rng.uniform(0.31, 0.35), rng.uniform(1.0, 1.1)
    colour, tone = CLOTHES[int(rng.integers(len(CLOTHES)))], float(np.exp(rng.normal(0.9, 0.4)))
    rear, front = np.array([-base / 2, 0, radius]), np.array([base / 2, 0, radius])
    crank, saddle = np.array([-0.08, 0, 0.29]), np.array([-0.25, 0, 0.88])
    head, bar = np.array([base / 2 - 0.2, 0, 0.78]), np.array([base / 2 - 0.25, 0, 1.0])
    seat = crank + (saddle - crank) * 0.85
    parts = [torus(c, radius - 0.02, 0.024, Material.RUBBER, sides=16, tone=3.0) for c in (rear, front)]
    for centre in (rear, front):
        for angle in np.arange(4) * np.pi / 4:
            reach = (radius - 0.03) * np.array([np.cos(angle), 0, np.sin(angle)])
            parts.append(tube(centre - reach, centre + reach, 0.006, Material.METAL, sides=3, caps=False))
        parts.append(tube(centre + [0, -0.05, 0], centre + [0, 0.05, 0], 0.03, Material.METAL, sides=6))
    for a, b in ((crank, head), (crank, saddle), (seat, head), (rear, crank), (rear, seat), (front, head), (head, bar)):
        parts.append(tube(a, b, 0.022, Material.PAINT, colour=colour, sides=6, tone=tone))
    parts.append(box((0.26, 0.15, 0.06), saddle, Material.RUBBER))
    parts.append(tube(bar + [0, -0.3, 0], bar + [0, 0.3, 0], 0.016, Material.METAL, sides=6))
    parts.append(tube(crank + [0, -0.02, 0], crank + [0, 0.02, 0], 0.1, Material.METAL, sides=8))
    parts += [box((0.1, 0.1, 0.03), crank + [s * 0.12, s * 0.12, -s * 0.1], Material.RUBBER) for s in (-1, 1)]
    for x in (rear, front):
        parts.append(box((0.5, 0.06, 0.012), x + [0, 0, radius + 0.01], Material.METAL))
    if rng.random() < 0.5:
        parts.append(box((0.35, 0.14, 0.02), (-base / 2 - 0.02, 0, 0.76), Material.METAL))
    if rng.random() < 0.25:
        parts.append(box((0.32, 0.3, 0.25), (base / 2 - 0.05, 0, 0.82), Material.WOOD))
    return merge(parts)


def motorcycle(rng: np.random.Generator, scooter: bool | None = None) -> Mesh:
    """A motorcycle or scooter, front to +x."""
    if scooter is None:
        scooter = bool(rng.random() < 0.4)
    colour, tone = CLOTHES[int(rng.integers(len(CLOTHES)))], float(np.exp(rng.normal(0.8, 0.5)))
    base, radius = (1.3, 0.24) if scooter else (rng.uniform(1.38, 1.5), 0.31)
    parts = []
    for x in (-base / 2, base / 2):
        parts.append(torus((x, 0, radius), radius - 0.05, 0.062, Material.RUBBER, sides=14, around=6))
        parts.append(tube((x, -0.05, radius), (x, 0.05, radius), radius * 0.62, Material.METAL, sides=10))
    front, head, bar = (
        np.array([base / 2, 0, radius]),
        np.array([base / 2 - 0.25, 0, 0.82]),
        np.array([base / 2 - 0.38, 0, 1.02]),
    )
    for side in (-0.09, 0.09):
        parts.append(tube(front + [0, side, 0], head + [0, side, 0], 0.03, Material.METAL, sides=6))
        parts.append(tube(bar, bar + [-0.12, side * 4.2, 0.02], 0.018, Material.METAL, sides=6))
        parts.append(ellipsoid(bar + [0.0, side * 3.6, 0.18], (0.03, 0.09, 0.06), Material.GLASS, sides=6, rows=3))
    paint: Finish = {"colour": colour, "tone": tone}
    if scooter:
        parts.append(box((0.12, 0.42, 0.6), (base / 2 - 0.3, 0, 0.3), Material.PAINT, **paint))
        parts.append(box((0.5, 0.3, 0.1), (0.05, 0, 0.25), Material.PAINT, **paint))
        parts.append(box((0.75, 0.34, 0.42), (-0.45, 0, 0.32), Material.PAINT, **paint))
        if rng.random() < 0.5:
            parts.append(box((0.36, 0.38, 0.32), (-base / 2 - 0.08, 0, 0.82), Material.PAINT, **paint))
    else:
        parts.append(ellipsoid((0.12, 0, 0.82), (0.34, 0.17, 0.17), Material.PAINT, sides=10, **paint))
        parts.append(box((0.5, 0.36, 0.38), (0.05, 0, 0.26), Material.METAL, colour=(70, 70, 74)))
        parts.append(box((0.4, 0.2, 0.18), (-0.5, 0, 0.74), Material.PAINT, **paint))
        parts.append(tube((0.05, -0.2, 0.3), (-base / 2 - 0.1, -0.22, 0.42), 0.05, Material.METAL))
        parts.append(tube((-base / 2, 0, radius), (-0.1, 0, 0.45), 0.05, Material.METAL))
        if rng.random() < 0.5:
            parts.append(box((0.25, 0.4, 0.35), (base / 2 - 0.22, 0, 0.85), Material.PAINT, **paint))
    parts.append(box((0.68, 0.28, 0.12), (-0.38, 0, 0.76), Material.RUBBER))
    parts.append(ellipsoid((base / 2 - 0.16, 0, 0.86), (0.07, 0.1, 0.1), Material.LAMP, sides=8))
    parts.append(box((0.02, 0.2, 0.15), (-base / 2 - 0.22, 0, 0.55), Material.RETRO, colour=(235, 235, 230)))
    return merge(parts)


def bicyclist(rng: np.random.Generator, who: Figure, phase: float) -> Mesh:
    """A person riding a bicycle at a pedal phase; both are one instance."""
    h, g = who.height / 1.72, who.girth
    parts = [bicycle(rng)]
    hip = np.array([-0.22, 0.0, 0.97])
    parts += _rider_legs(hip, np.array([-0.08, 0, 0.29]), 0.17, phase, h, g, who)
    parts += _rider_top(hip, 0.55, np.array([0.3, 0.0, 1.02]), 0.27, h, g, who)
    return merge(parts)


def motorcyclist(rng: np.random.Generator, who: Figure) -> Mesh:
    """A person riding a motorcycle; both are one instance."""
    h, g = who.height / 1.72, who.girth
    parts = [motorcycle(rng)]
    hip = np.array([-0.32, 0.0, 0.93])
    for side in (-1, 1):
        knee = hip + np.array([0.4, side * 0.24, -0.08])
        foot = np.array([-0.02, side * 0.24, 0.36])
        parts.append(
            tube(
                hip + [0, side * 0.1, 0],
                knee,
                0.085 * g,
                Material.CLOTH,
                colour=who.trousers,
                sides=6,
                tone=who.tones[1],
            )
        )
        parts.append(tube(knee, foot, 0.065 * g, Material.CLOTH, colour=who.trousers, sides=6, tone=who.tones[1]))
        parts.append(box((0.28, 0.1, 0.1), foot - [0, 0, 0.05], Material.RUBBER))
    parts += _rider_top(hip, 0.35, np.array([0.3, 0.0, 1.05]), 0.33, h, g * 1.1, who, helmet=True)
    return merge(parts)


def _leg(hip: tuple[float, float, float], angle: float, lift: float, h: float, g: float, who: Figure) -> list[Mesh]:
    knee = np.array(hip) + 0.25 * h * np.array([np.sin(angle + lift * 0.4), 0, -np.cos(angle + lift * 0.4)])
    ankle = knee + 0.24 * h * np.array([np.sin(angle - lift), 0, -np.cos(angle - lift)])
    ankle[2] = max(ankle[2], 0.05)
    cloth: Finish = {"colour": who.trousers, "tone": who.tones[1]}
    return [
        tube(hip, knee, 0.088 * g, Material.CLOTH, end_radius=0.065 * g, sides=7, **cloth),
        tube(knee, ankle, 0.06 * g, Material.CLOTH, end_radius=0.05 * g, sides=7, **cloth),
        box((0.26, 0.1, 0.09), ankle + [0.06, 0, -0.06], Material.RUBBER, tone=1.5),
    ]


def _trunk(hip: tuple[float, float, float], lean: float, h: float, g: float, who: Figure) -> list[Mesh]:
    up = np.array([np.sin(lean), 0.0, np.cos(lean)])
    low = np.array(hip)
    chest, neck = low + 0.2 * h * up, low + 0.31 * h * up
    shirt: Finish = {"colour": who.shirt, "tone": who.tones[0]}
    head = neck + 0.095 * h * up
    return [
        ellipsoid(
            low + 0.02 * h * up, (0.13 * g, 0.17 * g, 0.11 * h), Material.CLOTH, colour=who.trousers, tone=who.tones[1]
        ),
        ellipsoid(low + 0.12 * h * up, (0.125 * g, 0.165 * g, 0.13 * h), Material.CLOTH, **shirt),
        ellipsoid(chest, (0.13 * g, 0.205 * g, 0.125 * h), Material.CLOTH, **shirt),
        tube(neck - 0.03 * h * up, head, 0.055, Material.SKIN, sides=6),
        ellipsoid(head, (0.1, 0.08, 0.12), Material.SKIN, sides=8),
        ellipsoid(head + [-0.02, 0, 0.03], (0.1, 0.085, 0.105), Material.CLOTH, colour=(60, 44, 30), sides=8),
    ]


def _rider_legs(hip: Array, crank: Array, reach: float, phase: float, h: float, g: float, who: Figure) -> list[Mesh]:
    parts = []
    for side in (-1, 1):
        angle = 2 * np.pi * phase + (np.pi if side > 0 else 0.0)
        foot = crank + np.array([reach * np.cos(angle), side * 0.13, reach * np.sin(angle)])
        start = hip + np.array([0, side * 0.09, 0])
        span = foot - start
        middle = start + span / 2
        bend = np.sqrt(max((0.46 * h) ** 2 - float(span @ span) / 4, 0.0))
        knee = middle + bend * np.array([0.92, 0.0, 0.39])
        parts.append(tube(start, knee, 0.085 * g, Material.CLOTH, colour=who.trousers, sides=6, tone=who.tones[1]))
        parts.append(tube(knee, foot, 0.055 * g, Material.CLOTH, colour=who.trousers, sides=6, tone=who.tones[1]))
        parts.append(box((0.25, 0.09, 0.08), foot + [0.05, 0, -0.03], Material.RUBBER))
    return parts


def _rider_top(
    hip: Array,
    lean: float,
    grip: Array,
    wide: float,
    h: float,
    g: float,
    who: Figure,
    helmet: bool = False,
) -> list[Mesh]:
    parts = _trunk((hip[0], hip[1], hip[2]), lean, 1.72 * h, g, who)
    up = np.array([np.sin(lean), 0.0, np.cos(lean)])
    shoulder = hip + 0.52 * h * up
    for side in (-1, 1):
        a, b = shoulder + [0, side * 0.2 * g, 0], grip + [0, side * wide, 0]
        elbow = (a + b) / 2 + np.array([-0.05, side * 0.05, -0.08])
        parts.append(tube(a, elbow, 0.055 * g, Material.CLOTH, colour=who.shirt, sides=6, tone=who.tones[0]))
        parts.append(tube(elbow, b, 0.042 * g, Material.CLOTH, colour=who.shirt, sides=6, tone=who.tones[0]))
    if helmet:
        head = hip + 0.31 * 1.72 * h * up + 0.17 * up
        parts.append(ellipsoid(head, (0.15, 0.13, 0.16), Material.PAINT, colour=who.shirt, tone=who.tones[0] * 2))
    return parts
