"""What surfaces are made of: how a material answers the laser (905 nm), and its colour in a picture."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt


class Material(IntEnum):
    """Index into MATERIALS; one byte per triangle."""

    GROUND = 0
    PAINT = 1
    GLASS = 2
    RUBBER = 3
    METAL = 4
    LAMP = 5
    PLASTER = 6
    BRICK = 7
    ROOF = 8
    WINDOW = 9
    WOOD = 10
    CONCRETE = 11
    LEAF = 12
    BARK = 13
    GALVANIZED = 14
    RETRO = 15
    CLOTH = 16
    SKIN = 17
    TARPAULIN = 18
    WIRE = 19


@dataclass(frozen=True)
class MaterialOptics:
    """How a material answers LiDAR and camera.

    Attributes:
        albedo: remission at perpendicular incidence and short range, 0-1.
        spread: relative standard deviation of the albedo from object to object.
        speckle: relative standard deviation from point to point.
        gloss: exponent of the cosine of incidence (0 = rough, all angles alike; 1 = Lambertian; above = shiny).
        roughness: metres of scatter along the normal that the mesh does not show.
        loss: share of rays that give no return at all (light passes or is mirrored away).
        colour: RGB 0-255 where the maker of the mesh gives none.
    """

    albedo: float
    spread: float
    speckle: float
    gloss: float
    roughness: float
    loss: float
    colour: tuple[int, int, int]


MATERIALS: dict[Material, MaterialOptics] = {
    Material.GROUND: MaterialOptics(0.30, 0.0, 0.12, 0.0, 0.006, 0.0, (110, 110, 110)),
    Material.PAINT: MaterialOptics(0.15, 0.9, 0.35, 1.1, 0.006, 0.03, (120, 20, 20)),
    Material.GLASS: MaterialOptics(0.04, 0.5, 0.8, 2.0, 0.02, 0.72, (30, 38, 45)),
    Material.RUBBER: MaterialOptics(0.07, 0.3, 0.5, 0.6, 0.008, 0.05, (25, 25, 27)),
    Material.METAL: MaterialOptics(0.26, 0.5, 0.3, 0.8, 0.006, 0.02, (130, 132, 135)),
    Material.LAMP: MaterialOptics(0.85, 0.2, 0.3, 0.3, 0.01, 0.10, (230, 225, 215)),
    Material.PLASTER: MaterialOptics(0.50, 0.22, 0.15, 0.25, 0.015, 0.0, (205, 195, 175)),
    Material.BRICK: MaterialOptics(0.48, 0.22, 0.16, 0.25, 0.016, 0.0, (150, 88, 66)),
    Material.ROOF: MaterialOptics(0.38, 0.3, 0.15, 0.4, 0.02, 0.0, (112, 62, 50)),
    Material.WINDOW: MaterialOptics(0.22, 0.7, 0.6, 1.2, 0.02, 0.35, (48, 60, 72)),
    Material.WOOD: MaterialOptics(0.37, 0.3, 0.25, 0.4, 0.025, 0.0, (128, 96, 62)),
    Material.CONCRETE: MaterialOptics(0.42, 0.2, 0.14, 0.3, 0.012, 0.0, (160, 158, 150)),
    Material.LEAF: MaterialOptics(0.37, 0.18, 0.32, 0.25, 0.02, 0.02, (62, 96, 40)),
    Material.BARK: MaterialOptics(0.42, 0.2, 0.24, 0.7, 0.025, 0.0, (88, 70, 52)),
    Material.GALVANIZED: MaterialOptics(0.32, 0.5, 0.5, 1.8, 0.02, 0.02, (150, 154, 156)),
    Material.RETRO: MaterialOptics(0.37, 0.5, 0.35, 0.2, 0.015, 0.0, (200, 30, 30)),
    Material.CLOTH: MaterialOptics(0.49, 0.35, 0.25, 0.3, 0.012, 0.01, (60, 70, 110)),
    Material.SKIN: MaterialOptics(0.45, 0.15, 0.15, 0.3, 0.006, 0.0, (205, 160, 135)),
    Material.TARPAULIN: MaterialOptics(0.36, 0.4, 0.15, 0.5, 0.008, 0.01, (70, 100, 150)),
    Material.WIRE: MaterialOptics(0.30, 0.3, 0.4, 0.4, 0.006, 0.05, (140, 145, 140)),
}
"""Optics by material; the figures are fitted to the remission of real scans (docs/studies/real_scans.md)."""


class Cover(IntEnum):
    """What covers the ground at a place; one byte per cell of a ground map."""

    GRASS = 0
    ROAD = 1
    MARKING = 2
    PARKING = 3
    SIDEWALK = 4
    PAVED = 5
    SOIL = 6
    FOREIGN = 7
    WEEDS = 8


@dataclass(frozen=True)
class GroundCover:
    """A ground cover.

    Attributes:
        raw: raw class.
        albedo: remission 0-1 at steep incidence.
        speckle: relative standard deviation from point to point.
        roughness: scatter along the normal in metres.
        step: height over the road in metres.
        colour: RGB.
        slant: cosine of incidence at which nothing comes back any more, and how much more brings all of it back.
    """

    raw: int
    albedo: float
    speckle: float
    roughness: float
    step: float
    colour: tuple[int, int, int]
    slant: tuple[float, float]


GROUNDS: dict[Cover, GroundCover] = {
    Cover.GRASS: GroundCover(72, 0.37, 0.16, 0.009, 0.10, (86, 108, 52), (-0.06, 0.13)),
    Cover.ROAD: GroundCover(40, 0.29, 0.12, 0.001, 0.0, (92, 92, 96), (0.045, 0.045)),
    Cover.MARKING: GroundCover(40, 0.44, 0.20, 0.001, 0.0, (222, 222, 216), (0.045, 0.045)),
    Cover.PARKING: GroundCover(44, 0.315, 0.12, 0.0015, 0.02, (112, 104, 98), (0.040, 0.045)),
    Cover.SIDEWALK: GroundCover(48, 0.33, 0.12, 0.0015, 0.12, (150, 144, 136), (0.036, 0.045)),
    Cover.PAVED: GroundCover(49, 0.335, 0.13, 0.003, 0.08, (132, 118, 104), (0.030, 0.045)),
    Cover.SOIL: GroundCover(72, 0.35, 0.18, 0.006, 0.08, (104, 86, 62), (-0.03, 0.11)),
    Cover.WEEDS: GroundCover(70, 0.34, 0.30, 0.045, 0.10, (74, 100, 46), (-0.06, 0.13)),
    Cover.FOREIGN: GroundCover(0, 0.33, 0.15, 0.002, 0.05, (120, 115, 110), (0.036, 0.045)),
}
"""By cover; FOREIGN is ground that the annotators left without a class."""


def table(name: str) -> npt.NDArray[np.float32]:
    """One column of MATERIALS as an array indexed by material."""
    return np.array([getattr(MATERIALS[m], name) for m in Material], dtype=np.float32)


def ground_table(name: str) -> npt.NDArray[np.float32]:
    """One column of GROUNDS as an array indexed by cover."""
    return np.array([getattr(GROUNDS[c], name) for c in Cover], dtype=np.float32)
