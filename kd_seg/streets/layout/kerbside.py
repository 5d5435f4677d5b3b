"""Between the road and the lots: parked cars, lamps, signs, bins, street trees, reflector posts."""

from __future__ import annotations

import numpy as np

from kd_seg.streets.layout.network import Street
from kd_seg.streets.layout.site import StreetSite, section
from kd_seg.streets.objects.materials import Cover

LAMPS = {"city": 42.0, "arterial": 45.0, "residential": 56.0, "industrial": 58.0, "country": 130.0, "motorway": 100.0}
"""Metres from lamp to lamp by style."""
FURNITURE = {
    "sign": 66.0, "post": 240.0, "bin": 110.0, "cabinet": 170.0, "light": 260.0, "planter": 220.0, "bench": 260.0,
}  # fmt: skip
"""Mean metres from one to the next of its kind."""


def furnish_kerb(site: StreetSite, street: Street, side: int) -> None:
    """All that stands at one side of a street before the lots begin."""
    _park(site, street, side)
    _lamps(site, street, side)
    for kind, every in FURNITURE.items():
        _scatter(site, street, side, kind, every)
    _trees(site, street, side)
    _reflectors(site, street, side)


def _park(site: StreetSite, street: Street, side: int) -> None:
    rng, strip = site.rng, section(street, side).parking
    against = np.pi if side > 0 else 0.0
    if strip > 0:
        s, busy = rng.uniform(2, 8), rng.uniform(0.5, 0.9)
        while s < street.length():
            place, heading = street.at(s, side * (street.half + strip / 2 + rng.normal(0, 0.06)))
            if site.cover(place) == Cover.PARKING and rng.random() < busy:
                turned = np.pi if rng.random() < 0.15 else 0.0
                site.park(place, float(heading) + against + turned + rng.normal(0, 0.02))
            s += rng.uniform(5.4, 7.0)
    elif street.style.name in ("residential", "industrial") and rng.random() < 0.6:
        s = rng.uniform(5, 20)
        while s < street.length():
            place, heading = street.at(s, side * (street.half - 0.75))
            if street.half > 3.4 and _clear(site, street, s) and rng.random() < 0.9:
                site.park(place, float(heading) + against + rng.normal(0, 0.02))
            s += rng.uniform(5.6, 20.0)


def _lamps(site: StreetSite, street: Street, side: int) -> None:
    rng, pitch = site.rng, LAMPS[street.style.name]
    if site.draw("lamps", ("here", "across")) == "across":
        return
    s = rng.uniform(0, pitch)
    while s < street.length():
        place, heading = street.at(s, side * (street.half + section(street, side).parking + 0.5))
        if site.cover(place) in (Cover.SIDEWALK, Cover.GRASS):
            site.put("lamp", place, float(heading) + (0.0 if side > 0 else np.pi), 0.3, 0.3, lots=False)
        s += pitch * rng.uniform(0.85, 1.15)


def _scatter(site: StreetSite, street: Street, side: int, kind: str, every: float) -> None:
    """Things of one kind now and then; signs and lights face those who drive on their side."""
    rng, own = site.rng, section(street, side)
    if street.style.name in ("country", "motorway"):
        every *= 1.6 if kind in ("sign", "post") else 50.0
    deep = own.walk * {"bin": 0.8, "cabinet": 0.85, "bench": 0.8}.get(kind, 0.0)
    out = street.half + own.parking + 0.3 * own.verge + max(deep, 0.45)
    s = rng.uniform(0, every)
    while s < street.length():
        place, heading = street.at(s, side * out)
        if site.cover(place) in (Cover.SIDEWALK, Cover.GRASS):
            facing = float(heading) + (np.pi if side > 0 else 0.0)
            yaw = facing if kind in ("sign", "light") else float(heading) + rng.choice([0, np.pi])
            site.put(kind, place, yaw, 0.5, 0.5, lots=False)
        s += every * rng.uniform(0.5, 1.5)


def _trees(site: StreetSite, street: Street, side: int) -> None:
    rng, own, name = site.rng, section(street, side), street.style.name
    wanted = own.verge > 0.9 or (name == "city" and rng.random() < 0.7)
    if not wanted or name == "motorway":
        return
    every, s = rng.uniform(11, 22), rng.uniform(0, 10)
    while s < street.length():
        place, _ = street.at(s, side * (street.half + own.parking + 0.8))
        if site.cover(place) in (Cover.SIDEWALK, Cover.GRASS) and site.off_path(place) and rng.random() < 0.8:
            stretch = (0.85, 0.85, float(rng.uniform(0.9, 1.3)))
            site.put("tree", place, rng.uniform(-3, 3), 0.4, 0.4, lots=False, stretch=stretch)
        s += every * rng.uniform(0.8, 1.3)


def _reflectors(site: StreetSite, street: Street, side: int) -> None:
    pitch = {"country": 40.0, "motorway": 50.0}.get(street.style.name)
    if pitch is None:
        return
    s = site.rng.uniform(0, pitch)
    while s < street.length():
        place, heading = street.at(s, side * (street.half + 0.8))
        if _clear(site, street, s):
            site.put("delineator", place, float(heading) + (np.pi if side > 0 else 0.0), 0.2, 0.2, lots=False)
        s += pitch


def _clear(site: StreetSite, street: Street, s: float) -> bool:
    """Whether no other street's road is within 10 m along the street."""
    near = np.array([s - 10.0, s, s + 10.0])
    return not any(
        np.isin(site.plan.at(street.at(near, side * (street.half + 0.6))[0]).cover, (Cover.ROAD, Cover.MARKING)).any()
        for side in (1, -1)
    )
