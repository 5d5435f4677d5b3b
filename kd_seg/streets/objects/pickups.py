"""Pickups: a passenger car's nose and cab with a load bed behind, which SemanticKITTI counts as trucks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kd_seg.streets.objects.cars import PAINTS, Shape, body
from kd_seg.streets.objects.materials import Material
from kd_seg.streets.objects.mesh import Colour, Mesh, box, merge

CREW = Shape(
    5.6, 1.95, 1.85,
    (
        (0.00, 0.45, 0.48, 0.50, 0.86, False), (0.03, 0.32, 0.60, 0.62, 0.97, False),
        (0.24, 0.30, 0.63, 0.66, 1.00, True), (0.34, 0.30, 0.64, 0.98, 1.00, True),
        (0.45, 0.30, 0.64, 1.00, 1.00, False), (0.47, 0.30, 0.64, 1.00, 1.00, True),
        (0.61, 0.30, 0.64, 0.98, 1.00, False), (0.63, 0.32, 0.60, 0.62, 1.00, False),
        (0.98, 0.34, 0.60, 0.62, 0.98, False), (1.00, 0.42, 0.56, 0.58, 0.92, False),
    ), (0.17, 0.80),
)  # fmt: skip
"""Four doors and a covered bed: the side view of common full-size pickups, in the stations of ``Shape``."""


def pickup(rng: np.random.Generator) -> Mesh:
    """One pickup of 4.9 to 6.2 m, its bed covered, open or loaded; origin on the ground below, nose to +x."""
    scale = rng.uniform(0.88, 1.1)
    shape = replace(CREW, length=CREW.length * scale, height=rng.uniform(1.72, 1.95), width=rng.uniform(1.82, 2.03))
    if rng.random() < 0.4:
        return body(shape, rng)
    colour, tone, _ = PAINTS[rng.integers(len(PAINTS))]
    return merge([body(replace(shape, stations=_lowered(shape)), rng), *_bed(shape, colour, tone, rng)])


def _lowered(shape: Shape) -> tuple[tuple[float, float, float, float, float, bool], ...]:
    """The stations with the bed's floor, 0.75 m above the ground, in place of its cover."""
    floor = 0.75 / shape.height
    return tuple(
        (x, bottom, floor - 0.02, floor, width, glass) if x > 0.62 else (x, bottom, belt, top, width, glass)
        for x, bottom, belt, top, width, glass in shape.stations
    )


def _bed(shape: Shape, colour: Colour, tone: float, rng: np.random.Generator) -> list[Mesh]:
    """Walls of an open bed, sometimes a rack above the cab, and up to three things that it carries."""
    front, rear = shape.length * (0.5 - 0.63), -shape.length / 2 + 0.05
    middle, load = (front + rear) / 2, front - rear
    half, top = shape.width / 2 - 0.03, shape.height * 0.62
    parts = [
        box((load, 0.07, top - 0.7), (middle, side * half, 0.7), Material.PAINT, colour=colour, tone=tone)
        for side in (-1, 1)
    ]
    parts.append(box((0.07, 2 * half, top - 0.7), (rear, 0, 0.7), Material.PAINT, colour=colour, tone=tone))
    if rng.random() < 0.25:
        for x in (front - 0.1, rear + 0.1):
            for side in (-1, 1):
                parts.append(box((0.06, 0.06, shape.height - 0.6), (x, side * half, 0.7), Material.METAL))
            parts.append(box((0.06, 2 * half, 0.06), (x, 0, shape.height + 0.05), Material.METAL))
    for _ in range(rng.integers(0, 4)):
        size = rng.uniform(0.3, 0.9, 3)
        place = (middle + rng.uniform(-0.3, 0.3) * load, rng.uniform(-0.4, 0.4) * half, 0.75)
        parts.append(box(size, place, Material.WOOD, yaw=rng.uniform(0, 3)))
    return parts
