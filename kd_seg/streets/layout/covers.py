"""Which cover lies at a place, how far the road is, and how high bank and kerb stand: kernels over a street network."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kd_seg.core.kernels import kernel
from kd_seg.streets.objects.materials import Cover

SEGMENT = np.dtype([
    ("start_x", "f8"), ("start_y", "f8"), ("along_x", "f8"), ("along_y", "f8"), ("length", "f8"), ("arc", "f8"),
    ("street", "i8"),
])  # fmt: skip
"""A piece of a centre line: where it starts, the vector to its end, metres of it, arc length at its start, and the
number of its street."""
ROAD = np.dtype([("half", "f8"), ("lanes", "f8")])
"""Cross-section of a street: half the road's width in metres, and lanes that are marked (0 = no markings)."""
SIDE = np.dtype([
    ("parking", "f8"), ("verge", "f8"), ("walk", "f8"), ("lot", "i8"), ("bank", "f8"), ("deep", "f8"), ("kerb", "f8"),
])  # fmt: skip
"""One side of a street, see network.Side."""
LEFT, RIGHT = 0, 1

LOT = 100
"""Added to the cover of lots, so that patches know where they may lie."""
BIN = 9.0
"""Metres per bin of segments."""
REACH = 32.0
"""Metres about a centre line within which the ground knows of it."""
_NOWHERE = 1e9
"""Squared metres to a street that is not near."""

# The kernels below compare integers; the names are those of Cover.
_GRASS, _ROAD, _MARKING = int(Cover.GRASS), int(Cover.ROAD), int(Cover.MARKING)
_PARKING, _SIDEWALK, _WEEDS = int(Cover.PARKING), int(Cover.SIDEWALK), int(Cover.WEEDS)

# Where strips of two streets overlap, the higher rank is seen.
_BY_NOTHING, _BY_VERGE, _BY_WALK, _BY_PARKING, _BY_ROAD = 0, 2, 3, 4, 5

BANK_OVER = 16.0
"""Metres beyond the road over which a bank rises."""
DASH, DASH_EVERY, DASH_HALF_WIDTH, DASH_FROM_EDGE = 4.0, 9.0, 0.07, 1.0
"""Metres: lane markings are 4 m long every 9 m (3 m on and 6 m off on German roads, RMS 1993, rounded up)."""
EDGE_LINE, EDGE_HALF_WIDTH, EDGE_LINE_FROM = 0.3, 0.06, 3.3
"""Metres: a line this far inside the road's edge, on roads whose half is wider than the last."""
USUAL_KERB = 0.12
"""Metres; the steps of materials.GROUNDS stand over the road by it."""
DRIVE, DRIVE_KERB = 3.6, 0.15
"""Metres of a kerb that is lowered for a drive, and what is left of its height."""
PARKING_GAP = -0.8
"""Sine along a street below which its parking strip is interrupted."""


class StreetTables(NamedTuple):
    """Streets for the kernels.

    Attributes:
        segments: [M] of SEGMENT.
        roads: [S] of ROAD.
        sides: [S, 2] of SIDE; LEFT, RIGHT.
        origin: lower corner [2] of the bins.
        rows, columns: bins along x and y.
        starts, members: segments per bin as CSR: [rows * columns + 1], [K].
    """

    segments: npt.NDArray[np.void]
    roads: npt.NDArray[np.void]
    sides: npt.NDArray[np.void]
    origin: npt.NDArray[np.float64]
    rows: int
    columns: int
    starts: npt.NDArray[np.int64]
    members: npt.NDArray[np.int64]


class Places(NamedTuple):
    """The ground at some places.

    Attributes:
        cover: without patches [N] uint8; lots carry LOT more.
        edge: metres beyond the nearest road's edge [N], negative on it, REACH where no road is near.
        bank: metres of height of the bank there [N].
        kerb: height of the kerb over that of GROUNDS [N].
    """

    cover: npt.NDArray[np.uint8]
    edge: npt.NDArray[np.float64]
    bank: npt.NDArray[np.float64]
    kerb: npt.NDArray[np.float64]


def classify(points: npt.NDArray[np.floating[Any]], network: StreetTables) -> Places:
    """The ground at places [N, 2] of the world, in metres."""
    return Places(*_classify(np.ascontiguousarray(points, dtype=np.float64), network))


