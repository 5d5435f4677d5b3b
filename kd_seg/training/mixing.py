"""LaserMix and PolarMix: two scans to one, fused rows mixed along with the own ones.

LaserMix: Kong et al., CVPR 2023; PolarMix: Xiao et al., NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from kd_seg.classes import ClassTable
from kd_seg.core.config import Settings
from kd_seg.core.geometry import rotation_z
from kd_seg.scans import Cloud, Words, stack

Mask = npt.NDArray[np.bool_]


class MixSettings(Settings):
    """Mixing of two scans before augmentation."""

    kind: Literal["laser", "polar"]
    probability: float = Field(0.5, ge=0, le=1, description="share of the samples that are mixed")


@dataclass(frozen=True)
class Mixer:
    """Mixes a second cloud into the first with a probability.

    Attributes:
        thing_raw: raw ids of classes with instances, which PolarMix pastes.
    """

    settings: MixSettings
    thing_raw: frozenset[int]

    def __call__(self, first: Cloud, second: Callable[[], Cloud], rng: np.random.Generator) -> Cloud:
        """The mixed cloud, or ``first``; ``second`` is made only if it is needed."""
        if rng.random() >= self.settings.probability:
            return first
        other = foreign(second(), first.words)
        if self.settings.kind == "laser":
            return laser_mix(first, other, int(rng.integers(3, 7)))
        return polar_mix(first, other, self.thing_raw, rng)


def build_mixer(settings: MixSettings, classes: ClassTable) -> Mixer:
    """A mixer for a class table."""
    raw = {raw for raw, train in classes.raw_train.items() if train > 0 and train - 1 in classes.things}
    return Mixer(settings, frozenset(raw))


def foreign(cloud: Cloud, taken: Words) -> Cloud:
    """The cloud as a guest of another scan: no source rows, and instance ids above those already ``taken``."""
    highest = int((taken >> 16).max(initial=0))
    ids = cloud.words >> 16
    moved = (ids + np.uint32(highest)) % np.uint32(1 << 16)
    words = np.where(ids > 0, (cloud.words & np.uint32(0xFFFF)) | (moved << np.uint32(16)), cloud.words)
    return replace(cloud, words=words.astype(np.uint32), source=np.full(len(cloud), -1, dtype=np.int32))


def laser_mix(first: Cloud, second: Cloud, bands: int) -> Cloud:
    """Even pitch bands of the first cloud and odd ones of the second (LaserMix; from the top, 3 to -25 degrees)."""
    return _join(first, _band(first, bands) % 2 == 0, second, _band(second, bands) % 2 == 1)


def _band(cloud: Cloud, bands: int) -> npt.NDArray[np.int64]:
    xyz = cloud.points[:, :3].astype(np.float64)
    pitch = np.clip(np.degrees(np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1]))), -25.0, 3.0)
    result: npt.NDArray[np.int64] = np.minimum(((3.0 - pitch) / 28.0 * bands).astype(np.int64), bands - 1)
    return result


def polar_mix(first: Cloud, second: Cloud, thing_raw: frozenset[int], rng: np.random.Generator) -> Cloud:
    """Half the turn swapped with probability 0.5, then the second cloud's things three times (PolarMix).

    The things come as they are, turned by U(0, 1) * 120 and by (1 + U(0, 1)) * 120 degrees; the angles are drawn again
    each time, unlike in the released code.
    """
    mixed = first
    if rng.random() < 0.5:
        start = rng.uniform(-np.pi, 0.0)
        mixed = _join(first, ~_sector(first, start), second, _sector(second, start))
    things = second.take(np.isin(second.words & 0xFFFF, list(thing_raw)))
    if len(things) == 0:
        return mixed
    turns = (0.0, rng.random() * 120.0, (1.0 + rng.random()) * 120.0)
    copies: list[Cloud] = []
    for turn in turns:
        guest = foreign(things, mixed.words) if not copies else foreign(things, copies[-1].words)
        points = guest.points.copy()
        points[:, :3] = points[:, :3] @ rotation_z(np.radians(turn)).T.astype(np.float32)
        copies.append(guest.with_points(points))
    return stack([mixed, *copies], [])


def _sector(cloud: Cloud, start: float) -> Mask:
    yaw = -np.arctan2(cloud.points[:, 1], cloud.points[:, 0])
    return (yaw > start) & (yaw < start + np.pi)


def _join(first: Cloud, keep: Mask, second: Cloud, take: Mask) -> Cloud:
    return stack([_kept(first, keep), _kept(second, take)], [])


def _kept(cloud: Cloud, keep: Mask) -> Cloud:
    """The rows to keep, without fused rows of an instance that lost all its own rows."""
    keep = keep.copy()
    own = np.unique(cloud.words[: cloud.own][keep[: cloud.own]])
    fused = cloud.words[cloud.own :]
    keep[cloud.own :] &= (fused >> 16 == 0) | np.isin(fused, own)
    return cloud.take(keep)
