"""The ground of a sequence: streets, waves of the land and patches, and the height and cover that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.streets.layout.covers import BIN, LOT, REACH, ROAD, SEGMENT, SIDE, Places, StreetTables, classify
from kd_seg.streets.layout.network import StreetNetwork
from kd_seg.streets.objects.materials import Cover, ground_table
from kd_seg.streets.objects.mesh import Floats

Covers = npt.NDArray[np.uint8]
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
        tables: the streets, for the kernels.
        waves: [W, 4] amplitude, wave numbers x and y, phase of the land.
        crown: rise per metre of a road from its edge inwards.
        patches: rectangles painted on the lots, later ones over earlier.
    """

    tables: StreetTables
    waves: Floats
    crown: float = 0.022
    patches: tuple[Patch, ...] = ()

    def at(self, xy: npt.NDArray[np.floating[Any]]) -> Places:
        """The ground without patches at places [N, 2]."""
        return classify(xy, self.tables)

    def land(self, xy: npt.NDArray[np.floating[Any]]) -> Floats:
        """Height [N] of the land without kerbs, banks and bumps."""
        phase = np.asarray(xy, dtype=np.float64) @ self.waves[:, 1:3].T + self.waves[:, 3]
        return np.asarray(np.sin(phase) @ self.waves[:, 0])

    def road(self, xy: npt.NDArray[np.floating[Any]]) -> Floats:
        """Height [N] of the road's surface, arched across, as if there were only road."""
        return self.land(xy) + self._crown(self.at(xy).edge)

    def height(self, xy: npt.NDArray[np.floating[Any]], patched: bool = True) -> Floats:
        """Height [N] of the surface."""
        cover, edge, bank, kerb = self.at(xy)
        if patched:
            cover = self.patch(np.asarray(xy, dtype=np.float64), cover)
        return self.surface(np.asarray(xy, dtype=np.float64), cover, edge, bank, kerb)

    def _crown(self, edge: Floats) -> Floats:
        """Metres by which a road rises from its edge (``edge`` = 0) to its middle (negative)."""
        return np.asarray(self.crown * np.clip(-edge, 0.0, 4.0))

    def surface(self, xy: Floats, cover: Covers, edge: Floats, bank: Floats, kerb: Floats) -> Floats:
        """Height [N] at places [N, 2] of which cover, edge, bank and kerb are known (see Places)."""
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


def survey(network: StreetNetwork, rng: np.random.Generator) -> Plan:
    """The ground plan of a network, without patches."""
    segments = _segments(network)
    roads = np.array([(s.half, len(s.lanes) if s.marked else 0) for s in network.streets], dtype=ROAD)
    sides = [
        [(d.parking, d.verge, d.walk, d.lot, d.bank, d.deep, d.kerb) for d in (s.left, s.right)]
        for s in network.streets
    ]
    origin, rows, columns, starts, members = _bins(network)
    waves = np.concatenate([_hills(network.style.hills, rng), _swell(rng)])
    tables = StreetTables(segments, roads, np.array(sides, dtype=SIDE), origin, rows, columns, starts, members)
    return Plan(tables, waves, float(rng.uniform(0.010, 0.028)))


def _segments(network: StreetNetwork) -> npt.NDArray[np.void]:
    """Pieces [M] of all centre lines as SEGMENT."""
    rows = []
    for number, street in enumerate(network.streets):
        vector = np.diff(street.line, axis=0)
        piece = np.empty(len(vector), dtype=SEGMENT)
        piece["start_x"], piece["start_y"] = street.line[:-1].T
        piece["along_x"], piece["along_y"] = vector.T
        piece["length"] = np.sqrt(vector[:, 0] * vector[:, 0] + vector[:, 1] * vector[:, 1])
        piece["arc"], piece["street"] = street.arc[:-1], number
        rows.append(piece)
    return np.concatenate(rows)


def _bins(network: StreetNetwork) -> tuple[Floats, int, int, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Lower corner, rows, columns, and CSR of the segments that are near each bin."""
    points = np.concatenate([street.line for street in network.streets])
    lower = points.min(axis=0) - REACH - BIN
    upper = points.max(axis=0) + REACH + BIN
    rows, columns = (int(v) for v in np.ceil((upper - lower) / BIN))
    centre = np.concatenate([(street.line[:-1] + street.line[1:]) / 2 for street in network.streets])
    reach = int(np.ceil((REACH + BIN) / BIN))
    home = np.floor((centre - lower) / BIN).astype(int)
    bins, who = [], []
    for i in range(-reach, reach + 1):
        for j in range(-reach, reach + 1):
            cell = home + [i, j]
            middle = lower + (cell + 0.5) * BIN
            near = np.linalg.norm(middle - centre, axis=1) < REACH + 0.75 * BIN
            near &= (cell >= 0).all(axis=1) & (cell < (rows, columns)).all(axis=1)
            bins.append((cell[:, 0] * columns + cell[:, 1])[near])
            who.append(np.flatnonzero(near))
    flat, members = np.concatenate(bins), np.concatenate(who)
    order = np.lexsort((members, flat))
    return lower, rows, columns, np.searchsorted(flat[order], np.arange(rows * columns + 1)), members[order]


def _hills(height: float, rng: np.random.Generator) -> Floats:
    """Waves [6, 4] of the land, 90 to 320 m long, the higher the longer."""
    wave = 2 * np.pi / rng.uniform(90, 320, 6)
    angle = rng.uniform(0, 2 * np.pi, 6)
    tall = height * rng.uniform(0.15, 0.5, 6) * (90 * wave / 6.3)
    return np.column_stack([tall, wave * np.cos(angle), wave * np.sin(angle), rng.uniform(0, 6.28, 6)])


def _swell(rng: np.random.Generator) -> Floats:
    """Unevenness that every surface shares: waves [5, 4] of 5 to 25 m, up to 6 mm high."""
    number, angle = 2 * np.pi / rng.uniform(5, 25, 5), rng.uniform(0, 2 * np.pi, 5)
    tall = rng.uniform(0.0, 0.006, 5)
    return np.column_stack([tall, number * np.cos(angle), number * np.sin(angle), rng.uniform(0, 6.28, 5)])
