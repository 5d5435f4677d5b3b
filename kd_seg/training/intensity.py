"""Intensities as another sensor would report them, so that a student does not lean on one maker's calibration.

Makers agree on neither gain nor curve: after division by the largest value the medians of real sensors lie between 0.02
and 0.3, sidewalks are 1.1 times as bright as roads to one and 1.6 times to another.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from kd_seg.core.config import Settings
from kd_seg.scans import Points

Pair = tuple[float, float]
Values = npt.NDArray[np.float32]
BEAM_DEG = 0.4
"""Points of one elevation, to this many degrees, count as one beam where none is known."""
KNOTS = 6
"""Quantiles between which a histogram is warped."""


class IntensitySettings(Settings):
    """Randomised intensities; every cloud draws its own, one for all of its rows."""

    share: float = Field(0.7, ge=0, le=1, description="share of the clouds that are changed")
    constant: float = Field(0.1, ge=0, le=1, description="of those: share that loses all intensity, to one value")
    gamma: Pair = Field((0.5, 3.0), description="exponent, evenly in the logarithm")
    median: Pair = Field((0.01, 0.5), description="median after the gain, evenly in the logarithm")
    offset: float = Field(0.3, ge=0, description="added, up to this many medians")
    per_beam: float = Field(0.1, ge=0, description="largest relative spread (1 sigma) of the gain over elevations")
    per_object: float = Field(0.2, ge=0, description="largest relative spread of the gain over instances")
    per_point: float = Field(0.1, ge=0, description="largest relative spread over points")
    warp: float = Field(0.4, ge=0, description="largest spread of the logarithm of slopes of a monotone curve")
    zeros: float = Field(0.1, ge=0, lt=1, description="share of points that read 0, drawn up to this")
    steps: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (100, 255, 255, 65535), min_length=1, description="reported in whole steps of 1 / steps"
    )

    @field_validator("gamma", "median")
    @classmethod
    def _ordered(cls, value: Pair) -> Pair:
        if not 0.0 < value[0] <= value[1]:
            raise ValueError(f"{list(value)} is no range; give two numbers above 0, the lower one first")
        return value


def randomise(
    points: Points, words: npt.NDArray[np.uint32], settings: IntensitySettings, rng: np.random.Generator
) -> Values:
    """Intensities [N] float32, 0 to 1, in place of those of ``points`` [N, 4] (x, y, z in metres, intensity 0 to 1).

    Args:
        words: label words [N]; rows with an instance id keep one gain per instance, those without share theirs.
    """
    value = points[:, 3].astype(np.float32)
    if len(points) == 0 or rng.random() >= settings.share:
        return value
    if rng.random() < settings.constant:
        return np.full(len(points), np.float32(rng.uniform(0.0, 0.6)))
    value = _warped(value, settings.warp * rng.random(), rng)
    value = np.clip(value, 0.0, None) ** np.float32(_logarithmic(settings.gamma, rng))
    value *= _gains(points, words, settings, rng)
    median = _logarithmic(settings.median, rng)
    bright = value[value > 0]
    if len(bright):
        value *= np.float32(median / np.median(bright))
    value += np.float32(median * settings.offset * rng.random())
    value[rng.random(len(value)) < settings.zeros * rng.random()] = 0.0
    steps = int(rng.choice(settings.steps))
    shown: Values = (np.round(np.clip(value, 0.0, 1.0) * steps) / steps).astype(np.float32)
    return shown


def _gains(
    points: Points, words: npt.NDArray[np.uint32], settings: IntensitySettings, rng: np.random.Generator
) -> Values:
    """Relative gain [N] of beams, instances and points, never below 0."""
    flat = np.hypot(points[:, 0], points[:, 1])
    elevation = np.degrees(np.arctan2(points[:, 2], np.maximum(flat, 1e-3)))
    beam = np.floor((elevation + 90.0) / BEAM_DEG).astype(np.int64)
    gain = _spread(settings.per_beam, int(180.0 / BEAM_DEG) + 1, rng)[beam]
    _, instance = np.unique(np.where(words >> 16 > 0, words, 0), return_inverse=True)
    gain = gain * _spread(settings.per_object, int(instance.max()) + 1, rng)[instance]
    product: Values = gain * _spread(settings.per_point, len(points), rng)
    return product


def _spread(largest: float, count: int, rng: np.random.Generator) -> Values:
    """Factors [count] about 1; how far they spread is drawn up to ``largest``."""
    sigma = largest * rng.random()
    return np.maximum(1.0 + sigma * rng.standard_normal(count), 0.0).astype(np.float32)


def _warped(value: Values, sigma: float, rng: np.random.Generator) -> Values:
    """Values through a rising curve of straight pieces between quantiles, whose slopes differ by exp(sigma)."""
    knots = np.unique(np.quantile(value, np.linspace(0.0, 1.0, KNOTS)))
    if len(knots) < 2:
        return value
    rises = np.diff(knots) * np.exp(sigma * rng.standard_normal(len(knots) - 1))
    target = np.concatenate([knots[:1], knots[0] + np.cumsum(rises)])
    return np.interp(value, knots, target).astype(np.float32)


def _logarithmic(bounds: Pair, rng: np.random.Generator) -> float:
    low, high = np.log(bounds)
    return float(np.exp(rng.uniform(low, high)))
