"""The ground: which cover lies where, how high it is, and the mesh that the rays meet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_seg.core.kernels import kernel
from kd_seg.streets.layout.network import Network
from kd_seg.streets.objects.materials import Cover, Material, ground_table
from kd_seg.streets.objects.mesh import Floats, Mesh, build, merge

Covers = npt.NDArray[np.uint8]
CELL = 0.1
"""Metres per cell of the cover raster."""
_BIN = 9.0
_REACH = 32.0
STEPS = ground_table("step")


@dataclass(frozen=True)
class Patch:
    """A rectangle of some cover on the lots: centre, yaw, length along it, width across."""

    x: float
    y: float
    yaw: float
    length: float
    width: float
    cover: Cover


@dataclass(frozen=True)
class Plan:
    """Everything about the ground of a sequence that does not depend on a region.

    Attributes:
        segments: [M, 7] float64: start x y, vector to the end x y, length, arc length at the start, street number.
        profiles: [S, 16] float64 per street: half width, left parking/verge/walk/lot/bank/deep/kerb, right the same,
            number of lanes marked.
        origin, bins: lower corner and CSR of segments per 9 m bin.
        waves: [W, 4] amplitude, wave numbers x and y, phase of the land.
        crown: rise per metre of a road from its edge inwards.
        patches: rectangles painted on the lots, later ones over earlier.
    """

    segments: Floats
    profiles: Floats
    origin: Floats
    shape: tuple[int, int]
    starts: npt.NDArray[np.int64]
    members: npt.NDArray[np.int64]
    waves: Floats
    crown: float = 0.022
    patches: tuple[Patch, ...] = ()

    def look(self, xy: npt.NDArray[np.floating]) -> tuple[Covers, Floats, Floats, Floats]:
        """Cover without patches [N], metres beyond the nearest road's edge [N] (negative on it), bank height [N], and
        the kerb's height [N] over that of GROUNDS.
        """
        points = np.ascontiguousarray(xy, dtype=np.float64)
        return _look(points, self.segments, self.profiles, self.origin, *self.shape, self.starts, self.members)

    def land(self, xy: npt.NDArray[np.floating]) -> Floats:
        """Height [N] of the land without kerbs, banks and bumps."""
        phase = np.asarray(xy, dtype=np.float64) @ self.waves[:, 1:3].T + self.waves[:, 3]
        return np.asarray(np.sin(phase) @ self.waves[:, 0])

    def road(self, xy: npt.NDArray[np.floating]) -> Floats:
        """Height [N] of the road's surface, arched across, as if there were only road."""
        return self.land(xy) + self._crown(self.look(xy)[1])

    def height(self, xy: npt.NDArray[np.floating], patched: bool = True) -> Floats:
        """Height [N] of the surface."""
        cover, edge, bank, kerb = self.look(xy)
        if patched:
            cover = self.patch(np.asarray(xy, dtype=np.float64), cover)
        return self._height(np.asarray(xy, dtype=np.float64), cover, edge, bank, kerb)

    def _crown(self, edge: Floats) -> Floats:
        """Metres by which a road rises from its edge (``edge`` = 0) to its middle (negative)."""
        return np.asarray(self.crown * np.clip(-edge, 0.0, 4.0))

    def _height(self, xy: Floats, cover: Covers, edge: Floats, bank: Floats, kerb: Floats) -> Floats:
        rough = np.where((cover == Cover.GRASS) | (cover == Cover.SOIL), np.clip(edge / 4, 0, 1), 0.0)
        x, y = xy.T
        bumps = (
            np.sin(x * 2.1 + np.sin(y * 1.3)) * np.sin(y * 2.4 + np.sin(x * 0.9)) * 0.08
            + np.sin(x * 0.6) * np.sin(y * 0.7) * 0.08
        )
        wild = np.where(cover == Cover.WEEDS, 0.12 + 3.0 * bumps + 0.1 * np.sin(x * 4.3) * np.sin(y * 4.7), 0.0)
        return np.asarray(self.land(xy) + self._crown(edge) + bank + STEPS[cover] * kerb + rough * bumps + wild)

    def patch(self, xy: Floats, cover: Covers) -> Covers:
        """Cover with the patches laid on the lots (grass, and the paving of plazas beyond 3 m)."""
        cover = cover.copy()
        for p in self.patches:
            c, s = np.cos(p.yaw), np.sin(p.yaw)
            dx, dy = xy[:, 0] - p.x, xy[:, 1] - p.y
            inside = (np.abs(c * dx + s * dy) < p.length / 2) & (np.abs(c * dy - s * dx) < p.width / 2)
            cover[inside & (cover >= LOT)] = p.cover + LOT
        return np.where(cover >= LOT, cover - LOT, cover).astype(np.uint8)


