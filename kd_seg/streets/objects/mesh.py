"""Triangle meshes with a material, a raw class and a colour per triangle, and the primitives they are built from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from kd_seg.streets.objects.materials import MATERIALS, Material

Floats = npt.NDArray[np.float64]
Colour = tuple[int, int, int]
Vector = Sequence[float] | npt.NDArray[np.floating[Any]]


class Finish(TypedDict):
    """Colour and tone that several parts of an object share."""

    colour: Colour
    tone: float


@dataclass(frozen=True)
class Mesh:
    """Triangles of one object in its own frame: x forward, y left, z up, the ground at z = 0.

    Attributes:
        vertices: [V, 3] float32 metres.
        triangles: [T, 3] int32 rows of ``vertices``.
        material: [T] uint8, see Material.
        raw: [T] uint16 raw class of SemanticKITTI (0 where the object decides).
        colour: [T, 3] uint8 RGB.
        albedo: [T] float32 remission at perpendicular incidence.
    """

    vertices: npt.NDArray[np.float32]
    triangles: npt.NDArray[np.int32]
    material: npt.NDArray[np.uint8]
    raw: npt.NDArray[np.uint16]
    colour: npt.NDArray[np.uint8]
    albedo: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.triangles)

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0) -> Mesh:
        """Turned by ``yaw`` radians about z, then shifted."""
        c, s = np.cos(yaw), np.sin(yaw)
        turn = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]], dtype=np.float32)
        return replace(self, vertices=self.vertices @ turn + np.array([x, y, z], dtype=np.float32))

    def turned(self, rotation: Floats) -> Mesh:
        """Turned by a rotation [3, 3]."""
        return replace(self, vertices=(self.vertices @ rotation.T).astype(np.float32))

    def scaled(self, x: float, y: float, z: float) -> Mesh:
        """Stretched along the axes."""
        return replace(self, vertices=self.vertices * np.array([x, y, z], dtype=np.float32))

    def of_class(self, raw: int) -> Mesh:
        """All triangles given one raw class."""
        return replace(self, raw=np.full(len(self), raw, dtype=np.uint16))

    def size(self) -> Floats:
        """Extent [3] of the axis-aligned box."""
        return np.asarray(np.ptp(self.vertices, axis=0), dtype=np.float64)


def build(
    vertices: npt.ArrayLike,
    triangles: npt.ArrayLike,
    material: Material,
    raw: int = 0,
    colour: Colour | None = None,
    tone: float = 1.0,
) -> Mesh:
    """A mesh of one material; ``tone`` scales the material's albedo."""
    points = np.asarray(vertices, dtype=np.float32).reshape(-1, 3)
    faces = np.asarray(triangles, dtype=np.int32).reshape(-1, 3)
    optics = MATERIALS[material]
    return Mesh(
        vertices=points,
        triangles=faces,
        material=np.full(len(faces), material, dtype=np.uint8),
        raw=np.full(len(faces), raw, dtype=np.uint16),
        colour=np.broadcast_to(np.array(colour or optics.colour, dtype=np.uint8), (len(faces), 3)),
        albedo=np.full(len(faces), optics.albedo * tone, dtype=np.float32),
    )


def merge(parts: Sequence[Mesh]) -> Mesh:
    """One mesh from many."""
    offsets = np.cumsum([0] + [len(p.vertices) for p in parts[:-1]])
    return Mesh(
        vertices=np.concatenate([p.vertices for p in parts]),
        triangles=np.concatenate([p.triangles + np.int32(o) for p, o in zip(parts, offsets, strict=True)]),
        material=np.concatenate([p.material for p in parts]),
        raw=np.concatenate([p.raw for p in parts]),
        colour=np.concatenate([p.colour for p in parts]),
        albedo=np.concatenate([p.albedo for p in parts]),
    )


