"""Lots of residential streets: houses behind gardens, greens and car parks, plots left to trees."""

from __future__ import annotations

import numpy as np

from kd_seg.streets.layout.network import Street
from kd_seg.streets.layout.site import PIECE, Lot, StreetSite, footprint, section
from kd_seg.streets.objects.materials import Cover

USES = ("garden",) * 13 + ("grove", "square")
SQUARES = (Cover.PARKING, Cover.SIDEWALK, Cover.GRASS, Cover.WEEDS)
BOUNDARIES = ("fence", "fence", "fence", "fence", "fence", "hedge", "none", "none")
DRIVEWAYS = ("PAVED", "PARKING", "PAVED", "SIDEWALK", "PAVED")
"""Decks from which lots, their front boundaries and the covers of their driveways are drawn."""


def residential_lot(site: StreetSite, street: Street, side: int, s: float) -> float:
    """Lay out one lot that begins ``s`` metres along the street; its width in metres."""
    rng = site.rng
    edge = street.half + section(street, side).width()
    use = site.draw("residential", USES)
    if use == "square":
        lot = Lot(site, street, side, s, s + rng.uniform(18, 40), edge + 0.15)
        _square(lot)
    elif use == "grove":
        lot = Lot(site, street, side, s, s + rng.uniform(10, 26), edge + rng.uniform(0.3, 3.0))
        _grove(lot)
    else:
        margin = rng.uniform(0.5, 5.5) if rng.random() < 0.80 else 0.15
        lot = Lot(site, street, side, s, s + rng.uniform(12, 20), edge + margin)
        _garden(lot)
    return lot.wide


def _garden(lot: Lot) -> None:
    site, rng = lot.site, lot.site.rng
    drive = lot.first + 2.2 if rng.random() < 0.5 else lot.last - 2.2
    setback = float(rng.uniform(1.8, 7.0))
    _boundary(lot, drive)
    driven = rng.random() < 0.75
    if driven:
        _driveway(lot, drive)
    width, depth = float(rng.uniform(10, lot.wide - 0.8)), float(rng.uniform(8, 12))
    middle = lot.middle
    if driven:
        width = float(rng.uniform(0.65, 1.0)) * (lot.wide - 4.2)
        middle += np.sign(lot.middle - drive) * (lot.wide - 0.4 - width) / 2
    if rng.random() < 0.97:
        size = (round(width, 1), round(depth, 1), int(rng.choice([2, 2, 2, 3])))
        place = lot.at(middle, setback + depth / 2)
        site.put("house", place, lot.yaw(), width + 0.5, depth + 0.5, size=size)
    if setback > 4.0 and rng.random() < 0.4:
        paving = Cover.SIDEWALK if rng.random() < 0.5 else Cover.PAVED
        lot.pave(lot.middle, setback / 2 + 1.0, width * 0.7, setback - 1.5, paving)
    if rng.random() < 0.6:
        site.put("shed", lot.at(drive, rng.uniform(10, 16)), lot.yaw(), 5, 5)
    _plants(lot, setback, depth)
    if rng.random() < 0.8:
        kind = "fence" if rng.random() < 0.6 else "hedge"
        place, yaw = lot.at(lot.first, 7.5), lot.yaw(lot.first) + np.pi / 2
        site.put(kind, place, yaw, 12.0, 0.3, size=(PIECE,), stretch=(12.0 / PIECE, 1.0, 1.0))
    if rng.random() < 0.9:
        place = lot.at(lot.middle, setback + depth + rng.uniform(10, 16))
        stretch = (lot.wide / PIECE, 1.0, 1.0)
        site.put("thicket", place, lot.yaw(), 8, 1, size=(PIECE,), stretch=stretch, take=False)
    if rng.random() < 0.3:
        kind = str(rng.choice(["rubble", "bin", "bench", "structure", "planter"]))
        site.put(kind, lot.at(lot.anywhere(), rng.uniform(1, 4)), lot.yaw(), 1.2, 0.8)


def _boundary(lot: Lot, drive: float) -> None:
    """A low fence, a hedge or nothing along the front, open at the drive."""
    rng, kind = lot.site.rng, lot.site.draw("boundary", BOUNDARIES)
    for a, b in ((lot.first, drive - 1.7), (drive + 1.7, lot.last)):
        if kind == "fence":
            lot.along("fence", a, b, 0.15, 0.2, (0.5, 1.0))
        if kind == "hedge":
            lot.along("hedge", a, b, 0.5, tall=(0.35, 0.7))
        if kind != "none" and rng.random() < 0.2:
            lot.along("shrubs", a, b, rng.uniform(1.6, 3.0), tall=(0.3, 0.75))