LOT = 100
"""Added to the cover of lots inside the kernels, so that patches know where they may lie."""


def survey(network: Network, rng: np.random.Generator) -> Plan:
    """The ground plan of a network, without patches."""
    rows = []
    for number, street in enumerate(network.streets):
        vector = np.diff(street.line, axis=0)
        length = np.sqrt(vector[:, 0] * vector[:, 0] + vector[:, 1] * vector[:, 1])
        rows.append(np.column_stack([street.line[:-1], vector, length, street.arc[:-1], np.full(len(vector), number)]))
    segments = np.concatenate(rows)
    points = np.concatenate([street.line for street in network.streets])
    profiles = np.array([
        [
            s.half,
            *(v for d in (s.left, s.right) for v in (d.parking, d.verge, d.walk, d.lot, d.bank, d.deep, d.kerb)),
            len(s.lanes) if s.marked else 0,
        ]
        for s in network.streets
    ])  # fmt: skip
    lower = points.min(axis=0) - _REACH - _BIN
    upper = points.max(axis=0) + _REACH + _BIN
    shape = tuple(int(v) for v in np.ceil((upper - lower) / _BIN))
    centre = np.concatenate([(street.line[:-1] + street.line[1:]) / 2 for street in network.streets])
    reach = int(np.ceil((_REACH + _BIN) / _BIN))
    home = np.floor((centre - lower) / _BIN).astype(int)
    bins, who = [], []
    for i in range(-reach, reach + 1):
        for j in range(-reach, reach + 1):
            cell = home + [i, j]
            middle = lower + (cell + 0.5) * _BIN
            near = np.linalg.norm(middle - centre, axis=1) < _REACH + 0.75 * _BIN
            near &= (cell >= 0).all(axis=1) & (cell < shape).all(axis=1)
            bins.append((cell[:, 0] * shape[1] + cell[:, 1])[near])
            who.append(np.flatnonzero(near))
    flat, members = np.concatenate(bins), np.concatenate(who)
    order = np.lexsort((members, flat))
    starts = np.searchsorted(flat[order], np.arange(shape[0] * shape[1] + 1))
    wave = 2 * np.pi / rng.uniform(90, 320, 6)
    angle = rng.uniform(0, 2 * np.pi, 6)
    tall = network.style.hills * rng.uniform(0.15, 0.5, 6) * (90 * wave / 6.3)
    waves = np.column_stack([tall, wave * np.cos(angle), wave * np.sin(angle), rng.uniform(0, 6.28, 6)])
    swell = _swell(rng)
    crown = float(rng.uniform(0.010, 0.028))
    waves = np.concatenate([waves, swell])
    return Plan(segments, profiles, lower, (shape[0], shape[1]), starts, members[order], waves, crown)


def _swell(rng: np.random.Generator) -> Floats:
    """Unevenness that every surface shares: waves [5, 4] of 5 to 25 m, up to 6 mm high."""
    number, angle = 2 * np.pi / rng.uniform(5, 25, 5), rng.uniform(0, 2 * np.pi, 5)
    tall = rng.uniform(0.0, 0.006, 5)
    return np.column_stack([tall, number * np.cos(angle), number * np.sin(angle), rng.uniform(0, 6.28, 5)])


