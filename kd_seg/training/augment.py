"""Augmentation: one random transform for all rows of a cloud, so that student and teacher stay aligned."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kd_seg.core.geometry import rotation_z
from kd_seg.scans import Cloud, Points
from kd_seg.training.config import AugmentSettings
from kd_seg.training.intensity import randomise


def augment(cloud: Cloud, settings: AugmentSettings, rng: np.random.Generator) -> Cloud:
    """Drop student points, randomise intensities, then rotate, flip, scale, shift and jitter all rows in their order.

    The transform is drawn once for the whole cloud; only jitter differs from row to row. How strong it is differs from
    cloud to cloud, so that a sensor's noise on a surface is no sign of its class.
    """
    if settings.drop > 0:
        keep = np.ones(len(cloud), dtype=bool)
        keep[: cloud.own] = rng.random(cloud.own) >= rng.uniform(0.0, settings.drop)
        cloud = cloud.take(keep)
    if settings.intensity is not None:
        shown = randomise(cloud.points, cloud.words, settings.intensity, rng)
        cloud = cloud.with_points(np.column_stack([cloud.points[:, :3], shown]))
    matrix = _linear(settings, rng)
    shift = rng.normal(0.0, 1.0, 3) * np.asarray(settings.translation_m)
    points: Points = np.empty_like(cloud.points)
    points[:, :3] = cloud.points[:, :3] @ matrix.T.astype(np.float32) + shift.astype(np.float32)
    if settings.jitter_m > 0:
        noise = rng.standard_normal((len(points), 3), dtype=np.float32)
        points[:, :3] += noise * np.float32(rng.uniform(0.0, settings.jitter_m))
    points[:, 3] = cloud.points[:, 3]
    if settings.remission_noise > 0:
        gain, offset = rng.normal(0.0, settings.remission_noise, 2)
        points[:, 3] = np.clip(points[:, 3] * (1.0 + gain) + offset, 0.0, 1.0)
    return cloud.with_points(points)


def _linear(settings: AugmentSettings, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    limit = np.deg2rad(settings.rotation_deg)
    matrix = rotation_z(rng.uniform(-limit, limit))
    flips = rng.integers(0, 2, 2)
    if settings.flip:
        matrix = matrix @ np.diag([1.0 - 2.0 * flips[0], 1.0 - 2.0 * flips[1], 1.0])
    return matrix * rng.uniform(1.0 - settings.scale, 1.0 + settings.scale)
