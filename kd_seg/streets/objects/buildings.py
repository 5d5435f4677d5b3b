"""Houses with windows, doors, relief and roofs; fences, walls, rails and sheds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from kd_seg.streets.objects.materials import Material
from kd_seg.streets.objects.mesh import Colour, Mesh, box, build, merge, quad, tube
from kd_seg.streets.objects.plants import ivy

WALLS: tuple[tuple[Material, Colour], ...] = (
    (Material.PLASTER, (222, 212, 190)), (Material.PLASTER, (236, 234, 228)), (Material.PLASTER, (206, 180, 140)),
    (Material.PLASTER, (190, 196, 204)), (Material.BRICK, (152, 90, 68)), (Material.BRICK, (128, 82, 70)),
    (Material.CONCRETE, (166, 164, 158)),
)  # fmt: skip
BUILDING, FENCE, STRUCTURE = 50, 51, 52


def house(rng: np.random.Generator, width: float, depth: float, floors: int) -> Mesh:
    """A house ``width`` along x, ``depth`` along y, street front at y = -depth/2; gable, hip or flat roof."""
    material, colour = WALLS[int(rng.integers(len(WALLS)))]
    tone = float(np.exp(rng.normal(0, 0.18)))
    storey = float(rng.uniform(2.7, 3.3))
    height = 0.4 + floors * storey
    parts = _wall_grid(rng, width, depth, floors, storey, material, colour, tone)
    parts += _roof(rng, width, depth, height, floors)
    base = box((width + 0.06, depth + 0.06, 0.9), (0, 0, -0.5), Material.CONCRETE, BUILDING)
    parts.append(base)
    if rng.random() < 0.5:
        x = rng.uniform(-0.35, 0.35) * width
        parts.append(box((1.6, 1.2, 0.5), (x, -depth / 2 - 0.5, -0.2), Material.CONCRETE, BUILDING))
        parts.append(box((1.8, 1.4, 0.12), (x, -depth / 2 - 0.6, 2.6), Material.ROOF, BUILDING))
    if floors > 1 and rng.random() < 0.5:
        for floor in range(1, floors):
            for x in np.arange(-width / 2 + 2, width / 2 - 1, rng.uniform(3.5, 5.0)):
                z = 0.4 + floor * storey
                parts.append(box((2.4, 1.2, 0.15), (x, -depth / 2 - 0.6, z), Material.CONCRETE, BUILDING))
                for k in np.linspace(-1.1, 1.1, 6):
                    parts.append(box((0.05, 0.05, 1.0), (x + k, -depth / 2 - 1.15, z), Material.METAL, BUILDING))
                parts.append(box((2.4, 0.06, 0.06), (x, -depth / 2 - 1.15, z + 1.0), Material.METAL, BUILDING))
    for _ in range(int(rng.integers(1, 4))):
        x = rng.choice([-1, 1]) * (width / 2 - 0.25)
        parts.append(
            tube((x, -depth / 2 - 0.08, 0), (x, -depth / 2 - 0.08, height), 0.05, Material.METAL, BUILDING, sides=6)
        )
    return merge(parts)


def _wall_grid(
    rng: np.random.Generator,
    width: float,
    depth: float,
    floors: int,
    storey: float,
    material: Material,
    colour: Colour,
    tone: float,
) -> list[Mesh]:
    """Four fronts of wall panels with recessed windows and doors."""
    parts: list[Mesh] = []
    pitch = float(rng.uniform(2.2, 3.6))
    wide, tall, sill = float(rng.uniform(0.9, 1.5)), float(rng.uniform(1.1, 1.7)), float(rng.uniform(0.75, 1.0))
    recess = float(rng.uniform(0.06, 0.22))
    for side, (length, offset) in enumerate(
        ((width, depth / 2), (depth, width / 2), (width, depth / 2), (depth, width / 2))
    ):
        openings = []
        count = max(int((length - 0.6) / pitch), 0)
        for floor in range(floors):
            for k in range(count):
                if side % 2 and rng.random() < 0.55:
                    continue
                x = (k - (count - 1) / 2) * pitch
                z = 0.4 + floor * storey + sill
                if side == 0 and floor == 0 and rng.random() < 0.22:
                    openings.append((x - 0.55, 0.3, x + 0.55, 2.45))
                else:
                    openings.append((x - wide / 2, z, x + wide / 2, z + tall))
        front = _panel(length, 0.4 + floors * storey, openings, recess, material, colour, tone)
        parts.append(front.moved(y=-offset).moved(yaw=side * np.pi / 2))
    return parts


def _panel(
    length: float,
    height: float,
    openings: list[tuple[float, float, float, float]],
    recess: float,
    material: Material,
    colour: Colour,
    tone: float,
) -> Mesh:
    """A wall in the x-z plane facing -y, with openings (x0, z0, x1, z1) set back."""
    bands = sorted({0.0, height, *(o[1] for o in openings), *(o[3] for o in openings)})
    walls: list[list[list[float]]] = []
    for low, high in pairwise(bands):
        holes = sorted((o[0], o[2]) for o in openings if o[1] <= low and o[3] >= high)
        edges = [-length / 2, *(v for hole in holes for v in hole), length / 2]
        for a, b in zip(edges[::2], edges[1::2], strict=True):
            if b > a:
                walls.append([[a, 0, low], [b, 0, low], [b, 0, high], [a, 0, high]])
    panes = []
    for x0, z0, x1, z1 in openings:
        panes.append([[x0, recess, z0], [x1, recess, z0], [x1, recess, z1], [x0, recess, z1]])
        walls.append([[x0, 0, z0], [x1, 0, z0], [x1, recess, z0], [x0, recess, z0]])
        walls.append([[x0, 0, z1], [x1, 0, z1], [x1, recess, z1], [x0, recess, z1]])
        walls.append([[x0, 0, z0], [x0, 0, z1], [x0, recess, z1], [x0, recess, z0]])
        walls.append([[x1, 0, z0], [x1, 0, z1], [x1, recess, z1], [x1, recess, z0]])
    parts = [_quads(walls, material, colour, tone)]
    if panes:
        parts.append(_quads(panes, Material.WINDOW, None, 1.0))
    return merge(parts)


def _quads(
    corners: list[list[list[float]]], material: Material, colour: Colour | None, tone: float, raw: int = BUILDING
) -> Mesh:
    first = np.arange(len(corners))[:, None] * 4
    faces = np.concatenate([first + [0, 1, 2], first + [0, 2, 3]])
    return build(np.array(corners).reshape(-1, 3), faces, material, raw, colour, tone)


def _roof(rng: np.random.Generator, width: float, depth: float, height: float, floors: int) -> list[Mesh]:
    if floors > 3 or rng.random() < 0.2:
        return [
            quad(
                [[-width / 2, -depth / 2, height], [width / 2, -depth / 2, height], [width / 2, depth / 2, height],
                [-width / 2, depth / 2, height]],
                Material.ROOF, BUILDING,
            ),
            box((width + 0.3, 0.3, 0.4), (0, -depth / 2, height), Material.CONCRETE, BUILDING),
        ]  # fmt: skip
    rise = depth * rng.uniform(0.25, 0.5)
    over, w, d = 0.45, width / 2 + 0.3, depth / 2
    eave = height - over * rise / d
    hip = depth * 0.4 if rng.random() < 0.3 else 0.0
    vertices = [
        [-w, -d - over, eave], [w, -d - over, eave], [w, d + over, eave], [-w, d + over, eave],
        [-w + hip, 0, height + rise], [w - hip, 0, height + rise],
    ]  # fmt: skip
    parts = [build(vertices, [[0, 1, 5], [0, 5, 4], [2, 3, 4], [2, 4, 5]], Material.ROOF, BUILDING)]
    ends = build(vertices, [[1, 2, 5], [3, 0, 4]], Material.ROOF if hip else Material.PLASTER, BUILDING)
    parts.append(ends)
    for _ in range(int(rng.integers(0, 3))):
        at = (rng.uniform(-0.4, 0.4) * width, rng.uniform(-0.2, 0.2) * depth, height + rise * 0.5)
        parts.append(box((0.6, 0.6, rise * 0.5 + 0.9), at, Material.BRICK, BUILDING))
    return parts


def fence(rng: np.random.Generator, length: float) -> Mesh:
    """A fence of ``length`` metres along x: planks with gaps, pickets, wire mesh on posts, or a low wall with rails."""
    kind = str(rng.choice(["planks", "pickets", "wire", "wall", "panel"], p=[0.3, 0.2, 0.15, 0.2, 0.15]))
    height = float(rng.uniform(0.9, 1.9))
    parts = [
        box((0.09, 0.09, height + 0.25), (x, 0, -0.15), Material.WOOD if kind != "wire" else Material.METAL, FENCE)
        for x in np.arange(-length / 2, length / 2 + 0.01, 2.2)
    ]
    colour: Colour = ((120, 92, 62), (150, 140, 120), (90, 70, 50))[int(rng.integers(3))]
    tone = float(np.exp(rng.normal(0, 0.2)))
    if kind in ("planks", "pickets"):
        parts += _planks(length, height, colour, tone, picket=kind == "pickets")
    elif kind == "wire":
        parts.append(_wire(length, height, tone))
    elif kind == "wall":
        parts += _low_wall(rng, length, height, tone)
    else:
        parts.append(box((length, 0.05, height), (0, 0, 0.05), Material.WOOD, FENCE, colour, tone=tone))
    if rng.random() < 0.6:
        parts.append(ivy(rng, length, height, int(length * height * rng.uniform(6, 40)), FENCE))
    return merge(parts)


def _planks(length: float, height: float, colour: Colour, tone: float, picket: bool) -> list[Mesh]:
    """Upright boards with gaps on two rails; narrow and all of one height as pickets."""
    wide, gap = (0.09, 0.07) if picket else (0.16, 0.012)
    places = np.arange(-length / 2 + wide / 2, length / 2, wide + gap)
    tops = np.full(len(places), height) if picket else height * (1 + 0.02 * np.sin(places * 7))
    corners = [
        [[x - wide / 2, 0.05, 0.06], [x + wide / 2, 0.05, 0.06], [x + wide / 2, 0.05, t], [x - wide / 2, 0.05, t]]
        for x, t in zip(places, tops, strict=True)
    ]
    rails = [box((length, 0.05, 0.1), (0, 0, z * height), Material.WOOD, FENCE, colour) for z in (0.2, 0.8)]
    return [_quads(corners, Material.WOOD, colour, tone, FENCE), *rails]


def _wire(length: float, height: float, tone: float) -> Mesh:
    """Upright and level wires."""
    bars = np.arange(-length / 2, length / 2, 0.12)
    corners = [[[x - 0.008, 0, 0], [x + 0.008, 0, 0], [x + 0.008, 0, height], [x - 0.008, 0, height]] for x in bars]
    corners += [
        [[-length / 2, 0, z], [length / 2, 0, z], [length / 2, 0, z + 0.016], [-length / 2, 0, z + 0.016]]
        for z in np.arange(0.1, height, 0.2)
    ]
    return _quads(corners, Material.WIRE, None, tone, FENCE)


def _low_wall(rng: np.random.Generator, length: float, height: float, tone: float) -> list[Mesh]:
    """A wall with a coping, and rails on it where it is low."""
    material, colour = ((Material.PLASTER, (200, 195, 185)), (Material.BRICK, (150, 100, 80)))[int(rng.integers(2))]
    low = height * rng.uniform(0.4, 0.95)
    parts = [
        box((length, 0.24, low + 0.3), (0, 0, -0.3), material, FENCE, colour, tone=tone),
        box((length, 0.32, 0.07), (0, 0, low), Material.CONCRETE, FENCE),
    ]
    if low < 0.7 * height:
        bars = np.arange(-length / 2, length / 2, 0.13)
        corners = [
            [[x - 0.012, 0, low], [x + 0.012, 0, low], [x + 0.012, 0, height], [x - 0.012, 0, height]] for x in bars
        ]
        parts.append(_quads(corners, Material.METAL, None, 1.0, FENCE))
        parts.append(box((length, 0.04, 0.05), (0, 0, height), Material.METAL, FENCE))
    return parts


def guard_rail(rng: np.random.Generator, length: float) -> Mesh:
    """A steel crash barrier of ``length`` metres along x."""
    parts = [
        box((0.1, 0.12, 0.75), (x, 0, 0), Material.GALVANIZED, FENCE) for x in np.arange(-length / 2, length / 2, 2.0)
    ]
    for z, y in ((0.45, -0.08), (0.53, -0.13), (0.6, -0.08), (0.68, -0.13)):
        parts.append(box((length, 0.04, 0.08), (0, y, z), Material.GALVANIZED, FENCE, tone=1.4))
    return merge(parts)


def shed(rng: np.random.Generator) -> Mesh:
    """A garage or garden shed."""
    size = (float(rng.uniform(2.5, 6.0)), float(rng.uniform(2.5, 5.5)), float(rng.uniform(2.1, 2.8)))
    material = (Material.WOOD, Material.PLASTER, Material.CONCRETE)[int(rng.integers(3))]
    parts = [box((size[0], size[1], size[2] + 0.3), (0, 0, -0.3), material, BUILDING)]
    parts.append(box((size[0] + 0.4, size[1] + 0.4, 0.14), (0, 0, size[2]), Material.ROOF, BUILDING))
    parts.append(
        box((min(2.4, size[0] - 0.4), 0.06, 2.0), (0, -size[1] / 2, 0), Material.METAL, BUILDING, (200, 200, 196))
    )
    return merge(parts)


def wall_structure(rng: np.random.Generator) -> Mesh:
    """Other-structure: retaining walls, stairs, transformer boxes, small bridges' parapets."""
    if rng.random() < 0.5:
        length, height = rng.uniform(4, 12), rng.uniform(0.8, 2.4)
        return box((length, 0.4, height + 0.3), (0, 0, -0.3), Material.CONCRETE, STRUCTURE)
    width, count = rng.uniform(1.5, 3.0), int(rng.integers(3, 8))
    steps = [box((width, 0.32, 0.17 * (k + 1)), (0, 0.32 * k, 0), Material.CONCRETE, STRUCTURE) for k in range(count)]
    depth = 0.32 * count
    side = [
        box((0.25, depth, 0.17 * count + 0.6), (s * width / 2, depth / 2, 0), Material.BRICK, STRUCTURE)
        for s in (-1, 1)
    ]
    return merge(steps + side)
