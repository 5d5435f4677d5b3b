"""Trees, bushes, hedges: porous foliage of many small leaf triangles about solid cores, on trunks with branches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kd_seg.streets.objects.materials import MATERIALS, Material
from kd_seg.streets.objects.mesh import Colour, Floats, Mesh, ellipsoid, merge, tube

GREENS: tuple[Colour, ...] = ((58, 92, 38), (74, 104, 44), (46, 78, 42), (92, 112, 50), (66, 88, 58))
VEGETATION, TRUNK = 70, 71


def leaves(rng: np.random.Generator, centres: Floats, size: float, colour: Colour) -> Mesh:
    """One triangle of about ``size`` metres at each centre [N, 3], turned at random, its green varied."""
    count = len(centres)
    corners = rng.normal(0.0, 0.55 * size, (count, 3, 3)) + centres[:, None]
    shade = np.array(colour) * rng.uniform(0.7, 1.3, (count, 1))
    optics = MATERIALS[Material.LEAF]
    return Mesh(
        vertices=corners.reshape(-1, 3).astype(np.float32),
        triangles=np.arange(3 * count, dtype=np.int32).reshape(-1, 3),
        material=np.full(count, Material.LEAF, dtype=np.uint8),
        raw=np.full(count, VEGETATION, dtype=np.uint16),
        colour=np.clip(shade, 0, 255).astype(np.uint8),
        albedo=(optics.albedo * rng.normal(1.0, 0.1, count)).clip(0.05, 1).astype(np.float32),
    )


def ivy(rng: np.random.Generator, length: float, height: float, count: int, raw: int) -> Mesh:
    """Leaves of a climber on a fence of ``length`` metres along x; they bear the fence's class, as annotators gave
    it.
    """
    x = rng.uniform(-length / 2, length / 2, count)
    z = np.abs(rng.normal(0.55, 0.35, count)).clip(0.02, 1.1) * height
    thick = 0.10 + 0.08 * np.sin(x * 1.7 + rng.uniform(0, 6))
    return leaves(
        rng, np.stack([x, rng.normal(0, 1, count) * thick, z], 1), 0.11, GREENS[int(rng.integers(len(GREENS)))]
    ).of_class(raw)


def clumps(
    rng: np.random.Generator,
    centres: Floats,
    radii: npt.ArrayLike,
    count: int,
    size: float,
    colour: Colour,
    core: float = 0.55,
) -> list[Mesh]:
    """Leaf balls: ``count`` leaves in all in shells about the centres [K, 3], and a solid core of ``core`` radii."""
    radius = np.broadcast_to(np.asarray(radii, dtype=np.float64), (len(centres),))
    share = radius**2 / np.sum(radius**2)
    which = rng.choice(len(centres), size=count, p=share)
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    reach = radius[which] * rng.uniform(0.45, 1.1, count)
    parts = [leaves(rng, centres[which] + direction * reach[:, None], size, colour)]
    if core > 0:
        for centre, r in zip(centres, radius, strict=True):
            parts.append(ellipsoid(centre, (r * core,) * 3, Material.LEAF, VEGETATION, colour, sides=6, rows=4))
    return parts


def tree(rng: np.random.Generator, detail: float = 1.0) -> Mesh:
    """A broad-leaved tree of 4-13 m: bent trunk, branches, crown of leaf balls."""
    height = float(rng.uniform(4.0, 13.0))
    bole = height * rng.uniform(0.07, 0.22) + 0.4
    spread = height * rng.uniform(0.18, 0.32) + 0.5
    colour = GREENS[int(rng.integers(len(GREENS)))]
    radius = 0.02 + 0.009 * height * rng.uniform(0.6, 1.4)
    lean = rng.normal(0, 0.03, 2) * height
    fork = np.array([lean[0] * 0.4, lean[1] * 0.4, bole])
    top = np.array([lean[0], lean[1], height * 0.72])
    parts = [
        tube((0, 0, -0.3), fork, radius * 1.15, Material.BARK, TRUNK, end_radius=radius * 0.85),
        tube(fork, top, radius * 0.85, Material.BARK, TRUNK, end_radius=radius * 0.3),
        tube((0, 0, -0.1), (0, 0, 0.25), radius * 1.7, Material.BARK, TRUNK, end_radius=radius * 1.1),
    ]
    count = int(rng.integers(7, 14))
    angle = rng.uniform(0, 2 * np.pi, count)
    level = np.sort(rng.uniform(0.05, 1.0, count))
    width = spread * np.sqrt(np.clip(1.1 - (level - 0.4) ** 2 * 2.2, 0.1, 1)) * rng.uniform(0.45, 0.8, count)
    centres = np.stack(
        [
            lean[0] * level + width * np.cos(angle),
            lean[1] * level + width * np.sin(angle),
            bole + 0.2 + (height - bole) * level * 0.86,
        ],
        axis=1,
    )
    radii = spread * rng.uniform(0.32, 0.55, count)
    for centre in centres[:: 2 if count > 8 else 1]:
        start = fork + (top - fork) * np.clip((centre[2] - bole) / (height - bole) * 0.7, 0, 1)
        parts.append(tube(start, centre, radius * 0.35, Material.BARK, TRUNK, end_radius=0.02, sides=5))
    leaf = 0.12 + 0.009 * height
    parts += clumps(rng, centres, radii, int(detail * 210 * count), leaf, colour, core=0.4)
    return merge(parts)


def conifer(rng: np.random.Generator, detail: float = 1.0) -> Mesh:
    """A fir or cypress: a cone of drooping leaf layers."""
    height = float(rng.uniform(3.0, 11.0))
    spread = height * rng.uniform(0.14, 0.26)
    colour: Colour = (40, 66, 40)
    radius = 0.05 + 0.012 * height
    parts = [tube((0, 0, -0.3), (0, 0, height * 0.9), radius, Material.BARK, TRUNK, end_radius=0.03)]
    count = int(detail * 280 * height)
    level = 1 - np.sqrt(rng.uniform(0, 1, count))
    bottom = rng.uniform(0.15, 0.9)
    angle = rng.uniform(0, 2 * np.pi, count)
    reach = spread * (1 - level) * rng.uniform(0.55, 1.08, count) * (1 + 0.12 * np.cos(5 * angle))
    z = bottom + level * (height - bottom) + 0.15 * np.sin(level * 40)
    parts.append(leaves(rng, np.stack([reach * np.cos(angle), reach * np.sin(angle), z], 1), 0.17, colour))
    core = tube((0, 0, bottom), (0, 0, height * 0.92), spread * 0.5, Material.LEAF, VEGETATION, colour, end_radius=0.05)
    return merge([*parts, core])


def bush(rng: np.random.Generator, detail: float = 1.0) -> Mesh:
    """A shrub of 0.5-2.5 m, no trunk to be seen."""
    height = float(rng.uniform(0.5, 2.6))
    spread = height * rng.uniform(0.4, 0.9)
    count = int(rng.integers(3, 8))
    colour = GREENS[int(rng.integers(len(GREENS)))]
    centres = np.stack(
        [
            rng.normal(0, spread * 0.45, count),
            rng.normal(0, spread * 0.45, count),
            rng.uniform(0.25, 0.75, count) * height,
        ],
        axis=1,
    )
    radii = rng.uniform(0.25, 0.45, count) * min(height, spread * 1.3) + 0.1
    return merge(clumps(rng, centres, radii, int(detail * 150 * count), 0.10 + 0.02 * height, colour))


def hedge(rng: np.random.Generator, length: float, detail: float = 1.0) -> Mesh:
    """A clipped hedge of ``length`` metres along x: a rough box of leaves about a solid core."""
    height, depth = float(rng.uniform(0.9, 2.4)), float(rng.uniform(0.5, 1.1))
    colour = GREENS[int(rng.integers(len(GREENS)))]
    area = length * (2 * height + depth)
    count = int(detail * 90 * area)
    u, v = rng.uniform(-0.5, 0.5, (2, count))
    face = rng.choice(3, size=count, p=np.array([height, height, depth]) / (2 * height + depth))
    wobble = 0.08 * np.sin(u * length * 1.9) + 0.05 * np.sin(u * length * 5.1 + 1.0)
    y = np.where(face == 0, -depth / 2, np.where(face == 1, depth / 2, v * depth)) * (1 + wobble) + rng.normal(
        0, 0.06, count
    )
    z = np.where(face == 2, height, (v + 0.5) * height) * (1 + 0.5 * wobble) + rng.normal(0, 0.04, count)
    parts = [leaves(rng, np.stack([u * length, y, z], 1), 0.11, colour)]
    steps = max(int(length / 2), 1)
    for k in range(steps):
        at = (-length / 2 + (k + 0.5) * length / steps, 0.0, height * 0.46)
        parts.append(
            ellipsoid(
                at,
                (0.72 * length / steps, depth * 0.42, height * 0.48),
                Material.LEAF,
                VEGETATION,
                colour,
                sides=8,
                rows=4,
            )
        )
    return merge(parts)


def thicket(rng: np.random.Generator, length: float, detail: float = 1.0) -> Mesh:
    """A wood's edge of ``length`` metres along x: undergrowth, thin trunks, a wall of leaves above."""
    height, depth = float(rng.uniform(2.5, 7.5)), float(rng.uniform(1.5, 3.0))
    colour = GREENS[int(rng.integers(len(GREENS)))]
    count = max(int(length * height * 0.8), 6)
    x = rng.uniform(-length / 2, length / 2, count)
    z = rng.uniform(0.02, 1.0, count) ** 1.3 * height
    skyline = 0.75 + 0.25 * np.sin(x * 0.7 + rng.uniform(0, 6)) * np.sin(x * 0.31 + rng.uniform(0, 6))
    centres = np.stack([x, rng.normal(0, depth / 3, count) - 0.12 * (z - 1.0), z * skyline], axis=1)
    parts = clumps(rng, centres, rng.uniform(0.45, 1.0, count), int(detail * 110 * count), 0.16, colour, core=0.55)
    for _ in range(int(length / 6)):
        foot = np.array([rng.uniform(-length / 2, length / 2), rng.normal(0.3, 0.4), -0.3])
        top = foot + [rng.normal(0, 0.3), rng.normal(0, 0.3), height]
        parts.append(tube(foot, top, rng.uniform(0.04, 0.11), Material.BARK, TRUNK, end_radius=0.03, sides=6))
    return merge(parts)