_BOX = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0.0, 1.0)])
_BOX_FACES = [
    [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
    [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3],
]  # fmt: skip


def box(
    size: Vector,
    at: Vector,
    material: Material,
    raw: int = 0,
    colour: Colour | None = None,
    yaw: float = 0.0,
    tone: float = 1.0,
) -> Mesh:
    """A box of ``size`` (x, y, z) whose bottom centre stands at ``at``, turned by ``yaw`` about it."""
    mesh = build(_BOX * np.asarray(size), _BOX_FACES, material, raw, colour, tone)
    return mesh.moved(float(at[0]), float(at[1]), float(at[2]), yaw)


def quad(
    corners: npt.ArrayLike, material: Material, raw: int = 0, colour: Colour | None = None, tone: float = 1.0
) -> Mesh:
    """Two triangles over four corners [4, 3] in order."""
    return build(corners, [[0, 1, 2], [0, 2, 3]], material, raw, colour, tone)


def tube(
    start: npt.ArrayLike,
    end: npt.ArrayLike,
    radius: float,
    material: Material,
    raw: int = 0,
    colour: Colour | None = None,
    end_radius: float | None = None,
    sides: int = 8,
    caps: bool = True,
    tone: float = 1.0,
) -> Mesh:
    """A cylinder or cone between two points."""
    a, b = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    axis = b - a
    axis = axis / max(float(np.linalg.norm(axis)), 1e-9)
    helper = np.array([1.0, 0.0, 0.0]) if abs(axis[0]) < 0.9 else np.array([0.0, 1.0, 0.0])
    u = _cross(axis, helper)
    u /= np.linalg.norm(u)
    v = _cross(axis, u)
    angle = np.arange(sides) * (2 * np.pi / sides)
    ring = np.cos(angle)[:, None] * u + np.sin(angle)[:, None] * v
    top = radius if end_radius is None else end_radius
    vertices = np.concatenate([a + ring * radius, b + ring * top, [a], [b]])
    return build(vertices, _tube_faces(sides, caps), material, raw, colour, tone)


def _cross(a: Floats, b: Floats) -> Floats:
    """Of two vectors [3]; np.cross takes twenty times as long for so few numbers."""
    (a0, a1, a2), (b0, b1, b2) = a.tolist(), b.tolist()
    return np.array([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0])


@cache
def _tube_faces(sides: int, caps: bool) -> npt.NDArray[np.int32]:
    i = np.arange(sides)
    j = (i + 1) % sides
    faces = [np.stack([i, j, j + sides], 1), np.stack([i, j + sides, i + sides], 1)]
    if caps:
        faces += [np.stack([j, i, np.full(sides, 2 * sides)], 1)]
        faces += [np.stack([i + sides, j + sides, np.full(sides, 2 * sides + 1)], 1)]
    rows: npt.NDArray[np.int32] = np.concatenate(faces).astype(np.int32)
    return rows


def ellipsoid(
    centre: Vector,
    radii: Sequence[float],
    material: Material,
    raw: int = 0,
    colour: Colour | None = None,
    sides: int = 8,
    rows: int = 5,
    tone: float = 1.0,
) -> Mesh:
    """An ellipsoid of ``rows`` bands."""
    polar = np.linspace(0, np.pi, rows + 1)[1:-1]
    angle = np.arange(sides) * (2 * np.pi / sides)
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    points = [np.concatenate([ring * np.sin(p), np.full((sides, 1), np.cos(p))], 1) for p in polar]
    vertices = np.concatenate([*points, [[0, 0, 1.0], [0, 0, -1.0]]]) * np.asarray(radii) + np.asarray(centre)
    return build(vertices, _ball_faces(sides, len(polar)), material, raw, colour, tone)


@cache
def _ball_faces(sides: int, rings: int) -> npt.NDArray[np.int32]:
    i, faces = np.arange(sides), []
    j = (i + 1) % sides
    for row in range(rings - 1):
        a, b = row * sides, (row + 1) * sides
        faces += [np.stack([a + i, b + i, b + j], 1), np.stack([a + i, b + j, a + j], 1)]
    top, last = rings * sides, (rings - 1) * sides
    faces += [np.stack([np.full(sides, top), i, j], 1), np.stack([np.full(sides, top + 1), last + j, last + i], 1)]
    rows: npt.NDArray[np.int32] = np.concatenate(faces).astype(np.int32)
    return rows


def loft(rings: Floats, closed: bool = True) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Skin over rings [S, R, 3] of equal length: vertices [S*R, 3], quads [Q, 4], and (station, segment) [Q, 2] of
    each.
    """
    stations, count = rings.shape[:2]
    quads, where = [], []
    for station in range(stations - 1):
        for segment in range(count if closed else count - 1):
            a, b = station * count + segment, station * count + (segment + 1) % count
            quads.append([a, b, b + count, a + count])
            where.append([station, segment])
    return rings.reshape(-1, 3), np.array(quads), np.array(where)


def torus(
    centre: Vector,
    radius: float,
    thickness: float,
    material: Material,
    raw: int = 0,
    colour: Colour | None = None,
    sides: int = 14,
    around: int = 4,
    tone: float = 1.0,
) -> Mesh:
    """A ring in the x-z plane (a wheel's tyre)."""
    a = np.arange(sides) * (2 * np.pi / sides)
    b = np.arange(around) * (2 * np.pi / around)
    reach = radius + thickness * np.cos(b)
    vertices = np.stack(
        [
            np.cos(a)[:, None] * reach,
            np.broadcast_to(thickness * np.sin(b), (sides, around)),
            np.sin(a)[:, None] * reach,
        ],
        axis=-1,
    ).reshape(-1, 3) + np.asarray(centre)
    i, j = np.meshgrid(np.arange(sides), np.arange(around), indexing="ij")
    k, m = (i + 1) % sides, (j + 1) % around
    p, q, r, s = (x.ravel() for x in (i * around + j, i * around + m, k * around + m, k * around + j))
    return build(
        vertices, np.concatenate([np.stack([p, q, r], 1), np.stack([p, r, s], 1)]), material, raw, colour, tone
    )
