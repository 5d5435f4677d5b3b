"""The makers of every object by name, and prototypes of those that are planted many times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import numpy as np

from kd_seg.streets.objects import buildings, cars, furniture, people, plants, vehicles
from kd_seg.streets.objects.mesh import Mesh

Maker = Callable[[np.random.Generator, float], Mesh]


def _plain(function: Callable[[np.random.Generator], Mesh]) -> Maker:
    return lambda rng, size: function(rng)


MAKERS: dict[str, Maker] = {
    "car": _plain(cars.car),
    "truck": _plain(vehicles.truck),
    "bus": _plain(vehicles.bus),
    "other-vehicle": _plain(vehicles.other_vehicle),
    "bicycle": _plain(people.bicycle),
    "motorcycle": _plain(people.motorcycle),
    "person": lambda rng, phase: people.person(people.figure(rng), phase % 1.0, 0.0 if phase < 0 else 1.0),
    "bicyclist": lambda rng, phase: people.bicyclist(rng, people.figure(rng), phase),
    "motorcyclist": lambda rng, phase: people.motorcyclist(rng, people.figure(rng)),
    "tree": _plain(plants.tree),
    "conifer": _plain(plants.conifer),
    "bush": _plain(plants.bush),
    "hedge": plants.hedge,
    "thicket": plants.thicket,
    "shrubs": plants.shrubs,
    "weeds": plants.tall_grass,
    "fence": buildings.fence,
    "rail": buildings.guard_rail,
    "shed": _plain(buildings.shed),
    "structure": _plain(buildings.wall_structure),
    "lamp": _plain(furniture.lamp),
    "post": _plain(furniture.post),
    "delineator": _plain(furniture.delineator),
    "sign": _plain(furniture.sign),
    "board": _plain(furniture.big_sign),
    "gantry": furniture.gantry,
    "light": _plain(furniture.traffic_light),
    "bin": _plain(furniture.bin_),
    "bench": _plain(furniture.bench),
    "cabinet": _plain(furniture.cabinet),
    "shelter": _plain(furniture.shelter),
    "planter": _plain(furniture.planter),
    "rubble": _plain(furniture.rubble),
}
"""Mesh maker by kind: (generator, size or phase) -> mesh."""


@dataclass(frozen=True)
class Item:
    """One object of a street.

    Attributes:
        kind: key of MAKERS, or "house".
        x, y, yaw: where it stands; z comes from the ground.
        variant: seed of its shape.
        size: metres of length for what is made to length, (width, depth, floors) for a house, else unused.
        stretch: scale along its axes.
        word: raw class and instance id of a thing, 0 for stuff (whose parts know their class).
    """

    kind: str
    x: float
    y: float
    yaw: float
    variant: int
    size: tuple[float, ...] = (0.0,)
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)
    word: int = 0

    def mesh(self) -> Mesh:
        """Its mesh in its own frame."""
        return shape(self.kind, self.variant, self.size).scaled(*self.stretch)


@lru_cache(maxsize=1024)
def shape(kind: str, variant: int, size: tuple[float, ...] = (0.0,)) -> Mesh:
    """The mesh of a kind and variant; equal arguments always give equal meshes."""
    rng = np.random.default_rng([crc32(kind.encode()), variant])
    if kind == "house":
        return buildings.house(rng, size[0], size[1], int(size[2]))
    return MAKERS[kind](rng, size[0])
