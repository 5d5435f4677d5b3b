"""The HDL-64E: its beams, and how it turns first hits into points with noise, drop-out and remission."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_seg.streets.materials import Material, ground_table, table
from kd_seg.streets.mesh import Floats
from kd_seg.streets.world import World

ELEVATION = np.array([
    2.49, 2.13, 1.86, 1.43, 1.14, 0.73, 0.46, 0.09, -0.26, -0.66, -0.95, -1.29, -1.65, -1.97, -2.29, -2.64,
    -2.95, -3.32, -3.59, -3.97, -4.28, -4.62, -4.95, -5.27, -5.61, -5.93, -6.23, -6.50, -6.85, -7.19, -7.43, -7.80,
    -8.38, -8.88, -9.34, -9.73, -10.18, -10.79, -11.29, -11.71, -12.16, -12.59, -13.12, -13.63, -14.20, -14.64, -15.13, -15.49,
    -16.12, -16.65, -17.21, -17.67, -18.17, -18.59, -19.04, -19.60, -20.10, -20.74, -21.21, -21.64, -22.05, -22.69, -23.16, -23.68,
])  # fmt: skip
"""Degrees above the horizon of the 64 beams from the top: medians over real scans."""
SHOTS = 2172
"""Shots of each beam per turn."""
TICKS = 4000
"""Angular marks per turn: a shot is reported at the last mark passed, so steps are 0.18 degrees, and 0.09 now and then."""
CUT = 80.8
"""Metres beyond which nothing is kept."""
LABELLED = 50.0
"""Metres beyond which the annotators left points without a class."""
LOSS = table("loss")
ROUGHNESS = table("roughness")
SPECKLE = table("speckle")
GLOSS = table("gloss")
GROUND_ALBEDO = ground_table("albedo")
GROUND_SPECKLE = ground_table("speckle")
GROUND_ROUGHNESS = ground_table("roughness")


@dataclass(frozen=True)
class Sweep:
    """One scan: points [N, 4] float32 in the LiDAR frame and label words [N] uint32, ring by ring, azimuth rising; rings [N]."""

    points: npt.NDArray[np.float32]
    words: npt.NDArray[np.uint32]
    rings: npt.NDArray[np.uint8]


def beams() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Unit directions [64 * SHOTS, 3] of a turn in the LiDAR frame, ring by ring, azimuth rising; ring numbers."""
    shot = np.arange(SHOTS)
    azimuth = np.floor(shot * TICKS / SHOTS) * (2 * np.pi / TICKS)
    phase = (np.arange(64) * 0.61803) % 1.0 * 2e-3
    turn = azimuth[None, :] + phase[:, None]
    lift = np.radians(ELEVATION)[:, None]
    flat = np.cos(lift)
    directions = np.stack([flat * np.cos(turn), flat * np.sin(turn), np.broadcast_to(np.sin(lift), turn.shape)], -1)
    return directions.reshape(-1, 3).astype(np.float32), np.repeat(np.arange(64, dtype=np.uint8), SHOTS)


DIRECTIONS, RINGS = beams()


def sweep(world: World, pose: Floats, frame: int, rng: np.random.Generator, motion: Floats | None = None) -> Sweep:
    """One turn of the sensor.

    Args:
        world: what is there.
        pose: LiDAR to world [4, 4].
        frame: number of the scan, for what moves.
        rng: source of the noise.
        motion: pose of the next scan [4, 4] for points distorted by the motion during the turn; None = compensated, as KITTI's.
    """
    directions = DIRECTIONS @ pose[:3, :3].T.astype(np.float32)
    origins: Floats = pose[:3, 3]
    if motion is not None:
        share = np.tile(np.arange(SHOTS) / SHOTS, 64)[:, None]
        turned = DIRECTIONS @ motion[:3, :3].T.astype(np.float32)
        directions = (1 - share) * directions + share * turned
        directions = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)
        origins = (1 - share) * pose[:3, 3] + share * motion[:3, 3]
    hits = world.cast(origins, directions, frame)
    rows = np.flatnonzero(hits.distance < CUT + 1.0)
    distance, cosine, triangle = hits.distance[rows], hits.cosine[rows], hits.triangle[rows]
    start = origins[:2] if origins.ndim == 1 else origins[rows, :2]
    xy = start + directions[rows, :2] * distance[:, None]
    material = world.material[triangle]
    cover = world.ground.at(xy[:, 0], xy[:, 1])
    from kd_seg.streets.world import GROUND_RAW

    ground = material == Material.GROUND
    word = np.where(ground, GROUND_RAW[cover], world.word[triangle]).astype(np.uint32)
    albedo = np.where(ground, GROUND_ALBEDO[cover], world.albedo[triangle])
    rough = np.where(ground, GROUND_ROUGHNESS[cover] / np.maximum(cosine, 0.15), ROUGHNESS[material])
    rough = np.minimum(rough, 0.25)
    noise = rng.standard_normal((2, len(rows)), dtype=np.float32)
    reach = distance + noise[0] * np.hypot(0.012, rough)
    speckle = np.where(ground, GROUND_SPECKLE[cover], SPECKLE[material])
    slant = np.maximum(cosine, 0.02) ** np.where(ground, 0.10, GLOSS[material])
    signal = albedo * slant * (1 + noise[1] * speckle) * _fade(distance)
    level = np.floor(np.clip(signal, 0, 0.99) * 100 + 0.5) - 1.0
    chance = rng.random(len(rows), dtype=np.float32)
    lost = LOSS[material] + 0.02 + 0.5 * np.exp(-np.maximum(signal, 0) / 0.02)
    kept = (chance > lost) & (reach < CUT) & (reach > 1.2)
    points = np.empty((int(kept.sum()), 4), dtype=np.float32)
    points[:, :3] = DIRECTIONS[rows[kept]] * reach[kept, None]
    points[:, 3] = np.clip(level[kept], 0, 99) / 100
    words = word[kept]
    words[reach[kept] > LABELLED] = 0
    return Sweep(points, words, RINGS[rows[kept]])


def _fade(distance: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Share of the signal left at a range."""
    return np.asarray(1.0 / (1.0 + (distance / 48.0) ** 3), dtype=np.float32)
