"""What the ground of one place is like: drawn for every sequence from ranges that hold real sequences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_seg.streets.objects.materials import GROUNDS, Cover

COLUMNS = ("albedo", "speckle", "roughness", "slant from", "slant over", "texture")
"""Columns of Surfaces.table; ``texture`` is the relative standard deviation of the albedo from place to place."""


@dataclass(frozen=True)
class Surfaces:
    """How every ground cover of a place answers the laser: ``table`` [covers, COLUMNS] float32, see Ground."""

    table: npt.NDArray[np.float32]


def draw_surfaces(rng: np.random.Generator) -> Surfaces:
    """Surfaces of one place.

    The ranges are those of nine real sequences, seen 4 to 14 m from the sensor: mean remission of roads 0.20-0.29, of
    sidewalks 0.25-0.34 and in each sequence 0.01-0.09 above its road; scatter of the range along a ring 0.7-0.9 cm on
    both, 1-7 cm on grass; from place to place roads differ more (0.05) than sidewalks (0.03) and grass (0.03).
    """
    table = np.array([[g.albedo, g.speckle, g.roughness, *g.slant, 0.0] for g in (GROUNDS[c] for c in Cover)])
    road = rng.uniform(0.235, 0.315)
    walk = float(np.clip(road + rng.uniform(0.015, 0.09), 0.265, 0.36))
    chosen = {
        Cover.ROAD: (road, rng.uniform(0.08, 0.12), rng.uniform(1e-4, 6e-4), rng.uniform(0.09, 0.23)),
        Cover.PARKING: (
            float(np.clip(road + rng.uniform(0.0, 0.06), 0.27, 0.345)),
            rng.uniform(0.07, 0.11),
            rng.uniform(2e-4, 12e-4),
            rng.uniform(0.06, 0.16),
        ),
        Cover.SIDEWALK: (walk, rng.uniform(0.07, 0.105), rng.uniform(3e-4, 9.5e-4), rng.uniform(0.05, 0.14)),
        Cover.PAVED: (rng.uniform(0.28, 0.37), rng.uniform(0.07, 0.12), rng.uniform(4e-4, 2e-3), 0.10),
        Cover.GRASS: (rng.uniform(0.34, 0.39), rng.uniform(0.11, 0.15), rng.uniform(12e-4, 5e-3), 0.07),
        Cover.SOIL: (rng.uniform(0.32, 0.37), rng.uniform(0.12, 0.17), rng.uniform(12e-4, 5e-3), 0.08),
    }
    for cover, (albedo, speckle, roughness, texture) in chosen.items():
        table[cover, [0, 1, 2, 5]] = albedo, speckle, roughness, texture
    table[Cover.MARKING, [0, 2]] = road + rng.uniform(0.08, 0.20), table[Cover.ROAD, 2]
    table[[Cover.WEEDS, Cover.FOREIGN], 5] = 0.08
    hard = [Cover.ROAD, Cover.MARKING, Cover.PARKING, Cover.SIDEWALK, Cover.PAVED, Cover.FOREIGN]
    table[hard, 4] *= rng.uniform(0.9, 1.25)
    return Surfaces(table.astype(np.float32))
