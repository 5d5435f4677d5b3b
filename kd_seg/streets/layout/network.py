"""The street network of one sequence: centre lines with cross-sections, and the path that the sensor drives."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kd_seg.streets.objects.materials import Cover
from kd_seg.streets.objects.mesh import Floats

SPACING = 3.0
"""Metres between the points of a centre line."""
REACH = 100.0
"""Metres of street before the start, beyond the end, and to either side of a crossing."""


@dataclass(frozen=True)
class Side:
    """Cross-section from the edge of the road outwards, metres; ``lot`` covers what lies beyond, grass after ``deep``
    metres; a walk stands ``kerb`` metres above the road, everything else raised in proportion (materials.GROUNDS).
    """

    parking: float
    verge: float
    walk: float
    lot: Cover
    bank: float = 0.0
    deep: float = 200.0
    kerb: float = 0.12

    def width(self) -> float:
        """From the edge of the road to the lots."""
        return self.parking + self.verge + self.walk


@dataclass(frozen=True)
class Style:
    """What kind of place a street runs through.

    Attributes:
        name: residential, city, arterial, country, motorway or industrial.
        speed: metres per second that the sensor aims at.
        curve: largest curvature, 1/m.
        hills: metres of height by which the land varies.
    """

    name: str
    speed: float
    curve: float
    hills: float


STYLES: dict[str, Style] = {
    "residential": Style("residential", 7.5, 1 / 180, 3.5),
    "city": Style("city", 8.0, 1 / 160, 2.5),
    "arterial": Style("arterial", 11.0, 1 / 300, 2.0),
    "country": Style("country", 12.5, 1 / 130, 3.0),
    "motorway": Style("motorway", 15.0, 1 / 500, 2.0),
    "industrial": Style("industrial", 9.0, 1 / 150, 2.0),
}


SIDE_STREETS = {"arterial": "residential"}
"""Style of the streets that cross without being driven, where it is another."""


@dataclass(frozen=True)
class Street:
    """A centre line [P, 2] with arc lengths [P], half the road's width, and what lies to either side.

    ``lanes`` are offsets to the left of the centre line with the direction driven there (+1 along the line, -1
    against).
    """

    line: Floats
    half: float
    left: Side
    right: Side
    style: Style
    marked: bool
    lanes: tuple[tuple[float, int], ...]
    arc: Floats = field(init=False)
    corner: Floats = field(init=False)
    """Heading [P] of the line at its points."""

    def __post_init__(self) -> None:
        steps = np.linalg.norm(np.diff(self.line, axis=0), axis=1)
        object.__setattr__(self, "arc", np.concatenate([[0.0], np.cumsum(steps)]))
        object.__setattr__(self, "corner", np.arctan2(*np.gradient(self.line, axis=0).T[::-1]))

    def length(self) -> float:
        """Metres."""
        return float(self.arc[-1])

    def at(self, s: Floats | float, offset: Floats | float) -> tuple[Floats, Floats]:
        """Places [.., 2] at arc length ``s`` and ``offset`` metres to the left, and the line's heading there."""
        s = np.clip(np.asarray(s, dtype=np.float64), 0.0, self.length() - 1e-6)
        k = np.clip(np.searchsorted(self.arc, s, side="right") - 1, 0, len(self.line) - 2)
        delta = self.line[k + 1] - self.line[k]
        size = np.linalg.norm(delta, axis=-1)
        place = self.line[k] + delta * ((s - self.arc[k]) / size)[..., None]
        turn = np.angle(np.exp(1j * (self.corner[k + 1] - self.corner[k])))
        heading = self.corner[k] + turn * ((s - self.arc[k]) / size)
        normal = np.stack([-np.sin(heading), np.cos(heading)], axis=-1)
        return place + normal * np.asarray(offset, dtype=np.float64)[..., None], heading


Leg = tuple[Floats, float, Floats | None]
"""Part of the path: a line [P, 2], the arc length where it begins, and the corner where it ends, if any."""


@dataclass(frozen=True)
class StreetNetwork:
    """All streets of a sequence, the driven path [Q, 2] at half-metre steps, and the path's corners (arc lengths)."""

    streets: tuple[Street, ...]
    path: Floats
    corners: tuple[float, ...]
    style: Style


