"""Clouds of a made-up sensor, tilted and mounted as asked, on a vehicle that moves through walls and posts."""

from __future__ import annotations

import numpy as np

from kd_seg.scans import Points
from kd_seg.serving.sensor_input import SensorSettings

OWN_LOW, OWN_HIGH = (-1.5, -0.8, -0.9), (1.2, 0.8, -0.6)


def clouds(
    count: int = 24,
    height: float = 1.9,
    roll: float = 0.0,
    pitch: float = 0.0,
    speed: float = 1.0,
    own: bool = True,
    gain: float = 0.1,
    seed: int = 3,
) -> list[Points]:
    """Clouds [count] of [N, 4]; intensities are 0-1 with a median of 0.28 times ``gain``."""
    rng = np.random.default_rng(seed)
    rotation = SensorSettings(roll_deg=roll, pitch_deg=pitch).levelling()
    rotation = np.eye(3) if rotation is None else rotation
    walls = np.column_stack(
        [rng.uniform(-80, 150, 30_000), rng.choice([-9.0, 12.0], 30_000), rng.uniform(0, 5, 30_000)]
    )
    walls[:, 1] += 2.0 * np.sign(np.sin(walls[:, 0] / 3.0))  # houses and gaps, so that motion can be seen
    roof = rng.uniform(OWN_LOW, OWN_HIGH, (400, 3))
    made = []
    for number in range(count):
        ground = np.column_stack([rng.uniform(-30, 30, 6000), rng.uniform(-9, 9, 6000), rng.normal(0, 0.01, 6000)])
        moved = walls - [speed * number, 0, 0]
        world = np.concatenate([ground, moved[np.abs(moved[:, 0]) < 40]])
        world = world[np.hypot(world[:, 0], world[:, 1]) > 4.5]
        seen = (world - [0, 0, height]) @ rotation  # from level axes to the sensor's
        parts = [seen, roof + rng.normal(0, 0.005, roof.shape)] if own else [seen]
        xyz = np.concatenate(parts)
        intensity = gain * np.clip(rng.normal(0.28, 0.1, len(xyz)), 0.01, None)
        made.append(np.column_stack([xyz, intensity]).astype(np.float32))
    return made