@kernel
def _classify(points: npt.NDArray[np.float64], network: StreetTables) -> tuple[Any, Any, Any, Any]:
    count, streets = len(points), len(network.roads)
    cover, edge = np.empty(count, np.uint8), np.empty(count, np.float64)
    bank, kerb = np.empty(count, np.float64), np.empty(count, np.float64)
    square, left, along = np.empty(streets), np.empty(streets, np.bool_), np.empty(streets)
    for n in range(count):
        x, y = points[n, 0], points[n, 1]
        cover[n], edge[n], bank[n], kerb[n] = LOT, REACH, 0.0, 1.0
        if not _nearest(x, y, network, square, left, along):
            continue
        rank = _BY_NOTHING
        for s in range(streets):
            if square[s] >= _NOWHERE:
                continue
            road, side = network.roads[s], network.sides[s, LEFT if left[s] else RIGHT]
            aside = np.sqrt(square[s])
            beyond = aside - road.half
            if beyond < edge[n]:
                edge[n] = beyond
                bank[n] = _bank(side.bank, beyond, along[s], s)
                kerb[n] = _kerb(side.kerb, side.walk, beyond - side.parking, along[s], s)
                if rank == _BY_NOTHING:
                    cover[n] = LOT + side.lot if beyond < side.deep else LOT
            by, strip = _strip(road, side, aside, along[s], s)
            if by == _BY_ROAD:
                cover[n] = strip if rank < _BY_ROAD else _ROAD  # no markings on crossings
                rank = _BY_ROAD
            elif by > rank:
                rank, cover[n] = by, strip
        if cover[n] == LOT and edge[n] > 2.0 and _overgrown(x, y):
            cover[n] = LOT + _WEEDS
        if edge[n] > REACH - 0.1:
            edge[n] = REACH
    return cover, edge, bank, kerb


@kernel
def _nearest(
    x: float, y: float, network: StreetTables, square: npt.NDArray[Any], left: npt.NDArray[Any], along: npt.NDArray[Any]
) -> bool:
    """For every street: squared metres to its centre line, whether the place lies on its left, and the arc length of
    the nearest point; False outside the bins.
    """
    i, j = int(np.floor((x - network.origin[0]) / BIN)), int(np.floor((y - network.origin[1]) / BIN))
    if i < 0 or j < 0 or i >= network.rows or j >= network.columns:
        return False
    square[:] = _NOWHERE
    cell = i * network.columns + j
    for k in range(network.starts[cell], network.starts[cell + 1]):
        piece = network.segments[network.members[k]]
        ux, uy, size = piece.along_x, piece.along_y, piece.length
        t = ((x - piece.start_x) * ux + (y - piece.start_y) * uy) / (size * size)
        t = min(max(t, 0.0), 1.0)
        dx, dy = x - piece.start_x - t * ux, y - piece.start_y - t * uy
        distance = dx * dx + dy * dy
        if distance < square[piece.street]:
            square[piece.street] = distance
            left[piece.street] = ux * dy - uy * dx >= 0
            along[piece.street] = piece.arc + t * size
    return True


@kernel
def _strip(road: Any, side: Any, aside: float, along: float, street: int) -> tuple[Any, Any]:
    """Rank and cover of what a street has ``aside`` metres from its centre line, at arc length ``along``."""
    half = road.half
    if aside < half:
        return _BY_ROAD, _MARKING if _marked(half, road.lanes, aside, along) else _ROAD
    if aside < half + side.parking and np.sin(along / 9.0 + street) >= PARKING_GAP:
        return _BY_PARKING, _PARKING
    if side.verge > 0 and aside < half + side.parking + side.verge:
        return _BY_VERGE, _GRASS
    if aside < half + side.parking + side.verge + side.walk:
        return _BY_WALK, _SIDEWALK
    return _BY_NOTHING, _GRASS


@kernel
def _marked(half: float, lanes: int, aside: float, along: float) -> bool:
    """Whether paint lies on a road at ``aside`` metres from its centre line."""
    if lanes <= 0:
        return False
    line = aside * lanes / (2.0 * half) + 0.5 * (lanes % 2)
    gap = abs(line - np.round(line)) * 2.0 * half / lanes
    if gap < DASH_HALF_WIDTH and aside < half - DASH_FROM_EDGE and along % DASH_EVERY < DASH:
        return True
    return half > EDGE_LINE_FROM and abs(aside - half + EDGE_LINE) < EDGE_HALF_WIDTH


@kernel
def _bank(height: float, beyond: float, along: float, street: int) -> float:
    """Height of a bank ``beyond`` metres from the road: a smooth step, higher and lower along the street."""
    rise = min(max(beyond / BANK_OVER, 0.0), 1.0)
    wave = 0.6 + 0.4 * np.sin(along / 23.0 + 2.0 * street)
    above: float = height * wave * rise * rise * (3 - 2 * rise)
    return above


@kernel
def _kerb(height: float, walk: float, beyond: float, along: float, street: int) -> float:
    """Kerb over the usual one, ``beyond`` metres behind it; beside a walk lowered for a drive every 13 to 21 m."""
    kerb = height / USUAL_KERB
    if walk > 0.0 and (along + 5.0 * street) % (13.0 + (7.0 * street) % 9.0) < DRIVE:
        kerb *= min(max(DRIVE_KERB + 0.7 * beyond, DRIVE_KERB), 1.0)
    return kerb


@kernel
def _overgrown(x: float, y: float) -> bool:
    """Whether weeds stand on a lot of grass here: patches of some 20 m with frayed edges."""
    wild = np.sin(0.23 * x + 1.7 * np.sin(0.11 * y)) + np.sin(0.29 * y + 1.3 * np.sin(0.13 * x))
    weeds: bool = wild + 0.35 * np.sin(1.9 * x) * np.sin(2.3 * y) > -0.7
    return weeds