@kernel
def _look(points, segments, profiles, origin, rows, columns, starts, members):  # type: ignore[no-untyped-def]
    count, streets = len(points), len(profiles)
    cover = np.empty(count, np.uint8)
    edge = np.empty(count, np.float64)
    bank = np.empty(count, np.float64)
    kerb = np.empty(count, np.float64)
    best = np.empty(streets, np.float64)
    left = np.empty(streets, np.bool_)
    along = np.empty(streets, np.float64)
    for n in range(count):
        x, y = points[n, 0], points[n, 1]
        i, j = int(np.floor((x - origin[0]) / 9.0)), int(np.floor((y - origin[1]) / 9.0))
        cover[n], edge[n], bank[n], kerb[n] = 100, 32.0, 0.0, 1.0
        if i < 0 or j < 0 or i >= rows or j >= columns:
            continue
        best[:] = 1e9
        for k in range(starts[i * columns + j], starts[i * columns + j + 1]):
            m = members[k]
            ax, ay = segments[m, 0], segments[m, 1]
            ux, uy, size = segments[m, 2], segments[m, 3], segments[m, 4]
            t = ((x - ax) * ux + (y - ay) * uy) / (size * size)
            t = min(max(t, 0.0), 1.0)
            dx, dy = x - ax - t * ux, y - ay - t * uy
            distance = dx * dx + dy * dy
            street = int(segments[m, 6])
            if distance < best[street]:
                best[street] = distance
                left[street] = ux * dy - uy * dx >= 0
                along[street] = segments[m, 5] + t * size
        rank = 0
        for s in range(streets):
            if best[s] > 1e8:
                continue
            half = profiles[s, 0]
            base = 1 if left[s] else 8
            a = np.sqrt(best[s])
            if a - half < edge[n]:
                edge[n] = a - half
                rise = min(max((a - half) / 16.0, 0.0), 1.0)
                wave = 0.6 + 0.4 * np.sin(along[s] / 23.0 + 2.0 * s)
                bank[n] = profiles[s, base + 4] * wave * rise * rise * (3 - 2 * rise)
                kerb[n] = _kerb(profiles[s, base + 6], profiles[s, base + 2], a - half - profiles[s, base], along[s], s)
                if rank == 0:
                    cover[n] = 100 + int(profiles[s, base + 3]) if a - half < profiles[s, base + 5] else 100
            parking = a < half + profiles[s, base]
            if parking and a >= half and np.sin(along[s] / 9.0 + s) < -0.8:
                parking = False
            verge = a < half + profiles[s, base] + profiles[s, base + 1]
            walk = a < half + profiles[s, base] + profiles[s, base + 1] + profiles[s, base + 2]
            if a < half:
                if rank < 5:
                    rank = 5
                    cover[n] = 1
                    lanes = profiles[s, 15]
                    if lanes > 0:
                        line = a * lanes / (2.0 * half) + 0.5 * (lanes % 2)
                        gap = abs(line - np.round(line)) * 2.0 * half / lanes
                        if (gap < 0.07 and a < half - 1.0 and along[s] % 9.0 < 4.0) or (
                            abs(a - half + 0.3) < 0.06 and half > 3.3
                        ):
                            cover[n] = 2
                else:
                    cover[n] = 1
            elif parking:
                if rank < 4:
                    rank, cover[n] = 4, 3
            elif verge and profiles[s, base + 1] > 0:
                if rank < 2:
                    rank, cover[n] = 2, 0
            elif walk and rank < 3:
                rank, cover[n] = 3, 4
        if cover[n] == 100 and edge[n] > 2.0:
            wild = np.sin(0.23 * x + 1.7 * np.sin(0.11 * y)) + np.sin(0.29 * y + 1.3 * np.sin(0.13 * x))
            if wild + 0.35 * np.sin(1.9 * x) * np.sin(2.3 * y) > -0.7:
                cover[n] = 108
        if edge[n] > 31.9:
            edge[n] = 32.0
    return cover, edge, bank, kerb


@kernel
def _kerb(height, walk, beyond, along, street):  # type: ignore[no-untyped-def]
    """Kerb over the usual 0.12 m, ``beyond`` metres behind it; beside a walk lowered for a drive every 13 to 21 m."""
    kerb = height / 0.12
    if walk > 0.0 and (along + 5.0 * street) % (13.0 + (7.0 * street) % 9.0) < 3.6:
        kerb *= min(max(0.15 + 0.7 * beyond, 0.15), 1.0)
    return kerb


@dataclass(frozen=True)
class GroundMap:
    """Covers of a rectangle as a raster, and the mesh of its surface."""

    lower: Floats
    cover: Covers
    mesh: Mesh

    def at(self, x: npt.NDArray[np.floating], y: npt.NDArray[np.floating]) -> Covers:
        """Cover [N] at places in world coordinates; outside the raster the nearest cell."""
        i = np.clip(((x - self.lower[0]) / CELL).astype(np.int32), 0, self.cover.shape[0] - 1)
        j = np.clip(((y - self.lower[1]) / CELL).astype(np.int32), 0, self.cover.shape[1] - 1)
        return np.asarray(self.cover[i, j])


