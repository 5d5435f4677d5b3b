"""Passenger cars: a skin lofted over cross-sections, with windows, wheels, lamps, mirrors and plates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.streets.objects.materials import Material
from kd_seg.streets.objects.mesh import Colour, Floats, Mesh, box, build, loft, merge, tube

PAINTS: tuple[tuple[Colour, float, float], ...] = (
    ((22, 22, 26), 0.10, 0.20),
    ((60, 62, 66), 0.35, 0.22),
    ((168, 170, 174), 1.5, 0.20),
    ((232, 232, 228), 3.0, 0.12),
    ((28, 44, 92), 0.25, 0.12),
    ((128, 22, 24), 1.6, 0.08),
    ((30, 70, 46), 0.5, 0.03),
    ((196, 170, 60), 2.2, 0.03),
)
"""Colour, tone of its laser answer, and how common it is."""


@dataclass(frozen=True)
class Shape:
    """Side view of a body as stations from the front (x = +length/2) to the rear, in shares of length and height.

    Attributes:
        length, width, height: metres.
        stations: (x share from the front, bottom z m, belt share, top share, width share, glass behind this station).
        wheels: x shares of the axles.
    """

    length: float
    width: float
    height: float
    stations: tuple[tuple[float, float, float, float, float, bool], ...]
    wheels: tuple[float, float]


SHAPES: dict[str, Shape] = {
    "sedan": Shape(
        4.6, 1.8, 1.45,
        (
            (0.00, 0.32, 0.42, 0.44, 0.80, False), (0.03, 0.22, 0.50, 0.52, 0.95, False),
            (0.24, 0.20, 0.62, 0.65, 1.00, True), (0.41, 0.20, 0.65, 0.98, 1.00, True),
            (0.55, 0.20, 0.66, 1.00, 1.00, False), (0.57, 0.20, 0.66, 1.00, 1.00, True),
            (0.70, 0.20, 0.67, 0.96, 1.00, True), (0.84, 0.22, 0.68, 0.71, 0.99, False),
            (0.98, 0.26, 0.66, 0.69, 0.95, False), (1.00, 0.36, 0.60, 0.62, 0.84, False),
        ), (0.18, 0.79),
    ),
    "hatchback": Shape(
        4.0, 1.72, 1.48,
        (
            (0.00, 0.32, 0.42, 0.44, 0.80, False), (0.03, 0.22, 0.52, 0.54, 0.95, False),
            (0.22, 0.20, 0.64, 0.67, 1.00, True), (0.41, 0.20, 0.66, 0.98, 1.00, True),
            (0.57, 0.20, 0.67, 1.00, 1.00, False), (0.60, 0.20, 0.67, 1.00, 1.00, True),
            (0.86, 0.22, 0.68, 0.96, 0.99, True), (0.97, 0.26, 0.68, 0.72, 0.95, False),
            (1.00, 0.36, 0.58, 0.60, 0.86, False),
        ), (0.19, 0.81),
    ),
    "estate": Shape(
        4.7, 1.8, 1.48,
        (
            (0.00, 0.32, 0.42, 0.44, 0.80, False), (0.03, 0.22, 0.50, 0.52, 0.95, False),
            (0.23, 0.20, 0.62, 0.65, 1.00, True), (0.39, 0.20, 0.65, 0.98, 1.00, True),
            (0.52, 0.20, 0.66, 1.00, 1.00, False), (0.54, 0.20, 0.66, 1.00, 1.00, True),
            (0.74, 0.20, 0.67, 0.99, 1.00, True), (0.92, 0.22, 0.68, 0.95, 0.98, True),
            (0.99, 0.26, 0.66, 0.70, 0.95, False), (1.00, 0.36, 0.58, 0.60, 0.86, False),
        ), (0.18, 0.79),
    ),
    "suv": Shape(
        4.5, 1.86, 1.70,
        (
            (0.00, 0.40, 0.46, 0.48, 0.84, False), (0.03, 0.28, 0.58, 0.60, 0.97, False),
            (0.24, 0.26, 0.63, 0.66, 1.00, True), (0.38, 0.26, 0.65, 0.98, 1.00, True),
            (0.54, 0.26, 0.66, 1.00, 1.00, False), (0.56, 0.26, 0.66, 1.00, 1.00, True),
            (0.78, 0.26, 0.67, 0.99, 1.00, True), (0.94, 0.28, 0.68, 0.92, 0.98, True),
            (0.99, 0.32, 0.66, 0.70, 0.96, False), (1.00, 0.42, 0.56, 0.58, 0.88, False),
        ), (0.19, 0.80),
    ),
    "van": Shape(
        5.0, 1.92, 2.0,
        (
            (0.00, 0.36, 0.40, 0.42, 0.86, False), (0.03, 0.26, 0.52, 0.54, 0.96, False),
            (0.14, 0.24, 0.56, 0.60, 1.00, True), (0.28, 0.24, 0.58, 0.97, 1.00, True),
            (0.44, 0.24, 0.58, 1.00, 1.00, False), (0.97, 0.26, 0.58, 1.00, 1.00, False),
            (1.00, 0.30, 0.58, 0.94, 0.97, False),
        ), (0.16, 0.80),
    ),
}  # fmt: skip
"""Body shapes; a car varies them in length, width, height and detail."""


def car(rng: np.random.Generator) -> Mesh:
    """One car of random body, size and paint; origin on the ground below its middle, nose to +x."""
    name = str(rng.choice(list(SHAPES), p=[0.24, 0.34, 0.18, 0.14, 0.10]))
    return body(SHAPES[name], rng)


def body(shape: Shape, rng: np.random.Generator) -> Mesh:
    """The car of a shape."""
    index = rng.choice(len(PAINTS), p=np.array([p[2] for p in PAINTS]) / sum(p[2] for p in PAINTS))
    colour, tone, _ = PAINTS[index]
    tone *= float(np.exp(rng.normal(0, 0.35)))
    length, width, height = (
        v * s for v, s in zip((shape.length, shape.width, shape.height), rng.normal(1, 0.035, 3), strict=True)
    )
    stations = np.array([s[:5] for s in shape.stations])
    stations[1:-1, 0] += rng.normal(0, 0.008, len(stations) - 2)
    stations[:, 0] = np.maximum.accumulate(stations[:, 0])
    x = length * (0.5 - stations[:, 0])
    half = width / 2 * stations[:, 4]
    belt, top = height * stations[:, 2], height * stations[:, 3]
    middle = stations[:, 1] * 0.45 + belt * 0.55
    rise = np.clip((top - belt) / (0.34 * height), 0, 1)
    roof = half * (1 - 0.24 * rise)
    crown = top - 0.03 * rise
    left = [(half * 0.9, stations[:, 1]), (half, middle), (half * 0.97, belt), (roof, crown), (roof * 0.7, top)]
    ring = [np.stack([x, y, z], 1) for y, z in left] + [np.stack([x, -y, z], 1) for y, z in reversed(left)]
    behind = np.array([s[5] for s in shape.stations])
    parts = _shell(np.stack(ring, axis=1), rise, behind, colour, tone)
    parts += _details(shape, length, width, height, colour, tone)
    return merge(parts)


def _shell(rings: Floats, rise: Floats, behind: npt.NDArray[np.bool_], colour: Colour, tone: float) -> list[Mesh]:
    """Glass, underside and painted sheet of the body through ``rings`` [stations, 10, 3].

    ``rise`` [stations] is 0 at the belt line and 1 at the roof; glass may lie ``behind`` a station.
    """
    vertices, quads, where = loft(rings)
    ramp = np.abs(np.diff(rise)) > 0.45
    tall = np.minimum(rise[:-1], rise[1:]) > 0.5
    station, segment = where.T
    side = np.isin(segment, (2, 6)) & behind[station] & (tall | ramp)[station]
    screen = np.isin(segment, (3, 4, 5)) & ramp[station] & behind[station]
    glass = side | screen
    under = segment == 9
    count = rings.shape[1]
    last = len(vertices) - count
    caps = [[0, k, k + 1] for k in range(1, count - 1)] + [[last, last + k + 1, last + k] for k in range(1, count - 1)]
    sheet = np.concatenate([_triangles(quads[~glass & ~under]), caps])
    return [
        build(vertices, _triangles(quads[glass]), Material.GLASS),
        build(vertices, _triangles(quads[under]), Material.RUBBER),
        build(vertices, sheet, Material.PAINT, colour=colour, tone=tone),
    ]


def wheel(x: float, y: float, radius: float, width: float) -> list[Mesh]:
    """A tyre and its rim, axle along y."""
    parts = [tube((x, y - width / 2, radius), (x, y + width / 2, radius), radius, Material.RUBBER, sides=12)]
    outer = y + np.sign(y) * (width / 2 + 0.005)
    parts.append(tube((x, y, radius), (x, outer, radius), radius * 0.62, Material.METAL, sides=8))
    return parts


def _details(shape: Shape, length: float, width: float, height: float, colour: Colour, tone: float) -> list[Mesh]:
    parts: list[Mesh] = []
    radius = 0.21 * shape.height**0.5 * 1.25
    for share in shape.wheels:
        for side in (-1, 1):
            parts += wheel(length * (0.5 - share), side * (width / 2 - 0.09), radius, 0.21)
    for side in (-1, 1):
        parts.append(box((0.06, 0.32, 0.13), (length / 2 - 0.07, side * width * 0.34, height * 0.42), Material.LAMP))
        red = (170, 20, 20)
        parts.append(
            box((0.06, 0.22, 0.2), (-length / 2 + 0.05, side * width * 0.38, height * 0.5), Material.LAMP, colour=red)
        )
        at = (length * 0.17, side * (width / 2 + 0.08), height * 0.62)
        parts.append(box((0.12, 0.2, 0.14), at, Material.PAINT, colour=colour, tone=tone))
    for end in (-1, 1):
        at = (end * (length / 2 + 0.005), 0.0, 0.42 if end > 0 else 0.62)
        parts.append(box((0.02, 0.5, 0.11), at, Material.RETRO, colour=(235, 235, 230), tone=1.3))
    return parts


def _triangles(quads: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
