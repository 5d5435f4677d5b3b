"""One sequence: its place, its motion and its objects, drawn from (seed, number); the same for every worker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kd_seg.geometry import Matrix, rigid, rotation_z
from kd_seg.streets.catalogue import Item
from kd_seg.streets.ground import Plan, survey
from kd_seg.streets.layout import furnish
from kd_seg.streets.network import STYLES, Network, lay
from kd_seg.streets.rare import populate
from kd_seg.streets.traffic import PERIOD, Ego, Track, drive

PLACES = (
    "residential",
    "city",
    "country",
    "residential",
    "motorway",
    "residential",
    "industrial",
    "residential",
    "city",
    "residential",
    "residential",
)
"""Style of sequence k, repeated; the mixture follows SemanticKITTI's."""


@dataclass(frozen=True)
class Scenario:
    """All of a sequence that is decided before the first ray."""

    network: Network
    plan: Plan
    ego: Ego
    items: list[Item]
    tracks: list[Track]

    def standing(self, item: Item) -> Matrix:
        """Pose [4, 4] of an item in the world, origin on the ground."""
        z = float(self.plan.height(np.array([[item.x, item.y]]))[0])
        return rigid(rotation_z(item.yaw), [item.x, item.y, z])


def compose(seed: int, sequence: int, scans: int, rare: float) -> Scenario:
    """The scenario of sequence number ``sequence`` with ``scans`` scans; ``rare`` multiplies the hard classes'
    objects.
    """
    rng = np.random.default_rng([seed, sequence])
    style = STYLES[PLACES[sequence % len(PLACES)]]
    network = lay(rng, style, style.speed * 1.25 * PERIOD * scans + 30.0)
    plan = survey(network, rng)
    ego = drive(network, plan, rng, scans)
    site = furnish(network, plan, rng, base=sequence)
    plan = site.plan
    items, tracks = populate(site, network, ego, seed, sequence, rare)
    return Scenario(network, plan, ego, site.items + items, tracks)