def pave(plan: Plan, near: Floats, margin: float = 90.0) -> GroundMap:
    """Raster and mesh of the ground within ``margin`` metres of places ``near`` [K, 2]."""
    block = 3.0
    lower = np.floor((near.min(axis=0) - margin) / block) * block
    counts = np.ceil((near.max(axis=0) + margin - lower) / block).astype(int)
    cover = _raster(plan, lower, counts * round(block / CELL), near, margin + 3 * block)
    ground = GroundMap(lower, cover, build(np.zeros((3, 3)), [[0, 1, 2]], Material.GROUND))
    corner = lower + block * np.stack(np.meshgrid(*(np.arange(c) for c in counts), indexing="ij"), -1).reshape(-1, 2)
    gap = np.min(np.linalg.norm(corner[:, None] + block / 2 - near[None, :: max(len(near) // 40, 1)], axis=2), axis=1)
    reach = gap < margin + block
    close = gap < 42.0
    parts = [_tiles(plan, ground, corner[reach & ~close], block)]
    fine = (corner[close][:, None] + np.stack(np.meshgrid(*(np.arange(3),) * 2), -1).reshape(1, 9, 2)).reshape(-1, 2)
    stepped = _stepped(ground, fine, 1.0)
    parts.append(_tiles(plan, ground, fine[~stepped], 1.0))
    sub = np.stack(np.meshgrid(*(np.arange(5) * 0.2,) * 2), -1).reshape(1, 25, 2)
    parts.append(_tiles(plan, ground, (fine[stepped][:, None] + sub).reshape(-1, 2), 0.2))
    under = _tiles(plan, ground, corner[reach], block)
    parts.append(build(under.vertices - np.array([0, 0, 0.3], dtype=np.float32), under.triangles, Material.GROUND))
    return GroundMap(lower, cover, merge(parts))


def _raster(plan: Plan, lower: Floats, shape: npt.NDArray[np.int64], near: Floats, reach: float) -> Covers:
    """Covers [shape] of cells from ``lower`` on; beyond ``reach`` metres of the places ``near``, where no mesh lies,
    they may stay lots.
    """
    cover = np.full(tuple(shape), LOT, dtype=np.uint8)
    y = lower[1] + (np.arange(shape[1]) + 0.5) * CELL
    band = 64
    for first in range(0, shape[0], band):
        x = lower[0] + (np.arange(first, min(first + band, shape[0])) + 0.5) * CELL
        aside = np.abs(near[:, 0] - np.clip(near[:, 0], x[0], x[-1]))
        wide = np.sqrt(np.maximum(reach**2 - aside**2, 0.0))
        low, high = np.searchsorted(y, [np.min(near[:, 1] - wide), np.max(near[:, 1] + wide)])
        points = np.stack(np.meshgrid(x, y[low:high], indexing="ij"), -1).reshape(-1, 2)
        cover[first : first + band, low:high] = plan.look(points)[0].reshape(len(x), -1)
    for p in plan.patches:
        radius = np.hypot(p.length, p.width) / 2
        low = np.maximum(np.floor((np.array([p.x, p.y]) - radius - lower) / CELL).astype(int), 0)
        high = np.minimum(np.ceil((np.array([p.x, p.y]) + radius - lower) / CELL).astype(int), shape)
        if (high <= low).any():
            continue
        dx = lower[0] + (np.arange(low[0], high[0]) + 0.5) * CELL - p.x
        dy = lower[1] + (np.arange(low[1], high[1]) + 0.5) * CELL - p.y
        c, s = np.cos(p.yaw), np.sin(p.yaw)
        inside = np.abs(c * dx[:, None] + s * dy) < p.length / 2
        inside &= np.abs(c * dy - s * dx[:, None]) < p.width / 2
        part = cover[low[0] : high[0], low[1] : high[1]]
        part[inside & (part >= LOT)] = p.cover + LOT
    cover[cover >= LOT] -= LOT
    return cover


def _stepped(ground: GroundMap, corner: Floats, size: float) -> npt.NDArray[np.bool_]:
    """Tiles [K] in which the height over the road is not the same everywhere."""
    probe = np.stack(np.meshgrid(*(np.linspace(0.02, size - 0.02, 7),) * 2), -1).reshape(1, -1, 2)
    places = (corner[:, None] + probe).reshape(-1, 2)
    step = STEPS[ground.at(*places.T)].reshape(len(corner), -1)
    return np.asarray(np.ptp(step, axis=1) > 0.03)


def _tiles(plan: Plan, ground: GroundMap, corner: Floats, size: float) -> Mesh:
    """Square tiles at corners [K, 2], vertices shared, heights from the plan and the raster's cover."""
    key = np.round((corner - ground.lower) / size).astype(np.int64)
    offsets = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    wide = 1 << 20
    ids = ((key[:, None] + offsets) * [wide, 1]).sum(axis=2)
    unique, inverse = np.unique(ids.ravel(), return_inverse=True)
    xy = ground.lower + np.stack([unique // wide, unique % wide], 1) * size
    _, edge, bank, kerb = plan.look(xy)
    z = plan._height(xy, ground.at(*xy.T), edge, bank, kerb)
    quads = inverse.reshape(-1, 4)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return build(np.column_stack([xy, z]), faces, Material.GROUND)