def lay(rng: np.random.Generator, style: Style, distance: float) -> StreetNetwork:
    """Streets and a path of at least ``distance`` metres through them."""
    position, heading = np.zeros(2), float(rng.uniform(-np.pi, np.pi))
    position = position - REACH * np.array([np.cos(heading), np.sin(heading)])
    left_over = distance + 10.0
    kerb = float(rng.uniform(0.03, 0.15))
    streets: list[Floats] = []
    legs: list[Leg] = []
    line = [position]
    start = REACH
    turned = 0
    while True:
        crossing = style.name not in ("motorway",) and not (style.name == "country" and rng.random() < 0.5)
        leg = float(rng.uniform(35.0, 110.0)) if crossing else left_over + 40.0
        line, heading = _extend(rng, line, heading, leg + (REACH if len(line) == 1 else 0.0), style.curve)
        corner = line[-1]
        if leg >= left_over:
            line, _ = _extend(rng, line, heading, REACH, style.curve)
            legs.append((np.array(line), start, None))
            streets.append(np.array(line))
            break
        left_over -= leg
        choice = rng.choice(["straight", "left", "right"], p=[0.55, 0.225, 0.225])
        if turned and choice != "straight":
            choice = "right" if turned > 0 else "left"
        tilt = heading + np.pi / 2 * (-1 if choice == "right" else 1) + rng.normal(0, 0.08)
        reverse, _ = _extend(rng, [corner], tilt + np.pi, REACH, style.curve / 2)
        if choice == "straight":
            other, _ = _extend(rng, [corner], tilt, REACH, style.curve / 2)
            streets.append(np.array(reverse[:0:-1] + other))
            continue
        turned += 1 if choice == "left" else -1
        through, _ = _extend(rng, list(line), heading, REACH, style.curve)
        streets.append(np.array(through))
        legs.append((np.array(line), start, corner))
        line, heading, start = reverse[:0:-1] + [corner], tilt, REACH
    return _built(rng, style, streets, legs, kerb)


def _built(rng: np.random.Generator, style: Style, lines: list[Floats], legs: list[Leg], kerb: float) -> StreetNetwork:
    """Streets along the lines, those that are driven in the style and the others in that of its side streets."""
    driven = [any(np.array_equal(line[: len(leg[0])], leg[0]) for leg in legs) for line in lines]
    aside = STYLES[SIDE_STREETS.get(style.name, style.name)]
    built = [_street(rng, line, style if on else aside, kerb) for line, on in zip(lines, driven, strict=True)]
    if style.name == "motorway":
        built, driven = _carriageways(built[0], rng), [True, False]
    main = [street for street, on in zip(built, driven, strict=True) if on]
    path, corners = _drive(legs, main)
    return StreetNetwork(tuple(built), path, corners, style)


def _extend(
    rng: np.random.Generator, line: list[Floats], heading: float, length: float, curve: float
) -> tuple[list[Floats], float]:
    line = list(line)
    bend = 0.0
    for _ in range(max(int(length / SPACING), 1)):
        bend = float(np.clip(0.93 * bend + rng.normal(0, 0.3 * curve), -curve, curve))
        heading += bend * SPACING
        line.append(line[-1] + SPACING * np.array([np.cos(heading), np.sin(heading)]))
    return line, heading


def _street(rng: np.random.Generator, line: Floats, style: Style, kerb: float) -> Street:
    def side(parking: float, verge: float, walk: float, lot: Cover, deep: float = 200.0) -> Side:
        wide = float(rng.uniform(1.8, 2.1)) if rng.random() < parking else 0.0
        strip = float(rng.uniform(0.6, 1.8)) if rng.random() < verge else 0.0
        return Side(wide, strip, walk, lot, float(rng.uniform(*slope)), deep, _kerb(rng, kerb))

    slope = {"residential": (-1.3, 1.5), "industrial": (-1.0, 1.0)}.get(style.name, (-0.5, 0.5))
    if style.name == "residential":
        half = float(rng.uniform(2.8, 3.7) if rng.random() < 0.8 else rng.uniform(3.7, 5.0))
        yards = [Cover.SIDEWALK if rng.random() < 0.25 else Cover.GRASS for _ in range(2)]
        strips = ((0.55, yards[0]), (0.06, yards[1]))
        sides = [side(p, 0.08, float(rng.uniform(1.5, 3.0)), y, float(rng.uniform(8, 22))) for p, y in strips]
    elif style.name == "city":
        half = float(rng.uniform(3.2, 6.6))
        deep = float(rng.uniform(4, 12))
        sides = [side(p, 0.25, float(rng.uniform(1.8, 3.2)), Cover.SIDEWALK, deep) for p in (0.7, 0.2)]
    elif style.name == "arterial":
        half = float(rng.uniform(6.4, 10.0))
        sides = [_open_side(rng, kerb) for _ in range(2)]
    elif style.name == "industrial":
        half = float(rng.uniform(3.4, 6.0))
        sides = [side(p, 0.4, float(rng.uniform(1.6, 2.8)), Cover.GRASS) for p in (0.5, 0.3)]
    else:
        half = float(rng.uniform(2.9, 3.8) if rng.random() < 0.7 else rng.uniform(3.8, 5.2))
        banks = rng.uniform(-1.2, 2.6, 2)
        walk = 1.8 if rng.random() < 0.3 else 0.0
        sides = [
            Side(0.0, float(rng.uniform(0.8, 3.0)), walk if k else 0.0, Cover.GRASS, float(banks[k]), 200.0, kerb)
            for k in range(2)
        ]
    marked = bool(half > 3.0 or rng.random() < 0.3)
    return Street(line, half, sides[0], sides[1], style, marked, _lanes(rng, half, style))


