"""What the ground of one place is like: drawn for every sequence from ranges that hold real sequences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_seg.streets.objects.materials import GROUNDS, Cover

GROUND = np.dtype([
    ("albedo", "f4"), ("speckle", "f4"), ("roughness", "f4"), ("slant_from", "f4"), ("slant_over", "f4"),
    ("texture", "f4"), ("raw", "u4"),
])  # fmt: skip
"""One ground cover as the ray kernels read it, see GroundCover; ``texture`` is the relative standard deviation of the
albedo from place to place."""


@dataclass(frozen=True)
class Surfaces:
    """How every ground cover of a place answers the laser: ``table`` [covers] of GROUND."""

    table: npt.NDArray[np.void]


@dataclass(frozen=True)
class _Drawn:
    """What is drawn for one cover; see GROUND."""

    albedo: float
    speckle: float
    roughness: float
    texture: float


def draw_surfaces(rng: np.random.Generator) -> Surfaces:
    """Surfaces of one place.

    The ranges are those of nine real sequences, seen 4 to 14 m from the sensor: mean remission of roads 0.20-0.29, of
    sidewalks 0.25-0.34 and in each sequence 0.01-0.09 above its road; scatter of the range along a ring 0.7-0.9 cm on
    both, 1-7 cm on grass; from place to place roads differ more (0.05) than sidewalks (0.03) and grass (0.03).
    """
    # Doubles until the end: a slant that is scaled in single precision would round differently.
    table = np.zeros(len(Cover), dtype=[(name, "f8") for name in GROUND.names or ()])
    for cover, ground in GROUNDS.items():
        table[cover] = (ground.albedo, ground.speckle, ground.roughness, *ground.slant, 0.0, ground.raw)
    drawn = _draw(rng)
    for cover, values in drawn.items():
        for name in ("albedo", "speckle", "roughness", "texture"):
            table[name][cover] = getattr(values, name)
    table["albedo"][Cover.MARKING] = drawn[Cover.ROAD].albedo + rng.uniform(0.08, 0.20)
    table["roughness"][Cover.MARKING] = drawn[Cover.ROAD].roughness
    table["texture"][[Cover.WEEDS, Cover.FOREIGN]] = 0.08
    hard = [Cover.ROAD, Cover.MARKING, Cover.PARKING, Cover.SIDEWALK, Cover.PAVED, Cover.FOREIGN]
    table["slant_over"][hard] *= rng.uniform(0.9, 1.25)
    return Surfaces(table.astype(GROUND))


def _draw(rng: np.random.Generator) -> dict[Cover, _Drawn]:
    """The order of the draws is part of the bytes of every data set."""
    road = rng.uniform(0.235, 0.315)
    walk = float(np.clip(road + rng.uniform(0.015, 0.09), 0.265, 0.36))
    return {
        Cover.ROAD: _Drawn(road, rng.uniform(0.08, 0.12), rng.uniform(1e-4, 6e-4), rng.uniform(0.09, 0.23)),
        Cover.PARKING: _Drawn(
            float(np.clip(road + rng.uniform(0.0, 0.06), 0.27, 0.345)),
            rng.uniform(0.07, 0.11),
            rng.uniform(2e-4, 12e-4),
            rng.uniform(0.06, 0.16),
        ),
        Cover.SIDEWALK: _Drawn(walk, rng.uniform(0.07, 0.105), rng.uniform(3e-4, 9.5e-4), rng.uniform(0.05, 0.14)),
        Cover.PAVED: _Drawn(rng.uniform(0.28, 0.37), rng.uniform(0.07, 0.12), rng.uniform(4e-4, 2e-3), 0.10),
        Cover.GRASS: _Drawn(rng.uniform(0.34, 0.39), rng.uniform(0.11, 0.15), rng.uniform(12e-4, 5e-3), 0.07),
        Cover.SOIL: _Drawn(rng.uniform(0.32, 0.37), rng.uniform(0.12, 0.17), rng.uniform(12e-4, 5e-3), 0.08),
    }
