"""What stands beside the streets, by the style of the place: kerbs first, then lots, then what lies behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from kd_seg.streets.layout.estates import arterial_lot, background, city_lot, median, open_lot, yard_lot
from kd_seg.streets.layout.gardens import residential_lot
from kd_seg.streets.layout.ground import Plan
from kd_seg.streets.layout.kerbside import furnish_kerb
from kd_seg.streets.layout.network import Street, StreetNetwork
from kd_seg.streets.layout.site import StreetSite

LOTS: dict[str, Callable[[StreetSite, Street, int, float], float]] = {
    "residential": residential_lot,
    "city": city_lot,
    "industrial": yard_lot,
    "arterial": arterial_lot,
    "country": open_lot,
    "motorway": open_lot,
}
"""Maker of one lot by style: (site, street, side, metres along the street) -> metres used."""


def furnish(network: StreetNetwork, plan: Plan, rng: np.random.Generator, base: int) -> StreetSite:
    """A site with all standing stuff and parked cars of a network; its plan holds the ground patches laid with them.

    ``base`` numbers the sequence's prototypes of plants and fences.
    """
    site = StreetSite(plan, rng, base)
    forward = np.gradient(network.path, axis=0)
    normal = np.stack([-forward[:, 1], forward[:, 0]], 1) / np.linalg.norm(forward, axis=1)[:, None]
    for shift in np.arange(-1.4, 1.5, 0.7):
        site.take(network.path + shift * normal)
    site.path = frozenset(site.taken)
    sides = [(street, side) for street in network.streets for side in (1, -1)]
    for street, side in sides:
        furnish_kerb(site, street, side)
    for street, side in sides:
        s = float(rng.uniform(0, 6))
        while s < street.length():
            s += LOTS[street.style.name](site, street, side, s)
        background(site, street, side)
    if network.style.name == "motorway":
        median(site, network.streets[0])
    site.plan = replace(plan, patches=tuple(site.patches))
    return site
