"""Units made wrong on purpose, so that a study can measure what the backward pass repairs."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from kd_seg.core.config import Settings
from kd_seg.images.units.units import Spoilt

NO_SHIFT = np.zeros(2, dtype=np.float32)


class NoiseSettings(Settings):
    """How many units are made wrong, and how."""

    wrong: float = Field(0.0, ge=0, le=1, description="share of the units")
    ways: list[Literal["flip", "shift", "calibration"]] = Field(
        default=["flip", "shift", "calibration"], min_length=1, description="drawn with equal chances"
    )
    shift: float = Field(0.75, gt=0, description="displacement in sizes of the unit's box, at least 20 px")
    calibration_deg: float = Field(2.0, gt=0, description="rotation of the wrong calibration about a random axis")
    seed: int = Field(0, ge=0)


@dataclass(frozen=True)
class Wrong:
    """What happens to one unit.

    Attributes:
        kind: of the damage. teacher_class: the teacher class it then claims.
        shift: [2] float32 pixels by which its mask is moved.
    """

    kind: Spoilt
    teacher_class: int
    shift: npt.NDArray[np.float32]

    @property
    def calibration(self) -> bool:
        """Its points come from the wrong calibration."""
        return self.kind == Spoilt.CALIBRATION

    @property
    def class_flips(self) -> bool:
        """Its label is wrong."""
        return self.kind == Spoilt.FLIP

    @property
    def pixels_move(self) -> bool:
        """Its points are not those under its mask."""
        return self.kind in (Spoilt.SHIFT, Spoilt.CALIBRATION)


class Noise:
    """Draws damage for the units of one view; the same settings, scan and view give the same damage.

    Args:
        sets: [C2, C] of the class map; a flip goes to a class that shares no student class with the true one.
        place: (sequence, scan number, view number).
    """

    def __init__(self, settings: NoiseSettings, sets: npt.NDArray[np.bool_], place: tuple[str, int, int]) -> None:
        self.settings = settings
        self.sets = sets
        self.rng = np.random.default_rng([settings.seed, zlib.crc32(place[0].encode()), place[1], place[2]])

    def angles(self) -> npt.NDArray[np.float64]:
        """Rotation [3] in radians of this view's wrong calibration."""
        axis = self.rng.normal(size=3)
        result: npt.NDArray[np.float64] = np.deg2rad(self.settings.calibration_deg) * axis / np.linalg.norm(axis)
        return result

    def draw(self, teacher_class: int, box: npt.NDArray[np.float32]) -> Wrong:
        """What happens to a unit of teacher class ``teacher_class`` with a box [4]."""
        if self.settings.wrong == 0 or self.rng.random() >= self.settings.wrong:
            return Wrong(Spoilt.NOT, teacher_class, NO_SHIFT)
        way = self.settings.ways[int(self.rng.integers(len(self.settings.ways)))]
        if way == "calibration":
            return Wrong(Spoilt.CALIBRATION, teacher_class, NO_SHIFT)
        if way == "flip":
            other = np.flatnonzero(self.sets.any(axis=1) & ~(self.sets & self.sets[teacher_class]).any(axis=1))
            if len(other) == 0:
                return Wrong(Spoilt.NOT, teacher_class, NO_SHIFT)
            return Wrong(Spoilt.FLIP, int(self.rng.choice(other)), NO_SHIFT)
        size = np.maximum((box[2:] - box[:2]) * self.settings.shift, 20.0)
        angle = self.rng.uniform(0, 2 * np.pi)
        return Wrong(Spoilt.SHIFT, teacher_class, (size * [np.cos(angle), np.sin(angle)]).astype(np.float32))
