"""One sequence: its place, its motion and its objects, drawn from (seed, number); the same for every worker."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kd_seg.core.geometry import Matrix, rigid, rotation_z
from kd_seg.streets.layout.ground import Plan, survey
from kd_seg.streets.layout.layout import furnish
from kd_seg.streets.layout.network import STYLES, Network, lay
from kd_seg.streets.layout.rare import populate
from kd_seg.streets.layout.surfaces import Surfaces, draw_surfaces
from kd_seg.streets.layout.traffic import PERIOD, Ego, Track, drive
from kd_seg.streets.objects.catalogue import Item
from kd_seg.streets.objects.mesh import Floats
from kd_seg.streets.sensors.hdl64 import Calibration, draw_calibration

PLACES = (
    "residential",
    "city",
    "country",
    "residential",
    "motorway",
    "residential",
    "industrial",
    "residential",
    "arterial",
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
    surfaces: Surfaces
    calibration: Calibration

    @cached_property
    def standing(self) -> list[tuple[Item, Matrix, Floats]]:
        """Things that stand: the item, its pose in the world [4, 4] with the origin on the ground, its extent [3]."""
        things = [item for item in self.items if item.word]
        heights = self.plan.height(np.array([[item.x, item.y] for item in things]).reshape(-1, 2))
        return [
            (item, rigid(rotation_z(item.yaw), [item.x, item.y, float(z)]), item.mesh().size())
            for item, z in zip(things, heights, strict=True)
        ]


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
    own = np.random.default_rng([seed, sequence, 3])
    return Scenario(network, plan, ego, site.items + items, tracks, draw_surfaces(own), draw_calibration(own))
