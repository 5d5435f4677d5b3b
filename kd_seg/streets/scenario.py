"""One sequence: its place, its motion and its objects, drawn from (seed, number); the same for every worker."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kd_seg.core.geometry import Matrix, rigid, rotation_z
from kd_seg.streets.layout.furnishing import furnish
from kd_seg.streets.layout.ground import Plan, survey
from kd_seg.streets.layout.network import STYLES, StreetNetwork, lay
from kd_seg.streets.layout.rare import populate
from kd_seg.streets.layout.surfaces import Surfaces, draw_surfaces
from kd_seg.streets.layout.traffic import PERIOD, Ego, Seat, TrafficTrack, drive
from kd_seg.streets.objects.catalogue import Item
from kd_seg.streets.objects.mesh import Floats
from kd_seg.streets.sensors.errors import BeamErrors, draw_errors
from kd_seg.streets.sensors.ranges import LidarRanges
from kd_seg.streets.sensors.settings import Lidar

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

    network: StreetNetwork
    plan: Plan
    ego: Ego
    items: list[Item]
    tracks: list[TrafficTrack]
    surfaces: Surfaces
    sensor: Lidar
    calibration: BeamErrors

    @cached_property
    def standing(self) -> list[tuple[Item, Matrix, Floats]]:
        """Things that stand: the item, its pose in the world [4, 4] with the origin on the ground, its extent [3]."""
        things = [item for item in self.items if item.word]
        heights = self.plan.height(np.array([[item.x, item.y] for item in things]).reshape(-1, 2))
        return [
            (item, rigid(rotation_z(item.yaw), [item.x, item.y, float(z)]), item.mesh().size())
            for item, z in zip(things, heights, strict=True)
        ]


def compose(seed: int, sequence: int, scans: int, rare: float, sensor: Lidar | LidarRanges) -> Scenario:
    """The scenario of sequence number ``sequence`` with ``scans`` scans; ``rare`` multiplies the hard classes'
    objects; from ranges every sequence draws a sensor of its own.
    """
    if isinstance(sensor, LidarRanges):
        sensor = sensor.draw(np.random.default_rng([seed, sequence, 4]))
    rng = np.random.default_rng([seed, sequence])
    style = STYLES[PLACES[sequence % len(PLACES)]]
    network = lay(rng, style, style.speed * 1.25 * PERIOD * scans + 30.0)
    plan = survey(network, rng)
    mount = sensor.mount
    ego = drive(network, plan, rng, scans, Seat(mount.height_m, mount.pitch_rad, mount.roll_rad))
    site = furnish(network, plan, rng, base=sequence)
    plan = site.plan
    items, tracks = populate(site, network, ego, seed, sequence, rare)
    own = np.random.default_rng([seed, sequence, 3])
    surfaces = draw_surfaces(own)
    return Scenario(network, plan, ego, site.items + items, tracks, surfaces, sensor, draw_errors(sensor, own))
