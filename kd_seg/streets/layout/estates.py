"""Lots of cities, industrial estates, country roads and motorways, and what is seen far behind any street."""

from __future__ import annotations

import numpy as np

from kd_seg.streets.layout.network import Street
from kd_seg.streets.layout.site import PIECE, Lot, StreetSite, section
from kd_seg.streets.objects.catalogue import Item
from kd_seg.streets.objects.materials import Cover

CITY_USES = ("house",) * 5 + ("other",)
YARDS = {
    "parking": Cover.PARKING, "paved": Cover.PAVED, "walk": Cover.SIDEWALK, "grass": Cover.GRASS, "lawn": Cover.GRASS,
}  # fmt: skip


def city_lot(site: StreetSite, street: Street, side: int, s: float) -> float:
    """A terraced house, a gap with a car park, or a small park; its width in metres."""
    rng = site.rng
    edge = street.half + section(street, side).width() + 0.1
    lot = Lot(
        site, street, side, s, s + rng.uniform(11, 24), edge + (rng.uniform(0.5, 6.0) if rng.random() < 0.5 else 0)
    )
    if site.draw("city", CITY_USES) == "house":
        depth, floors = float(rng.uniform(9, 13)), int(rng.integers(2, 6))
        size = (round(lot.wide, 1), round(depth, 1), floors)
        site.put("house", lot.at(lot.middle, depth / 2), lot.yaw(), lot.wide - 0.6, depth - 0.4, size=size)
    elif rng.random() < 0.4:
        lot.pave(lot.middle, 8.0, lot.wide, 12.0, Cover.PARKING)
        for at in np.arange(lot.first + 1.5, lot.last - 1, 2.7):
            if rng.random() < 0.6:
                site.park(lot.at(at, 4.0), lot.yaw(at) + np.pi / 2 + rng.normal(0, 0.03), lots=True)
        lot.along("hedge", lot.first + 3, lot.last, 15.5)
    else:
        lot.pave(lot.middle, 9.0, lot.wide, 17.0, Cover.GRASS)
        lot.along("fence" if rng.random() < 0.6 else "hedge", lot.first, lot.last, 0.5, 0.3)
        for _ in range(rng.integers(4, 9)):
            site.plant("tree", lot.at(lot.anywhere(), rng.uniform(2, 16)), clear=1.0)
            site.plant("bush", lot.at(lot.anywhere(), rng.uniform(1, 16)), 1.0, 1.7)
        lot.along("shrubs", lot.first, lot.last, rng.uniform(5, 16), tall=(0.7, 1.4))
    if rng.random() < 0.35:
        kind = str(rng.choice(["bin", "cabinet", "planter", "shelter"]))
        site.put(kind, lot.at(lot.middle + rng.uniform(-3, 3), -0.6), lot.yaw(), 1.0, 0.6, lots=False)
    return lot.wide


def yard_lot(site: StreetSite, street: Street, side: int, s: float) -> float:
    """A hall behind a forecourt; its width in metres."""
    rng = site.rng
    edge = street.half + section(street, side).width() + 0.2
    lot = Lot(site, street, side, s, s + rng.uniform(26, 50), edge)
    setback, depth = float(rng.uniform(8, 22)), float(rng.uniform(14, 26))
    cover = YARDS[str(rng.choice(list(YARDS), p=[0.06, 0.02, 0.42, 0.25, 0.25]))]
    lot.pave(lot.middle, setback / 2, lot.wide, setback, cover)
    if rng.random() < 0.8:
        size = (round(lot.wide * 0.8, 1), round(depth, 1), int(rng.integers(1, 4)))
        site.put("house", lot.at(lot.middle, setback + depth / 2), lot.yaw(), size[0], size[1], size=size)
    gate = rng.uniform(lot.first + 4, lot.last - 4)
    kind = site.draw("yard", ("fence", "hedge", "fence", "none"))
    if kind != "none":
        for a, b in ((lot.first, gate - 3), (gate + 3, lot.last)):
            lot.along(kind, a, b, 0.4, 0.2)
    if cover == Cover.PARKING:
        for at in np.arange(lot.first + 2, lot.last - 2, 2.8):
            if rng.random() < 0.35:
                site.park(lot.at(at, setback - 4), lot.yaw(at) + np.pi / 2, lots=True)
    for _ in range(rng.integers(1, 5)):
        site.plant("tree", lot.at(lot.anywhere(), rng.uniform(1, 5)), clear=1.0)
    for _ in range(rng.integers(0, 3)):
        kind = str(rng.choice(["rubble", "bin", "cabinet", "structure"]))
        site.put(kind, lot.at(lot.anywhere(), rng.uniform(3, setback)), rng.uniform(-3, 3), 1.5, 1.0)
    return lot.wide