def _driveway(lot: Lot, drive: float) -> None:
    rng = lot.site.rng
    cover = Cover[lot.site.draw("driveway", DRIVEWAYS)]
    lot.pave(drive, 5.0, 3.0, 10.4, cover)
    if rng.random() < 0.8:
        lot.site.park(lot.at(drive, rng.uniform(3, 6)), lot.yaw(drive) + np.pi / 2 * rng.choice([-1, 1]), lots=True)


def _plants(lot: Lot, setback: float, depth: float) -> None:
    """Bushes about the house, taller ones between the houses, a border of shrubs, a few trees."""
    site, rng = lot.site, lot.site.rng
    for _ in range(rng.integers(9, 20)):
        out = rng.uniform(0.8, setback) if rng.random() < 0.09 else setback + rng.uniform(1.0, depth + 10)
        site.plant("bush", lot.at(lot.anywhere(), out), 0.9, 1.7)
    for edge in (lot.first, lot.last):
        for _ in range(rng.integers(1, 4)):
            kind = "bush" if rng.random() < 0.7 else "conifer"
            site.plant(kind, lot.at(edge + rng.normal(0, 0.7), setback + rng.uniform(-2, depth)), 1.1, 2.0)
    if rng.random() < 0.6:
        edge = lot.first if rng.random() < 0.5 else lot.last
        lot.along("shrubs", edge - 1.5, edge + 1.5, setback + rng.uniform(0, 4), tall=(0.8, 1.5))
    for _ in range(rng.integers(2, 7)):
        kind = "tree" if rng.random() < 0.75 else "conifer"
        out = rng.uniform(1.5, setback) if rng.random() < 0.4 else setback + depth + rng.uniform(2, 15)
        site.plant(kind, lot.at(lot.anywhere(), out), clear=1.0)


def _square(lot: Lot) -> None:
    """A green, playground or car park of 15 to 40 m, low at the street, trees or a hedge at its back."""
    site, rng = lot.site, lot.site.rng
    deep = float(rng.uniform(15, 40))
    cover = SQUARES[int(rng.choice(4, p=[0.06, 0.08, 0.36, 0.50]))]
    lot.pave(lot.middle, deep / 2, lot.wide - 1.0, deep, cover)
    site.take(footprint(lot.at(lot.middle, deep / 2), lot.yaw(), lot.wide - 1.5, deep - 1.0))
    if rng.random() < 0.5:
        lot.along("fence", lot.first + 0.5, lot.last - 0.5, 0.2, 0.2, (0.5, 1.0))
    back = str(rng.choice(["hedge", "fence", "thicket", "shrubs"], p=[0.2, 0.2, 0.4, 0.2]))
    lot.along(back, lot.first + 2, lot.last - 2, deep + 1.5)
    for _ in range(rng.integers(2, 6)):
        kind = "tree" if rng.random() < 0.6 else "bush"
        site.plant(kind, lot.at(lot.anywhere(), deep + rng.uniform(2, 6)), 1.0, 1.5, clear=1.0)
    if cover in (Cover.GRASS, Cover.WEEDS):
        for _ in range(int(lot.wide * deep / 80)):
            kind = str(rng.choice(["tree", "bush", "conifer"], p=[0.3, 0.55, 0.15]))
            site.plant(kind, lot.at(lot.anywhere(), deep * rng.uniform(0.2, 1.0)), 1.0, 1.6, 1.5, shared=True)
    if cover == Cover.PARKING:
        for s in np.arange(lot.first + 2, lot.last - 2, 2.8):
            for row in (deep - 3.0, deep - 14.0):
                if row > 3 and rng.random() < 0.65:
                    yaw = lot.yaw(s) + np.pi / 2 * rng.choice([-1, 1]) + rng.normal(0, 0.03)
                    site.park(lot.at(s, row), yaw, lots=True, shared=True)


def _grove(lot: Lot) -> None:
    """A lot left to trees and undergrowth, perhaps behind a fence."""
    site, rng = lot.site, lot.site.rng
    if rng.random() < 0.35:
        lot.along("fence", lot.first, lot.last, 0.0, 0.2, (0.5, 1.0))
    out = float(rng.uniform(1.0, 6.0))
    lot.along("thicket", lot.first, lot.last, out, 1.0)
    lot.along("shrubs", lot.first, lot.last, out - 0.8, 0.5, (0.5, 1.3))
    for _ in range(int(lot.wide / 3)):
        site.plant("tree", lot.at(lot.anywhere(), out + rng.uniform(1.0, 16)), 0.9, 1.5, clear=1.0)