def _kerb(rng: np.random.Generator, usual: float) -> float:
    """Height of one side's kerb where ``usual`` is the place's: some are flush."""
    return 0.012 if rng.random() < 0.12 else float(np.clip(usual * rng.uniform(0.7, 1.3), 0.015, 0.17))


def _open_side(rng: np.random.Generator, kerb: float) -> Side:
    """Beside a wide road: a broad verge, a walk behind it now and then, a walk at the road, or a paved strip."""
    use = str(rng.choice(["verge", "verge and walk", "walk", "paved"], p=[0.35, 0.3, 0.2, 0.15]))
    verge = float(rng.uniform(1.5, 5.0)) if "verge" in use else 0.0
    walk = float(rng.uniform(1.6, 2.8)) if "walk" in use else 0.0
    lot = Cover.PAVED if use == "paved" else Cover.GRASS
    return Side(0.0, verge, walk, lot, float(rng.uniform(-0.8, 1.8)), float(rng.uniform(1.5, 3.5)), _kerb(rng, kerb))


def _lanes(rng: np.random.Generator, half: float, style: Style) -> tuple[tuple[float, int], ...]:
    """Lanes to either side of the centre, traffic keeping right; which of its side's the sensor drives comes first."""
    count = max(round(half / 3.3), 1)
    if count == 1:
        lane = half * (0.36 if style.name == "residential" else 0.5)
        return (-lane, 1), (lane, -1)
    offsets = (np.arange(count) + 0.5) * half / count
    order = offsets if rng.random() < 0.6 else rng.permutation(offsets)
    own = [(-float(o), 1) for o in order]
    return *own, *((float(o), -1) for o in offsets)


def _carriageways(street: Street, rng: np.random.Generator) -> list[Street]:
    """Two one-way roads of three lanes side by side."""
    half = float(rng.uniform(5.4, 6.8))
    gap = 2 * half + float(rng.uniform(3.5, 7.0))
    other, _ = street.at(street.arc, gap)
    low = Side(0.0, 1.0, 0.0, Cover.GRASS, 0.0)
    outer = [Side(0.0, 1.5, 0.0, Cover.GRASS, float(b)) for b in rng.uniform(-1.5, 3.0, 2)]
    lanes = tuple((o * half, 1) for o in (-0.57, 0.05, 0.65))
    back = tuple((o, -1) for o, _ in lanes)
    return [
        Street(street.line, half, low, outer[0], street.style, True, lanes),
        Street(other, half, outer[1], low, street.style, True, back),
    ]


def _drive(legs: list[Leg], main: list[Street]) -> tuple[Floats, tuple[float, ...]]:
    """The path in the right lane, corners rounded by a Bezier curve."""
    pieces: list[Floats] = []
    marks: list[int] = []
    radius = 11.0
    for number, (line, start, corner) in enumerate(legs):
        street = main[number]
        end = street.length() - 20.0
        if corner is not None:
            end = float(np.sum(np.linalg.norm(np.diff(line, axis=0), axis=1))) - radius
        begin = start if number == 0 else start + radius
        s = np.arange(begin, max(end, begin + 1.0), 0.5)
        lane = next(o for o, way in street.lanes if way > 0)
        places, _ = street.at(s, lane)
        if pieces:
            marks.append(sum(len(p) for p in pieces))
            pieces.append(_round(pieces[-1], places))
        pieces.append(places)
    path = np.concatenate(pieces)
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    dense = np.arange(0.0, arc[-1], 0.5)
    smooth = np.stack([np.interp(dense, arc, path[:, k]) for k in range(2)], axis=1)
    return _smooth(smooth), tuple(float(arc[m]) for m in marks)


def _round(before: Floats, after: Floats) -> Floats:
    a, u = before[-1], before[-1] - before[-2]
    b, v = after[0], after[1] - after[0]
    across = u[0] * v[1] - u[1] * v[0]
    middle = (a + b) / 2
    if abs(across) > 1e-6:
        t = ((b[0] - a[0]) * v[1] - (b[1] - a[1]) * v[0]) / across
        middle = a + np.clip(t, 0.0, 60.0) * u
    t = np.linspace(0, 1, 40)[1:-1, None]
    return np.asarray((1 - t) ** 2 * a + 2 * t * (1 - t) * middle + t**2 * b)


def _smooth(path: Floats, width: int = 9) -> Floats:
    kernel = np.hanning(width + 2)[1:-1]
    kernel /= kernel.sum()
    padded = np.pad(path, ((width // 2, width // 2), (0, 0)), mode="reflect", reflect_type="odd")
    return np.stack([np.convolve(padded[:, k], kernel, mode="valid") for k in range(2)], axis=1)