def shrubs(rng: np.random.Generator, length: float, detail: float = 1.0) -> Mesh:
    """A border of shrubs of ``length`` metres along x, 0.8-2.8 m high, of several greens."""
    height = float(rng.uniform(0.8, 2.8))
    parts: list[Mesh] = []
    x = -length / 2
    while x < length / 2:
        wide = float(rng.uniform(0.7, 1.8))
        count = int(rng.integers(3, 6))
        tall = height * rng.uniform(0.55, 1.1)
        centres = np.stack(
            [x + rng.uniform(0, wide, count), rng.normal(0, 0.3, count), rng.uniform(0.2, 0.8, count) * tall], axis=1
        )
        colour = GREENS[int(rng.integers(len(GREENS)))]
        parts += clumps(rng, centres, rng.uniform(0.3, 0.55, count), int(detail * 140 * count), 0.12, colour)
        x += wide
    return merge(parts)


def tall_grass(rng: np.random.Generator, length: float) -> Mesh:
    """A strip of weeds of ``length`` metres along x, up to 0.6 m high."""
    count = int(45 * length)
    centres = np.stack(
        [rng.uniform(-length / 2, length / 2, count), rng.normal(0, 0.4, count), np.abs(rng.normal(0.05, 0.2, count))],
        axis=1,
    )
    return leaves(rng, centres, 0.13, (104, 118, 60))