def open_lot(site: StreetSite, street: Street, side: int, s: float) -> float:
    """Wood's edge, trees, a lone house; rails and weeds along country roads and motorways; its width in metres."""
    rng, motorway = site.rng, street.style.name == "motorway"
    edge = street.half + section(street, side).width() + 0.3
    lot = Lot(site, street, side, s, s + rng.uniform(14, 30), edge)
    if rng.random() < (0.5 if motorway else 0.18):
        lot.along("rail", lot.first, lot.last, 0.3, 0.2)
    if rng.random() < (0.04 if motorway else 0.35):
        lot.along("fence", lot.first, lot.last, 0.8, 0.2)
    use = site.draw("open", ("wood",) * 10 + ("trees", "wood" if motorway else "house"))
    if use == "wood":
        out = float(rng.uniform(1.2, 8.0)) + (1.0 if motorway else 0.0)
        lot.along("thicket", lot.first, lot.last, out, 1.0)
        lot.along("shrubs", lot.first, lot.last, out - 0.7, 0.5, (0.6, 1.2))
        for _ in range(rng.integers(2, 6)):
            site.plant("tree", lot.at(lot.anywhere(), out + rng.uniform(1, 12)), clear=1.0)
    elif use == "trees":
        for _ in range(rng.integers(1, 5)):
            kind = "tree" if rng.random() < 0.7 else "bush"
            site.plant(kind, lot.at(lot.anywhere(), rng.uniform(2, 22)), clear=1.0)
    else:
        size = (round(float(rng.uniform(9, 14)), 1), round(float(rng.uniform(8, 12)), 1), int(rng.integers(1, 3)))
        site.put("house", lot.at(lot.middle, rng.uniform(9, 18)), lot.yaw(), size[0], size[1], size=size)
        lot.along("fence", lot.first, lot.last, 2.0)
    if rng.random() < 0.4:
        lot.along("weeds", lot.first, lot.last, rng.uniform(0.5, 2.0), 0.2)
    if rng.random() < 0.03:
        site.put("board", lot.at(lot.middle, 1.0), lot.yaw() + np.pi, 0.6, 2.0)
    if rng.random() < 0.12 and not motorway:
        site.put("post", lot.at(lot.middle, 2.0), lot.yaw(), 0.4, 0.4)
    return lot.wide


def arterial_lot(site: StreetSite, street: Street, side: int, s: float) -> float:
    """Beside a wide road out of town: a yard, green, or a house; its width in metres."""
    use = site.draw("arterial", ("yard", "open", "yard", "open", "house", "house"))
    return {"yard": yard_lot, "open": open_lot, "house": city_lot}[use](site, street, side, s)


def background(site: StreetSite, street: Street, side: int) -> None:
    """Houses and trees 26 to 80 m from the street, seen between and over what stands at it."""
    rng = site.rng
    town = street.style.name in ("residential", "city", "arterial", "industrial")
    s = rng.uniform(0, 10)
    while s < street.length():
        place, heading = street.at(s, side * (street.half + rng.uniform(26, 80)))
        use = rng.random()
        if town and use < 0.75:
            size = (round(float(rng.uniform(10, 18)), 1), round(float(rng.uniform(9, 12)), 1), int(rng.integers(1, 4)))
            site.put("house", place, float(heading) + rng.choice([0, np.pi / 2]), size[0], size[1], size=size)
        elif use < 0.85:
            for _ in range(rng.integers(2, 6)):
                kind = "tree" if rng.random() < 0.8 else "conifer"
                site.plant(kind, place + rng.normal(0, 5, 2), 1.0, 1.6, clear=1.0)
            for _ in range(rng.integers(2, 6)):
                site.plant("bush", place + rng.normal(0, 5, 2), 1.5, 3.0)
        else:
            yaw = float(heading) + (0.0 if side > 0 else np.pi) + rng.normal(0, 0.3)
            stretch = (float(rng.uniform(1, 2)), 1.2, float(rng.uniform(1, 1.4)))
            site.put("thicket", place, yaw, 8, 1, size=(PIECE,), stretch=stretch, take=False)
        s += rng.uniform(3, 8)


def median(site: StreetSite, street: Street) -> None:
    """Rails and bushes between two carriageways, and a sign bridge now and then."""
    for s in np.arange(4.0, street.length() - 8, 8.0):
        (x, y), heading = street.at(s, street.half + 2.0)
        site.items.append(Item("rail", float(x), float(y), float(heading), site.variant("rail"), (PIECE,)))
        if site.rng.random() < 0.3:
            site.plant("bush", street.at(s, street.half + 3.2)[0])
    for s in np.arange(site.rng.uniform(20, 160), street.length(), 260.0):
        (x, y), heading = street.at(s, 0.0)
        span = 2 * street.half + 3.0
        site.items.append(Item("gantry", float(x), float(y), float(heading), site.variant("gantry"), (span,)))
